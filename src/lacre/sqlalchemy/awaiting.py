# SPDX-License-Identifier: Apache-2.0
"""
An application as `AsyncSession` uses it: whatever needs the key store, the key service or the
audit sink happens in a thread, and the event loop goes on.

What is cached is used where it is asked for. What is not is awaited inside SQLAlchemy's greenlet
(execute, flush, commit, `run_sync`); at an attribute access, where nothing can be awaited, it is
`KeyExpired`. In a thread without an event loop it is fetched there.

One flight: of all tasks that miss one key, one asks and the others wait for its answer. Whoever
waits may be cancelled; the work goes on and the others get its answer.

Does not decide, decrypt or record.
"""

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from lacre.audit.event import Event
from lacre.audit.openings import Openings
from lacre.audit.recorder import Recorder
from lacre.context import Acting
from lacre.errors import (
    ConfigurationError,
    EvidenceUnavailable,
    KeyExpired,
    LacreError,
    Tampered,
)
from lacre.fields.column_state import ColumnState
from lacre.fields.deadlines import Deadlines
from lacre.fields.guard import Guard
from lacre.fields.scheme import Scheme
from lacre.keys.hierarchy import Scope, SubjectRows
from lacre.keys.ports import KeyReader
from lacre.keys.resolver import Resolver, ScopeHandle, UsableKey
from lacre.sqlalchemy.binding import Application

__all__ = ["AwaitingApplication"]

T = TypeVar("T")

_THREADS = 4  # for keys, and as many for evidence: apart from the loop's own, which others need
_AHEAD = 0.1  # of a key's age: what is left of it when it is asked for anew, behind the loop's back
_REFUSED = 1000  # keys that could not be had, whose reason is remembered at most
_Key = tuple[bytes, bytes]


class AwaitingApplication:
    """*application*, for sessions on an event loop."""

    def __init__(self, application: Application) -> None:
        self._application = application
        guard = application.guard
        self._keys = _Threads("lacre-keys")
        self.guard: Guard = replace(
            guard,
            resolver=cast(
                "Resolver",
                _AwaitingResolver(
                    guard.resolver, self._keys, ahead=guard.policy.file.cache.age * _AHEAD
                ),
            ),
            store=cast("KeyReader", _AwaitingStore(guard.store, self._keys)),
            openings=None
            if guard.openings is None
            else cast("Openings", _AwaitingOpenings(guard.openings)),
        )
        self._deadlines = _AwaitingDeadlines(application.deadlines, self._keys)
        # `guard.recorder` stays what it is: taking a look is memory only.
        self.recorder = cast("Recorder", _AwaitingRecorder(application.recorder))
        self.stamp = application.stamp

    @property
    def deadlines(self) -> Deadlines:
        """The columns that are to be encrypted; what their states and the time are is awaited."""
        return cast("Deadlines", self._deadlines)

    def column_state(self, scheme: Scheme) -> ColumnState:
        """Return the authenticated state of the column."""
        work = partial(self._application.column_state, scheme)
        if not _on_loop():
            return work()
        if in_greenlet():
            return self._keys.awaited(work)
        raise ConfigurationError(
            f"the present state of {scheme} was not read yet, and nothing can be awaited at an attribute access",
            hint="await lacre.prepare(obj) first",
        )


class _Threads:
    """A few threads, started when they are needed, and again in a child of fork."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._start()
        weak = weakref.WeakMethod(self._start)
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())

    def _start(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        with self._starting:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix=self._name)
            executor = self._executor
        return executor.submit(copy_context().run, work)

    def awaited(self, work: Callable[[], T]) -> T:
        """Do *work* in a thread and await it, inside SQLAlchemy's greenlet."""
        return _awaited(self.submit(work))


