# SPDX-License-Identifier: Apache-2.0
"""
`lacre keys destroy`: one key, once nothing is under it any more.

What is under a key its headers and tokens say, in the databases that are named; keys under a branch
key are in the key store. Does not see what no model names: history tables, backups, consumers' copies.
"""

import datetime as dt
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from lacre.cli.keys.states import found, show
from lacre.cli.models import load_models
from lacre.cli.operator import Config, Operator, PassphraseFile, as_operator
from lacre.cli.progress import progress_bar
from lacre.cli.reading import named
from lacre.cli.sweeping import sweeper_of, tables_for
from lacre.cli.terminal import say, warn
from lacre.errors import ConfigurationError, MisuseError, SubjectHeld
from lacre.fields.column_state import ColumnState
from lacre.fields.tables import EncryptedTable
from lacre.jobs.pace import Pace
from lacre.jobs.sweeps import Sweeper
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState

__all__ = ["destroy"]

_ANYWAY = "--with-what-it-protects destroys both"
_LEFT = {
    KeyKind.DATA: "lacre reencrypt moves its values",
    KeyKind.INDEX: "lacre reencrypt --indexes makes their tokens anew",
}

# Of an index root that nobody may use no row's tokens can be compared.
_STOPPED = {
    KeyState.DISABLED: "lacre keys enable, then lacre reencrypt --indexes; --with-what-it-protects destroys it now",
    KeyState.COMPROMISED: "--with-what-it-protects destroys it, then lacre reencrypt --indexes at once: until that is done rows are not found, and unique values may come twice",
}


