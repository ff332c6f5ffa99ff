# SPDX-License-Identifier: Apache-2.0
"""
Leaves: an entry in its place in the log, and what of an entry stands in columns beside it.

Implements ``spec/evidence-log.md``, sections 3 and 4. Does not store leaves, and hashes none.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from lacre.audit.entries import Entry
from lacre.audit.event import Status
from lacre.errors import Tampered

__all__ = [
    "LONGEST",
    "Drawn",
    "Leaf",
    "Position",
    "column_text",
    "leaf_text",
    "microseconds",
    "shard_name",
    "shard_of",
    "touched_by",
    "written_moment",
]

# Characters of a text in a column: an index of PostgreSQL takes no longer ones. The entry is whole.
LONGEST = 256
_MOST = 2**31 - 1
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


class Position(NamedTuple):
    """Where a leaf is: its shard, the number 202611 of a month, and its number there, from 0."""

    shard: int
    seq: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of the log: *sequenced* in microseconds since 1970, *hash* as it is stored."""

    shard: int
    seq: int
    sequenced: int
    entry: Entry
    hash: bytes

    @property
    def position(self) -> Position:
        return Position(self.shard, self.seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What columns beside an entry hold, for queries: drawn from the entry, and nothing else."""

    time: int
    action: str
    step: str
    status: str
    principal: str
    tenant: str
    class_: str
    place: str
    correlation: str
    purpose: str
    count: int
    touched: tuple[str, ...]

    @classmethod
    def of(cls, entry: Entry) -> "Drawn":
        """
        Draw them from *entry*.

        Raises:
            Tampered: a member that they are drawn from is not of its type: no writer of lacre's wrote it.
        """
        members = entry.members
        try:
            return cls(
                time=microseconds(entry.time),
                action=entry.action,
                step=column_text(members.get("step", ""))[:32],
                status=Status(members["status"]),
                principal=column_text(members["principal"]),
                tenant=column_text(members["tenant"]),
                class_=_class(members)[:64],
                place=_place(members),
                correlation=column_text(members.get("correlation", "")),
                purpose=column_text(members["purpose"]),
                count=_count(members.get("count", 0)),
                touched=touched_by(members),
            )
        except (ValueError, TypeError, KeyError, OverflowError, AttributeError):
            raise Tampered.signed("an entry of the log") from None


def microseconds(moment: dt.datetime) -> int:
    """Return *moment* in microseconds since 1970."""
    if moment.tzinfo is None:
        raise ValueError("a moment has a time zone")
    return (moment - _EPOCH) // _MICROSECOND


def written_moment(micros: int) -> str:
    """Return RFC 3339 text in UTC of *micros*, microseconds since 1970: as leaves say it."""
    when = _EPOCH + dt.timedelta(microseconds=micros)
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")


def leaf_text(sequenced: int, line: bytes) -> bytes:
    """Return what a leaf of the tree is the hash of: the moment of sequencing, a newline, the entry."""
    return written_moment(sequenced).encode() + b"\n" + line


def shard_of(sequenced: int) -> int:
    """Return the shard of a moment: its month in UTC, as the number 202611."""
    when = _EPOCH + dt.timedelta(microseconds=sequenced)
    return when.year * 100 + when.month


def shard_name(shard: int) -> str:
    """Return the text of a shard, ``2026-11``."""
    return f"{shard // 100:04}-{shard % 100:02}"


@lru_cache(maxsize=4096)
def column_text(found: Any) -> str:
    """Return a text of an entry as a column holds it, or raise TypeError."""
    # What no database takes as text: a NUL, and half of a character.
    if type(found) is not str:
        raise TypeError
    if found.isprintable() and len(found) <= LONGEST:
        return str(found)  # neither of them is
    text = found[:LONGEST]
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _count(found: Any) -> int:
    if type(found) is not int or found < 0:
        raise TypeError
    return min(found, _MOST)


def _class(members: Mapping[str, Any]) -> str:
    # Of columns that are of several classes, none: those are in the entry.
    columns = members.get("columns")
    if "class" in members:
        return column_text(members["class"])
    if isinstance(columns, list):
        names = {each.get("class") for each in columns if isinstance(each, dict)}
        if len(names) == 1:
            return column_text(names.pop() or "")
    return ""


def _place(members: Mapping[str, Any]) -> str:
    store, table = members.get("store"), members.get("table")
    if store is None or table is None:
        return ""
    column = members.get("column", "")
    columns = members.get("columns")
    if not column and isinstance(columns, list) and len(columns) == 1 and type(columns[0]) is dict:
        column = columns[0].get("column", "")
    return _joined(store, table, column)


@lru_cache(maxsize=4096)
def _joined(*parts: Any) -> str:
    return column_text(".".join(column_text(part) for part in parts if part))


def touched_by(members: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the ids of rows and pseudonyms of subjects that an entry names, each once."""
    found: dict[str, None] = {}
    for name in ("rows", "subjects"):
        for each in members.get(name, ()):
            if type(each) is str and len(each) <= 64 and each.isprintable():
                found[each] = None
            else:
                found[column_text(each)[:64]] = None
    if members.get("subject"):
        found[column_text(members["subject"])[:64]] = None
    return tuple(found)
