# SPDX-License-Identifier: Apache-2.0
"""
What may become a leaf: entries as a writer of lacre's writes them, and no others.

Whoever may hand entries over can write any bytes. What the log takes stays in it for years, and is read
by verification, detection, reports and pages; so each member has its type, the text is the one
spelling there is, and what only a sequencer says is taken from nobody else. Implements
``spec/evidence-log.md``, section 5. Does not say whether an entry is true.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from lacre.audit.comparing import micros_of
from lacre.audit.entries import CATALOGUE, COMMON, Entry, Stamp
from lacre.audit.event import Outcome
from lacre.errors import Tampered

__all__ = ["accept"]

_ENCODED = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
_OWN = frozenset(
    {"sequencing", "heartbeat"}
)  # a rest that somebody else told of would excuse a silence
_ID = re.compile(r"[0-9a-f]{32}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_SHARD = re.compile(r"[0-9]{4}-[0-9]{2}")
_PARTS = frozenset({"column", "class", "outcome", "rule"})  # of each column of a bulk reading
_TEXTS = {str}
_MOST = 2**63

# Members that are no text, by name; and those of one name and several types, by action as well.
_TYPES: Mapping[str, type] = {
    **dict.fromkeys(("breakglass", "success"), bool),
    **dict.fromkeys(("columns", "gives", "joined", "requests", "roles", "rows", "subjects", "widened"), list),
    **dict.fromkeys(
        ("attempts", "batch", "bits", "bound", "budget", "calls", "count", "epoch", "erased", "events", "excluded",
         "found", "leaves", "looks", "matched", "number", "problems", "score", "searches", "size", "unseen"), int
    ),
}  # fmt: skip
_TYPES_IN: Mapping[tuple[str, str], type] = {
    ("bulk", "keys"): list,
    ("erasure", "keys"): int,
    ("key", "version"): int,
    ("recovery", "keys"): int,
    ("reencrypt", "before"): list,
    ("rewrap", "version"): int,
}
_OF: Mapping[str, Mapping[str, Any]] = {
    action: {
        name: _TYPES_IN.get((action, name), _TYPES.get(name, str)) for name in COMMON | kind.members
    }
    for action, kind in CATALOGUE.items()
}
_OUTCOMES = frozenset(map(str, Outcome))


class _Shape(NamedTuple):
    """Entries with the same members in the same order: what types those have, and what all but values take of a line."""

    types: tuple[type, ...]
    room: int
    texts: tuple[str, ...]
    numbers: tuple[str, ...]
    lists: tuple[str, ...]


_SHAPES: dict[tuple[str, ...], _Shape] = {}
_SHAPES_KEPT = 4096  # whoever hands over chooses them


def accept(entry: Entry, line: bytes, stamp: Stamp, *, numbered: bool = True) -> None:
    """
    Return if *entry*, which *line* is, may become a leaf of the log of *stamp*'s application and environment.

    Args:
        numbered: whether a writer may have numbered it: not what rode in somebody else's transaction.

    Raises:
        Tampered: no writer of lacre's wrote it.
    """
    members = entry.members
    try:
        shape = _shape(members)
        right = (
            tuple(map(type, members.values())) == shape.types
            and _right(members, shape, stamp, numbered)
            and _is_written(members, shape, line)
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        right = False
    if not right:
        raise Tampered.signed("an entry of the log")


def _shape(members: Mapping[str, Any]) -> _Shape:
    key = (members["action"], *members)
    shape = _SHAPES.get(key)
    if shape is None:
        types = _OF[key[0]]
        names = key[1:]
        if list(names) != sorted(names):
            raise ValueError
        of = {
            kind: tuple(name for name in names if types[name] is kind) for kind in (str, int, list)
        }
        # {"name":value,...}, with the quotes around texts
        room = 1 + sum(len(name) + 4 for name in names) + 2 * len(of[str])
        shape = _Shape(tuple(types[name] for name in names), room, of[str], of[int], of[list])
        if len(_SHAPES) < _SHAPES_KEPT:
            _SHAPES[key] = shape
    return shape


def _is_written(members: Mapping[str, Any], shape: _Shape, line: bytes) -> bool:
    """
    Whether *line* is the one spelling of *members*.

    Without escapes that is so if it is no longer than need be: a space, a member that is there
    twice, a zero too many all take room. Writing it anew costs as much as reading it.
    """
    if b"\\" in line or b"\x7f" in line or members["action"] == "bulk" or "breakglass" in members:
        return _ENCODED(members).encode() == line
    room = shape.room + len("".join([members[name] for name in shape.texts]))
    room += len("".join([str(members[name]) for name in shape.numbers]))
    for name in shape.lists:
        each = members[name]
        room += 2 + len("".join(each)) + max(0, 3 * len(each) - 1)
    return room + (4 if members["success"] else 5) == len(line)


def _right(members: Mapping[str, Any], shape: _Shape, stamp: Stamp, numbered: bool) -> bool:
    action = members["action"]
    for name in shape.numbers:
        if not -_MOST <= members[name] < _MOST:
            return False
    for name in shape.lists:
        found = members[name]
        if not found:
            continue
        if action == "bulk" and name == "columns":
            if not all(map(_is_part, found)):
                return False
        elif {*map(type, found)} != _TEXTS:
            return False
    writer, number = members.get("writer"), members.get("number")
    if writer is None:
        if number is not None:
            return False
    elif not numbered or number is None or number < 1 or not _ID.fullmatch(writer):
        return False
    if action == "opening":
        micros_of(members["until"])
    elif action == "anchor" and not _SHARD.fullmatch(members["shard"]):
        return False
    return (
        action not in _OWN
        and members["app"] == stamp.app
        and members["env"] == stamp.env
        and _ID.fullmatch(members["id"]) is not None
        and _TIME.fullmatch(members["time"]) is not None
        and members.get("outcome", "allowed") in _OUTCOMES
        and members["success"] is (members["status"] not in ("prevented", "failed"))
    )


def _is_part(each: Any) -> bool:
    return type(each) is dict and each.keys() == _PARTS and {*map(type, each.values())} == {str}
