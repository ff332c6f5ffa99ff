# SPDX-License-Identifier: Apache-2.0
"""
Index tokens made anew: after a rotation of an index root, and to see whether any is missing.

For each row the value is opened and the columns of its indexes are filled as a write of today would
fill them: under the active root, and of a unique index under the other one too while it lives.
Several tokens of one value are compared as a set, since some of them are random. Does no SQL
(`lacre.jobs.reencryption` says who does), and destroys nothing: what a root that was destroyed left
behind is cleared, because no write of today would put it there. Nor does it touch the tokens of
subjects that were shredded: those were written over, and no value is there to make others of. A page
asks the key store who that is once its rows are locked, whatever keys are held: who is shredded later
has tokens written over later, because that waits for the rows.
"""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from lacre._core.field import looks_encrypted
from lacre.audit.event import Event
from lacre.errors import KeyDestroyed
from lacre.fields.moving import Indexing, MovingField
from lacre.fields.stored import IndexTokens
from lacre.fields.tables import CompoundTokens, EncryptedColumn, EncryptedTable
from lacre.jobs.coverage import Aim
from lacre.jobs.reencryption import STAYS, Counted, Page, Permissions, Row, placed, read_columns

__all__ = ["Reindexing"]


class Reindexing:
    """
    Fills the index columns of one table.

    Args:
        fields: makes the field of a column.
        record: takes the events of a page, before it is committed.
        tenant: whose rows; None: those of every tenant that the table names.
        elsewhere: keys of other tenants, where the table names none: their values stay alone.
    """

    def __init__(
        self,
        table: EncryptedTable,
        *,
        fields: Callable[[EncryptedColumn], MovingField],
        record: Callable[[Sequence[Event]], None],
        tenant: str | None = None,
        elsewhere: frozenset[bytes] = frozenset(),
    ) -> None:
        self.table = table
        self._tenant = tenant
        self._elsewhere = elsewhere
        self._parts = {part for each in table.compounds for part in each.parts}
        columns = [each for each in table.columns if each.tokens or each.name in self._parts]
        self.aims = tuple(
            Aim(column=column, keys=None, plaintext=True, values=0) for column in columns
        )
        self.writes = tuple(name for each in table.indexed for name in each.tokens)
        self.several = frozenset(
            name
            for each in table.indexed
            for name, many in zip(each.tokens, _several(each), strict=True)
            if many
        )
        names = (*(column.name for column in columns), *self.writes)
        self.reads, self._subjects = read_columns(table, names, columns)
        self._record = record
        self._fields = [(column, fields(column)) for column in columns]
        self._compounds = [(each, fields(each.column)) for each in table.compounds]

    def record(self, page: Page) -> None:
        """Record what is about to be committed."""
        if page.events:
            self._record(page.events)

    def page(self, rows: Sequence[Row]) -> Page:
        """
        Return what the index columns of *rows* should hold, where it is not what they hold.

        Raises:
            AccessDenied, KeyServiceDenied, KeyServiceUnreachable: nothing of it is to be written.
        """
        named = placed(self.table, rows, self._tenant)
        first, end = len(self._fields), len(self._fields) + len(self.writes)
        tokens = [_Tokens(raws[first:end]) for _, _, raws in rows]
        values: list[dict[str, Any]] = [{} for _ in rows]  # what compound indexes are made of
        counted, start = Counted(), 0
        for at, (column, of_column) in enumerate(self._fields):
            permissions = Permissions(of_column.indexing)
            shredded = self._shredded(at, permissions, named, rows)
            for place, ((row, tenant), (_, _, raws)) in enumerate(zip(named, rows, strict=True)):
                raw = raws[at]
                if place in shredded or (self._tenant is not None and tenant != self._tenant):
                    continue
                key = raw[3:19] if isinstance(raw, bytes) and looks_encrypted(raw) else b""
                if key in self._elsewhere:
                    continue
                if column.name in self._parts:
                    values[place][column.name] = None
                if raw is None:
                    continue
                try:
                    asked = self._subjects[at]
                    whose = None if asked is None else column.subject_text(raws[asked])
                    under = permissions.under(tenant)
                    value = under.permission.value(row, raw, whose)
                    written = tokens[place].put(under.permission, value, start, column)
                except STAYS as error:
                    values[place].pop(column.name, None)
                    if isinstance(error, KeyDestroyed) and column.subject is not None:
                        continue  # shredded
                    counted.failed.setdefault((column.name, type(error).__name__), []).append(row)
                    permissions.failed(tenant, row, key)
                    continue
                if column.name in self._parts:
                    values[place][column.name] = value
                if written:
                    under.rows.append(row)
                    under.keys.add(key)
            counted.add(column.name, permissions)
            start += len(column.tokens)
        for compound, of_compound in self._compounds:
            self._compound(compound, Permissions(of_compound.indexing), named, values, tokens, start, counted)  # fmt: skip
            start += len(compound.column.tokens)
        return counted.page([each.made for each in tokens])

    def _shredded(
        self,
        at: int,
        permissions: Permissions[Indexing],
        named: Sequence[tuple[str, str | None]],
        rows: Sequence[Row],
    ) -> set[int]:
        """Return the places of rows whose value of one column is of somebody who was shredded."""
        asked, column = self._subjects[at], self._fields[at][0]
        if asked is None:
            return set()
        places: dict[str | None, dict[str, list[int]]] = {}
        for place, ((_, tenant), (_, _, raws)) in enumerate(zip(named, rows, strict=True)):
            if raws[at] is not None and self._tenant in (None, tenant):
                with suppress(*STAYS):  # counted where the value is opened
                    whose = column.subject_text(raws[asked]) or ""
                    places.setdefault(tenant, {}).setdefault(whose, []).append(place)
        found: set[int] = set()
        for tenant, by_subject in places.items():
            with suppress(*STAYS):
                permission = permissions.under(tenant).permission
                for whose in permission.shredded(by_subject):
                    found.update(by_subject[whose])
        return found

    def _compound(
        self,
        compound: CompoundTokens,
        permissions: Permissions[Indexing],
        named: Sequence[tuple[str, str | None]],
        values: Sequence[Mapping[str, Any]],
        tokens: Sequence["_Tokens"],
        start: int,
        counted: Counted,
    ) -> None:
        column = compound.column
        for (row, tenant), known, held in zip(named, values, tokens, strict=True):
            if not known.keys() >= {*compound.parts}:
                continue  # one did not open, and was counted; or was shredded, or is another tenant's
            parts = tuple(known[name] for name in compound.parts)
            try:
                under = permissions.under(tenant)
                value = None if None in parts else parts
                written = held.put(under.permission, value, start, column)
            except STAYS as error:
                counted.failed.setdefault((column.name, type(error).__name__), []).append(row)
                permissions.failed(tenant, row, b"")
                continue
            if written:
                under.rows.append(row)
        counted.add(column.name, permissions)


