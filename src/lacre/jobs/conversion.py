# SPDX-License-Identifier: Apache-2.0
"""
What a row's columns become: ciphertext and tokens on the way in, the stored values on the way back.

Implements the sections "Values" of ``spec/protect-sqlite.md`` and ``spec/protect-postgresql.md``. Does no SQL. Whoever runs a job supplies
the field that encrypts, as a `ProtectedField`, and is acting while it runs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from lacre.audit.event import Event
from lacre.errors import (
    AccessDenied,
    InvalidValue,
    KeyUnavailable,
    LacreError,
    PlaintextFound,
    Tampered,
)
from lacre.jobs.columns import PlannedColumn, targets_of
from lacre.jobs.forms import Form, Stored
from lacre.sensitive import Mask

__all__ = ["Conversion", "Decrypting", "Encrypting", "Made", "ProtectedField"]


class Made(Protocol):
    """A ciphertext, and what each column of its indexes holds, made together."""

    @property
    def value(self) -> bytes | bytearray: ...

    @property
    def columns(self) -> tuple[bytes | None, ...]: ...


class ProtectedField(Protocol):
    """What encrypts and decrypts one column. Rows are named by their row id's text; no value is None."""

    def prepare_many(
        self, items: Sequence[tuple[str, Any]], /, *, recorded: bool = True
    ) -> Sequence[Made]:
        """Encrypt. Not *recorded*: the caller does it, or what is made is compared and thrown away."""
        ...

    def written(self, rows: Sequence[str], /) -> Event:
        """Return the event of having encrypted in *rows*."""
        ...

    def decrypt_many(self, items: Sequence[tuple[str, bytes]], /) -> Sequence[object]: ...


_Error = TypeVar("_Error", bound=LacreError)
_NOT_OPENED = (Tampered, PlaintextFound, KeyUnavailable)
Rows = Sequence[tuple[str, Sequence[Stored]]]