class _AwaitingResolver:
    """The resolver's methods that fields use."""

    def __init__(self, resolver: Resolver, threads: _Threads, *, ahead: float) -> None:
        self._resolver = resolver
        self._threads = threads
        self._ahead = ahead
        # Why a key could not be had: the look that needs it cannot ask again and says this.
        self._refused: dict[_Key, LacreError] = {}
        self.cached = resolver.cached
        self.of_another = resolver.of_another
        self.subject_named = resolver.subject_named
        self._start()
        weak = weakref.WeakMethod(self._start)
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())

    def _start(self) -> None:
        # Also in a child of fork: flights of the parent's threads never land there.
        self._lock = threading.Lock()
        self._flights: dict[_Key, Future[Any]] = {}

    def to_decrypt(self, handle: ScopeHandle, key_id: bytes) -> UsableKey:
        entry = self.cached(handle, key_id)
        if entry is not None:
            return entry
        if not _on_loop():
            return self._resolver.to_decrypt(handle, key_id)
        if in_greenlet():
            self.prepare(handle, (key_id,))
            entry = self.cached(handle, key_id)
            if entry is not None:
                return entry
            if handle.digest is not None:
                # Whose tombstone there is, or why not, only the subject's own rows tell.
                return self._flown(
                    (handle.token, key_id), partial(self._resolver.to_decrypt, handle, key_id)
                )
        error = self._refused.get((handle.of_all, key_id))
        if error is not None:
            raise _anew(error)
        if self._resolver.of_another(handle, key_id):
            raise Tampered
        raise KeyExpired(
            f"the key {key_id.hex()} is not held any more, and nothing can be awaited at an attribute access",
            hint="await lacre.prepare(obj) first",
        )

    def to_encrypt(self, handle: ScopeHandle) -> UsableKey:
        entry = self.cached(handle)
        if entry is not None:
            return entry
        return self._flown((handle.token, b"active"), partial(self._resolver.to_encrypt, handle))

    def to_encrypt_all(self, handles: Collection[ScopeHandle]) -> dict[bytes, UsableKey]:
        found = {handle.token: self.cached(handle) for handle in handles}
        held = {token: entry for token, entry in found.items() if entry is not None}
        if len(held) == len(found):
            return held
        work = partial(self._resolver.to_encrypt_all, handles)
        if not _on_loop():
            return work()
        if not in_greenlet():
            raise _not_here()
        return self._threads.awaited(work)

    def searchable(self, handle: ScopeHandle) -> list[UsableKey]:
        roots = self._resolver.cached_searchable(handle)
        if roots is not None:
            return roots
        return self._flown((handle.token, b"roots"), partial(self._resolver.searchable, handle))

    def prepare(self, handle: ScopeHandle, key_ids: Collection[bytes]) -> None:
        if not _on_loop():
            missing = self._without(handle, key_ids, spare=0.0)
            if missing:
                self._resolve(handle, missing, spare=0.0)
            return
        if handle.digest is not None:
            handle = ScopeHandle(handle.scope)  # as whoever loads rows asks: by key ids alone
        # A key that expired between the rows and the looks at them would be lost: nothing can be
        # awaited there. So it is asked for before it expires, and waited for if that is soon.
        due = self._without(handle, key_ids, spare=self._ahead)
        if due:
            missing = self._without(handle, due, spare=self._ahead / 10)
            self._flights_for(handle, due - missing)
            for flight in self._flights_for(handle, missing):
                _awaited(flight)

    def _without(
        self, handle: ScopeHandle, key_ids: Collection[bytes], *, spare: float
    ) -> set[bytes]:
        return {n for n in key_ids if self.cached(handle, n, spare=spare) is None}

    def _flights_for(self, handle: ScopeHandle, missing: set[bytes]) -> "set[Future[Any]]":
        # Keys that are being fetched already are waited for; the rest are one flight more.
        with self._lock:
            found = {
                key_id: self._flights[handle.token, key_id]
                for key_id in missing
                if (handle.token, key_id) in self._flights
            }
            flights, rest = set(found.values()), missing - found.keys()
            if rest:
                work = partial(self._resolve, handle, rest, spare=self._ahead)
                flight = self._threads.submit(work)
                flights.add(flight)
                for key_id in rest:
                    self._flights[handle.token, key_id] = flight
        if rest:
            flight.add_done_callback(
                lambda _: self._landed([(handle.token, key_id) for key_id in rest])
            )
        return flights

    def _resolve(self, handle: ScopeHandle, key_ids: set[bytes], *, spare: float) -> None:
        refused: dict[bytes, Any]
        try:
            refused = self._resolver.prepare(handle, key_ids, spare=spare)
        except LacreError as error:
            refused = dict.fromkeys(key_ids, error)
        with self._lock:
            for key_id in key_ids:
                self._refused.pop((handle.token, key_id), None)
                if key_id in refused and self.cached(handle, key_id) is None:
                    while len(self._refused) >= _REFUSED:
                        del self._refused[next(iter(self._refused))]
                    self._refused[handle.token, key_id] = _anew(refused[key_id])

    def _flown(self, key: _Key, work: Callable[[], T]) -> T:
        if not _on_loop():
            return work()
        if not in_greenlet():
            raise _not_here()
        with self._lock:
            flight = self._flights.get(key)
            mine = flight is None
            if flight is None:
                flight = self._flights[key] = self._threads.submit(work)
        if mine:
            flight.add_done_callback(lambda _: self._landed([key]))
        return cast("T", _awaited(flight))

    def _landed(self, keys: Collection[_Key]) -> None:
        with self._lock:
            for key in keys:
                self._flights.pop(key, None)


