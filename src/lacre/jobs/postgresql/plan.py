# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
Look before touching: what `protect` would do to a table, and why it would refuse.

Implements ``spec/protect-postgresql.md``, sections "Values" and "What speaks of the column". One
read-only transaction, in one snapshot. Values are read only where their type does not vouch for
them. A `Plan` holds names, counts and row ids, never a value.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from lacre._core.field import MAX_ENCODED, OVERHEAD
from lacre._core.padding import padded_length
from lacre.errors import ConfigurationError
from lacre.fields.codecs import codec_for
from lacre.jobs.columns import (
    BIDX,
    BIDX2,
    COMPANION,
    FORM,
    JOB,
    RID,
    ColumnRequest,
    PlannedColumn,
    Refusal,
    RowKey,
    length_notices,
    targets_of,
)
from lacre.jobs.forms import Form
from lacre.jobs.postgresql.catalogue import Catalogue, row_key
from lacre.jobs.postgresql.connection import connected, quoted, run, shown, snapshot
from lacre.jobs.postgresql.sizes import Sizes, sizes_of
from lacre.jobs.postgresql.structure import Structure, structure_of
from lacre.jobs.postgresql.values import forms_for, read_as, type_for
from lacre.jobs.sources import NO_SOURCES, Source, Sources, foreign_form
from lacre.jobs.survey import Survey

__all__ = ["Plan", "plan", "planned", "values_in"]