class Conversion(Protocol):
    """*sources* are read, *targets* are made of them; both in the order of the sequences."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]

    def convert(self, rows: Rows) -> list[list[Stored]]: ...

    def check(self, rows: Rows, made: Sequence[Sequence[Stored]]) -> None:
        """
        Do it the other way round and compare.

        Raises:
            Tampered: they are not two forms of the same values; its note names rows.
        """
        ...


class Encrypting:
    """
    Plaintext to ciphertext and token.

    Args:
        record: takes one event for each column and page; None: the fields record each value.
    """

    def __init__(
        self,
        columns: Sequence[PlannedColumn],
        fields: Mapping[str, ProtectedField],
        form_of: Callable[[PlannedColumn], Form],
        *,
        record: Callable[[Sequence[Event]], None] | None = None,
    ) -> None:
        self._columns = [(column, fields[column.name], form_of(column)) for column in columns]
        self._record = record
        self.sources = tuple(column.name for column in columns)
        self.targets = tuple(targets_of(columns))

    def convert(self, rows: Rows) -> list[list[Stored]]:
        made: list[list[Stored]] = [[] for _ in rows]
        events: list[Event] = []
        for at, (column, field, _) in enumerate(self._columns):
            filled = [row for row, (_, values) in enumerate(rows) if values[at] is not None]
            items = self._loaded(rows, at, filled)
            prepared = field.prepare_many(items, recorded=self._record is None)
            if self._record is not None and items:
                events.append(field.written([row for row, _ in items]))
            by_row = dict(zip(filled, prepared, strict=True))
            for row, targets in enumerate(made):
                stored = by_row.get(row)
                targets.append(bytes(stored.value) if stored is not None else None)
                tokens = () if stored is None else stored.columns
                for token in tokens or (None,) * len(column.token_names):
                    targets.append(None if token is None else bytes(token))
        if self._record is not None and events:
            self._record(events)  # once: what records may wait for a disk
        return made

    def check(self, rows: Rows, made: Sequence[Sequence[Stored]]) -> None:
        place = 0
        for at, (column, field, form) in enumerate(self._columns):
            ciphertexts = [targets[place] for targets in made]
            _same_nulls(column, rows, at, ciphertexts)
            filled = [row for row, (_, values) in enumerate(rows) if values[at] is not None]
            opened = _opened(column, field, [(rows[row][0], ciphertexts[row]) for row in filled])
            for row, value in zip(filled, opened, strict=True):
                if not form.same(_written(column, form, value, rows[row][0]), rows[row][1][at]):
                    raise _differs(column, rows[row][0])
            place += 1
            if column.normaliser:
                again = field.prepare_many(self._loaded(rows, at, filled), recorded=False)
                tokens = {
                    row: [None if token is None else bytes(token) for token in stored.columns]
                    for row, stored in zip(filled, again, strict=True)
                }
                width = len(column.token_names)
                for row, targets in enumerate(made):
                    if tokens.get(row, [None] * width) != list(targets[place : place + width]):
                        raise _differs(column, rows[row][0])
                place += width

    def _loaded(self, rows: Rows, at: int, filled: Sequence[int]) -> list[tuple[str, Any]]:
        column, _, form = self._columns[at]
        items = []
        for row in filled:
            name, values = rows[row]
            try:
                items.append((name, form.load(values[at])))
            except InvalidValue as error:
                raise InvalidValue(
                    f"{column.name} of row {name}: {error}",
                    hint="a program wrote this value after the plan was made: correct it, then run the same command again",
                ) from None
        return items


class Decrypting:
    """Ciphertext to the value as it is to be stored."""

    def __init__(
        self,
        columns: Sequence[PlannedColumn],
        fields: Mapping[str, ProtectedField],
        form_of: Callable[[PlannedColumn], Form],
    ) -> None:
        self._columns = [(column, fields[column.name], form_of(column)) for column in columns]
        self.sources = tuple(column.name for column in columns)
        self.targets = tuple(column.companion for column in columns)

    def convert(self, rows: Rows) -> list[list[Stored]]:
        made: list[list[Stored]] = [[] for _ in rows]
        for at, (column, field, form) in enumerate(self._columns):
            filled = [row for row, (_, values) in enumerate(rows) if values[at] is not None]
            opened = _opened(column, field, [(rows[row][0], rows[row][1][at]) for row in filled])
            by_row = {
                row: _written(column, form, value, rows[row][0])
                for row, value in zip(filled, opened, strict=True)
            }
            for row, targets in enumerate(made):
                targets.append(by_row.get(row))
        return made

    def check(self, rows: Rows, made: Sequence[Sequence[Stored]]) -> None:
        again = self.convert(rows)
        for (name, _), expected, found in zip(rows, again, made, strict=True):
            for (column, _, form), one, other in zip(self._columns, expected, found, strict=True):
                if (one is None) != (other is None) or not (one is None or form.same(one, other)):
                    raise _differs(column, name)


def _written(column: PlannedColumn, form: Form, value: object, row: str) -> Stored:
    # Where the policy gives a reader masks, a field returns them like values. One written into
    # the table would replace the value it hides.
    if isinstance(value, Mask):
        raise AccessDenied(
            f"whoever runs this job gets masks of class {column.class_!r}, and has to decrypt it",
            hint="give the operator's role the right to decrypt this class, for the job's time",
        )
    try:
        return form.write(value)
    except InvalidValue as error:
        raise InvalidValue(
            f"{column.name} of row {row}: {error}",
            hint="a program wrote this value after the column was protected: correct it, then run the same command again",
        ) from None


def _opened(
    column: PlannedColumn, field: ProtectedField, items: Sequence[tuple[str, Stored]]
) -> Sequence[object]:
    """Decrypt a page of one column. What does not open is named by its row, in a note."""
    sealed = []
    for row, stored in items:
        if not isinstance(stored, bytes):
            raise _located(Tampered(), column, row, "it is not ciphertext")
        sealed.append((row, stored))
    try:
        return field.decrypt_many(sealed)
    except _NOT_OPENED:
        # A page's error does not say which row: one by one, only now, because that is slower.
        for item in sealed:
            try:
                field.decrypt_many([item])
            except _NOT_OPENED as one:
                raise _located(one, column, item[0], "it does not open") from None
        raise


def _same_nulls(column: PlannedColumn, rows: Rows, at: int, ciphertexts: Sequence[Stored]) -> None:
    for (name, values), ciphertext in zip(rows, ciphertexts, strict=True):
        if (values[at] is None) != (ciphertext is None):
            raise _differs(column, name)


def _differs(column: PlannedColumn, row: str) -> Tampered:
    return _located(Tampered(), column, row, "its two forms are not the same value")


def _located(error: _Error, column: PlannedColumn, row: str, what: str) -> _Error:
    error.add_note(f"{column.table}.{column.name} of row {row}: {what}")
    return error
