# SPDX-License-Identifier: Apache-2.0
"""
Index tokens made anew: after a rotation of an index root, and to see whether any is missing.

For each row the value is opened and the columns of its indexes are filled as a write of today would
fill them: under the active root, and of a unique index under the other one too while it lives. Does
no SQL (`lacre.jobs.reencryption` says who does), and destroys nothing: what a root that was
destroyed left behind is cleared, because no write of today would put it there.
"""

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

from lacre._core.field import looks_encrypted
from lacre.audit.events import Event
from lacre.errors import KeyDestroyed
from lacre.fields.moving import MovingField
from lacre.fields.stored import IndexToken, IndexTokens
from lacre.fields.tables import EncryptedColumn, EncryptedTable
from lacre.jobs.coverage import Aim
from lacre.jobs.reencryption import STAYS, Counted, Page, Permissions, Row, placed, read_columns

__all__ = ["Reindexing"]


class Reindexing:
    """
    Fills the index columns of one table.

    Args:
        fields: makes the field of a column.
        record: takes the events of a page, before it is committed.
    """

    def __init__(
        self,
        table: EncryptedTable,
        columns: Sequence[EncryptedColumn],
        *,
        fields: Callable[[EncryptedColumn], MovingField],
        record: Callable[[Sequence[Event]], None],
    ) -> None:
        self.table = table
        self.aims = tuple(
            Aim(column=column, keys=None, plaintext=True, values=0) for column in columns
        )
        self.writes = tuple(name for column in columns for name in column.tokens)
        self.several = tuple(
            index.several
            for column in columns
            for index in column.scheme.indexes
            for _ in range(2 if index.unique else 1)
        )
        names = (*(column.name for column in columns), *self.writes)
        self.reads, self._subjects = read_columns(table, names, columns)
        self._record = record
        self._fields = [(column, fields(column)) for column in columns]

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
        named = placed(self.table, rows)
        made: list[list[Any] | None] = [None] * len(rows)
        counted, start = Counted(), len(self._fields)
        for at, (column, of_column) in enumerate(self._fields):
            permissions, end = Permissions(of_column.indexing), start + len(column.tokens)
            offset = len(self._fields)
            for place, ((row, tenant), (_, _, raws)) in enumerate(zip(named, rows, strict=True)):
                raw = raws[at]
                if raw is None:
                    continue
                key = raw[3:19] if isinstance(raw, bytes) and looks_encrypted(raw) else b""
                asked = self._subjects[at]
                try:
                    whose = None if asked is None else column.subject_text(raws[asked])
                    under = permissions.under(tenant)
                    now = [_held(entry) for entry in raws[start:end]]
                    wanted = under.permission.columns(row, raw, whose, _of_each(column, now))
                except STAYS as error:
                    if asked is not None and isinstance(error, KeyDestroyed):
                        continue  # shredded: its tokens were written over, and stay so
                    counted.failed.setdefault((column.name, type(error).__name__), []).append(row)
                    permissions.failed(tenant, row, key)
                    continue
                if wanted == tuple(now):
                    continue
                values = made[place]
                if values is None:
                    written = raws[offset : offset + len(self.writes)]
                    values = made[place] = [_held(entry) for entry in written]
                values[start - offset : end - offset] = map(_stored, wanted)
                under.rows.append(row)
                under.keys.add(key)
            counted.add(column.name, permissions)
            start = end
        return counted.page(made)


def _held(raw: Any) -> Any:
    # Several tokens are a list on PostgreSQL and JSON text on SQLite.
    if not isinstance(raw, list | str):
        return raw
    try:
        return IndexTokens.of(json.loads(raw) if isinstance(raw, str) else raw)
    except (ValueError, TypeError, struct.error):
        return None  # no tokens, whatever it is: made anew


def _of_each(column: EncryptedColumn, held: Sequence[Any]) -> list[Any]:
    # Of each index what its column holds; of a unique one, which has two, it does not matter.
    found, place = [], 0
    for index in column.scheme.indexes:
        found.append(held[place])
        place += 2 if index.unique else 1
    return found


def _stored(token: Any) -> Any:
    return bytes(token) if type(token) is IndexToken else token
