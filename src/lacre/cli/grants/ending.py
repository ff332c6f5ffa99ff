# SPDX-License-Identifier: Apache-2.0
"""`lacre grant revoke`, `review` and `reap`: how a right ends, and who looked at an emergency."""

from pathlib import Path

import typer

from lacre.cli.grants.effect import end_effect, left_over
from lacre.cli.grants.opening import IdentityFile, Person, as_person
from lacre.cli.operator import Config, PassphraseFile
from lacre.cli.terminal import DUE, say, warn
from lacre.errors import LacreError
from lacre.policy.grants import steps
from lacre.policy.grants.judging import Standing
from lacre.policy.grants.request import Act, GrantRecord

__all__ = ["reap", "review", "revoke"]

_Id = typer.Argument(..., metavar="ID", help="the grant's, or its beginning")
_LIVING = (Standing.REQUESTED, Standing.APPROVED, Standing.AHEAD, Standing.IN_EFFECT)


def revoke(
    grant: str = _Id,
    reason: str = typer.Option(..., "--reason", help="recorded; no names, no values"),
    config: Path = Config,
    identity: Path | None = IdentityFile,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Take a grant back. Anybody whom lacre.toml knows may."""
    with as_person(config, identity, passphrase_file) as person:
        kept = person.kept
        record = kept.one(grant)
        revoked = record.request.id in kept.revoked
        act = steps.revoke(
            record, kept.rules, by=person.identity, now=kept.now, note=reason, revoked=revoked
        )
        person.do(record, [act], ["revoked"])
        failed = _end(person, GrantRecord(request=record.request, acts=(*record.acts, act)))
        file = kept.rules.file
    say(f"revoked: processes stop within {file.grants.age:g} s")
    if record.request.change:
        say(f"who was given a key goes on with what it has cached for {file.cache.age + file.cache.stale_for:g} s")  # fmt: skip
    if failed:
        raise typer.Exit(DUE)


def review(
    grant: str = _Id,
    note: str = typer.Option(..., "--note", help="what was found; recorded; no names, no values"),
    config: Path = Config,
    identity: Path | None = IdentityFile,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Say that you looked at what a grant of break-glass was used for. Not for who asked, approved or benefited."""
    with as_person(config, identity, passphrase_file) as person:
        record = person.kept.one(grant)
        act = steps.review(
            record, person.kept.rules, by=person.identity, now=person.kept.now, note=note
        )
        person.do(record, [act], ["reviewed"])
    say("reviewed")


def reap(
    config: Path = Config,
    identity: Path | None = IdentityFile,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """End at the key service what is over or was revoked; exit with 10 where something could not be ended."""
    failed = ended = 0
    with as_person(config, identity, passphrase_file) as person:
        kept = person.kept
        for record in kept.records():
            found = kept.judge(record)
            if found.standing in _LIVING:
                continue
            is_new = found.standing is Standing.OVER and bool(found.executed)
            if is_new and not any(each.act in (Act.EXPIRE, Act.REVOKE) for each in record.acts):
                act = steps.expire(record, kept.rules, by=person.identity, now=kept.now)
                person.do(record, [act], ["expired"])
                ended += 1
            failed += _end(person, record)
    say(f"{ended} expired" if ended else "nothing expired")
    if failed:
        raise typer.Exit(DUE)


def _end(person: Person, record: GrantRecord) -> bool:
    """End a grant's effect at the key service; return whether something of it is left."""
    short = record.request.id[:12]
    try:
        for done in end_effect(person, record):
            say(f"{short}: {done}")
    except LacreError as error:
        warn(f"{short}: {error}")
    else:
        return False
    try:
        for each in left_over(person, record):
            warn(f"{short}: local://{each.key} is still open to it (`lacre grant reap` by an operator)")  # fmt: skip
    except LacreError as error:
        warn(f"{short}: what is left is not known: {error}")
    return True
