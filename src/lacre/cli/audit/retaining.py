# SPDX-License-Identifier: Apache-2.0
"""`lacre audit explain`, `hold`, `release` and `purge`: what an operator states about the log, signed."""

import datetime as dt
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lacre.audit.entries import Stamp
from lacre.audit.keeping import Explained, Purged
from lacre.audit.leaves import shard_name
from lacre.audit.notes import Signer
from lacre.audit.statements import Statement, sign_statement
from lacre.cli.audit.proving import month
from lacre.cli.operator import Config, PassphraseFile, load_operator
from lacre.cli.terminal import out, say, table, warn
from lacre.errors import ConfigurationError, MisuseError
from lacre.evidence import sequence_once, signed_last, stamp_of
from lacre.kms.local.signing import IdentitySigner
from lacre.kms.signing import believed, operators
from lacre.policy.concerns import concerns_of
from lacre.policy.loading import load_policy
from lacre.policy.model import PolicyFile
from lacre.stores.log.opening import open_log

if TYPE_CHECKING:
    from lacre.stores.log.log import AuditLog
    from lacre.stores.log.retention import Kept

__all__ = ["explain", "hold", "purge", "release"]

_Month = typer.Argument(..., metavar="MONTH", help="of the log, 2026-11")
_Reason = typer.Option(..., "--reason", help="recorded in the log for ever; no names, no values")


@dataclass(frozen=True, slots=True)
class _Stating:
    # An operator, with the log it states something about.

    settings: PolicyFile
    base: Path
    log: "AuditLog"
    signer: Signer
    stamp: Stamp

    def note(self, act: str, about: str, reason: str) -> str:
        at = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        found = Statement(app=self.settings.app, env=self.settings.env, act=act, about=about, reason=reason, at=at)  # fmt: skip
        return sign_statement(found, self.signer)

    def who(self) -> dict[str, Any]:
        return {"time": time.time(), "principal": self.signer.name, "roles": ("operator",), "purpose": "evidence", "tenant": ""}  # fmt: skip

    def sequence(self) -> None:
        if not sequence_once(self.settings, self.base, self.log, self.stamp):
            say("it counts once it is sequenced (`lacre audit sequence`)")

    def signed_last(self, what: str) -> Path:
        # The file of who sequences here, if it says *what*: the operator states what is lost.
        from lacre.stores.log.remembered import Remembered

        path, app, env = signed_last(self.settings, self.base), self.stamp.app, self.stamp.env
        found = None
        if path is not None:
            found = Remembered(path, f"lacre-audit/{app}/{env}/").read(believed(self.settings))
        if path is None or found is None:
            raise ConfigurationError(
                "there is no file here of what was signed last, which a set-back log would not agree with",
                hint="run it where the log is sequenced, with the [audit] identity of a file",
            )
        said = f"{shard_name(found[0])}:{found[1]}"
        if what != said:
            raise ConfigurationError(
                f"what was signed last is {said}",
                hint=f"lacre audit explain {said} --about set-back",
            )
        return path

    def kept(self, name: str) -> "Kept":
        from lacre.stores.log.retention import kept

        wanted = month(name)
        for each in kept(self.log, self.settings.audit.retention, operators(self.settings)):
            if each.shard == wanted:
                return each
        raise MisuseError(f"there is no month {name} in the log")


@contextmanager
def _stating(config: Path, passphrase_file: Path | None) -> Iterator[_Stating]:
    settings, base = load_policy(config, os.environ), config.resolve().parent
    identity = load_operator(settings, base, passphrase_file)
    signer = IdentitySigner(identity)
    if (signer.name, signer.key_id) not in {
        (each.name, each.key_id) for each in operators(settings)
    }:
        raise ConfigurationError(
            f"{identity.name} is none of [local] signers: nobody would believe what it states"
        )
    log = open_log(settings, base)
    try:
        yield _Stating(settings, base, log, signer, stamp_of(settings))
    finally:
        log.close()


def explain(
    what: str = typer.Argument(
        ...,
        metavar="WHAT",
        help="as `lacre audit verify --json` names it under `explain`: a moment, a writer, an opening",
    ),
    about: str = typer.Option(
        "silence",
        "--about",
        help="silence, writer, number or opening; set-back lets the sequencer go on from a log that was restored",
    ),
    reason: str = _Reason,
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Explain what the log lacks: verification lists it as explained from then on, with who said why."""  # fmt: skip
    from lacre.stores.log.telling import tell

    if about not in ("silence", "writer", "number", "opening", "set-back"):
        raise ConfigurationError(
            "what is explained is a silence, a writer, a number, an opening or a set-back"
        )
    with _stating(config, passphrase_file) as stating:
        forgotten = stating.signed_last(what) if about == "set-back" else None
        note = stating.note("explained", f"{about} {what}", reason)
        event = Explained(about=about, what=what, statement=note, **stating.who())
        with stating.log.writing() as connection:
            tell(connection, event, stating.stamp)
        if forgotten is not None:
            forgotten.replace(forgotten.with_name(f"{forgotten.name}.before"))
        stating.sequence()
    say("explained")


def hold(
    name: str = _Month,
    reason: str = _Reason,
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Place a legal hold on a month of the log: nothing purges it until it is released."""
    _mark(name, "held", reason, config, passphrase_file)
    say(f"{name} is on hold")


def release(
    name: str = _Month,
    reason: str = _Reason,
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Release a month of the log from its hold."""
    _mark(name, "released", reason, config, passphrase_file)
    say(f"{name} is on hold no more")


def purge(
    reason: str = typer.Option("its term is over", "--reason", help="recorded in the log"),
    really: bool = typer.Option(
        False, "--really", help="remove them; without it, what would be removed is shown"
    ),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Remove the months whose term is over and that nobody holds. Their checkpoints stay, and the log says so."""  # fmt: skip
    from lacre.stores.log.retention import kept, remove

    with _stating(config, passphrase_file) as stating:
        term = stating.settings.audit.retention
        for concern in concerns_of(stating.settings):
            warn(concern)
        now = dt.datetime.now(dt.UTC)
        months = kept(stating.log, term, operators(stating.settings))
        out.print(
            table(
                ("month", "state", "#events", "kept until", "hold"),
                [[shard_name(each.shard), each.state, f"{each.size:,}", each.until.date().isoformat(), each.hold] for each in months],
            )
        )  # fmt: skip
        due = [each for each in months if each.is_due(now)]
        if not due:
            say("nothing is due")
        for each in due:
            shown = shard_name(each.shard)
            if not really:
                say(f"{shown} would be removed (--really)")
                continue
            note = stating.note("purged", f"{shown} {each.size} {each.root.hex()}", reason)
            event = _event(stating, "purged", each, note)
            say(
                f"{shown}: {remove(stating.log, each, event, stating.stamp, now=now):,} events removed"
            )


def _mark(name: str, step: str, reason: str, config: Path, passphrase_file: Path | None) -> None:
    from lacre.stores.log.retention import keep_or_let_go

    with _stating(config, passphrase_file) as stating:
        found = stating.kept(name)
        if step == "released" and not found.hold:
            raise MisuseError(f"{name} is not on hold")
        event = _event(stating, step, found, stating.note(step, name, reason))
        held = reason[:255] if step == "held" else None
        keep_or_let_go(stating.log, found.shard, event, stating.stamp, hold=held)
        stating.sequence()


def _event(stating: _Stating, step: str, found: "Kept", note: str) -> Purged:
    return Purged(
        step=step, shard=shard_name(found.shard), size=found.size, root=found.root.hex(), statement=note, **stating.who()
    )  # fmt: skip
