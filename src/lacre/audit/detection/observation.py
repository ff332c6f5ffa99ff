# SPDX-License-Identifier: Apache-2.0
"""
What rules see of an entry: drawn from it once, whichever of them ask.

A window goes by the event's own time, as its process's clock said, held between the moment it was
sequenced and `LATENESS` before: a backdated event cannot hide in a window that is over, nor a
postdated one in one to come. Does not judge anything.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Protocol, final

from lacre.audit.entries import Entry
from lacre.errors import Tampered

__all__ = ["LATENESS", "Leaf", "Observation", "hashed"]

LATENESS = (
    15 * 60.0
)  # seconds that an event may be sequenced after it happened, and be counted when it did

_READING = frozenset({"look", "legacy-look", "bulk"})


class Leaf(Protocol):
    """An entry in its place: a `lacre.audit.leaves.Leaf`. *sequenced* is in microseconds since 1970."""

    @property
    def shard(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def sequenced(self) -> int: ...
    @property
    def entry(self) -> Entry: ...


@final
class Observation:
    """
    One entry, as rules see it.

    *at* is the time it counts at, *time* what it says itself, both in seconds. *classes* and
    *columns* are of what was read: of values that were allowed out; *reads* says that some were.
    *rows* are hashes under *key*, so that whoever chooses which rows to read cannot choose their hashes.

    Raises:
        Tampered: a member is not of its type: no writer of lacre's wrote it.
    """

    __slots__ = (
        "_rows",
        "action",
        "at",
        "classes",
        "columns",
        "entry",
        "key",
        "late",
        "members",
        "outcome",
        "place",
        "position",
        "principal",
        "reads",
        "sequenced",
        "status",
        "step",
        "table",
        "time",
        "tokens",
    )

    def __init__(self, leaf: Leaf, key: bytes, tokens: Sequence[str] = ()) -> None:
        self.entry = leaf.entry
        members: Mapping[str, Any] = leaf.entry.members
        self.members = members
        self.position = (leaf.shard, leaf.seq)
        self.sequenced = leaf.sequenced / 1e6
        self.time = leaf.entry.time.timestamp()
        self.late = self.time < self.sequenced - LATENESS
        self.at = min(max(self.time, self.sequenced - LATENESS), self.sequenced)
        self.action = str(members["action"])
        self.principal = str(members["principal"])
        self.status = str(members["status"])
        self.step = str(members.get("step", ""))
        self.outcome = str(members.get("outcome", ""))
        self.tokens = tuple(tokens)  # the honeytokens that it touched
        self.key = key
        self._rows: tuple[int, ...] | None = None
        # ``store.table``, and ``store.table.column``; or nothing.
        self.table = f"{members['store']}.{members['table']}" if "table" in members else ""
        self.place = f"{self.table}.{members['column']}" if "column" in members else ""
        try:
            self.columns, self.classes = self._read()
        except (TypeError, KeyError, AttributeError):
            raise Tampered.signed("an entry of the log") from None
        self.reads = bool(self.classes)
        for name in ("rows", "subjects", "roles"):
            if name in members and not isinstance(members[name], list):
                raise Tampered.signed("an entry of the log")

    def _read(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        members = self.members
        if self.action == "bulk":
            allowed = [each for each in members["columns"] if each["outcome"] == "allowed"]
            return (
                tuple([f"{self.table}.{each['column']}" for each in allowed]),
                tuple(dict.fromkeys([str(each["class"]) for each in allowed])),
            )
        if self.action in _READING and self.outcome == "allowed":
            return (self.place,), (str(members["class"]),)
        return (), ()

    @property
    def request(self) -> str:
        """The correlation id; without one the minute it was made in."""
        return str(self.members.get("correlation") or f"minute {int(self.at // 60)}")

    @property
    def roles(self) -> str:
        """As what it acts, all roles as one text."""
        return " ".join(sorted(map(str, self.members["roles"])))

    @property
    def purposes(self) -> tuple[str, ...]:
        """The purposes that classes were read for, each with its class."""
        return tuple(f"{each} for {self.members['purpose']}" for each in self.classes)

    @property
    def uses(self) -> int:
        """How many values, calls or rows it says it was."""
        return self.number("count") or 1

    def number(self, name: str) -> int:
        """Return the member *name*, a number of things; 0 where it is none."""
        found = self.members.get(name)
        return found if type(found) is int and found > 0 else 0

    @property
    def rows(self) -> tuple[int, ...]:
        """
        The subjects or rows that it is about, each as a hash of 64 bits.

        A row whose id is not written (text that may name a person) cannot be told from another:
        each use of one counts as a row of its own.
        """
        if self._rows is None:
            members, key = self.members, self.key
            subjects, rows = members.get("subjects") or (), members.get("rows") or ()
            table = self.table
            named = [f"{table}:{row}" for row in rows] or [str(each) for each in subjects]
            unnamed = 0 if subjects else self.uses - len(named)
            if unnamed > 0 and "rows" in members:
                named += [f"{members['id']}:{number}" for number in range(min(unnamed, 10_000))]
            self._rows = tuple([hashed(text, key) for text in named])
        return self._rows


def hashed(text: str, key: bytes) -> int:
    """Return a hash of 64 bits, uniform for whoever does not know *key*."""
    # Half of a character too: whoever writes one into a name is not to stop detection.
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8, key=key).digest(), "big")
