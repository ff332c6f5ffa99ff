# SPDX-License-Identifier: Apache-2.0
"""`lacre tenants move`: take rows, and what refers to them, from one tenant to another."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lacre.cli.models import Models, load_models
from lacre.cli.operator import Config, PassphraseFile, as_operator
from lacre.cli.progress import progress_bar
from lacre.cli.reading import Database, changing
from lacre.cli.terminal import data, out, say, table, talk, warn
from lacre.errors import MisuseError
from lacre.jobs.pace import Pace, Progress, Reporter

if TYPE_CHECKING:
    from lacre.sqlalchemy.tenants import MovePlan

__all__ = ["move_rows"]


def move_rows(
    source: str = typer.Option(..., "--from", help="the tenant the rows are of"),
    target: str = typer.Option(..., "--to", help="the tenant they are to be of"),
    models: list[str] = Models,
    database: str = Database,
    where: str | None = typer.Option(
        None, "--where", help="an SQL condition on the rows of the one model named; all by default"
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="say what would move, and change nothing"),
    yes: bool = typer.Option(False, "--yes", help="do not ask"),
    batch: int = typer.Option(500, "--batch", min=1, max=10_000, help="rows in one transaction"),
    throttle: float | None = typer.Option(None, "--throttle", min=1.0, help="rows a second at most"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:  # fmt: skip
    """
    Move rows from one tenant to another, each value encrypted anew, with the rows that refer to them.

    Example: lacre tenants move --from north --to south --models shop.models:Customer --database postgresql://db/shop --where "city = 'Recife'"
    """
    from sqlalchemy import text
    from sqlalchemy.orm import sessionmaker

    from lacre.sqlalchemy.tenants import TenantMove

    found = load_models(models)
    with (
        as_operator(config, passphrase_file, purpose="tenant-move") as operator,
        changing(database) as engine,
    ):
        move = TenantMove(
            operator.lacre.sqlalchemy(sessionmaker(engine)),
            found,
            source=source,
            target=target,
            where=None if where is None else text(where),
            batch=batch,
        )
        plan = move.plan()
        _show(plan, dry_run=dry_run, as_json=as_json)
        if plan.conflicts and not dry_run:
            raise MisuseError(
                f"values that may be there once are there already in {plan.target}; nothing was moved",
                hint="change or remove the rows of one tenant, or move fewer: --where",
            )
        if dry_run:
            raise typer.Exit(8 if plan.conflicts else 0)
        if not plan.rows:
            moved: dict[str, int] = {}
        else:
            if not yes:
                _ask(plan)
            with progress_bar() as advance:
                moved = dict(move.run(plan=plan, throttle=throttle, progress=_told(plan, advance)).rows)  # fmt: skip
    if as_json:
        data({"moved": moved, "from": plan.source, "to": plan.target})
    else:
        out.print(f"moved: {_counted(moved)}")


def _told(plan: "MovePlan", advance: Callable[[Progress], None]) -> Callable[[int], None]:
    return Reporter(Pace(progress=advance), "move", total=sum(plan.rows.values()), done=0)


def _counted(rows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} rows of {name}" for name, count in rows.items()) or "nothing"


def _ask(plan: "MovePlan") -> None:
    if not sys.stdin.isatty():
        raise MisuseError("nobody can be asked here", hint="--yes moves without asking")
    question = f"move {_counted(dict(plan.rows))} from {plan.source} to {plan.target}?"
    if not typer.confirm(question, err=True):
        raise MisuseError("nothing was moved")


def _show(plan: "MovePlan", *, dry_run: bool, as_json: bool) -> None:
    if dry_run and as_json:
        data(
            {
                "from": plan.source,
                "to": plan.target,
                "rows": dict(plan.rows),
                "values": plan.values,
                "classes": list(plan.classes),
                "conflicts": [
                    {"table": c.table, "columns": list(c.columns), "count": c.count, "rows": list(c.rows)}
                    for c in plan.conflicts
                ],
                "notices": list(plan.notices),
            }
        )  # fmt: skip
        return
    if plan.rows:
        # The plan is what a dry run is asked for; before a move it is talk.
        (out if dry_run else talk).print(
            table(("table", "#rows"), [[name, f"{count:,}"] for name, count in plan.rows.items()])
        )
    say(f"{plan.values:,} values, of {', '.join(plan.classes)}, are encrypted anew; the key service is asked for at most {4 * len(plan.classes)} keys")  # fmt: skip
    for notice in plan.notices:
        say(f"note: {notice}")
    for conflict in plan.conflicts:
        shown = f" (rows {', '.join(conflict.rows)})" if conflict.rows else ""
        warn(f"{conflict.count:,} values of {conflict.table}.{', '.join(conflict.columns)} are there already{shown}")  # fmt: skip
