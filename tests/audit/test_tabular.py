"""What somebody else named stays text: on a line, in a cell, in an object."""

import csv
import io
import json
from dataclasses import replace

import pytest

from lacre.audit.entries import Entry, written
from lacre.audit.leaves import Leaf
from lacre.audit.tabular import COLUMNS, as_line, as_object, as_row, heading
from lacre.context import Origin
from tests.audit.looks import STAMP, searched

pytestmark = pytest.mark.any_sqlalchemy

NASTY = [
    "a\nb", "a\r\nprincipal=root", "a  look  allowed  user:b", 'a"b', "=HYPERLINK(1)", "+1", "-1", "@x", "\t=1", "  =1",
    "\x1b[2Ka", "a\u202eb", "\u2028", "\uff1d1", "a,b", "status=compliant",
]  # fmt: skip


def leaf(principal: str) -> Leaf:
    event = replace(searched(principal=principal), origin=Origin(agent=principal))
    return Leaf(202611, 7, 1_795_000_000_000_000, Entry.read(written(event, STAMP)), b"\x01" * 32)


@pytest.mark.parametrize("principal", NASTY)
def test_a_line_stays_a_line(principal: str) -> None:
    """Whatever a principal is called, its entry is one printable line, of as many fields as any other."""
    line = as_line(leaf(principal))

    assert line.isprintable()
    assert line.splitlines() == [line]
    words = json.loads(
        '["' + '", "'.join(w.replace("\\", "").replace('"', "") for w in line.split("  ")) + '"]'
    )
    assert len(words) >= len(as_line(leaf("user:a")).split("  "))
    assert line.startswith("2027-01-15T08:00:00.000000Z  search  allowed  ")
    assert "  status=compliant" not in line


@pytest.mark.parametrize("principal", NASTY)
def test_a_cell_is_no_formula(principal: str) -> None:
    """No cell begins as a formula does, ends its row, or holds what a terminal obeys."""
    text = f"{heading()}\n{as_row(leaf(principal))}\n"
    rows = list(csv.reader(io.StringIO(text)))

    assert len(rows) == 2
    assert len(rows[1]) == len(COLUMNS) == len(rows[0])
    assert all(
        cell.isprintable() and not cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d"))
        for cell in rows[1]
    )


@pytest.mark.parametrize("principal", NASTY)
def test_an_object_is_the_entry(principal: str) -> None:
    """An object has the entry as it is, in one line of ASCII, and its canonical bytes in it."""
    made = leaf(principal)
    text = as_object(made)

    assert text.isascii()
    assert len(text.splitlines()) == 1
    assert json.loads(text)["entry"]["principal"] == principal
    assert json.dumps(dict(made.entry.members), sort_keys=True, separators=(",", ":")) in text
