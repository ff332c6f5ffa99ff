# SPDX-License-Identifier: Apache-2.0
"""
What grants do at the local keystore: a recipient more, and a new version of the key without it.

Of AWS KMS and OpenBao nothing: there a grant is effective in processes alone. Decides nothing.
"""

from collections.abc import Sequence

from lacre.cli.grants.opening import Person
from lacre.errors import KeyServiceDenied
from lacre.kms.local import PublicIdentity
from lacre.policy.grants.change import Recipient, recipients_of
from lacre.policy.grants.judging import Standing
from lacre.policy.grants.request import GrantRecord

__all__ = ["begin_effect", "check_administers", "end_effect", "left_over"]


def begin_effect(person: Person, record: GrantRecord) -> Sequence[str]:
    """
    Make the grant's recipients; return what was done, in words.

    Raises:
        KeyServiceDenied: this person administers no keys.
    """
    keystore, done = person.keystore(), []
    missing = [each for each in recipients_of(record.request.change) if not _opens(person, each)]
    check_administers(person, missing)
    for each in missing:
        identity = PublicIdentity.from_text(each.identity)
        keystore.add_recipient(each.key, identity)
        done.append(f"{identity.name} may open local://{each.key}")
    return done


def left_over(person: Person, record: GrantRecord) -> Sequence[Recipient]:
    """Return the recipients that a grant that is over made, and that nothing else wants."""
    wanted = {
        each
        for other in person.kept.records()
        if person.kept.judge(other).standing in (Standing.IN_EFFECT, Standing.AHEAD)
        for each in recipients_of(other.request.change)
    }
    for_good = person.lacre.policy.file.local.recipients
    return [
        each
        for each in recipients_of(record.request.change)
        if each not in wanted and each.identity not in for_good and _opens(person, each)
    ]


def end_effect(person: Person, record: GrantRecord) -> Sequence[str]:
    """
    Take what a grant gave from the keystore: a new version of each key, and no share of an older one.

    Raises:
        MisuseError, ConfigurationError, KeyServiceDenied, Tampered: of one key; those before it are done.
    """
    keystore, done = person.keystore(), []
    left = left_over(person, record)
    check_administers(person, left)
    for each in left:
        identity = PublicIdentity.from_text(each.identity)
        keystore.remove_recipient(each.key, identity.fingerprint, _known(person))
        done.append(f"{identity.name} may not open local://{each.key} any more; a new version was made")  # fmt: skip
    return done


def check_administers(person: Person, changes: Sequence[Recipient]) -> None:
    """
    Check that who makes *changes* is an operator: nobody would open a key whose manifest anybody else signed.

    Raises:
        KeyServiceDenied: they are none of `[local] signers`.
    """
    signers = {each.fingerprint for each in person.lacre.signers}
    if changes and person.identity.fingerprint not in signers:
        raise KeyServiceDenied(
            f"{person.identity.name} is none of [local] signers, who administer local://{changes[0].key}",
            hint="an operator runs it",
        )


def _opens(person: Person, each: Recipient) -> bool:
    fingerprint = PublicIdentity.from_text(each.identity).fingerprint
    manifest = person.keystore().manifest(each.key)
    return any(version.share_of(fingerprint) for version in manifest.versions)


def _known(person: Person) -> list[PublicIdentity]:
    file = person.lacre.policy.file
    texts = {*file.local.recipients, *file.local.signers}
    texts |= {each.local for each in file.principals.values() if each.local is not None}
    return [PublicIdentity.from_text(each) for each in sorted(texts)]
