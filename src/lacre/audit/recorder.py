# SPDX-License-Identifier: Apache-2.0
"""
The recorder: two ports for evidence.

`record_look` takes a look in memory, without I/O; one thread drains it to the sink. `write`
hands events over before it returns, for writes and for key changes, whose caller has a
transaction to hold back.

What the sink was given and did not confirm stays what it is, events and ids, and is given again
before anything else: an answer that was lost on its way repeats nothing and loses nothing.

Mode `bounded`: at most one second, or *buffer* looks, are lost when the process is killed with
SIGKILL (``docs/threat-model.md``). A normal exit and a fork lose nothing; a process that ends by
`os._exit`, as children of `multiprocessing` do, counts as killed unless it closes first. A
recorder that is down or full raises, and the look it could not take does not happen.

Does not make the log tamper-evident, and does not decide what is recorded.
"""

import atexit
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from lacre.audit.event import Event, who
from lacre.audit.events import Look, told
from lacre.errors import EvidenceUnavailable

__all__ = ["Recorder", "Sink"]

_INTERVAL = 1.0  # seconds between two drains at most
_PATIENCE = 5.0  # seconds a look waits for room before it is refused
_PATIENCE_ON_LOOP = (
    0.25  # the same on an event loop, from when the buffer is full, not for each look
)
_PROBE = 0.2  # seconds between two tries of a sink that fails


class Sink(Protocol):
    """
    Where events go.

    A recorder calls it from one thread at a time, and after a failure with the same events again,
    by identity and in order, before it calls with others. A sink with a method `close` is closed
    after the last drain; it may be appended to again after that.
    """

    def append(self, events: Sequence[Event]) -> None:
        """Append *events*, in order. Returns once they are where a crash of this process leaves them."""
        ...


