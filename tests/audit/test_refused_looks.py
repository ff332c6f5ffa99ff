# SPDX-License-Identifier: Apache-2.0
"""Looks that are refused while others are on their way to the sink."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from lacre.audit.event import Event, Outcome, Place
from lacre.audit.events import Look, Looked
from lacre.audit.recorder import Recorder
from lacre.context import Acting

_ACTING = Acting("svc:kyc", frozenset({"app"}), "kyc", None)
_PLACE = Place("main", "customers", "cpf", "pii")


class HeldSink:
    """Keeps every event, and holds the first `append` until `go` is set."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.entered = threading.Event()
        self.go = threading.Event()

    def append(self, events: Sequence[Event], connection: Any = None) -> None:
        self.entered.set()
        assert self.go.wait(10)
        for event in events:
            assert isinstance(event, Looked)
            self.rows.extend(event.rows)


def look(row: str) -> Look:
    return Look(Looked, 0.0, _ACTING, "default", _PLACE, Outcome.ALLOWED, "rule", row, b"")


def test_a_refusal_during_a_drain_loses_no_other_look() -> None:
    """A look taken back while it is being written takes no later look out of memory in its place."""
    sink = HeldSink()
    recorder = Recorder(sink)
    refused = look("2")
    for taken in (look("1"), refused):
        recorder.record_look(taken)
    draining = threading.Thread(target=recorder.flush)
    draining.start()
    assert sink.entered.wait(10)

    taking_back = threading.Thread(target=recorder._take_back, args=(refused,))
    taking_back.start()
    time.sleep(0.05)
    recorder.record_look(look("3"))
    sink.go.set()
    draining.join(10)
    taking_back.join(10)
    recorder.close()

    assert sink.rows == ["1", "2", "3"]


def test_looks_of_equal_actings_become_one_event() -> None:
    """Two blocks of one principal, alike in everything, are one line of evidence; another is its own."""
    events: list[Event] = []

    class Kept:
        def append(self, given: Sequence[Event], connection: Any = None) -> None:
            events.extend(given)

    recorder = Recorder(Kept())
    again = Acting("svc:kyc", frozenset({"app"}), "kyc", None)
    other = Acting("svc:kyc", frozenset({"app"}), "audit", None)
    same_place = Place("main", "customers", "cpf", "pii")
    for acting, place, row in (
        (_ACTING, _PLACE, "1"),
        (other, _PLACE, "2"),
        (again, same_place, "3"),
        (_ACTING, _PLACE, "4"),
    ):
        recorder.record_look(look(row)._replace(acting=acting, place=place))
    recorder.close()

    assert [
        (event.purpose, sorted(event.rows)) for event in events if isinstance(event, Looked)
    ] == [
        ("kyc", ["1", "3", "4"]),
        ("audit", ["2"]),
    ]
