# SPDX-License-Identifier: Apache-2.0
"""
`lacre columns`: where each column that is to be encrypted stands, and what is left to do.

Needs the key store and nothing secret: states are signed, and rows are counted in the database.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from lacre.cli.attesting import attest, verify
from lacre.cli.drift import drift
from lacre.cli.operator import Config, key_store
from lacre.cli.reading import reading
from lacre.cli.terminal import DUE, data, out, say, table, warn
from lacre.errors import ConfigurationError
from lacre.evidence import open_sink
from lacre.fields.deadlines import Standing
from lacre.jobs.standings import standings
from lacre.kms.local import PublicIdentity
from lacre.policy.model import PolicyFile
from lacre.stores.sql import SQLKeyStore

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Columns: their states, deadlines and attestations.")

app.command()(attest)
app.command()(verify)
app.command()(drift)

_SOON = 30  # days before a deadline from which it is due
_TAMPERED = 6


@app.callback()
def about() -> None:
    """Columns that are to be encrypted: their states, deadlines and attestations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One column: where it stands, what its rows hold, and what is wrong."""

    standing: Standing
    tally: Any = None
    wrong: tuple[str, ...] = ()
    due: str = ""


@app.command("list")
def list_columns(
    database: str = typer.Option(
        "",
        "--database",
        help="count the rows of its columns too: sqlite:///FILE or postgresql://HOST/DATABASE",
    ),
    store: str = typer.Option("main", "--store", help="the database's logical name"),
    check: bool = typer.Option(
        False,
        "--check",
        help="exit with 6 if something is wrong or overdue, with 10 if it is due in 30 days",
    ),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
) -> None:
    """
    Show each column's state, deadline and days left; with --database the rows that are left.

    Columns are those of [columns] in lacre.toml and those that have a state. Exits with 0 unless --check.
    """  # fmt: skip
    keys, policy = key_store(config)
    try:
        standings, forged = _standings(keys, policy, config.resolve().parent, store)
    finally:
        keys.close()
    lines = [_line(each) for each in standings]
    if database:
        lines = _counted(lines, database, store)
    wrong = [*forged, *(sentence for line in lines for sentence in line.wrong)]
    due = [line.due for line in lines if line.due]
    if as_json:
        data({"columns": [_record(line) for line in lines], "wrong": wrong, "due": due})
    else:
        _show(lines, counted=bool(database))
        for sentence in wrong:
            warn(sentence)
        for sentence in due:
            say(sentence)
    if check and wrong:
        raise typer.Exit(_TAMPERED)
    if check and due:
        raise typer.Exit(DUE)


def _standings(
    keys: SQLKeyStore, policy: PolicyFile, base: Path, store: str
) -> tuple[list[Standing], list[str]]:
    signers = [PublicIdentity.from_text(line) for line in policy.local.signers]
    sink = open_sink(policy, base)
    try:
        return standings(
            keys,
            policy.columns,
            store=store,
            signers={signer.fingerprint: signer for signer in signers},
            evidence=sink.newest,
        )
    finally:
        sink.close()


def _line(standing: Standing) -> _Line:
    if standing.overdue:
        said = f"{standing} is past its deadline {standing.deadline} and not encrypted: lacre refuses its plaintext"
        return _Line(standing=standing, wrong=(said,))
    days = standing.days_left
    if not standing.done and days is not None and days <= _SOON:
        return _Line(standing=standing, due=f"{standing} is to be encrypted in {days} days")
    return _Line(standing=standing)


def _counted(lines: list[_Line], database: str, store: str) -> list[_Line]:
    from lacre.sqlalchemy.tallies import tally

    counted = []
    with reading(database) as engine, engine.connect() as connection:
        for line in lines:
            standing = line.standing
            try:
                found = tally(connection, standing.table, standing.column)
            except ConfigurationError as error:
                said = f"{standing} is a column of store {store}, as which --database is read: {error}; --store NAME says of which store it is"
                counted.append(_Line(standing=standing, wrong=(*line.wrong, said), due=line.due))
                continue
            wrong = [*line.wrong, *_contradictions(standing, found)]
            counted.append(_Line(standing=standing, tally=found, wrong=tuple(wrong), due=line.due))
    return counted


def _contradictions(standing: Standing, found: Any) -> list[str]:
    sentences = []
    if standing.done and found.plaintext:
        sentences.append(
            f"{standing} is encrypted, and {found.plaintext:,} rows hold something else: planted, or written behind the CHECK"
        )
    if standing.done and found.under_way:
        sentences.append(f"{standing} is encrypted, and the table is in the middle of a job")
    if found.drift:
        sentences.append(
            f"{standing}: in {found.drift:,} rows the two forms contradict their marker: a ciphertext was emptied or replaced"
        )
    if found.untied:
        sentences.append(
            f"{standing}: {found.untied:,} rows have a value without its token, or a token without its value"
        )
    if not standing.done and not found.under_way and found.encrypted and not found.plaintext:
        sentences.append(
            f"{standing} holds ciphertext only, and its state is {_state(standing)}: run the same `lacre protect` again, or restore the key store"
        )
    return sentences  # fmt: skip


def _state(standing: Standing) -> str:
    return "none" if standing.state is None else str(standing.state)


def _show(lines: list[_Line], *, counted: bool) -> None:
    if not lines:
        say('no column has a state, and lacre.toml names none: [columns."TABLE.COLUMN"]')
        return
    head = ["column", "class", "state", "deadline", "#days left"]
    if counted:
        head += ["#rows", "#plaintext", "#encrypted", "#NULL"]
    rows = []
    for line in lines:
        standing = line.standing
        row = [
            str(standing), standing.class_, _state(standing),
            str(standing.deadline or "-"),
            "-" if standing.days_left is None or standing.done else str(standing.days_left),
        ]  # fmt: skip
        if counted:
            row += ["?"] * 4 if line.tally is None else _counts(line.tally)
        rows.append(row)
    out.print(table(head, rows))


def _counts(found: Any) -> list[str]:
    return [f"{n:,}" for n in (found.rows, found.plaintext, found.encrypted, found.nulls)]


def _record(line: _Line) -> dict[str, Any]:
    standing = line.standing
    return {
        "store": standing.store,
        "table": standing.table,
        "column": standing.column,
        "class": standing.class_,
        "state": None if standing.state is None else str(standing.state),
        "target": "encrypted",
        "deadline": None if standing.deadline is None else standing.deadline.isoformat(),
        "days_left": standing.days_left,
        "overdue": standing.overdue,
        "counts": None if line.tally is None else asdict(line.tally),
        "wrong": list(line.wrong),
    }
