# SPDX-License-Identifier: Apache-2.0
"""
One call for every database: which package does a job, its URL says. Does nothing of the job itself.

An SQLite file is named by its path or ``sqlite:///FILE``, a PostgreSQL database by
``postgresql://...``, of which psycopg takes what it lacks from libpq's variables and files.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from lacre.errors import ConfigurationError
from lacre.jobs.authority import Authority
from lacre.jobs.columns import ColumnRequest, PlannedColumn
from lacre.jobs.conversion import ProtectedField
from lacre.jobs.ledger import Job, Report
from lacre.jobs.pace import Pace
from lacre.jobs.postgresql import comparing as postgresql_comparing
from lacre.jobs.postgresql import plan as postgresql_plan
from lacre.jobs.postgresql import protect as postgresql_protect
from lacre.jobs.postgresql import sizes as postgresql_sizes
from lacre.jobs.postgresql import unprotect as postgresql_unprotect
from lacre.jobs.postgresql.connection import is_postgresql, parsed, shown
from lacre.jobs.sources import NO_SOURCES, Sources
from lacre.jobs.sqlite import comparing as sqlite_comparing
from lacre.jobs.sqlite import plan as sqlite_plan
from lacre.jobs.sqlite import protect as sqlite_protect
from lacre.jobs.sqlite import residue as sqlite_residue
from lacre.jobs.sqlite import unprotect as sqlite_unprotect

__all__ = [
    "Plan",
    "compare",
    "file_of",
    "has_password",
    "name_of",
    "plan",
    "protect",
    "remains",
    "to_undo",
    "under_way",
    "unprotect",
    "values_in",
]

Plan = sqlite_plan.Plan | postgresql_plan.Plan
R = TypeVar("R")


def plan(
    database: str,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    store: str = "main",
    sources: Sources = NO_SOURCES,
) -> Plan:
    """
    Inspect *table* of *database*, and change nothing.

    Raises:
        ConfigurationError: no such database, table or column, or no column was named.
    """
    run: Callable[..., Plan] = _of(database, postgresql_plan.plan, sqlite_plan.plan)
    return run(table, columns, store=store, sources=sources)


def values_in(database: str, table: str, columns: Sequence[ColumnRequest]) -> int:
    """
    Return how many values *columns* of *table* hold together, NULLs left out.

    Raises:
        ConfigurationError: as `plan`.
    """
    if is_postgresql(database):
        return postgresql_plan.values_in(database, table, columns)
    return sqlite_plan.values_in(file_of(database), table, columns)


def protect(
    database: str,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    fields: Callable[[PlannedColumn], ProtectedField],
    authority: Authority,
    store: str = "main",
    pace: Pace | None = None,
    verify: bool = True,
    join: bool = False,
    lock_timeout: float = 1.0,
    decided: Plan | None = None,
    sources: Sources = NO_SOURCES,
) -> Report:
    """
    Encrypt *columns* of *table* in place; the same call goes on where a killed one stopped.

    Args:
        database: ``sqlite:///FILE``, a file's path, or ``postgresql://...``.
        fields: makes the field of a planned column.
        verify, join, lock_timeout: of PostgreSQL; see `lacre.jobs.postgresql.protect`.
        decided: what `plan` gave a moment ago, so that values are not read twice.
        sources: what reads columns that another library wrote.

    Raises:
        ConfigurationError: the plan refuses; its reasons are in the message.
        MisuseError: another job is under way on this table.
        InvalidValue, DuplicateValue: a value written since the plan; the row is named.
        Tampered: what was encrypted does not open as what was there, or the job's row is not what
            an operator signed.
    """
    more: dict[str, Any] = {}
    if is_postgresql(database):
        kept = decided if isinstance(decided, postgresql_plan.Plan) else None
        more = {"verify": verify, "join": join, "lock_timeout": lock_timeout, "decided": kept}
    else:
        _only_postgresql(join=join, verify=not verify, workers=_several(pace))
    run = _of(database, postgresql_protect.protect, sqlite_protect.protect)
    return run(
        table,
        columns,
        fields=fields,
        authority=authority,
        store=store,
        pace=pace,
        sources=sources,
        **more,
    )


def compare(
    database: str,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    fields: Callable[[PlannedColumn], ProtectedField],
    authority: Authority,
    store: str = "main",
    pace: Pace | None = None,
    sources: Sources = NO_SOURCES,
) -> None:
    """
    Compare both forms of every row that a `protect` under way has filled; change nothing.

    Raises:
        MisuseError: no `protect` with these arguments fills.
        Tampered: a row whose two forms differ; its note names the row.
    """
    run = _of(database, postgresql_comparing.compare, sqlite_comparing.compare)
    run(
        table,
        columns,
        fields=fields,
        authority=authority,
        store=store,
        pace=pace,
        sources=sources,
    )


def under_way(
    database: str,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    authority: Authority,
    store: str = "main",
) -> Job | None:
    """Return the job that `protect` with these arguments would go on with, or find done; else None."""
    run = _of(database, postgresql_protect.under_way, sqlite_protect.under_way)
    return run(table, columns, authority=authority, store=store)


def unprotect(
    database: str,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    fields: Callable[[PlannedColumn], ProtectedField],
    authority: Authority,
    store: str = "main",
    pace: Pace | None = None,
    lock_timeout: float = 1.0,
) -> Report:
    """
    Decrypt *columns* of *table* in place. The arguments are those that `protect` was given.

    Raises:
        MisuseError: these columns were not protected by these arguments, a later `protect` has
            to be undone first, or the table's definition was changed since.
        Tampered, KeyUnavailable: a value does not open; nothing was switched over.
    """
    more: dict[str, Any] = {}
    if is_postgresql(database):
        more = {"lock_timeout": lock_timeout}
    else:
        _only_postgresql(workers=_several(pace))
    run = _of(database, postgresql_unprotect.unprotect, sqlite_unprotect.unprotect)
    return run(table, columns, fields=fields, authority=authority, store=store, pace=pace, **more)


def to_undo(
    database: str,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    authority: Authority,
    store: str = "main",
) -> tuple[Job, int]:
    """Return the job that `unprotect` with these arguments would undo, and its table's rows now."""
    run = _of(database, postgresql_unprotect.to_undo, sqlite_unprotect.to_undo)
    return run(table, columns, authority=authority, store=store)


