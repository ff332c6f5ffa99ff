# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
Look before touching: what `protect` would do to a table, and why it would refuse.

Implements ``spec/protect-sqlite.md``, section "Plan". Reads the whole table once and changes
nothing. A `Plan` holds names, counts and row ids, never a value.
"""

import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

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
    is_unicode,
    length_notices,
    targets_of,
)
from lacre.jobs.forms import Form
from lacre.jobs.sources import NO_SOURCES, Source, Sources, foreign_form
from lacre.jobs.sqlite.database import Catalogue, opened, row_key
from lacre.jobs.sqlite.schema import quoted, same_name
from lacre.jobs.sqlite.structure import Structure, structure_of
from lacre.jobs.sqlite.values import forms_for, type_for
from lacre.jobs.survey import Survey

__all__ = ["Plan", "plan", "planned", "values_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will happen. With *refusals* nothing will."""

    store: str
    table: str
    columns: tuple[PlannedColumn, ...]
    rows: int
    row_id: tuple[str, ...]
    adds_row_id: bool
    adds: tuple[str, ...]
    indexes: tuple[str, ...]
    notices: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    file_bytes: int
    growth_bytes: int
    needed_free_bytes: int
    free_bytes: int
    structure: Structure = field(repr=False)
    definitions: tuple[tuple[str, str, str], ...] = field(repr=False)

    def steps(self) -> list[str]:
        """What the job does, as sentences for the operator."""
        names = ", ".join(column.name for column in self.columns)
        return [
            f"add {', '.join(self.adds)} to {self.table}, and a trigger that notices writers who do not know of lacre",
            f"encrypt {names} in {self.rows} rows, in batches, while other programs go on reading and writing",
            "decrypt everything again and compare it with the plaintext",
            f"rebuild {self.table} under a lock: {names} become BLOB columns that accept ciphertext only",
            *self.indexes,
            "rewrite the file, so that no freed page keeps plaintext",
        ]


def plan(
    path: Path,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    store: str = "main",
    sources: Sources = NO_SOURCES,
    connect: Callable[[Path], sqlite3.Connection] = opened,
) -> Plan:
    """
    Inspect *table* of the SQLite file *path*.

    Raises:
        ConfigurationError: no such file, table or column, or no column was named.
    """
    connection = connect(path)
    try:
        # One snapshot for the whole inspection; it takes no lock that stops writers in WAL mode.
        connection.execute("BEGIN")
        return planned(connection, path, table, columns, store=store, sources=sources)
    finally:
        connection.close()


def values_in(path: Path, table: str, columns: Sequence[ColumnRequest]) -> int:
    """
    Return how many values *columns* hold that are not NULL, together.

    Raises:
        ConfigurationError: as `plan`.
    """
    connection = opened(path)
    try:
        catalogue = Catalogue(connection, table)
        counts = " + ".join(
            f"count({quoted(each.name)})" for each in _requested(catalogue, columns)
        )
        ((found,),) = connection.execute(f"SELECT {counts} FROM {quoted(catalogue.table)}")
        return int(found)
    finally:
        connection.close()


def planned(
    connection: sqlite3.Connection,
    path: Path,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    store: str,
    sources: Sources = NO_SOURCES,
) -> Plan:
    """`plan`, on an open connection inside a transaction."""
    catalogue = Catalogue(connection, table)
    requests = _requested(catalogue, columns)
    refusals: list[Refusal] = []
    notices: list[str] = []
    normalisers = {request.name: request.normaliser for request in requests}
    structure = structure_of(
        catalogue,
        normalisers,
        lambda reason, hint: refusals.append(Refusal(reason=reason, hint=hint)),
        notices.append,
    )
    forms = dict(_forms(catalogue, requests, sources, structure.unique, refusals))
    _names_free(catalogue, requests, refusals)
    key = row_key(catalogue, [request.name for request in requests])
    rows, surveys = _survey(catalogue, key, requests, forms, structure, refusals, notices)
    found = tuple(
        PlannedColumn(
            table=catalogue.table,
            name=request.name,
            class_=request.class_,
            normaliser=request.normaliser,
            declared=catalogue.text.column(request.name).declared,
            python_type=forms[request.name][0].python_type if request.name in forms else str,
            form=surveys[request.name].form.name if request.name in surveys else "plain",
            not_null=catalogue.text.column(request.name).not_null,
            unique=request.name in structure.unique,
            values=surveys[request.name].values if request.name in surveys else 0,
            nulls=surveys[request.name].nulls if request.name in surveys else 0,
            reader=request.reader,
            bits=request.bits,
        )
        for request in requests
    )
    notices += length_notices(found)
    file_bytes = path.stat().st_size
    growth = sum(survey.size for survey in surveys.values()) + rows * (2 + (34 if key.added else 0))
    # Companions beside the plaintext, then the rebuilt table beside the old one, then VACUUM's
    # copy of the whole file and its journal: never all at once, and this covers the worst.
    needed = growth + 2 * (file_bytes + growth)
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        refusals.append(
            Refusal(
                reason=f"the disk has {free} bytes free and the job may need {needed}",
                hint="make room, or move the database to a larger disk first",
            )
        )
    if key.added:
        notices.append(
            f"rows are named by a new column {RID}, because {key.why}; the model declares it with row_id()"
        )
    notices.append(
        "statements that insert into this table without naming columns must name them: columns are added"
    )
    return Plan(
        store=store,
        table=catalogue.table,
        columns=found,
        rows=rows,
        row_id=key.columns,
        adds_row_id=key.added,
        adds=(*targets_of(found), FORM, *([RID] if key.added else [])),
        indexes=tuple(change.sentence for change in structure.indexes),
        notices=tuple(notices),
        refusals=tuple(refusals),
        file_bytes=file_bytes,
        growth_bytes=growth,
        needed_free_bytes=needed,
        free_bytes=free,
        structure=structure,
        definitions=tuple(catalogue.objects()),
    )


