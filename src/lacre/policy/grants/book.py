# SPDX-License-Identifier: Apache-2.0
"""
The book of grants in effect: in memory, refreshed by one thread, asked without I/O.

Implements the port `lacre.policy.grants.grant.Grants`. What was not refreshed for its age gives
nothing, and so does a clock that was set back. A revocation that it saw once, in the rows or in the evidence,
it does not forget. Reads no database itself: it is given what does.
"""

import datetime as dt
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, final

from lacre.audit.event import Event, who
from lacre.audit.governing import GrantChanged
from lacre.context import Acting
from lacre.errors import LacreError
from lacre.keys.moments import moment_text
from lacre.policy.grants.grant import Grant
from lacre.policy.grants.judging import Rules, Standing, grant_of, judge
from lacre.policy.grants.request import Act, GrantRecord
from lacre.policy.grants.steps import SKEW

__all__ = ["GrantBook", "GrantSource", "Revocations"]

_log = logging.getLogger("lacre.policy")
_REMEMBERED = 4096  # uses of grants that were told
_Asked = tuple[str, str, str, str]


class GrantSource(Protocol):
    """Where grants are kept."""

    def grant_records(self, *, after: str = "") -> Sequence[GrantRecord]: ...


class Revocations(Protocol):
    """What the evidence says of grants: which were revoked, up to what is signed; and the newest time it knows."""

    def revoked(self) -> Collection[str]: ...

    def newest(self) -> float | None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Page:
    # What was true at a moment: `at` of the monotonic clock, `latest` the largest time of day known.
    at: float = float("-inf")
    latest: float = float("-inf")
    grants: Mapping[_Asked, tuple[Grant, ...]] = field(default_factory=dict)


