# SPDX-License-Identifier: Apache-2.0
"""`lacre grant request`, `approve` and `apply`: how a right begins."""

import datetime as dt
import os
from pathlib import Path

import typer

from lacre.audit.event import new_id
from lacre.cli.grants.effect import begin_effect, check_administers
from lacre.cli.grants.opening import IdentityFile, as_person
from lacre.cli.grants.showing import described
from lacre.cli.operator import Config, PassphraseFile
from lacre.cli.terminal import ask, data, out, say, table
from lacre.errors import MisuseError
from lacre.policy.grants import steps
from lacre.policy.grants.change import recipients_of
from lacre.policy.grants.judging import Standing
from lacre.policy.grants.request import GrantAct, GrantRecord
from lacre.policy.model import Right
from lacre.policy.values import span

__all__ = ["apply", "approve", "request"]

_Id = typer.Argument(..., metavar="ID", help="the grant's, or its beginning")


def request(
    who: str = typer.Option(..., "--for", help="whose right it is to be, for example agent:bia"),
    class_: str = typer.Option(..., "--class", help="of data"),
    right: Right = typer.Option(Right.DECRYPT, "--right", help="what of"),
    purpose: str = typer.Option(..., "--purpose", help="what for"),
    lasts: str = typer.Option("1 hour", "--lasts", help='how long: "4 hours", "3 days"'),
    begins: dt.datetime | None = typer.Option(None, "--begins", help="when, in UTC; at once by default"),
    tenant: str = typer.Option("", "--tenant", help="of whose data; of every tenant's by default"),
    reason: str = typer.Option(..., "--reason", help="recorded; a case or a ticket, no names"),
    break_glass: bool = typer.Option(False, "--break-glass", help="an emergency: one approver, at most an hour, reviewed"),
    config: Path = Config,
    identity: Path | None = IdentityFile,
    passphrase_file: Path | None = PassphraseFile,
) -> None:  # fmt: skip
    """Ask for a right. Nothing is given until other people approve. Prints the grant's id."""
    try:
        length = span(lasts)
    except ValueError as error:
        raise MisuseError(f"--lasts: {error}") from None
    with as_person(config, identity, passphrase_file) as person:
        wanted = steps.Wanted(
            beneficiary=who,
            class_=class_,
            right=str(right),
            purpose=purpose,
            tenant=tenant,
            begins=None if begins is None else begins.replace(tzinfo=dt.UTC),
            lasts=length,
            break_glass=break_glass,
            reason=reason,
        )
        made = steps.ask(
            wanted,
            person.kept.rules,
            by=person.identity,
            now=person.kept.now,
            new_id=new_id(),
            entropy=os.urandom,
        )
        person.ask(made)
        needed = person.kept.judge(GrantRecord(request=made)).needed
    out.print(made.id)
    say(f"asked: {needed} {'approver' if needed == 1 else 'approvers'}, by {made.approve_by}")


def approve(
    grant: str = _Id,
    yes: bool = typer.Option(False, "--yes", help="do not ask"),
    config: Path = Config,
    identity: Path | None = IdentityFile,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Approve a grant, with your signature over all of it. The last approval puts it in effect, or says who does."""
    with as_person(config, identity, passphrase_file) as person:
        kept = person.kept
        record = kept.one(grant)
        act = steps.approve(record, kept.rules, by=person.identity, now=kept.now)
        out.print(table(("what you sign", ""), described(record, kept.judge(record))))
        if not yes:
            ask("approve this?")
        acts, names = [act], ["approved"]
        approved = _with(record, act)
        enough = kept.judge(approved).standing is Standing.APPROVED
        if enough and not record.request.change:
            # Nothing is done at the key service, so whoever approves last puts it in effect.
            acts.append(steps.execute(approved, kept.rules, by=person.identity, now=kept.now))
            names.append("executed")
        person.do(record, acts, names)
    if not enough:
        say("approved: another person has to")
    elif record.request.change:
        say(f"approved: an operator puts it in effect (`lacre grant apply {record.request.id[:12]}`)")  # fmt: skip
    else:
        say(f"in effect until {record.request.until}; processes see it within {kept.rules.file.grants.age:g} s")  # fmt: skip


def apply(
    grant: str = _Id,
    dry_run: bool = typer.Option(False, "--dry-run", help="print what would be done at the key service"),
    config: Path = Config,
    identity: Path | None = IdentityFile,
    passphrase_file: Path | None = PassphraseFile,
) -> None:  # fmt: skip
    """Put an approved grant in effect at the key service, exactly as its approvers signed. May be run again."""
    with as_person(config, identity, passphrase_file) as person:
        kept = person.kept
        record = kept.one(grant)
        if dry_run:
            data({"grant": record.request.id, "change": record.request.change or None, "sha256": record.request.change_digest})  # fmt: skip
            return
        check_administers(person, recipients_of(record.request.change))
        if kept.judge(record).standing not in (Standing.IN_EFFECT, Standing.AHEAD):
            act = steps.execute(record, kept.rules, by=person.identity, now=kept.now)
            person.do(record, [act], ["executed"])
        done = begin_effect(person, record)
    for each in done:
        say(each)
    say(f"in effect until {record.request.until}")


def _with(record: GrantRecord, act: GrantAct) -> GrantRecord:
    return GrantRecord(request=record.request, acts=(*record.acts, act))
