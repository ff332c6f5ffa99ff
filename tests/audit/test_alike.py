# SPDX-License-Identifier: Apache-2.0
"""Entries that are alike are found right without being parsed, and nothing else is."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lacre.audit import alike as module
from lacre.audit.alike import alike
from lacre.audit.comparing import StoredLeaf
from lacre.audit.entries import Entry, Stamp, written
from lacre.audit.event import Outcome, Place
from lacre.audit.events import Looked
from lacre.audit.leaves import Drawn
from lacre.context import Origin
from lacre.errors import Tampered

STAMP = Stamp(app="shop", env="prod", service="shop")
Members = dict[str, Any]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    module._KNOWN.clear()
    module._SEEN.clear()
    yield
    module._KNOWN.clear()
    module._SEEN.clear()


def line_of(number: int, **other: Any) -> bytes:
    """Return the entry of a look: what differs differs with *number*."""
    said: dict[str, Any] = {
        "time": 1_793_500_000 + number / 8, "principal": "user:ana", "roles": ("support",), "purpose": "ticket",
        "tenant": "default", "place": Place("main", "customers", "email", "pii"), "outcome": Outcome.ALLOWED,
        "rule": "classes.pii", "rows": (str(number),), "count": 1, "key": "cd" * 16,
        "origin": Origin(correlation=f"{number:032x}"),
    }  # fmt: skip
    return written(Looked(**said | other), STAMP, writer="ab" * 16, number=number)


def leaf_of(line: bytes) -> StoredLeaf:
    """Return the leaf with the columns that are drawn from *line*."""
    entry = Entry.read(line)
    drawn = Drawn.of(entry)
    return StoredLeaf(
        0, 1, bytes.fromhex(entry.id), drawn.time, drawn.action, drawn.step, str(drawn.status), drawn.principal,
        drawn.tenant, drawn.class_, drawn.place, drawn.correlation, drawn.count, b"", line,
    )  # fmt: skip


def learn(**other: Any) -> None:
    """Have two alike entries seen, so that a third is known."""
    for number in (1, 2):
        alike(leaf_of(line_of(number, **other)))


@pytest.mark.parametrize(
    "other", [{}, {"rows": ()}, {"rows": (), "subjects": ("ps_1",)}, {"origin": Origin()}]
)
def test_what_is_common_is_what_is_drawn(other: Members) -> None:
    """Of an entry that is like two before it, everything that is drawn from it is known."""
    learn(**other)
    line = line_of(7, **other)
    drawn, found = Drawn.of(Entry.read(line)), alike(leaf_of(line))

    assert found is not None
    same, number, about = found
    assert (number, same.writer, same.whose) == ("7", "ab" * 16, ("shop", "prod"))
    assert ((about,) if about else same.touched) == drawn.touched
    assert (same.count, same.tally[0], same.tally[5]) == (1, "user:ana", "ticket")


@pytest.mark.parametrize("column", StoredLeaf._fields[2:13])
def test_no_column_may_say_otherwise(column: str) -> None:
    """A leaf is not found right where one of its columns is another than its entry says."""
    learn()
    leaf = leaf_of(line_of(7))
    value = getattr(leaf, column)
    other: Any = value + 1 if isinstance(value, int) else b"\0" * 16 if column == "id" else "x"

    assert alike(leaf) is not None
    assert alike(leaf._replace(**{column: other})) is None


def _edited(before: bytes, after: bytes) -> Callable[[bytes], bytes]:
    return lambda line: line.replace(before, after)


@pytest.mark.parametrize(
    "edit",
    [
        _edited(b'"principal":"user:ana"', b'"principal":"user:eve"'),
        _edited(b'"rows":["7"]', b'"rows":["7","8"]'),
        _edited(b'"rows":["7"]', b'"rows":["\\u0037"]'),
        _edited(b'"rows":["7"]', b'"rows":["\x01"]'),
        _edited(b'"rows":["7"]', b'"rows":[""]'),
        _edited(b'"rows":["7"]', b'"rows":["\xc3\xa9"]'),
        _edited(b'"writer":', b'"time":"2001-02-03T04:05:06.070809Z","writer":'),
        _edited(b'"writer":', b'"id":"' + b"1d" * 16 + b'","writer":'),
        _edited(b'{"action"', b'{"x":{"id":"' + b"1d" * 16 + b'"},"action"'),
        _edited(b'"env":"prod",', b""),
        _edited(b'}', b'} '),
        lambda line: line[:-1],
        lambda line: b"",
        lambda line: b'"id":"',
    ],
)  # fmt: skip
def test_an_entry_that_is_not_like_them_is_read(edit: Callable[[bytes], bytes]) -> None:
    """An entry with other bytes than those that differ is not taken for what others said, however often it comes."""
    learn()
    leaf = leaf_of(line_of(7))
    edited = leaf._replace(entry=edit(leaf.entry))
    try:
        drawn = Drawn.of(Entry.read(edited.entry))
    except Tampered:
        drawn = None
    found = [alike(edited) for _ in range(3)]

    assert found[0] is None
    if drawn is None or drawn.principal != leaf.principal or drawn.time != leaf.time:
        assert found == [None, None, None]
    assert all(each is None or (drawn is not None and _touched(each) == drawn.touched) for each in found)  # fmt: skip


def _touched(found: tuple[module.Alike, str, str]) -> tuple[str, ...]:
    return (found[2],) if found[2] else found[0].touched


def test_members_that_are_there_twice_are_not_alike() -> None:
    """Where a member is there twice, the last counts, as where an entry is read."""
    line = line_of(7).replace(b'"id":"', b'"id":"' + b"00" * 16 + b'","id":"', 1)
    leaf = leaf_of(line)._replace(id=b"\0" * 16)

    assert json.loads(line)["id"] != "00" * 16
    assert [alike(leaf) for _ in range(3)] == [None, None, None]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes the log does not fill the memory of who verifies it."""
    monkeypatch.setattr(module, "_KNOWN_KEPT", 2)
    monkeypatch.setattr(module, "_SEEN_KEPT", 2)
    for name in "abcdef":
        learn(principal=name)

    assert len(module._KNOWN) <= 2
    assert len(module._SEEN) <= 2