@final
class GrantBook:
    """
    Grants in effect, as decisions ask for them.

    Args:
        source: the key store.
        rules: makes the rules, once, at the first refresh: it needs the key store's id.
        age: in seconds, the longest that a revoked grant is gone on with.
        evidence: what the evidence log says of revocations, where it can be read.
        witness: the latest time that the key store knows of.
        clock, monotonic: of the day, and one that nobody sets.
    """

    def __init__(
        self,
        source: GrantSource,
        rules: Callable[[], Rules],
        *,
        age: float,
        evidence: Revocations | None = None,
        witness: Callable[[], float | None] = lambda: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._make_rules = rules
        self._rules: Rules | None = None
        self._age = age
        self._evidence = evidence
        self._witness = witness
        self._record: Callable[[Event], None] | None = None
        self._used: set[tuple[str, str]] = set()
        self._uses: deque[tuple[Grant, Acting, float]] = deque()
        self._clock = clock
        self._monotonic = monotonic
        self._revoked: set[str] = set()
        self._page = _Page()
        self._told = ""
        self._start()
        weak = weakref.WeakMethod(self._after_fork)
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())

    def _start(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._refreshing = threading.Lock()
        self._closed = False

    def _after_fork(self) -> None:
        # The child has no thread of its parent's. What the page says holds for its age and no longer;
        # what waits to be told, the parent tells.
        self._uses = deque()
        self._start()

    def effective(self, acting: Acting, class_: str, right: str) -> Grant | None:
        """Return a grant that is in effect now and gives *acting* this right, or None. Does no I/O."""
        if self._thread is None and not self._closed:
            self.begin()
        page = self._page
        if self._monotonic() - page.at >= self._age:
            return None
        now = self._clock()
        if now < page.latest - SKEW:
            return None  # set back: what is over would begin again
        now = max(now, page.latest)
        for grant in page.grants.get((acting.principal, class_, right, acting.purpose), ()):
            # Whoever names no tenant reads rows of each that a row names: for them is a grant of every tenant alone.
            mine = grant.tenant is None or grant.tenant == acting.tenant
            if mine and grant.not_before <= now < grant.until:
                self._note(grant, acting, now)
                return grant
        return None

    def tell(self, record: Callable[[Event], None]) -> None:
        """Have *record* told of a grant's first use, of each reason: without I/O for whoever uses it, by the thread."""
        self._record = record

    def _note(self, grant: Grant, acting: Acting, now: float) -> None:
        if self._record is None:
            return
        use = (grant.id, acting.origin.reason)
        if use not in self._used:
            if len(self._used) >= _REMEMBERED:
                self._used.clear()  # said again, then: too often is better than never
            self._used.add(use)
            self._uses.append((grant, acting, now))

    def _tell_uses(self) -> None:
        record, uses = self._record, self._uses
        while record is not None and uses:
            grant, acting, at = uses[0]
            record(
                GrantChanged(
                    **who(acting, time=at, tenant=acting.tenant or ""),
                    step="used",
                    grant=grant.id,
                    beneficiary=grant.principal,
                    class_=grant.class_,
                    right=grant.right,
                    until=_moment(grant.until),
                    breakglass=grant.break_glass,
                )
            )
            uses.popleft()

    def refresh(self) -> None:
        """
        Read what is in effect, now.

        Raises:
            KeyStoreUnreachable, EvidenceUnavailable: and it gives what it gave, until its age.
            Tampered: what is signed of the evidence is not what is there; it gives nothing from now on.
        """
        with self._refreshing:
            begun = self._monotonic()  # before reading: its age counts from what was true then
            latest = max(self._clock(), self._page.latest, *self._witnesses())
            try:
                if self._evidence is not None:
                    self._revoked |= set(self._evidence.revoked())
                records = self._source.grant_records(after=_moment(latest))
                if self._rules is None:
                    self._rules = self._make_rules()
            except LacreError as error:
                if not error.retryable:
                    self._page = _Page(latest=latest)
                raise
            found: dict[_Asked, tuple[Grant, ...]] = {}
            for record in records:
                request = record.request
                if any(each.act is Act.REVOKE for each in record.acts):
                    self._revoked.add(request.id)
                judged = judge(record, self._rules, now=latest, revoked=request.id in self._revoked)
                if judged.standing in (Standing.IN_EFFECT, Standing.AHEAD):
                    grant = grant_of(request)
                    asked = (grant.principal, grant.class_, grant.right, grant.purpose)
                    found[asked] = (*found.get(asked, ()), grant)
            self._page = _Page(begun, latest, found)

    def close(self) -> None:
        """
        End the thread. Nothing is in effect any more.

        Raises:
            EvidenceUnavailable: a use could not be recorded.
        """
        with self._starting:
            thread, self._thread, self._closed = self._thread, None, True
            self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._page = _Page(latest=self._page.latest)
        self._tell_uses()
        if self._evidence is not None:
            self._evidence.close()

    def _witnesses(self) -> list[float]:
        asks = [self._witness] if self._evidence is None else [self._witness, self._evidence.newest]
        found = [float("-inf")]
        for ask in asks:
            try:
                found.append(ask() or float("-inf"))
            except LacreError:
                continue  # it could only have made it later
        return found

    def begin(self) -> None:
        """Begin the thread that refreshes, unless it runs. The first question after a fork does."""
        with self._starting:
            if self._thread is not None or self._closed:
                return
            thread = threading.Thread(
                target=self._run, args=(self._stop,), name="lacre-grants", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                return  # the process is ending
            self._thread = thread

    def _run(self, stop: threading.Event) -> None:
        while True:
            try:
                self._tell_uses()
                self.refresh()
            except LacreError as error:
                self._tell(f"{error} ({error.hint})")
            except Exception as error:  # noqa: BLE001 - the next turn may do; until then its age counts
                self._tell(type(error).__name__)
            else:
                self._told = ""
            # Twice an age, so that one failed turn does not end what is in effect.
            if stop.wait(self._age / 2):
                return

    def _tell(self, what: str) -> None:
        if what != self._told:
            self._told = what
            _log.error("grants are not refreshed: %s", what)


def _moment(seconds: float) -> str:
    return moment_text(dt.datetime.fromtimestamp(seconds, dt.UTC))