_LONGEST_NAME = 63 - len(COMPANION)
_COLUMNS = 1500  # of the 1600 that a table may ever have had
_PAGE = 2000
_VOUCHED = frozenset(
    {"text", "varchar", "bpchar", "citext", "int2", "int4", "int8", "bool", "uuid"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will happen. With *refusals* nothing will."""

    store: str
    database: str
    schema: str
    table: str
    columns: tuple[PlannedColumn, ...]
    rows: int
    row_id: tuple[str, ...]
    adds_row_id: bool
    adds: tuple[str, ...]
    indexes: tuple[str, ...]
    notices: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    sizes: Sizes
    structure: Structure = field(repr=False)
    definitions: tuple[tuple[str, str, str], ...] = field(repr=False)

    @property
    def growth_bytes(self) -> int:
        return self.sizes.growth

    def steps(self) -> list[str]:
        """What the job does, as sentences for the operator."""
        names = ", ".join(column.name for column in self.columns)
        return [
            f"add {', '.join(self.adds)} to {self.table}, and a trigger that notices writers who do not know of lacre",
            f"encrypt {names} in {self.rows} rows, in batches, while other programs go on reading and writing",
            "decrypt everything again and compare it with the plaintext",
            *self.indexes,
            f"under a short lock: {names} become bytea columns that accept ciphertext only; then validate that, without one",
        ]


def plan(
    database: str,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    store: str = "main",
    sources: Sources = NO_SOURCES,
    connect: Callable[[str], Any] = connected,
) -> Plan:
    """
    Inspect *table* of *database*.

    Raises:
        ConfigurationError: no such database, table or column, or no column was named.
    """
    with connect(database) as connection:
        return planned(connection, database, table, columns, store=store, sources=sources)


def values_in(database: str, table: str, columns: Sequence[ColumnRequest]) -> int:
    """
    Return how many values *columns* hold that are not NULL, together.

    Raises:
        ConfigurationError: as `plan`.
    """
    with connected(database) as connection:
        catalogue = Catalogue(connection, table)
        counts = " + ".join(
            f"count({quoted(each.name)})" for each in _requested(catalogue, columns)
        )
        return int(run(connection, f"SELECT {counts} FROM {catalogue.sql}").fetchone()[0])


def planned(
    connection: Any,
    database: str,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    store: str,
    sources: Sources = NO_SOURCES,
) -> Plan:
    """`plan`, on an open connection."""
    with snapshot(connection):
        return _planned(connection, database, table, columns, store, sources)


def _planned(
    connection: Any,
    database: str,
    table: str,
    columns: Sequence[ColumnRequest],
    store: str,
    sources: Sources,
) -> Plan:
    catalogue = Catalogue(connection, table)
    requests = _requested(catalogue, columns)
    refusals: list[Refusal] = []
    notices: list[str] = []

    def refuse(reason: str, hint: str) -> None:
        refusal = Refusal(reason=reason, hint=hint)
        if refusal not in refusals:
            refusals.append(refusal)

    structure = structure_of(
        catalogue,
        {request.name: request.normaliser for request in requests},
        refuse,
        notices.append,
    )
    _names(catalogue, requests, refuse)
    forms = dict(_forms(catalogue, requests, sources, structure.unique, refuse))
    readable = catalogue.kind in ("r", "p") and catalogue.is_owner and not catalogue.hides_rows
    key = row_key(catalogue) if readable else RowKey(columns=(), added=False)
    if key.added and catalogue.partitioned:
        refuse(
            f"the rows of {catalogue.shown} have no lasting name: {key.why}",
            "give the partitioned table a primary key of text, whole numbers or UUIDs",
        )
    rows: int = 0
    surveys: dict[str, Survey] = {}
    with ExitStack() as closing:
        if readable:
            rows, surveys = _surveyed(catalogue, key, requests, forms, structure, closing)
        for survey in surveys.values():
            for refusal in survey.refusals():
                refuse(refusal.reason, refusal.hint)
            notices += survey.notices()
    found = tuple(
        PlannedColumn(
            table=catalogue.table,
            name=request.name,
            class_=request.class_,
            normaliser=request.normaliser,
            declared=catalogue.column(request.name).declared,
            python_type=forms[request.name][0].python_type if request.name in forms else str,
            form=surveys[request.name].form.name if request.name in surveys else "plain",
            not_null=catalogue.column(request.name).not_null,
            unique=request.name in structure.unique,
            values=surveys[request.name].values if request.name in surveys else 0,
            nulls=surveys[request.name].nulls if request.name in surveys else 0,
            reader=request.reader,
            bits=request.bits,
        )
        for request in requests
    )
    notices += length_notices(found)
    growth = sum(survey.size for survey in surveys.values()) + rows * (4 + (16 if key.added else 0))
    sizes = sizes_of(connection, catalogue, rows=rows, growth=growth)
    if sizes.free is not None and sizes.free < sizes.needed:
        refuse(
            f"the server's disk has {sizes.free} bytes free and the job may need {sizes.needed}",
            "make room first",
        )
    if key.added:
        notices.append(
            f"rows are named by a new column {RID}, because {key.why}; the model declares it with row_id()"
        )
    notices.append(
        "statements that insert into this table without naming columns must name them: columns are added, and the protected ones come last"
    )
    return Plan(
        store=store,
        database=shown(database),
        schema=catalogue.schema,
        table=catalogue.table,
        columns=found,
        rows=rows,
        row_id=key.columns,
        adds_row_id=key.added,
        adds=(*targets_of(found), FORM, *([RID] if key.added else [])),
        indexes=structure.sentences,
        notices=tuple(notices),
        refusals=tuple(refusals),
        sizes=sizes,
        structure=structure,
        definitions=catalogue.definitions([request.name for request in requests]),
    )


def _requested(catalogue: Catalogue, columns: Sequence[ColumnRequest]) -> list[ColumnRequest]:
    """The requests, with the columns' names spelt as the table spells them."""
    if not columns:
        raise ConfigurationError(
            "no column was named", hint="--column NAME:CLASS[:NORMALISER[:BITS]]"
        )
    found: list[ColumnRequest] = []
    for request in columns:
        name = catalogue.spelt(request.name)
        if name is None:
            raise ConfigurationError(
                f"{catalogue.shown} has no column {request.name!r}",
                hint="columns: " + ", ".join(catalogue.names),
            )
        if any(name == other.name for other in found):
            raise ConfigurationError(f"the column {name!r} was named twice")
        found.append(replace(request, name=name))
    return found


def _names(
    catalogue: Catalogue, requests: Sequence[ColumnRequest], refuse: Callable[[str, str], None]
) -> None:
    wanted = [FORM, *(r.name + suffix for r in requests for suffix in (COMPANION, BIDX, BIDX2))]
    taken = [name for name in wanted if name in catalogue.names]
    if taken:
        refuse(
            f"{catalogue.shown} already has {', '.join(taken)}",
            "rename these columns: lacre needs their names",
        )
    for request in requests:
        if len(request.name.encode()) > _LONGEST_NAME:
            refuse(
                f"{request.name} is longer than {_LONGEST_NAME} bytes",
                "rename it: its companions' names are longer, and PostgreSQL cuts them at 63",
            )
    if catalogue.table == JOB:
        refuse(f"{JOB} is lacre's own", "name another table")
    if catalogue.columns and catalogue.columns[-1].number > _COLUMNS:
        refuse(
            f"{catalogue.shown} has had {catalogue.columns[-1].number} columns, and PostgreSQL allows 1600 ever",
            "make the table anew first, with CREATE TABLE ... and INSERT ... SELECT",
        )


def _forms(
    catalogue: Catalogue,
    requests: Sequence[ColumnRequest],
    sources: Sources,
    unique: Collection[str],
    refuse: Callable[[str, str], None],
) -> Iterator[tuple[str, tuple[Form, ...]]]:
    for request in requests:
        name, class_, reader = request.name, request.class_, request.reader
        try:
            if reader:
                source = Source(catalogue.table, name, class_, reader)
                forms: tuple[Form, ...] = (foreign_form(sources, source),)
            else:
                type_for(catalogue.column(name))
                forms = forms_for(catalogue.column(name))
        except ConfigurationError as error:
            refuse(f"{request.name}: {error}", error.hint or "")
            continue
        index = request.index(unique=name in unique)
        if index is not None:
            try:
                index.check(codec_for(forms[0].python_type))
            except ConfigurationError as error:
                refuse(f"{request.name}: {error}", "use the normaliser `exact`, or leave it out")
                continue
        yield request.name, forms


def _surveyed(
    catalogue: Catalogue,
    key: RowKey,
    requests: Sequence[ColumnRequest],
    forms: dict[str, tuple[Form, ...]],
    structure: Structure,
    closing: ExitStack,
) -> tuple[int, dict[str, Survey]]:
    surveys = {
        request.name: closing.enter_context(
            Survey(
                request.name,
                forms[request.name],
                request.normaliser,
                # Of values that are taken as they are, the table's own index is proof enough.
                unique=request.name in structure.unique
                and (request.normaliser != "exact" or bool(request.reader)),
            )
        )
        for request in requests
        if request.name in forms
    }
    rows, to_read = _counted(catalogue, surveys, requests)
    if to_read:
        _read(catalogue, key, {name: surveys[name] for name in to_read})
    return rows, surveys


def _counted(
    catalogue: Catalogue, surveys: dict[str, Survey], requests: Sequence[ColumnRequest]
) -> tuple[int, list[str]]:
    """Count what the server can; return the rows, and which columns' values have to be read."""
    normalisers = {request.name: request.normaliser for request in requests}
    foreign = {request.name for request in requests if request.reader}
    wanted = ["count(*)"]
    for name in surveys:
        text = f"octet_length({quoted(name)}::pg_catalog.text)"
        wanted += [f"count({quoted(name)})", f"sum({text})", f"max({text})"]
    row = run(catalogue.connection, f"SELECT {', '.join(wanted)} FROM {catalogue.sql}").fetchone()
    rows, to_read = int(row[0]), []
    for at, (name, survey) in enumerate(surveys.items()):
        column = catalogue.column(name)
        values, total, longest = row[1 + 3 * at : 4 + 3 * at]
        vouched = (column.kind in _VOUCHED or column.category == "e") and name not in foreign
        if not vouched or normalisers[name] not in (None, "exact") or (longest or 0) > MAX_ENCODED:
            to_read.append(name)
            continue
        survey.values, survey.nulls = int(values), rows - int(values)
        if values:
            each = OVERHEAD + padded_length(int(total) // int(values))
            survey.size = int(values) * (each + (16 if normalisers[name] else 0))
    return rows, to_read


def _read(catalogue: Catalogue, key: RowKey, surveys: dict[str, Survey]) -> None:
    # Rows are shown by the key their owner knows them by.
    where = catalogue.key if key.added else key.columns
    named = [f"{quoted(name)}::pg_catalog.text" for name in where] or ["ctid::text"]
    wanted = [read_as(quoted(name), catalogue.column(name)) for name in surveys]
    chosen = list(surveys.values())
    with catalogue.connection.cursor(name="lacre_survey", binary=True) as cursor:
        cursor.itersize = _PAGE
        cursor.execute(f"SELECT {', '.join([*named, *wanted])} FROM {catalogue.sql}", ())
        for row in cursor:
            shown_row = ",".join(str(part) for part in row[: len(named)])
            for survey, stored in zip(chosen, row[len(named) :], strict=True):
                survey.add(stored, shown_row)
