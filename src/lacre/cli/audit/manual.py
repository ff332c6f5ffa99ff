# SPDX-License-Identifier: Apache-2.0
"""
`lacre audit control`: what people have to do, by when, and that they did it.

That one was done is an event of the log, by whoever says so, with the SHA-256 of what shows it;
the document itself stays where it is.
"""

import datetime as dt
import hashlib
from contextlib import closing
from pathlib import Path

import typer

from lacre.audit.controls.manual import manual_facts
from lacre.audit.event import who
from lacre.audit.governing import ControlDone
from lacre.cli.audit.signing import as_reporter
from lacre.cli.operator import Config, PassphraseFile, key_store
from lacre.cli.terminal import DUE, data, out, say, table
from lacre.context import current
from lacre.errors import ConfigurationError
from lacre.reporting.deeds import done_controls
from lacre.stores.log.opening import open_log
from lacre.stores.log.reader import LogReader

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Manual controls: tests, reviews, trainings, drills.")


@app.command("list")
def list_controls(
    check: bool = typer.Option(False, "--check", help="exit with 10 where one is overdue"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
) -> None:
    """Show what people have to do, when it was done last, and when it is due."""
    store, policy = key_store(config)
    store.close()
    with closing(open_log(policy, config.resolve().parent)) as log:
        done = done_controls(LogReader(log))
    facts = manual_facts(policy.report.manual_controls(), done, now=dt.datetime.now(dt.UTC))
    if as_json:
        data(facts)
    else:
        rows = [
            [str(each["name"]), f"{each['every']} days", str(each["done"] or "never"), str(each["due"] or "now"), "overdue" if each["overdue"] else ""]
            for each in facts
        ]  # fmt: skip
        out.print(table(("control", "every", "done", "due", ""), rows))
    if check and any(each["overdue"] for each in facts):
        raise typer.Exit(DUE)


@app.command()
def done(
    name: str = typer.Argument(help="its name, as the list has it"),
    proof: Path | None = typer.Option(None, "--proof", help="what shows it: a report, minutes, a log; its SHA-256 is recorded"),
    identity: Path | None = typer.Option(None, "--identity", help="say so as the identity in this file, instead of the operator"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:  # fmt: skip
    """Record that a manual control was done today."""
    digest = "" if proof is None else _digest(proof)
    with as_reporter(config, passphrase_file, identity=identity, purpose="control") as reporter:
        known = {each.name: each for each in reporter.policy.report.manual_controls()}
        if name not in known:
            raise ConfigurationError(
                f"there is no manual control {name!r}",
                hint=f"one of {', '.join(sorted(known))}; or add [report.manual.NAME] to lacre.toml",
            )
        now = dt.datetime.now(dt.UTC)
        due = (now + dt.timedelta(days=known[name].every)).date()
        event = ControlDone(
            **who(current(), time=now.timestamp(), tenant=""),
            control=name,
            due=due.isoformat(),
            proof=digest,
        )
        reporter.lacre.recorder.write([event])
    say(f"{name} is due again on {due}")
    if digest:
        out.print(f"proof, SHA-256 {digest}")


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
