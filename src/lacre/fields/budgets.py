# SPDX-License-Identifier: Apache-2.0
"""
Budgets of looks: how many values of a class a principal has seen in this window, and what then.

Rule 1: within a process the count is exact: a look is counted before its value is opened.
Rule 2: no look waits for another process. What others counted comes in from a shared counter,
        once a second while there are looks, and counts from then on. So all processes together give
        out at most the budget, and what each but one gives out within `LAG` and one statement.
Rule 3: what is spent is no cached decision: it is asked at each look, and over with the window.

Windows are fixed, from one multiple of their length to the next in UTC: in any span of that length
at most twice the budget. A guard rail: whoever holds the class's key in this process can go past it
(``docs/threat-model.md``). Does not decide on rights (`lacre.policy.decisions`).
"""

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, final

from lacre.audit.entries import moment
from lacre.audit.event import Event, Outcome, who
from lacre.audit.keeping import BudgetSpent
from lacre.context import Acting
from lacre.errors import LacreError
from lacre.policy.budgets import BudgetSettings
from lacre.policy.decisions import Decision

__all__ = ["LAG", "Budgets", "Meter", "SharedLooks", "Spent"]

LAG = 1.0  # seconds between two exchanges with the shared counter
_MANY = 10_000  # principals counted, past which those of windows that are over are dropped

_log = logging.getLogger("lacre.budgets")


@dataclass(frozen=True, slots=True)
class Spent:
    """Whose looks of which window: its beginning and its end, in seconds since 1970."""

    class_: str
    principal: str
    begin: int
    end: int


class SharedLooks(Protocol):
    """What all processes have counted together."""

    def add(self, looks: Mapping[Spent, int]) -> Mapping[Spent, int]:
        """Add *looks*, and return the totals of those windows, all processes' together."""
        ...

    def close(self) -> None:
        """Let connections go."""
        ...


class _Window:
    """The looks of one principal in one window. *mine* are this process's, *unshared* of them nobody else knows."""

    __slots__ = ("mine", "number", "others", "told", "unshared")

    def __init__(self, number: int) -> None:
        self.number = number
        self.mine = self.others = self.unshared = 0
        self.told = False


