# SPDX-License-Identifier: Apache-2.0
"""
Index tokens made anew: after a rotation of an index root, and to see whether any is missing.

For each row the value is opened and the columns of its indexes are filled as a write of today would
fill them: under the active root, and of a unique index under the other one too while it lives. Does
no SQL (`lacre.jobs.reencryption` says who does), and destroys nothing: what a root that was
destroyed left behind is cleared, because no write of today would put it there.
"""

from collections.abc import Callable, Sequence
from typing import Any

from lacre._core.field import looks_encrypted
from lacre.audit.events import Event
from lacre.fields.moving import MovingField
from lacre.fields.stored import IndexTokens
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
                try:
                    asked = self._subjects[at]
                    whose = None if asked is None else column.subject_text(raws[asked])
                    under = permissions.under(tenant)
                    wanted = under.permission.columns(row, raw, whose)
                    # Of several tokens some are random, and databases keep them in forms of their
                    # own: left as they are.
                    wanted = tuple(
                        raws[start + place] if isinstance(entry, IndexTokens) else entry
                        for place, entry in enumerate(wanted)
                    )
                except STAYS as error:
                    counted.failed.setdefault((column.name, type(error).__name__), []).append(row)
                    permissions.failed(tenant, row, key)
                    continue
                if wanted == tuple(raws[start:end]):
                    continue
                values = made[place]
                if values is None:
                    values = made[place] = list(raws[offset : offset + len(self.writes)])
                values[start - offset : end - offset] = map(_stored, wanted)
                under.rows.append(row)
                under.keys.add(key)
            counted.add(column.name, permissions)
            start = end
        return counted.page(made)


def _stored(token: Any) -> Any:
    return bytes(token) if isinstance(token, bytes) else token