class _AwaitingStore:
    """What a field and a session ask the key store itself."""

    def __init__(self, store: KeyReader, threads: _Threads) -> None:
        self._store = store
        self._threads = threads

    def holds(self, key_id: bytes) -> bool:
        work = partial(self._store.holds, key_id)
        return self._threads.awaited(work) if _on_loop() and in_greenlet() else work()

    def subjects(self, scope: Scope, digests: Collection[bytes]) -> Mapping[bytes, SubjectRows]:
        work = partial(self._store.subjects, scope, digests)
        return self._threads.awaited(work) if _on_loop() and in_greenlet() else work()


class _AwaitingDeadlines:
    """What a session asks of deadlines: a state and a time may have to be read."""

    def __init__(self, deadlines: Deadlines, threads: _Threads) -> None:
        self._inner = deadlines
        self._threads = threads

    @property
    def any(self) -> bool:
        return self._inner.any

    def watched(self, table: str) -> frozenset[str]:
        return self._inner.watched(table)

    def refuse_overdue(self, table: str, columns: Sequence[str]) -> None:
        work = partial(self._inner.refuse_overdue, table, columns)
        return self._threads.awaited(work) if _on_loop() and in_greenlet() else work()


class _AwaitingOpenings:
    """The openings' methods that fields use: one that is not there yet waits for the sink."""

    def __init__(self, openings: Openings) -> None:
        self._openings = openings
        self._threads = _Threads("lacre-openings")

    def draw(self, acting: Acting, tenant: str, column: str, looks: int = 1) -> None:
        while not self._openings.drawn(acting, tenant, column, looks):
            self.ensure(acting, tenant, [column], looks=looks)

    def ensure(
        self, acting: Acting, tenant: str, columns: Collection[str], *, looks: int = 0
    ) -> None:
        if not _on_loop():
            self._openings.ensure(acting, tenant, columns, looks=looks)
        elif self._openings.missing(acting, tenant, columns, looks=looks):
            if not in_greenlet():
                raise EvidenceUnavailable(
                    f"no opening of looks at {', '.join(columns)} is recorded that has room, and nothing can be awaited at an attribute access",
                    hint="await lacre.prepare(obj) first; [audit] looks says how many looks one opening has",
                )
            work = partial(self._openings.ensure, acting, tenant, columns, looks=looks)
            self._threads.awaited(work)


class _AwaitingRecorder:
    """The recorder's `write`, which waits for the sink, and `tell`, which waits for nothing."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._threads = _Threads("lacre-evidence")

    def write(self, events: Sequence[Event]) -> None:
        if _on_loop() and in_greenlet():
            self._threads.awaited(partial(self._recorder.write, tuple(events)))
        else:
            self._recorder.write(events)

    def tell(self, taken: Sequence[Event]) -> None:
        self._recorder.tell(taken)


def _not_here() -> KeyExpired:
    return KeyExpired(
        "a key is not held any more, and nothing can be awaited here",
        hint="do this inside the session's own awaited calls, or in session.run_sync(...)",
    )


def _on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _awaited(future: "Future[T]") -> T:
    return await_only(_finished(future))


async def _finished(future: "Future[T]") -> T:
    # Shielded: cancelling whoever waits must not cancel the work, which others wait for too.
    return await asyncio.shield(asyncio.wrap_future(future))


def _anew(error: LacreError) -> LacreError:
    # Not the error that was raised: it holds the frames of its first raising, and would grow.
    if isinstance(error, Tampered):
        return Tampered()
    return type(error)(str(error), hint=error.hint)