def destroy(
    key: str = typer.Argument(help="the key's id, or its first 8 digits"),
    models: list[str] = typer.Option([], "--models", help="MODULE:NAME of your declarative base, to see that nothing is under a data key or an index root; once for each"),
    database: list[str] = typer.Option([], "--database", help="the database of these models; STORE=URL where it is not main, once for each"),
    with_what_it_protects: bool = typer.Option(False, "--with-what-it-protects", help="look at nothing: values under it are lost, rows whose tokens are under it are not found"),
    yes: bool = typer.Option(False, "--yes", help="do not ask"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:  # fmt: skip
    """
    Destroy a key for good, once nothing is under it.

    Example: lacre keys destroy 41d5a2c0 --models shop.models:Base --database postgresql://db/shop
    """
    with as_operator(config, passphrase_file, purpose="key state") as operator:
        row = found(operator, key)
        _check_holds(operator, row)
        if not with_what_it_protects:
            _check_unused(operator, row, models, database)
        if not yes:
            _confirm(row)
        row = operator.lacre.provisioner.step(row.key_id, KeyState.DESTROYED)
    show(row)
    warn("backups of the key store made before now still hold the wrapped key, until they expire")


def _check_holds(operator: Operator, row: KeyRow) -> None:
    held = operator.store.held_in(row.scope, under=row.key_id.hex())
    if held:
        raise SubjectHeld(
            f"{held} subjects whose keys are under this one are under a legal hold; nothing was destroyed",
            hint="lacre hold list",
        )


def _check_unused(
    operator: Operator, row: KeyRow, models: Sequence[str], databases: Sequence[str]
) -> None:
    """Raise `MisuseError` unless nothing is under the key *row*."""
    kind = row.scope.kind
    if row.state is KeyState.DESTROYED or kind in (KeyKind.SEAL, KeyKind.BUCKET):
        return  # a step that is refused anyway, with its own reason
    if kind is KeyKind.BRANCH:
        _check_below(operator, row)
    if row.state is KeyState.PENDING:
        return  # nothing is under it that is not under the active one too
    if row.state is KeyState.ACTIVE:
        raise _refused(row, "is the one in use", f"lacre keys rotate makes the next, lacre keys disable stops it, lacre tenants offboard ends a tenant; {_ANYWAY}")  # fmt: skip
    if kind is KeyKind.INDEX and row.state in _STOPPED:
        raise _refused(row, f"is {row.state}: no tokens are made beside it", _STOPPED[row.state])
    _check_settled(operator, row)
    if kind is KeyKind.BRANCH:
        return
    if not (models and databases):
        raise _refused(row, "may have values or tokens under it", f"--models and --database, so that they are counted first; {_ANYWAY}")  # fmt: skip
    counted = set()
    with progress_bar() as advance:
        pace = Pace(progress=advance)
        for store, url, tables in _places(operator, row, load_models(models), databases):
            sweeper = sweeper_of(operator.lacre, url, tenant=row.scope.tenant, before=None, pace=pace)  # fmt: skip
            for table in tables:
                _check_table(sweeper, table, row)
                counted |= {(store, column.scheme.table, column.scheme.column) for column in table.columns}  # fmt: skip
    for known in operator.store.column_states():
        place = (known.store, known.table, known.column)
        if known.class_ == row.scope.class_ and known.state is not ColumnState.PLAINTEXT and place not in counted:  # fmt: skip
            raise _refused(row, f"may have values under it in {known.table}.{known.column} of store {known.store}, which was not counted", f"name its models and database too; {_ANYWAY}")  # fmt: skip
    names = ", ".join(sorted(f"{table}.{column}" for _, table, column in counted))
    say(f"nothing is under it in {names}; history tables, backups and copies that no model names were not looked at")  # fmt: skip


def _check_below(operator: Operator, row: KeyRow) -> None:
    parent = row.key_id.hex()
    keys = sum(
        each.parent == parent and each.state is not KeyState.DESTROYED
        for each in operator.store.rows()
    )
    subjects = sum(
        each.number
        for each in operator.store.subject_keys()
        if each.parent == parent and each.state is not KeyState.DESTROYED
    )
    if keys or subjects:
        raise _refused(row, f"has {keys + subjects:,} keys under it", f"lacre keys rotate --kind branch moves them, lacre keys rewrap --subjects what is left; {_ANYWAY}")  # fmt: skip


def _check_settled(operator: Operator, row: KeyRow) -> None:
    # A process that read it before it was replaced, or disabled, goes by that as long as its cache.
    until = dt.datetime.fromisoformat(row.changed) + dt.timedelta(
        seconds=operator.lacre.policy.file.cache.age
    )
    if until > dt.datetime.now(dt.UTC):
        raise _refused(row, f"may be used by running processes until {until:%Y-%m-%d %H:%M:%S} UTC", "the same command again after that")  # fmt: skip


def _places(
    operator: Operator, row: KeyRow, models: list[Any], databases: Sequence[str]
) -> Iterator[tuple[str, str, list[EncryptedTable]]]:
    """Yield each store with its database and the tables of the key's class there."""
    from lacre.sqlalchemy.mapped import schemes_of

    lacre, class_ = operator.lacre, row.scope.class_
    urls: dict[str, str] = {}
    for text in databases:
        store, equals, url = text.partition("=")
        store, url = (store, url) if equals and "/" not in store else ("main", text)
        named(url)  # refuses a password
        if urls.setdefault(store, url) != url:
            raise ConfigurationError(f"two databases were named for store {store!r}", hint="--database STORE=URL")  # fmt: skip
    missing = {each.store for each in schemes_of(models) if each.class_ == class_} - urls.keys()
    if missing:
        raise _refused(row, f"may have values under it in store {min(missing)}, whose database was not named", f"--database {min(missing)}=URL; {_ANYWAY}")  # fmt: skip
    for store, url in urls.items():
        tables, waiting = tables_for(lacre, models, url, store, class_)
        for name, state in waiting:
            raise _refused(row, f"may have values under it in {name}, which is in state {state}", f"lacre protect finishes it; {_ANYWAY}")  # fmt: skip
        yield store, url, tables


def _check_table(sweeper: Sweeper, table: EncryptedTable, row: KeyRow) -> None:
    if row.scope.kind is KeyKind.DATA:
        under = {
            f"{covered.table}.{covered.column}": share.values
            for covered in sweeper.survey(table)
            for share in covered.shares
            if share.key == row.key_id
        }
        for name, values in under.items():
            raise _refused(row, f"has {values:,} values of {name} under it", f"{_LEFT[KeyKind.DATA]}; {_ANYWAY}")  # fmt: skip
    elif table.indexed:
        done = sweeper.reindex(table, write=False)
        rows = done.stale + sum(failure.values for failure in done.failures)
        if rows:
            raise _refused(row, f"is needed by {rows:,} rows of {table}", f"{_LEFT[KeyKind.INDEX]}; {_ANYWAY}")  # fmt: skip


def _refused(row: KeyRow, why: str, hint: str) -> MisuseError:
    return MisuseError(
        f"the {row.scope}, version {row.version}, {why}; nothing was destroyed", hint=hint
    )


def _confirm(row: KeyRow) -> None:
    warn(
        f"this destroys the {row.scope}, version {row.version}: nothing it protects can be read again"
    )
    if not sys.stdin.isatty():
        raise MisuseError("nobody can be asked here", hint="--yes destroys without asking")
    if typer.prompt("type the first 8 digits of its id to go on", err=True) != row.key_id.hex()[:8]:
        raise MisuseError("that is not its id; nothing was done")
