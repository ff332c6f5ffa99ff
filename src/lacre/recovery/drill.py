# SPDX-License-Identifier: Apache-2.0
"""
Prove that a dump is a way back: restore it aside, unwrap its keys, open a sample of values.

Touches neither the key store in use nor the data: the dump goes into a scratch store, nothing
is activated, values are read and never written. Its looks are decided and recorded like any
other. Does not say that the data itself could be restored.
"""

import datetime as dt
import decimal
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from lacre.application import Lacre
from lacre.errors import ConfigurationError, LacreError
from lacre.fields.rows import row_text
from lacre.fields.scheme import Scheme
from lacre.keys.hierarchy import USABLE, KeyKind, KeyRow, KeyState
from lacre.keys.resolver import ScopeHandle
from lacre.recovery.dump import Dump
from lacre.sensitive import Mask

__all__ = ["DrillReport", "KeysOpened", "SampledColumn", "ValuesOpened", "drill", "types_by_name"]

ROW_ID = "lacre_rid"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledColumn:
    """A protected column whose values the drill opens; *tenant* is whose, without a default one."""

    table: str
    column: str
    class_: str
    python_type: type = str
    store: str = "main"
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysOpened:
    """The keys of one scope: those that opened, those out of use on purpose, and what failed."""

    tenant: str
    class_: str
    kind: KeyKind
    opened: int
    unused: int
    failed: Sequence[str]
    encrypts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ValuesOpened:
    """The sample of one column. *failed* are the codes of errors, one for each value."""

    column: SampledColumn
    opened: int
    failed: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillReport:
    """What the drill found."""

    taken_at: str
    keystore: str
    keys: Sequence[KeysOpened] = field(default=())
    values: Sequence[ValuesOpened] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether every key and every value opened, and there was a key at all."""
        failed = [code for keys in self.keys for code in keys.failed]
        failed += [code for values in self.values for code in values.failed]
        return bool(self.keys) and not failed


def drill(
    lacre: Lacre,
    dump: Dump,
    *,
    columns: Sequence[SampledColumn] = (),
    database: str | None = None,
    rows: int = 20,
) -> DrillReport:
    """
    Open what can be opened, as whoever acts.

    Args:
        lacre: composed over the scratch store that *dump* was restored into.
        columns: of which a sample of *rows* values is opened, out of *database*, a URL.
    """
    keys = _keys_of(lacre, dump)
    values = []
    if columns:
        if database is None:
            raise ConfigurationError("no database to take a sample from", hint="--database URL")
        engine = sa.create_engine(database, hide_parameters=True, poolclass=sa.NullPool)
        try:
            values = [
                _values_of(lacre, column, _sample(engine, column, rows)) for column in columns
            ]
        except sa.exc.SQLAlchemyError as error:
            failed = ConfigurationError(
                f"the sample cannot be read ({type(error).__name__})",
                hint="check --database, --table and --column",
            )
            raise failed from None
        finally:
            engine.dispose()
    return DrillReport(
        taken_at=dump.taken_at, keystore=dump.contents.keystore, keys=keys, values=values
    )


def types_by_name() -> dict[str, type]:
    """Return the types that a sampled column may be declared with, by the name of each."""
    types: tuple[type, ...] = (str, int, bytes, bool, dict, list, decimal.Decimal, dt.date, dt.datetime, uuid.UUID)  # fmt: skip
    return {found.__name__.lower(): found for found in types}


def _keys_of(lacre: Lacre, dump: Dump) -> Sequence[KeysOpened]:
    scopes: dict[tuple[str, str, KeyKind], list[KeyRow]] = defaultdict(list)
    for row in dump.contents.keys:
        scopes[row.scope.tenant, row.scope.class_, row.scope.kind].append(row)
    return [
        _opened(lacre, rows, tenant=tenant, class_=class_, kind=kind)
        for (tenant, class_, kind), rows in sorted(scopes.items())
    ]


def _opened(
    lacre: Lacre, rows: Iterable[KeyRow], *, tenant: str, class_: str, kind: KeyKind
) -> KeysOpened:
    opened, unused, failed, encrypts = 0, 0, [], False
    for row in rows:
        if row.state not in USABLE:
            unused += 1  # destroyed, disabled, compromised or pending: as it was in the store
            continue
        try:
            lacre.resolver.to_decrypt(_handle(row), row.key_id)
            encrypts = encrypts or row.state is KeyState.ACTIVE
            opened += 1
        except LacreError as error:
            failed.append(error.code)
    return KeysOpened(
        tenant=tenant,
        class_=class_,
        kind=kind,
        opened=opened,
        unused=unused,
        failed=failed,
        encrypts=encrypts,
    )


def _handle(row: KeyRow) -> ScopeHandle:
    if row.digest is None:
        return ScopeHandle(row.scope)
    return ScopeHandle(row.scope.of_kind(KeyKind.SUBJECT), row.digest)


def _sample(engine: sa.Engine, column: SampledColumn, rows: int) -> Sequence[tuple[str, bytes]]:
    table = sa.Table(column.table, sa.MetaData(), autoload_with=engine)
    named = [table.c[ROW_ID]] if ROW_ID in table.c else list(table.primary_key)
    if column.column not in table.c or not named:
        raise ConfigurationError(
            f"{column.table} has no column {column.column}, or no primary key",
            hint="name a column that lacre protects",
        )
    value = table.c[column.column]
    query = (
        sa.select(*named, sa.type_coerce(value, sa.LargeBinary))
        .where(value.is_not(None))
        .order_by(sa.func.random())
        .limit(rows)
    )
    with engine.connect() as connection:
        return [(_row(found[:-1]), found[-1]) for found in connection.execute(query)]


def _row(parts: Sequence[Any]) -> str:
    return row_text(parts[0] if len(parts) == 1 else tuple(parts))


def _values_of(
    lacre: Lacre, column: SampledColumn, sample: Sequence[tuple[str, bytes]]
) -> ValuesOpened:
    box = lacre.field_of(
        Scheme(
            class_=column.class_,
            store=column.store,
            table=column.table,
            column=column.column,
            python_type=column.python_type,
        )
    )
    opened, failed = 0, []
    for row, sealed in sample:
        try:
            value = box.decrypt(sealed, row=row, tenant=column.tenant)
            if isinstance(value, Mask):
                failed.append("masked")
            else:
                opened += 1
        except LacreError as error:
            failed.append(error.code)
    return ValuesOpened(column=column, opened=opened, failed=failed)
