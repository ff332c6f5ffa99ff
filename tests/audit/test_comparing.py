# SPDX-License-Identifier: Apache-2.0
"""The quick comparison of columns says what drawing them says, for every event there is."""

import json
from typing import Any

import pytest

from lacre.audit.comparing import StoredLeaf, is_drawn
from lacre.audit.entries import CATALOGUE, Entry, written
from lacre.audit.event import Event
from lacre.audit.leaves import Drawn
from tests.audit.looks import STAMP, example


def leaf_of(entry: Entry) -> StoredLeaf:
    drawn = Drawn.of(entry)
    return StoredLeaf(
        0, 1, bytes.fromhex(entry.id), drawn.time, drawn.action, drawn.step, str(drawn.status), drawn.principal,
        drawn.tenant, drawn.class_, drawn.place, drawn.correlation, drawn.count, b"", b"",
    )  # fmt: skip


@pytest.mark.parametrize("kind", CATALOGUE.values(), ids=lambda kind: kind.action)
def test_columns_of_every_event_are_compared(kind: type[Event]) -> None:
    """Asked twice, of an entry with and without a correlation, it is right; of each column changed, it is wrong."""
    members = json.loads(written(example(kind), STAMP))
    for more in ({}, {"correlation": "abc123"}, {"correlation": "a b"}, {"correlation": "x" * 300}):
        entry = Entry(members | more)
        leaf = leaf_of(entry)

        assert is_drawn(entry, leaf)
        assert is_drawn(entry, leaf)
        for name in StoredLeaf._fields[2:13]:
            value: Any = getattr(leaf, name)
            other = value + (
                b"x" if isinstance(value, bytes) else "x" if isinstance(value, str) else 1
            )
            assert not is_drawn(entry, leaf._replace(**{name: other})), name


@pytest.mark.parametrize("time", ["2026-11-22T10:00:00.000001Z", "2026-11-22T10:00:00Z", "2026-11-22T12:00:00.000001+02:00", "2026-11-22T10:00:00.00000١Z"])  # fmt: skip
def test_moments_are_read_as_drawing_reads_them(time: str) -> None:
    """However a moment is spelt, it is the one that `Drawn` makes of it, or no entry for both."""
    (kind, *_) = CATALOGUE.values()
    entry = Entry(json.loads(written(example(kind), STAMP)) | {"time": time})
    for _ in range(2):
        try:
            leaf = leaf_of(entry)
        except Exception as error:
            with pytest.raises((type(error), ValueError)):
                is_drawn(
                    entry,
                    leaf_of(Entry(dict(entry.members) | {"time": "2026-11-22T10:00:00.000001Z"})),
                )
        else:
            assert is_drawn(entry, leaf)