class _Tokens:
    """The index columns of one row: as they are, and as they are to be."""

    __slots__ = ("_held", "made")

    def __init__(self, held: Sequence[Any]) -> None:
        self._held = held
        self.made: list[Any] | None = None

    def put(self, indexing: Indexing, value: Any, start: int, column: EncryptedColumn) -> bool:
        """Fill the columns of one index or attribute, from *start*; return whether they change."""
        end = start + len(column.tokens)
        if start == end:
            return False
        held = tuple(map(_entry, self._held[start:end]))
        wanted = (None,) * len(held) if value is None else indexing.columns(value, held)
        if wanted == held:
            return False
        if self.made is None:
            self.made = list(self._held)
        self.made[start:end] = map(_stored, wanted)
        return True


def _several(column: EncryptedColumn) -> list[bool]:
    """Return of each column of tokens whether it holds several."""
    return [
        index.several for index in column.scheme.indexes for _ in range(2 if index.unique else 1)
    ]


def _entry(raw: Any) -> Any:
    # Several tokens are an array, or JSON text. Something else there is no token of anything.
    if not isinstance(raw, list | str):
        return raw
    try:
        return IndexTokens.of(json.loads(raw) if isinstance(raw, str) else raw)
    except (ValueError, TypeError, struct.error, RecursionError):
        return b""


def _stored(token: Any) -> Any:
    return token if token is None or isinstance(token, IndexTokens) else bytes(token)
