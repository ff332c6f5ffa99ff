# SPDX-License-Identifier: Apache-2.0
"""
Reading what a description asks for, batch by batch, in the process that holds the keys.

Rule 1: every class, of every model joined, is decided before the database is asked anything.
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
from lacre.audit.event import Outcome, who
from lacre.audit.events import BulkRead
from lacre.bulk.arrow import (
    ArrowColumn,
    arrow_column,
    batch_of,
    masked_column,
    python_type_of,
)
from lacre.bulk.description import Description
from lacre.bulk.models import Models, is_of_index
from lacre.context import current
from lacre.errors import AccessDenied, MisuseError, RowBudgetExceeded
from lacre.sqlalchemy.declared import (
    logical_table,
    row_facts,
    row_of_values,
    sealed_properties,
    tenant_text,
)
from lacre.sqlalchemy.subjects import subject_column, subject_of_values
from lacre.sqlalchemy.types import raw_of

__all__ = ["BulkReading"]

_EXACTLY = (bytes, bytearray, memoryview)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One column of the result: where it stands among those fetched, and its field where it is encrypted."""

    position: int
    arrow: ArrowColumn
    model: int  # which of the models it is of
    field: Any | None
    prop: Any = None
    subject: int | None = None  # where whom its values are about stands


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """One model that columns are read of: where what identifies its rows stands among those fetched."""

    mapper: Mapper[Any]
    ids: list[int]
    tenant: int | None
    columns: list[int]  # its own among those of the result

    def rows(
        self, fetched: Sequence[Any], count: int
    ) -> tuple[list[str], dict[str | None, list[int]]]:
        """Return the row ids, and which rows are whose: without those that an outer join left empty."""
        ids = [
            "" if None in values else row_of_values(self.mapper, values)
            for values in zip(*(fetched[position] for position in self.ids), strict=True)
        ]
        if self.tenant is None:
            return ids, {None: [number for number in range(count) if ids[number]]}
        by_tenant: dict[str | None, list[int]] = defaultdict(list)
        for number, value in enumerate(fetched[self.tenant]):
            if ids[number]:
                by_tenant[tenant_text(self.mapper, value)].append(number)
        return ids, by_tenant


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
        models: Models,
        *,
        budget: int,
        types: Mapping[str, Any],
    ) -> None:
        self._application = application
        self._session = session
        self._models = models
        self._budget = budget
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
        self._columns = [self._column(name, of, types.get(name)) for name, of in description.columns]  # fmt: skip
        self._sources = [
            self._source(place, mapper)
            for place, mapper in enumerate(models.mappers)
            if any(column.model == place for column in self._columns)
        ]
        self._statement = description.narrowed(sa.select(*self._fetched), models)
        # Tells which evidence a file or a table belongs to.
        self.schema = pa.schema(
            [(column.arrow.name, column.arrow.type) for column in self._columns],
            metadata={"lacre-reading": self.name, "lacre-purpose": current().purpose},
        )

    def _column(self, name: str, of: str, wanted: Any) -> _Column:
        attribute = self._models.attribute(of)
        mapper, prop = self._models.found(of)
        model, _ = self._models.placed(of)
        if is_of_index(mapper, prop):
            raise MisuseError(f"{prop.key} is a blind index, which is not read")
        if prop not in sealed_properties(mapper):
            python_type, declared = python_type_of(prop.columns[0])
            made = arrow_column(name, python_type, wanted if wanted is not None else declared)
            self._fetched.append(attribute)
            return _Column(position=len(self._fetched) - 1, arrow=made, model=model, field=None)
        sealed: Any = prop
        field = self._session.info["lacre"].field(sealed)
        if field.may_read().outcome is Outcome.ALLOWED:
            made = arrow_column(name, sealed.python_type, wanted)
        else:
            made = masked_column(name)
        about = subject_column(mapper, prop)
        return _Column(
            position=self._fetch(mapper, prop.columns[0]),
            arrow=made,
            model=model,
            field=field,
            prop=prop,
            subject=None if about is None else self._fetch(mapper, about),
        )

    def _source(self, place: int, mapper: Mapper[Any]) -> _Source:
        facts = row_facts(mapper)
        tenant = None if facts.tenant is None else mapper.column_attrs[facts.tenant].columns[0]
        return _Source(
            mapper=mapper,
            ids=[self._fetch(mapper, column) for column in facts.columns],
            tenant=None if tenant is None else self._fetch(mapper, tenant),
            columns=[n for n, column in enumerate(self._columns) if column.model == place],
        )

    def _fetch(self, mapper: Mapper[Any], column: Any) -> int:
        # The column itself and not the attribute, which would be a look for each row.
        key = mapper.get_property_by_column(column).key
        comparator: Any = getattr(mapper.class_, key).comparator
        mapped = getattr(comparator, "mapped", None)
        element = getattr(mapper.class_, key) if mapped is None else mapped(column, key)
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
                    self._write([self._event(self._sources[0], "over-budget", None, (), ())])  # fmt: skip
                    raise RowBudgetExceeded(
                        f"there are more than {self._budget:,} rows",
                        hint="narrow the statement, or ask for a larger budget: rows=",
                    )
                done += len(rows)
                yield self._made(rows)

    def _made(self, rows: Sequence[Any]) -> Any:
        fetched: list[Any] = list(zip(*rows, strict=True))
        # Only what is read is kept: of an encrypted column its values take the ciphertext's place.
        columns: list[Any] = [
            fetched[column.position] if column.field is None else [None] * len(rows)
            for column in self._columns
        ]
        events = []
        self._batch += 1
        for source in self._sources:
            ids, by_tenant = source.rows(fetched, len(rows))
            for tenant, numbers in by_tenant.items():
                if not numbers:
                    continue
                readings = []
                for place in source.columns:
                    column = self._columns[place]
                    if column.field is None:
                        continue
                    reading = column.field.reading(tenant=tenant)
                    readings.append(reading)
                    raws = fetched[column.position]
                    opened = reading.opened(
                        [(ids[n], _raw(raws[n])) for n in numbers],
                        subjects=self._subjects(source.mapper, column, fetched, numbers),
                    )
                    if len(numbers) == len(rows):
                        columns[place] = opened
                    else:
                        for number, value in zip(numbers, opened, strict=True):
                            columns[place][number] = value
                name = readings[0].tenant if readings else tenant
                events.append(self._event(source, "batch", name, readings, [ids[n] for n in numbers]))  # fmt: skip
        made = batch_of([column.arrow for column in self._columns], columns, self.schema)
        # The recorder first: a batch whose evidence is refused never leaves.
        self._write(events)
        return made

    def _subjects(
        self, mapper: Mapper[Any], column: _Column, fetched: Sequence[Any], numbers: Sequence[int]
    ) -> list[str] | None:
        if column.subject is None:
            return None
        raws, about = fetched[column.position], fetched[column.subject]
        # Of a NULL nobody has to say whom it is about.
        return [
            "" if raws[n] is None else str(subject_of_values(mapper, column.prop, about[n]))
            for n in numbers
        ]

    def _event(
        self,
        source: _Source,
        step: str,
        tenant: str | None,
        readings: Sequence[Any],
        rows: Sequence[str],
    ) -> BulkRead:
        acting, policy = current(), self._application.policy
        own = [self._columns[place] for place in source.columns]
        schemes = [column.field.scheme for column in own if column.field is not None]
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
            table=schemes[0].table if schemes else _table(source.mapper),
            joined=tuple(
                _table(each) for each in self._models.mappers if each is not source.mapper
            ),
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
            # A row that is joined to several is named once; none is where values are somebody's.
            rows=()
            if any(reading.scheme.subject for reading in readings)
            else tuple(dict.fromkeys(rows)),
            subjects=tuple(sorted(set().union(*(reading.subjects for reading in readings)))),
            keys=tuple(sorted({key.hex() for reading in readings for key in reading.keys})),
            erased=sum(reading.erased for reading in readings),
        )

    def _write(self, events: Sequence[BulkRead]) -> None:
        self._application.recorder.write(events)


def _table(mapper: Mapper[Any]) -> str:
    return logical_table(mapper, mapper.local_table)


def _raw(held: Any) -> Any:
    raw = raw_of(held)
    # Whatever else is in the column is plaintext, and is refused as such.
    return raw if raw is None or isinstance(raw, _EXACTLY) else b""
