# SPDX-License-Identifier: Apache-2.0
"""Marks of honeytokens, and which entries touch one."""

import dataclasses
from typing import Any

import pytest

from lacre.audit.entries import CATALOGUE, Entry, written
from lacre.audit.honeytokens import SUBJECT, Marks, Planted, mark, touched
from lacre.errors import MisuseError
from tests.audit.looks import PLACE, STAMP, example

KEY = bytes(range(32))
SINCE = 1_800_000_000_000_000 - 1


def entry(action: str, row: str = "7", **changed: Any) -> Entry:
    """An entry about one row of `customers`."""
    event = example(CATALOGUE[action])
    names = {each.name for each in dataclasses.fields(event)}
    given: dict[str, Any] = {"rows": (row,), "store": PLACE.store, "table": PLACE.table} | changed
    event = dataclasses.replace(event, **{name: value for name, value in given.items() if name in names})  # fmt: skip
    return Entry.read(written(event, STAMP))


def marks(row: str = "7", since: int = SINCE) -> Marks:
    """The marks of one planted row of `customers`."""
    made = mark(KEY, store="main", table="customers", row=row)
    return Marks(KEY, {made: Planted(token="heron", since=since)})


@pytest.mark.parametrize("action", ["look", "legacy-look", "bulk", "encrypt", "answer"])
def test_a_touch_is_recognised(action: str) -> None:
    """A look, a bulk reading, a search that finds it and a write of the planted row touch it, those of another row do not."""
    assert touched(entry(action), marks()) == ("heron",)
    assert touched(entry(action, row="8"), marks()) == ()


@pytest.mark.parametrize("action", sorted(set(CATALOGUE) - {"look", "legacy-look", "bulk", "encrypt", "answer"}))  # fmt: skip
def test_maintenance_touches_nothing(action: str) -> None:
    """Re-encryption, protection, recovery and all else that names no row or hands nothing out is no touch."""
    assert touched(entry(action), marks()) == ()


def test_a_subject_is_recognised_by_its_pseudonym() -> None:
    """Of values that are about somebody the evidence names no row, and the planted person is found all the same."""
    made = mark(KEY, store=SUBJECT, table=SUBJECT, row="ab" * 16)
    planted = Marks(KEY, {made: Planted(token="heron", since=SINCE)})

    assert touched(entry("look", row="8", subjects=("ab" * 16,)), planted) == ("heron",)
    assert touched(entry("look", row="ab" * 16), planted) == ()


def test_planting_is_no_touch() -> None:
    """An entry as old as the mark, or older, is the planting itself."""
    assert touched(entry("encrypt"), marks(since=SINCE + 1)) == ()


def test_a_mark_is_of_one_place_and_key() -> None:
    """The mark changes with store, table, row and key, and tells none of them."""
    place = {"store": "main", "table": "customers", "row": "7"}
    others = [mark(KEY, **(place | {name: "x"})) for name in place]
    made = {mark(KEY, **place), mark(bytes(32), **place), *others}

    assert len(made) == 5
    assert all(len(each) == 64 for each in made)
    with pytest.raises(MisuseError):
        mark(b"short", **place)
    assert KEY.hex() not in repr(marks())
    assert str(KEY) not in repr(marks())
