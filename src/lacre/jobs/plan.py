# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
Look before touching: what `protect` would do to a table, and why it would refuse.

Implements ``spec/protect-sqlite.md``, section "Plan". Reads the whole table once and changes
nothing. A `Plan` holds names, counts and row ids, never a value.
"""

import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from lacre.errors import ConfigurationError, InvalidValue
from lacre.fields.codecs import codec_for
from lacre.fields.index import BlindIndex
from lacre.jobs.sqlite_database import (
    BIDX,
    COMPANION,
    FORM,
    JOB,
    RID,
    Catalogue,
    RowKey,
    is_unicode,
    opened,
    row_key,
)
from lacre.jobs.sqlite_schema import quoted, same_name
from lacre.jobs.sqlite_structure import Structure, structure_of
from lacre.jobs.sqlite_values import Form, encrypted_size, forms_for, type_for

__all__ = ["ColumnRequest", "Plan", "PlannedColumn", "Refusal", "plan"]

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRequest:
    """A column to protect, as asked for."""

    name: str
    class_: str
    normaliser: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read ``NAME:CLASS[:NORMALISER]``.

        Raises:
            ConfigurationError: it is not of that form.
        """
        name, _, rest = text.partition(":")
        class_, _, rule = rest.partition(":")
        if not name or not class_:
            raise ConfigurationError(
                "a column is given as NAME:CLASS or NAME:CLASS:NORMALISER",
                hint="for example email:pii:email",
            )
        return cls(name=name, class_=class_, normaliser=rule or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One reason why the job will not start, and what to do about it."""

    reason: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedColumn:
    """
    One column, as found: *table* and *name* as the database spells them, which is what values are
    bound to, however they were typed. *unique* asks for a unique blind index; *form* is how its
    values are written, so that `unprotect` writes them the same way.
    """

    table: str
    name: str
    class_: str
    normaliser: str | None
    declared: str
    python_type: type
    form: str
    not_null: bool
    unique: bool
    values: int
    nulls: int

    @property
    def companion(self) -> str:
        return self.name + COMPANION

    @property
    def bidx(self) -> str:
        return self.name + BIDX

    def written(self) -> Form:
        return next(form for form in forms_for(self.python_type) if form.name == self.form)


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
        return planned(connection, path, table, columns, store=store)
    finally:
        connection.close()


def planned(
    connection: sqlite3.Connection,
    path: Path,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    store: str,
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
    types = dict(_types(catalogue, requests, refusals))
    _names_free(catalogue, requests, refusals)
    key = row_key(catalogue, [request.name for request in requests])
    rows, surveys = _survey(catalogue, key, requests, types, structure, refusals)
    found = tuple(
        PlannedColumn(
            table=catalogue.table,
            name=request.name,
            class_=request.class_,
            normaliser=request.normaliser,
            declared=catalogue.text.column(request.name).declared,
            python_type=types.get(request.name, str),
            form=surveys[request.name].form.name if request.name in surveys else "plain",
            not_null=catalogue.text.column(request.name).not_null,
            unique=request.name in structure.unique,
            values=surveys[request.name].values if request.name in surveys else 0,
            nulls=surveys[request.name].nulls if request.name in surveys else 0,
        )
        for request in requests
    )
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
    adds = [
        name
        for column in found
        for name in ([column.companion, column.bidx] if column.normaliser else [column.companion])
    ]
    return Plan(
        store=store,
        table=catalogue.table,
        columns=found,
        rows=rows,
        row_id=key.columns,
        adds_row_id=key.added,
        adds=(*adds, FORM, *([RID] if key.added else [])),
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
        raise ConfigurationError("no column was named", hint="--column NAME:CLASS[:NORMALISER]")
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
        spelt.append(ColumnRequest(name=name, class_=request.class_, normaliser=request.normaliser))
    return spelt


def _types(
    catalogue: Catalogue, requests: Sequence[ColumnRequest], refusals: list[Refusal]
) -> Iterator[tuple[str, type]]:
    for request in requests:
        try:
            python_type = type_for(catalogue.text.column(request.name).declared)
        except ConfigurationError as error:
            refusals.append(Refusal(reason=f"{request.name}: {error}", hint=error.hint))
            continue
        if request.normaliser is not None:
            index = BlindIndex(request.normaliser)
            try:
                index.check(codec_for(python_type))
            except ConfigurationError as error:
                refusals.append(
                    Refusal(
                        reason=f"{request.name}: {error}",
                        hint="use the normaliser `exact`, or leave it out",
                    )
                )
                continue
        yield request.name, python_type


def _names_free(
    catalogue: Catalogue, requests: Sequence[ColumnRequest], refusals: list[Refusal]
) -> None:
    wanted = [
        FORM,
        *(request.name + suffix for request in requests for suffix in (COMPANION, BIDX)),
    ]
    taken = [name for name in wanted if catalogue.spelt(name) is not None]
    if taken:
        refusals.append(
            Refusal(
                reason=f"{catalogue.table} already has {', '.join(taken)}",
                hint="rename these columns: lacre needs their names",
            )
        )


class _Survey:
    """What reading every value of one column showed."""

    def __init__(self, name: str, python_type: type, rule: str | None, unique: bool) -> None:
        self.name = name
        self.values = self.nulls = self.size = 0
        self._codec = codec_for(python_type)
        self._index = BlindIndex(rule) if rule is not None else None
        self._forms = {form: _Rows() for form in forms_for(python_type)}
        self._unencodable = _Rows()
        self._abnormal = _Rows()
        self._seen: set[bytes] | None = set() if unique else None
        self._twice = _Rows()

    @property
    def form(self) -> Form:
        return min(self._forms, key=lambda form: self._forms[form].count)

    def add(self, stored: Any, row: str) -> None:
        if stored is None:
            self.nulls += 1
            return
        self.values += 1
        value = None
        for form, misfits in self._forms.items():
            try:
                value = form.load(stored)
            except InvalidValue:
                misfits.add(row)
        if value is None:
            return
        try:
            self.size += encrypted_size(self._codec, value)
        except InvalidValue:
            self._unencodable.add(row)
            return
        if self._index is None:
            return
        self.size += 16
        normalised = None
        try:
            normalised = self._index.normalised(value, self._codec)
        except InvalidValue:
            self._abnormal.add(row)
        if normalised is not None and self._seen is not None:
            digest = hashlib.blake2b(normalised, digest_size=16).digest()
            if digest in self._seen:
                self._twice.add(row)
            self._seen.add(digest)

    def refusals(self) -> Iterator[Refusal]:
        form = self.form
        misfits = self._forms[form]
        if misfits.count:
            kind = form.python_type.__name__ if form.python_type is not dict else "JSON text"
            spelling = " in one and the same spelling" if len(self._forms) > 1 else ""
            yield Refusal(
                reason=f"{self.name}: {misfits} would not come back exactly as a {kind}{spelling}",
                hint="correct these rows first, or declare the column with the type its values have",
            )
        if self._unencodable.count:
            yield Refusal(
                reason=f"{self.name}: {self._unencodable} cannot be encoded",
                hint="see the limits in spec/field-format.md",
            )
        if self._abnormal.count:
            yield Refusal(
                reason=f"{self.name}: the normaliser does not take {self._abnormal}",
                hint="correct these rows, or use another normaliser",
            )
        if self._twice.count:
            yield Refusal(
                reason=f"{self.name} is unique, but once normalised {self._twice} would equal another",
                hint="merge these rows, or use the normaliser `exact`",
            )


class _Rows:
    """A count of values, and the first few rows they are in."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []

    def add(self, row: str) -> None:
        self.count += 1
        if len(self._first) < _SHOWN:
            self._first.append(row)

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self._first) else ""
        return f"{self.count} value{'s' if self.count != 1 else ''} (row{'s' if self.count != 1 else ''} {', '.join(self._first)}{more})"


def _survey(
    catalogue: Catalogue,
    key: RowKey,
    requests: Sequence[ColumnRequest],
    types: dict[str, type],
    structure: Structure,
    refusals: list[Refusal],
) -> tuple[int, dict[str, _Survey]]:
    surveys = {
        request.name: _Survey(
            request.name, types[request.name], request.normaliser, request.name in structure.unique
        )
        for request in requests
        if request.name in types
    }
    chosen = [surveys[name] for name in surveys]
    # Rows are shown by the key their owner knows them by.
    where = [quoted(name) for name in (catalogue.cursor if key.added else key.columns)]
    wanted = ", ".join([*where, *(quoted(name) for name in surveys)])
    rows, unreadable = 0, False
    for row in catalogue.connection.execute(f"SELECT {wanted} FROM {quoted(catalogue.table)}"):
        rows += 1
        shown = ",".join(str(part) for part in row[: len(where)])
        unreadable = unreadable or not is_unicode(shown)
        for survey, stored in zip(chosen, row[len(where) :], strict=True):
            survey.add(stored, shown)
    for survey in chosen:
        refusals += survey.refusals()
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
