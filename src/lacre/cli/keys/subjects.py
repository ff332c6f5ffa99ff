# SPDX-License-Identifier: Apache-2.0
"""
`lacre keys rotate --kind subject`: a new version of one subject's key.

Finds the subject and says what was done; the rest is `lacre.keys.subject_rotation`'s. Never repeats
a subject's id.
"""

from typing import cast

from lacre.cli.holding import subject_named
from lacre.cli.operator import Operator
from lacre.cli.terminal import say, warn
from lacre.errors import ConfigurationError, KeyNotFound
from lacre.keys.covering import Covering
from lacre.keys.hierarchy import KeyKind, KeyState
from lacre.keys.subject_rotation import SubjectRotation
from lacre.stores.sql import SQLKeyStore

__all__ = ["rotate_subject"]

_BY_KEY = "key:"


def rotate_subject(
    operator: Operator, class_: str, tenant: str | None, subject: str | None, *, unreadable: bool
) -> None:
    """Make the new version; values are moved to it by `lacre reencrypt`."""
    lacre = operator.lacre
    if not isinstance(subject, str):
        raise ConfigurationError(
            "no subject was named", hint="--subject ID, as the column of subject= holds it"
        )
    if subject.startswith(_BY_KEY):
        digest, tenant = _of_key(operator, subject.removeprefix(_BY_KEY))
    else:
        digest = subject_named(operator, subject, tenant).digest
    whose = tenant or lacre.policy.file.default_tenant or ""
    rotation = SubjectRotation(
        store=cast(SQLKeyStore, lacre.store),
        resolver=lacre.resolver,
        recorder=lacre.recorder,
        cover=Covering(resolver=lambda: lacre.resolver, seals=lacre.policy.file.seals),
    )
    row = rotation.rotate(lacre.scope(whose, class_, KeyKind.SUBJECT), digest, unreadable=unreadable)  # fmt: skip
    say(f"rotated: {row.scope}, now version {row.version} ({row.key_id.hex()[:8]})")
    say(f"running processes use it within {lacre.policy.file.cache.age:.0f} s")
    if unreadable:
        warn("what was under the version before, if anything, cannot be read again")
    else:
        say("next: lacre reencrypt moves the subject's values; the version before decrypts until then")  # fmt: skip


def _of_key(operator: Operator, key: str) -> tuple[bytes, str]:
    try:
        rows = operator.store.rows_of([bytes.fromhex(key)])
    except ValueError:
        raise ConfigurationError(f"{key} is no id of a key", hint="32 hex digits") from None
    for row in rows:
        if row.scope.kind is KeyKind.SUBJECT and row.digest is not None:
            return row.digest, row.scope.tenant
    raise KeyNotFound(
        f"the key store holds no subject's key {key}",
        hint=f"one that is {KeyState.DESTROYED} names no subject any more: --subject ID",
    )