def remains(database: str) -> tuple[str, ...]:
    """Return where plaintext may be left, in sentences."""
    return postgresql_sizes.REMAINS if is_postgresql(database) else sqlite_residue.REMAINS


def name_of(database: str) -> str:
    """Return what may be printed of a database's URL: no user, no password."""
    return shown(database) if is_postgresql(database) else str(file_of(database))


def has_password(database: str) -> bool:
    """Whether a database's URL names a password, which belongs elsewhere."""
    if not is_postgresql(database):
        return False
    parts = parsed(database)
    return parts.password is not None or any(
        name in ("password", "sslpassword") for name, _ in parse_qsl(parts.query)
    )


def file_of(database: str) -> Path:
    """
    Return the file that *database* names.

    Raises:
        ConfigurationError: it names none, or there is none.
    """
    path = Path(database.removeprefix("sqlite:///"))
    if "://" in database and not database.startswith("sqlite:///"):
        raise ConfigurationError(
            "this release protects SQLite files and PostgreSQL databases",
            hint="--database sqlite:///FILE, or postgresql://HOST/DATABASE",
        )
    if not path.is_file():
        raise ConfigurationError(
            f"there is no database file {path}", hint="--database sqlite:///FILE"
        )
    return path


def _only_postgresql(**asked: bool) -> None:
    for option, given in asked.items():
        if given:
            raise ConfigurationError(
                f"the option {option!r} is for PostgreSQL: an SQLite file has one writer, and its job verifies always"
            )


def _several(pace: Pace | None) -> bool:
    return pace is not None and pace.workers > 1


def _of(database: str, postgresql: Callable[..., R], sqlite: Callable[..., R]) -> Callable[..., R]:
    """Return the one of two functions that is for *database*, given it; the rest of their arguments is the same."""
    if is_postgresql(database):
        return partial(postgresql, database)
    return partial(sqlite, file_of(database))