@final
class Meter:
    """The budget of one class. Made by `Budgets`."""

    def __init__(
        self,
        class_: str,
        settings: BudgetSettings,
        *,
        record: Callable[[Event], None],
        clock: Callable[[], float],
        woken: Callable[[], None],
    ) -> None:
        self.class_ = class_
        self._settings = settings
        self._per = int(settings.per.total_seconds())
        self._alike = not settings.roles and not settings.principals
        self._record = record
        self._clock = clock
        self._woken = woken
        self._windows: dict[str, _Window] = {}
        self._lock = threading.Lock()
        self._answers: dict[int, Decision] = {}  # one object for each rule: looks are grouped by it

    @property
    def counts_bulk(self) -> bool:
        """Whether rows of a reading in bulk count."""
        return self._settings.bulk

    def charge(self, acting: Acting, decision: Decision, tenant: str, looks: int = 1) -> Decision:
        """
        Count *looks* that *decision* allows. Return it; or, where they are more than is left, another, and count none.

        Raises:
            EvidenceUnavailable: that the budget is spent cannot be recorded.
        """
        number = int(self._clock() // self._per)
        settings = self._settings
        allowed = settings.looks if self._alike else settings.of(acting.principal, acting.roles)
        with self._lock:
            window = self._windows.get(acting.principal)
            if window is None or window.number < number:
                window = self._begun(acting.principal, number)
            fits = window.mine + window.others + looks <= allowed
            if fits:
                window.mine += looks
                window.unshared += looks
            news, window.told = not (fits or window.told), window.told or not fits
        if fits:
            self._woken()
            return decision
        if news:
            self._tell(acting, window, allowed, tenant)
        return self._answer(allowed)

    def _begun(self, principal: str, number: int) -> _Window:
        if len(self._windows) >= _MANY:
            kept = {name: each for name, each in self._windows.items() if each.number >= number}
            self._windows = kept
        # What was not shared of the window before is let go: it is over.
        window = self._windows[principal] = _Window(number)
        return window

    def _tell(self, acting: Acting, window: _Window, allowed: int, tenant: str) -> None:
        end = (window.number + 1) * self._per
        try:
            self._record(
                BudgetSpent(
                    **who(acting, time=self._clock(), tenant=tenant),
                    class_=self.class_,
                    budget=allowed,
                    until=moment(end),
                )
            )
        except BaseException:
            window.told = False
            raise

    def _answer(self, allowed: int) -> Decision:
        answer = self._answers.get(allowed)
        if answer is None:
            outcome = Outcome.MASKED if self._settings.then == "mask" else Outcome.DENIED
            rule = f"classes.{self.class_}.budget: {allowed} looks in {self._per} s are spent"
            answer = self._answers[allowed] = Decision(outcome, rule)
        return answer

    def unshared(self) -> dict[Spent, int]:
        """Return what no other process knows yet."""
        with self._lock:
            return {
                self._named(name, window): window.unshared
                for name, window in self._windows.items()
                if window.unshared
            }

    def shared(self, added: Mapping[Spent, int], totals: Mapping[Spent, int]) -> None:
        """Take in what all processes have counted, this one's *added* among it."""
        with self._lock:
            for name, window in self._windows.items():
                spent = self._named(name, window)
                if spent in added:
                    window.unshared -= added[spent]
                    window.others = totals[spent] - (window.mine - window.unshared)

    def forked(self) -> None:
        """In a child: what the parent counted is others', and the parent's to share."""
        self._lock = threading.Lock()
        for window in self._windows.values():
            window.others += window.mine
            window.mine = window.unshared = 0

    def _named(self, principal: str, window: _Window) -> Spent:
        begin = window.number * self._per
        return Spent(self.class_, principal, begin, begin + self._per)


class Budgets:
    """
    The budgets of one application.

    Args:
        classes: those that have one.
        record: takes `BudgetSpent`, in memory.
    """

    def __init__(
        self,
        classes: Mapping[str, BudgetSettings],
        *,
        record: Callable[[Event], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._meters = {
            name: Meter(name, each, record=record, clock=clock, woken=self._woken)
            for name, each in classes.items()
        }
        self._shared: SharedLooks | None = None
        self._begin()
        weak = weakref.WeakMethod(self._after_fork)
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())

    def _begin(self) -> None:
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def _after_fork(self) -> None:
        self._begin()
        for meter in self._meters.values():
            meter.forked()

    def __bool__(self) -> bool:
        return bool(self._meters)

    def meter(self, class_: str) -> Meter | None:
        """Return the budget of a class; None where it has none."""
        return self._meters.get(class_)

    def share(self, shared: SharedLooks) -> None:
        """Count with other processes from now on."""
        self._shared = shared

    def exchange(self) -> None:
        """
        Tell the other processes what was counted here, and take in theirs.

        Raises:
            LacreError: the shared counter does not answer; what was counted is kept.
        """
        if self._shared is None:
            return
        added = {spent: looks for each in self._meters.values() for spent, looks in each.unshared().items()}  # fmt: skip
        if not added:
            return
        totals = self._shared.add(added)
        for meter in self._meters.values():
            meter.shared(added, totals)

    def close(self) -> None:
        """Tell the others what was counted last, if they can be reached, and rest until the next look."""
        with self._starting:
            thread, self._thread = self._thread, None
            self._stop.set()
            self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)
        self._wake.clear()
        self._quietly()
        if self._shared is not None:
            self._shared.close()

    def _woken(self) -> None:
        if self._shared is None or self._wake.is_set():
            return
        self._wake.set()
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._stop = threading.Event()
                    self._thread = threading.Thread(
                        target=self._run, args=(self._stop,), name="lacre-budgets", daemon=True
                    )
                    try:
                        self._thread.start()
                    except RuntimeError:  # the process ends: its last looks stay its own
                        self._thread = None

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._wake.wait()
            # First the exchange: a process that begins to look learns at once what others spent.
            self._wake.clear()
            self._quietly()
            stop.wait(LAG)

    def _quietly(self) -> None:
        try:
            self.exchange()
        except LacreError as error:
            # Evidence goes to the same database: while it is away, looks are soon refused anyway.
            _log.warning("looks are counted in this process alone: %s", error)
        except Exception as error:  # noqa: BLE001 - a thread that ends would count alone for good
            _log.warning("looks are counted in this process alone: %s", type(error).__name__)