class Recorder:
    """
    Takes events and hands them to one sink.

    Args:
        sink: where they go.
        buffer: looks held in memory at most.
    """

    def __init__(self, sink: Sink, *, buffer: int = 10_000) -> None:
        self._sink = sink
        self._buffer = buffer
        self._closings: Callable[..., Sequence[Event]] | None = None
        self._begins: Callable[[], Sequence[Event]] | None = None
        self._observer: Callable[[Sequence[Look | Event]], object] | None = None
        self.refused = 0  # looks and writes that could not be recorded, so they did not happen
        self._failed: str | None = None
        self._start()
        weak = weakref.WeakMethod(self._after_fork)
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())

    def _start(self) -> None:
        self._looks: deque[Look | Event] = deque()
        self._full_since: float | None = None
        # What the sink was given and has not confirmed; of the looks, from the left, how many that is.
        self._given: list[Event] = []
        self._in_flight = 0
        self._wake = threading.Event()
        self._draining = threading.Lock()
        self._moving = threading.Lock()  # never held while the sink works
        self._starting = threading.Lock()
        self._stop: threading.Event | None = None  # of the thread that drains, if there is one
        self._thread: threading.Thread | None = None

    def _after_fork(self) -> None:
        # The looks belong to the parent, which drains them; threads and locks do not survive.
        self._start()

    @property
    def backlog(self) -> int:
        """How many looks are held in memory."""
        return len(self._looks)

    @property
    def failing(self) -> bool:
        """Whether the sink failed when it was last given something."""
        return self._failed is not None

    def observe(self, observer: Callable[[Sequence[Look | Event]], object]) -> None:
        """Tell *observer* what is in the evidence, once it is there."""
        self._observer = observer

    def record_look(self, look: Look | Event) -> None:
        """
        Take *look*.

        Raises:
            EvidenceUnavailable: the sink fails, or the buffer stays full. The caller must not
                hand the value out.
        """
        looks = self._looks
        looks.append(look)
        if self._thread is None:
            self._ensure_thread(look)
        if len(looks) * 4 >= self._buffer or self._failed is not None:
            self._press(look)

    def close_with(self, closings: Callable[..., Sequence[Event]]) -> None:
        """Have *closings* asked, in each drain, for what is recorded after its looks; with ``last=True`` at the end."""
        self._closings = closings

    def begin_with(self, begins: Callable[[], Sequence[Event]]) -> None:
        """Have *begins* asked, once, for what is recorded before the first event."""
        self._begins = begins

    def watch(self) -> None:
        """Drain from time to time, though nothing was recorded yet. Raises as `record_look` does."""
        if self._thread is None:
            self._ensure_thread(None)

    def record(self, event: Event) -> None:
        """Take *event* in memory, without I/O. Raises as `record_look` does."""
        self.record_look(event)

    def _press(self, look: Look | Event) -> None:
        # A quarter full, not counting what is on its way: wake the drainer early, once. Full, or
        # failing: wait for it, then refuse.
        waiting = len(self._looks) - self._in_flight
        if waiting * 4 >= self._buffer and not self._wake.is_set():
            self._wake.set()
        if self._failed is None and len(self._looks) < self._buffer:
            self._full_since = None
            return
        now = time.monotonic()
        if self._full_since is None:
            self._full_since = now
        deadline = self._full_since + _PATIENCE_ON_LOOP if _on_loop() else now + _PATIENCE
        while self._failed is not None or len(self._looks) >= self._buffer:
            if self._failed is not None or time.monotonic() > deadline:
                self._take_back(look)
                self.refused += 1
                raise EvidenceUnavailable(
                    "the look cannot be recorded, so it did not happen",
                    hint=f"the audit sink says: {self._failed}"
                    if self._failed
                    else "the audit sink is too slow for this load",
                )
            self._wake.set()
            time.sleep(0.001)

    def _take_back(self, look: Look | Event | None) -> None:
        # By identity, and never what is in flight: that is recorded, as tried.
        with self._moving:
            for position, held in enumerate(self._looks.copy()):
                if held is look and position >= self._in_flight:
                    del self._looks[position]
                    return

    def write(self, events: Sequence[Event]) -> None:
        """
        Hand *events* over before returning.

        Raises:
            EvidenceUnavailable: the sink fails, or did before; the caller's transaction must not
                commit. Tried again with the same events, each is recorded once.
        """
        if not events:
            return
        try:
            with self._draining:
                confirmed = self._settle()
                self._give([event for event in events if event.id not in confirmed])
        except EvidenceUnavailable:
            self.refused += 1
            raise

    def flush(self) -> None:
        """
        Drain what was recorded so far.

        Raises:
            EvidenceUnavailable: the sink fails; the looks stay in memory for the next try.
        """
        self._drained()

    def _drained(self, *, last: bool = False) -> None:
        with self._draining:
            self._settle()
            # What is over now has all its looks in memory, so they come before its closing.
            closings = () if self._closings is None else self._closings(last=last)
            with self._moving:
                looks = self._looks.copy()
                self._in_flight = len(looks)
            if looks or closings:
                self._give([*_grouped(looks), *closings])

    def _settle(self) -> frozenset[str]:
        # Give the sink again what it did not confirm; return the ids.
        given = self._given
        if not given:
            return frozenset()
        self._append(given)
        self._confirmed()
        return frozenset(event.id for event in given)

    def _give(self, events: Iterable[Event]) -> None:
        given = list(events)
        if given and self._begins is not None:
            # Asked of the sink, mostly, and so it fails as the sink does.
            first: list[Event] = []
            self._guarded(lambda: first.extend(self._begins() if self._begins else ()))
            given = [*first, *given]
            self._begins = None
        self._given = given
        if given:
            self._append(given)
        self._confirmed()

    def _confirmed(self) -> None:
        with self._moving:
            taken: Sequence[Look | Event] = [self._looks.popleft() for _ in range(self._in_flight)]
            if taken:
                self._full_since = None
            self._in_flight = 0
            given, self._given = self._given, []
        self.tell(taken or given)

    def tell(self, taken: Sequence[Look | Event]) -> None:
        """Tell whoever observes of *taken*, which is in the evidence, or on its way there in a transaction."""
        if self._observer is not None:
            with suppress(Exception):  # whoever measures does not decide what happens
                self._observer(taken)

    def check(self) -> None:
        """
        Drain what was recorded so far, or touch the sink where nothing was.

        Raises:
            EvidenceUnavailable: looks are, or would be, refused.
        """
        try:
            self.flush()
            with self._draining:
                self._append([])
        except EvidenceUnavailable:
            # The thread finds out when the sink works again; without one the next look would,
            # and be refused for it.
            if self._thread is None:
                self._ensure_thread(None)
            raise

    def close(self) -> None:
        """
        Drain, and stop the thread. A closed recorder starts again with the next look.

        Raises:
            EvidenceUnavailable: the sink fails; the looks stay in memory.
        """
        with self._starting:
            thread, self._thread = self._thread, None
            if self._stop is not None:
                self._stop.set()
            self._wake.set()
            atexit.unregister(self._at_exit)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=_PATIENCE)
        self._drained(last=True)
        closing = getattr(self._sink, "close", None)
        if closing is not None:
            with self._draining:
                self._guarded(closing)

    def _at_exit(self) -> None:
        self.close()

    def _append(self, events: Sequence[Event]) -> None:
        self._guarded(partial(self._sink.append, events))

    def _guarded(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a sink may be anybody's
            # Whatever a sink raises, its evidence is missing. Only the operating system's own
            # words are repeated: another error's text could quote an event.
            words = error.strerror if isinstance(error, OSError) else None
            self._failed = words or type(error).__name__
            raise EvidenceUnavailable(
                "the events cannot be recorded", hint=f"the audit sink says: {self._failed}"
            ) from None
        self._failed = None

    def _ensure_thread(self, look: Look | Event | None) -> None:
        with self._starting:
            if self._thread is not None:
                return
            stop = threading.Event()
            thread = threading.Thread(
                target=self._drain, args=(stop, self._wake), name="lacre-recorder", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                self._take_back(look)
                raise EvidenceUnavailable(
                    "no thread can be started to record the look, so it did not happen",
                    hint="the process is ending, or out of threads",
                ) from None
            self._thread, self._stop = thread, stop
            atexit.register(self._at_exit)

    def _drain(self, stop: threading.Event, wake: threading.Event) -> None:
        while not stop.is_set():
            wake.wait(_INTERVAL if self._failed is None else _PROBE)
            wake.clear()
            try:
                if self._failed is not None and not self._looks and not self._given:
                    # Probe, so that a repaired sink needs no restart. With events to write, they
                    # are the better probe: an empty append succeeds on a full disk.
                    with self._draining:
                        self._append([])
                self.flush()
            except EvidenceUnavailable:
                # The looks are kept; those that follow are refused until it works.
                stop.wait(_PROBE)


def _on_loop() -> bool:
    # Nobody runs an event loop without having imported what makes one.
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _grouped(looks: Iterable[Look | Event]) -> Iterable[Event]:
    # One event per principal, column and outcome of a drain, with every row in it: a report
    # over ten thousand rows is one line of evidence and not ten thousand.
    alike: dict[tuple[Any, ...], list[Look]] = {}
    last: Look | None = None
    for look in looks:
        if type(look) is not Look:
            yield look  # type: ignore[misc] # whatever is no look is an event
            continue
        # By identity first, most looks being like the one before: comparing what acting and place
        # say costs as much as the look did, so it is done once for each set of alike ones.
        if (
            last is None
            or look.acting is not last.acting
            or look.place is not last.place
            or look.key != last.key
            or look.rule is not last.rule
            or look.outcome is not last.outcome
            or look.tenant is not last.tenant
            or look.event is not last.event
        ):
            event, _, acting, tenant, place, outcome, rule, _, used, *_ = last = look
            key = (event, id(acting), tenant, id(place), outcome, rule, used)
            held = alike.setdefault(key, [])
        held.append(look)
    groups: dict[tuple[Any, ...], list[Look]] = {}
    for some in alike.values():
        event, _, acting, tenant, place, outcome, rule, _, used, *_ = some[0]
        groups.setdefault(
            (event, acting.identity, acting.origin, tenant, place, outcome, rule, used), []
        ).extend(some)
    for group in groups.values():
        first = group[0]
        yield first.event(
            **who(first.acting, time=first.time, tenant=first.tenant),
            place=first.place,
            outcome=first.outcome,
            rule=first.rule,
            rows=tuple([look.row for look in group if look.row]),
            count=len(group),
            key=first.key.hex(),
            cache=told({look.cache for look in group}),
            subjects=tuple([look.subject for look in group if look.subject]),
        )
