# SPDX-License-Identifier: Apache-2.0
"""
Reading what a description asks for, batch by batch, in the process that holds the keys.

Rule 1: every class is decided before the database is asked anything.
Rule 2: the evidence of a batch is written before the batch is handed on; where it cannot be
        written, there is no batch.
Rule 3: no batch brings the rows over the budget.

Keeps one batch in memory. Does not write files and knows no pipe (`lacre.bulk.process`).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.orm import Mapper, Session

from lacre.application import Lacre
from lacre.audit.events import BulkRead, Outcome, who
from lacre.bulk.arrow import (
    ArrowColumn,
    arrow_column,
    batch_of,
    masked_column,
    python_type_of,
)
from lacre.bulk.description import Description, attribute_of, is_of_index
from lacre.context import current
from lacre.errors import AccessDenied, MisuseError, RowBudgetExceeded
from lacre.sqlalchemy.declared import row_facts, row_of_values, sealed_properties, tenant_text
from lacre.sqlalchemy.subjects import subject_column, subject_of_values
from lacre.sqlalchemy.types import raw_of

__all__ = ["BulkReading"]

_EXACTLY = (bytes, bytearray, memoryview)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One column of the result: where it stands among those fetched, and its field where it is encrypted."""

    position: int
    arrow: ArrowColumn
    field: Any | None
    prop: Any = None
    subject: int | None = None  # where whom its values are about stands


