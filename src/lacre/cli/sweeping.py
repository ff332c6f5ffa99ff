# SPDX-License-Identifier: Apache-2.0
"""
What commands that go over the encrypted tables of models share: the tables, and the job.

Opens no database by itself, and no key.
"""

import datetime as dt
from collections.abc import Iterable
from typing import Any, cast

from lacre.application import Lacre
from lacre.errors import ConfigurationError
from lacre.fields.column_state import ColumnState
from lacre.fields.moving import MovingField
from lacre.fields.tables import EncryptedColumn, EncryptedTable
from lacre.jobs.coverage import Coverage
from lacre.jobs.pace import Pace
from lacre.jobs.postgresql.connection import is_postgresql
from lacre.jobs.sweeps import Sweeper
from lacre.keys.hierarchy import KeyKind
from lacre.stores.sql import SQLKeyStore

__all__ = ["overdue", "sweeper_of", "tables_for"]


def tables_for(
    lacre: Lacre, models: list[Any], database: str, store: str, class_: str | None
) -> tuple[list[EncryptedTable], list[tuple[str, ColumnState]]]:
    """Return the tables with what is asked for of them, and the columns that are not encrypted yet."""
    import sqlalchemy as sa

    from lacre.sqlalchemy.tables import tables_of

    if store not in lacre.policy.file.stores:
        raise ConfigurationError(f"lacre.toml has no store {store!r}", hint=f"add [stores.{store}]")
    if class_ is not None:
        lacre.policy.class_(class_)
    url = "postgresql+psycopg://" if is_postgresql(database) else "sqlite://"
    dialect = sa.make_url(url).get_dialect()()
    found: list[EncryptedTable] = []
    waiting: list[tuple[str, ColumnState]] = []
    for each in tables_of(models, dialect):
        columns = []
        for column in each.columns:
            scheme = column.scheme
            if scheme.store != store or class_ not in (None, scheme.class_):
                continue
            state = lacre.column_state(scheme)
            if state is ColumnState.ENCRYPTED:
                columns.append(column)
            else:
                waiting.append((str(scheme), state))
        if columns:
            found.append(each.of(columns))
    if not found and not waiting:
        raise ConfigurationError("these models have no such column", hint="--class and --store say which are meant")  # fmt: skip
    return found, waiting


def sweeper_of(
    lacre: Lacre,
    database: str,
    *,
    tenant: str | None,
    before: dt.datetime | None,
    pace: Pace,
) -> Sweeper:
    """Return what goes over tables of *database*, of *tenant*'s rows or of all."""
    default = lacre.policy.file.default_tenant

    def whose(each: EncryptedTable) -> str | None:
        if tenant is not None or each.tenant is not None:
            return tenant
        if default is None:
            raise ConfigurationError(
                f"the rows of {each} name no tenant, and lacre.toml has no default", hint="--tenant NAME"
            )  # fmt: skip
        return default

    def field(column: EncryptedColumn) -> MovingField:
        return MovingField(lacre.guard, column.scheme)

    return Sweeper(
        database=database,
        fields=field,
        keys=cast(SQLKeyStore, lacre.store),
        scope=lacre.policy.scope(KeyKind.DATA, next(iter(lacre.policy.file.classes)), "any"),
        tenant=whose,
        record=lacre.recorder.write,
        forget=lacre.resolver.forget,
        before=before,
        pace=pace,
    )


def overdue(lacre: Lacre, found: Iterable[Coverage]) -> list[tuple[Coverage, int]]:
    """
    Return the columns with values that should be under another key by now, and how many.

    By the class's `reencrypt_within`; where it has none, every value that is not under the active key.
    """
    now, late = dt.datetime.now(dt.UTC), []
    for covered in found:
        within = lacre.policy.class_(covered.scheme.class_).reencrypt_within
        count = covered.left if within is None else covered.overdue(within, now)
        if count:
            late.append((covered, count))
    return late
