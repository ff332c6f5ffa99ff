# SPDX-License-Identifier: Apache-2.0
"""
Honeytokens: planted rows that nobody has business with, and how evidence tells that one was touched.

Which rows they are is nowhere. A keyed mark of each is kept apart from the data and from its key;
whoever reads the marks, the data, the log or all three cannot tell a planted row from another
without the key. Does not plant (`lacre.sqlalchemy.planting`) or keep marks (`lacre.stores.log.honeytokens`).
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from lacre._core.canonical import canonical
from lacre.audit.entries import Entry
from lacre.errors import MisuseError

__all__ = ["KEY_SIZE", "SUBJECT", "Marks", "Planted", "mark", "touched"]

KEY_SIZE = 32

# The place of a subject, whose pseudonym is what evidence calls values that are about somebody.
SUBJECT = "-"

# What hands a value out, finds it or changes it. Not `reencrypt`, `protection`, `recovery`: those
# jobs go over every row and hand nothing to anybody.
_TOUCHING = frozenset(["look", "legacy-look", "bulk", "encrypt", "answer"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A honeytoken: its name, and since when it stands, in microseconds since 1970."""

    token: str
    since: int


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of all honeytokens, and the key they were made with, which no message shows."""

    key: bytes = field(repr=False)
    planted: Mapping[str, Planted]

    def at(self, store: str, table: str, row: str) -> Planted | None:
        """Return the honeytoken that the row is, if it is one."""
        return self.planted.get(mark(self.key, store=store, table=table, row=row))


def mark(key: bytes, *, store: str, table: str, row: str) -> str:
    """
    Return the mark of a row: 64 hex digits.

    HMAC-SHA-256 under a key of its own, 32 random bytes that are used for nothing else, so that row
    ids, which can be guessed, cannot be tried against the marks. It is as safe as the key's file is.
    """
    if len(key) != KEY_SIZE:
        raise MisuseError("the key of honeytokens has 32 bytes")
    place = canonical({"kind": "honeytoken", "row": row, "store": store, "table": table})
    return hmac.new(key, place, hashlib.sha256).hexdigest()


def touched(entry: Entry, marks: Marks) -> tuple[str, ...]:
    """
    Return the honeytokens that *entry* says were looked at, found, read in bulk or written.

    Entries from before a row was planted, its planting among them, touch nothing.
    """
    if entry.action not in _TOUCHING or not marks.planted:
        return ()
    members = entry.members
    store, table = members.get("store"), members.get("table")
    if not isinstance(store, str) or not isinstance(table, str):
        return ()
    when = round(entry.time.timestamp() * 1e6)
    found = [marks.at(store, table, row) for row in _texts(members.get("rows"))]
    found += [marks.at(SUBJECT, SUBJECT, name) for name in _texts(members.get("subjects"))]
    return tuple(dict.fromkeys(each.token for each in found if each and when > each.since))


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