class BulkReading:
    """
    One reading, of whoever acts. *schema* is known before a row is read.

    Args:
        session: of *application*, used for nothing else.
        budget: rows handed on at most.
        types: Arrow types by column name, where they are to be others than the usual.

    Raises:
        AccessDenied: the policy gives this reader nothing of a class, or no such budget.
    """

    def __init__(
        self,
        application: Lacre,
        session: Session,
        description: Description,
        mapper: Mapper[Any],
        *,
        budget: int,
        types: Mapping[str, Any],
    ) -> None:
        self._application = application
        self._session = session
        self._mapper = mapper
        self._budget = budget
        self._facts = row_facts(mapper)
        self.name = uuid4().hex
        self._batch = 0
        bound = application.policy.file.bulk
        self._at_once = bound.batch
        if budget > bound.rows:
            raise AccessDenied(
                f"{budget:,} rows are more than one bulk reading may ask for",
                hint=f"[bulk] rows of lacre.toml allows {bound.rows:,}",
            )
        if unknown := set(types) - {name for name, _ in description.columns}:
            raise MisuseError(f"types= names columns that are not read: {sorted(unknown)}")
        self._fetched: list[Any] = []
        self._columns = [self._column(name, key, types.get(name)) for name, key in description.columns]  # fmt: skip
        self._ids = [self._fetch(column) for column in self._facts.columns]
        tenant = self._facts.tenant
        self._tenant = None if tenant is None else self._fetch(mapper.column_attrs[tenant].columns[0])  # fmt: skip
        self._statement = description.narrowed(sa.select(*self._fetched), mapper)
        # Tells which evidence a file or a table belongs to.
        self.schema = pa.schema(
            [(column.arrow.name, column.arrow.type) for column in self._columns],
            metadata={"lacre-reading": self.name, "lacre-purpose": current().purpose},
        )

    def _column(self, name: str, key: str, wanted: Any) -> _Column:
        attribute = attribute_of(self._mapper, key)
        prop = self._mapper.column_attrs[key]
        if is_of_index(self._mapper, prop):
            raise MisuseError(f"{key} is a blind index, which is not read")
        if prop not in sealed_properties(self._mapper):
            python_type, declared = python_type_of(prop.columns[0])
            made = arrow_column(name, python_type, wanted if wanted is not None else declared)
            self._fetched.append(attribute)
            return _Column(position=len(self._fetched) - 1, arrow=made, field=None)
        sealed: Any = prop
        field = self._session.info["lacre"].field(sealed)
        if field.may_read().outcome is Outcome.ALLOWED:
            made = arrow_column(name, sealed.python_type, wanted)
        else:
            made = masked_column(name)
        about = subject_column(self._mapper, prop)
        return _Column(
            position=self._fetch(prop.columns[0]),
            arrow=made,
            field=field,
            prop=prop,
            subject=None if about is None else self._fetch(about),
        )

    def _fetch(self, column: Any) -> int:
        # The column itself and not the attribute, which would be a look for each row.
        key = self._mapper.get_property_by_column(column).key
        comparator: Any = getattr(self._mapper.class_, key).comparator
        mapped = getattr(comparator, "mapped", None)
        element = getattr(self._mapper.class_, key) if mapped is None else mapped(column, key)
        self._fetched.append(element.label(f"fetched_{len(self._fetched)}"))
        return len(self._fetched) - 1

    def batches(self) -> Iterator[Any]:
        """
        Yield record batches, each after its evidence was written.

        Raises:
            RowBudgetExceeded, EvidenceUnavailable, Tampered, PlaintextFound, KeyUnavailable, InvalidValue
        """
        done = 0
        statement = self._statement
        result = self._session.execute(statement, execution_options={"yield_per": self._at_once})
        with closing(result):
            for rows in result.partitions():
                if done + len(rows) > self._budget:
                    self._write([self._event("over-budget", None, (), ())])
                    raise RowBudgetExceeded(
                        f"there are more than {self._budget:,} rows",
                        hint="narrow the statement, or ask for a larger budget: rows=",
                    )
                done += len(rows)
                yield self._made(rows)

    def _made(self, rows: Sequence[Any]) -> Any:
        fetched: list[Any] = list(zip(*rows, strict=True))
        by_tenant: dict[str | None, list[int]] = defaultdict(list)
        if self._tenant is None:
            by_tenant[None] = list(range(len(rows)))
        else:
            for number, value in enumerate(fetched[self._tenant]):
                by_tenant[tenant_text(self._mapper, value)].append(number)
        ids = [
            row_of_values(self._mapper, values)
            for values in zip(*(fetched[position] for position in self._ids), strict=True)
        ]
        # Only what is read is kept: of an encrypted column its values take the ciphertext's place.
        columns: list[Any] = [fetched[column.position] for column in self._columns]
        events = []
        self._batch += 1
        for tenant, numbers in by_tenant.items():
            readings = []
            for place, column in enumerate(self._columns):
                if column.field is None:
                    continue
                reading = column.field.reading(tenant=tenant)
                readings.append(reading)
                raws = fetched[column.position]
                opened = reading.opened(
                    [(ids[n], _raw(raws[n])) for n in numbers],
                    subjects=self._subjects(column, fetched, numbers),
                )
                if len(by_tenant) == 1:
                    columns[place] = opened
                else:
                    if type(columns[place]) is not list:
                        columns[place] = list(columns[place])
                    for number, value in zip(numbers, opened, strict=True):
                        columns[place][number] = value
            name = readings[0].tenant if readings else tenant
            events.append(self._event("batch", name, readings, [ids[n] for n in numbers]))
        made = batch_of([column.arrow for column in self._columns], columns, self.schema)
        # The recorder first: a batch whose evidence is refused never leaves.
        self._write(events)
        return made

    def _subjects(
        self, column: _Column, fetched: Sequence[Any], numbers: Sequence[int]
    ) -> list[str] | None:
        if column.subject is None:
            return None
        raws, about = fetched[column.position], fetched[column.subject]
        # Of a NULL nobody has to say whom it is about.
        return [
            "" if raws[n] is None else str(subject_of_values(self._mapper, column.prop, about[n]))
            for n in numbers
        ]

    def _event(
        self, step: str, tenant: str | None, readings: Sequence[Any], rows: Sequence[str]
    ) -> BulkRead:
        acting, policy = current(), self._application.policy
        table: Any = self._mapper.local_table
        schemes = [column.field.scheme for column in self._columns if column.field is not None]
        return BulkRead(
            **who(
                acting,
                time=self._application.guard.clock(),
                tenant=tenant or acting.tenant or policy.file.default_tenant or "",
            ),
            reading=self.name,
            batch=self._batch,
            step=step,
            store=schemes[0].store if schemes else "",
            table=schemes[0].table if schemes else table.name,
            columns=tuple(
                (
                    reading.scheme.column,
                    reading.scheme.class_,
                    reading.decision.outcome,
                    reading.decision.rule,
                )
                for reading in readings
            ),
            budget=self._budget,
            count=len(rows),
            rows=tuple(rows),
            keys=tuple(sorted({key.hex() for reading in readings for key in reading.keys})),
            erased=sum(reading.erased for reading in readings),
        )

    def _write(self, events: Sequence[BulkRead]) -> None:
        self._application.recorder.write(events)


def _raw(held: Any) -> Any:
    raw = raw_of(held)
    # Whatever else is in the column is plaintext, and is refused as such.
    return raw if raw is None or isinstance(raw, _EXACTLY) else b""