def _requested(catalogue: Catalogue, columns: Sequence[ColumnRequest]) -> list[ColumnRequest]:
    """The requests, with the columns' names spelt as the table spells them."""
    if not columns:
        raise ConfigurationError(
            "no column was named", hint="--column NAME:CLASS[:NORMALISER[:BITS]]"
        )
    spelt: list[ColumnRequest] = []
    for request in columns:
        name = catalogue.spelt(request.name)
        if name is None:
            raise ConfigurationError(
                f"{catalogue.table} has no column {request.name!r}",
                hint="columns: " + ", ".join(catalogue.names),
            )
        if any(same_name(name, other.name) for other in spelt):
            raise ConfigurationError(f"the column {name!r} was named twice")
        spelt.append(replace(request, name=name))
    return spelt


def _forms(
    catalogue: Catalogue,
    requests: Sequence[ColumnRequest],
    sources: Sources,
    unique: Collection[str],
    refusals: list[Refusal],
) -> Iterator[tuple[str, tuple[Form, ...]]]:
    for request in requests:
        name, class_, reader = request.name, request.class_, request.reader
        try:
            if reader:
                source = Source(catalogue.table, name, class_, reader)
                forms: tuple[Form, ...] = (foreign_form(sources, source),)
            else:
                forms = forms_for(type_for(catalogue.text.column(name).declared))
        except ConfigurationError as error:
            refusals.append(Refusal(reason=f"{request.name}: {error}", hint=error.hint))
            continue
        index = request.index(unique=name in unique)
        if index is not None:
            try:
                index.check(codec_for(forms[0].python_type))
            except ConfigurationError as error:
                refusals.append(
                    Refusal(
                        reason=f"{request.name}: {error}",
                        hint="use the normaliser `exact`, or leave it out",
                    )
                )
                continue
        yield request.name, forms


def _names_free(
    catalogue: Catalogue, requests: Sequence[ColumnRequest], refusals: list[Refusal]
) -> None:
    wanted = [
        FORM,
        *(request.name + suffix for request in requests for suffix in (COMPANION, BIDX, BIDX2)),
    ]
    taken = [name for name in wanted if catalogue.spelt(name) is not None]
    if taken:
        refusals.append(
            Refusal(
                reason=f"{catalogue.table} already has {', '.join(taken)}",
                hint="rename these columns: lacre needs their names",
            )
        )


def _survey(
    catalogue: Catalogue,
    key: RowKey,
    requests: Sequence[ColumnRequest],
    forms: dict[str, tuple[Form, ...]],
    structure: Structure,
    refusals: list[Refusal],
    notices: list[str],
) -> tuple[int, dict[str, Survey]]:
    surveys = {
        request.name: Survey(
            request.name,
            forms[request.name],
            request.normaliser,
            unique=request.name in structure.unique,
        )
        for request in requests
        if request.name in forms
    }
    chosen = list(surveys.values())
    # Rows are shown by the key their owner knows them by.
    where = [quoted(name) for name in (catalogue.cursor if key.added else key.columns)]
    wanted = ", ".join([*where, *(quoted(name) for name in surveys)])
    rows, unreadable = 0, False
    with ExitStack() as closing:
        for survey in chosen:
            closing.enter_context(survey)
        for row in catalogue.connection.execute(f"SELECT {wanted} FROM {quoted(catalogue.table)}"):
            rows += 1
            shown = ",".join(str(part) for part in row[: len(where)])
            unreadable = unreadable or not is_unicode(shown)
            for survey, stored in zip(chosen, row[len(where) :], strict=True):
                survey.add(stored, shown)
        for survey in chosen:
            refusals += survey.refusals()
            notices += survey.notices()
    if unreadable:
        refusals.append(
            Refusal(reason="some primary keys are not valid UTF-8", hint="correct them first")
        )
    if catalogue.connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
        refusals.append(
            Refusal(
                reason="the database file is damaged",
                hint="PRAGMA integrity_check says where; restore a backup",
            )
        )
    if same_name(catalogue.table, JOB):
        refusals.append(Refusal(reason=f"{JOB} is lacre's own", hint="name another table"))
    return rows, surveys
