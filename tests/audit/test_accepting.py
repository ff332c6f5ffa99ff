# SPDX-License-Identifier: Apache-2.0
"""What may become a leaf, and what may not, whoever handed it over."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from lacre.audit.accepting import accept
from lacre.audit.entries import CATALOGUE, Entry, Stamp, written
from lacre.audit.keeping import Heartbeat, Sequencing
from lacre.errors import Tampered
from tests.audit.looks import STAMP, example, searched

pytestmark = pytest.mark.any_sqlalchemy

OWN = (Heartbeat, Sequencing)


def said(action: str = "search") -> dict[str, Any]:
    """The members of an entry of *action*, right in every way."""
    members = json.loads(written(example(CATALOGUE[action]), STAMP))
    right = {"opening": {"until": "2026-11-22T10:00:00Z"}, "anchor": {"shard": "2026-11"}}
    return {**members, **right.get(action, {})}


def line(members: dict[str, Any]) -> bytes:
    """*members* as they are written."""
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()


def refused(entry: bytes, **options: bool) -> bool:
    """Whether *entry* may not become a leaf."""
    try:
        accept(Entry.read(entry), entry, STAMP, **options)
    except Tampered:
        return True
    return False


@pytest.mark.parametrize("action", sorted(CATALOGUE))
def test_what_lacre_writes_is_taken(action: str) -> None:
    """Each event of the catalogue may become a leaf, but for those that only a sequencer makes itself."""

    assert refused(line(said(action))) is (CATALOGUE[action] in OWN)


@pytest.mark.parametrize("action", sorted(set(CATALOGUE) - {each.action for each in OWN}))
def test_every_member_has_its_type(action: str) -> None:
    """No member of any event may be of another type, or a number too large for a column."""
    right = said(action)
    wrong = [None, 1.5, 2**64, {}, [1], [{"column": "x"}], float("nan")]
    taken = [
        (name, value)
        for name in right
        for value in wrong
        if not refused(line({**right, name: value}))
    ]

    assert taken == []


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "a member twice": lambda entry: entry.replace(b'"principal":', b'"principal":"svc:y","principal":'),
    "a space": lambda entry: entry.replace(b":", b": ", 1),
    "a newline after it": lambda entry: entry + b"\n",
    "members in another order": lambda entry: json.dumps(dict(reversed(json.loads(entry).items())), separators=(",", ":")).encode(),
    "an escape that needs none": lambda entry: entry.replace(b"svc:x", b"\\u0073vc:x"),
    "a delete sign as it is, and spaces for its escape": lambda entry: b"     " + entry.replace(b"svc:x", b"svc\x7fx"),
    "an id in capitals": lambda entry: line({**json.loads(entry), "id": "A" * 32}),
    "an id with spaces": lambda entry: line({**json.loads(entry), "id": " ".join(["aa"] * 16)}),
    "a time of another form": lambda entry: line({**json.loads(entry), "time": "2026-11-22T10:00:00+00:00"}),
    "another application": lambda entry: line({**json.loads(entry), "app": "other"}),
    "another environment": lambda entry: line({**json.loads(entry), "env": "other"}),
    "a writer without a number": lambda entry: line({**json.loads(entry), "writer": "0" * 32}),
    "a number without a writer": lambda entry: line({**json.loads(entry), "number": 1}),
    "a number below one": lambda entry: line({**json.loads(entry), "writer": "0" * 32, "number": 0}),
    "a writer that is no name": lambda entry: line({**json.loads(entry), "writer": "w", "number": 1}),
    "an outcome that is none": lambda entry: line({**json.loads(entry), "outcome": "maybe"}),
    "a success that was none": lambda entry: line({**json.loads(entry), "success": False}),
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG)
def test_there_is_one_way_to_write_an_entry(how: str) -> None:
    """What reads differently in two readers, or would never verify, may not become a leaf."""
    right = line(said())

    assert not refused(right)
    assert refused(WRONG[how](written(searched(), STAMP)))


@pytest.mark.parametrize(
    "text", ['"', "\\", "\x7f", "\n", "é", "\ud800", "\U0001f600", "a,b:{}", ""]
)
def test_whatever_a_name_is_it_is_written_one_way(text: str) -> None:
    """Any text may be in an entry; each has one spelling, and one that is longer is refused."""
    entry = written(searched(principal=text, tenant=text), STAMP)

    assert not refused(entry)
    assert refused(entry.replace(b",", b", ", 1))


def test_what_rides_in_a_transaction_has_no_number() -> None:
    """An outbox cannot number an entry in the name of a process; an inbox can."""
    numbered = written(searched(), STAMP, writer="0" * 32, number=1)

    assert not refused(numbered)
    assert refused(numbered, numbered=False)
    assert not refused(written(searched(), STAMP), numbered=False)
    assert refused(written(searched(), Stamp(app="x", env="test", service="x")))
