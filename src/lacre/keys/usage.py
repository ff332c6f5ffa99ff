# SPDX-License-Identifier: Apache-2.0
"""
What was asked of key services, and which keys were unwrapped: counted in memory, for one process.

Counts calls of a key service, which are few, and never uses of a key that is held. Starts anew
with every process and every fork. Holds names, numbers and times, and nothing of a key. No
evidence: what is handed to *record*, and the key service's own log, are.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from lacre.audit.event import Event
from lacre.audit.observing import Observer
from lacre.errors import EvidenceUnavailable, LacreError
from lacre.keys.hierarchy import KeyRow
from lacre.keys.kms_keys import scheme_of
from lacre.keys.moments import moment_text
from lacre.keys.ports import KeyService
from lacre.keys.recording import key_unwrapped
from lacre.keys.requests import gathered
from lacre.sensitive import KeyMaterial

__all__ = ["CountedKeyService", "KeyUsage", "KmsKeyUsage", "SubjectUsage", "Usage", "UsageCounters"]

T = TypeVar("T")

_KEYS = 100_000  # counted at most: those that were used longest ago are left out first
_MOVES = ("wrap", "rewrap")


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsKeyUsage:
    """
    One operation under one KMS key.

    Args:
        operation: ``mint``, ``unwrap``, ``wrap`` or ``rewrap``, which counts where the key comes from.
        calls: all of them.
        failures: those that failed, by the error's code; ``other`` for what is no error of lacre's.
        seconds: all of them together, with every attempt and pause.
        last: when the last one ended, as RFC 3339 text.
    """

    kms_key: str
    operation: str
    calls: int
    failures: Mapping[str, int]
    seconds: float
    last: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUsage:
    """How often a key of the key store was unwrapped in this process, and when last, as RFC 3339 text."""

    key: str
    unwrapped: int
    last: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectUsage:
    """How many subject keys of a class were made in this process, and how often one was unwrapped."""

    class_: str
    made: int
    unwrapped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """
    What one process used since it began to count.

    Args:
        since: when it began, as RFC 3339 text.
        kms_keys: by KMS key and operation.
        keys: of the key store, by id; all but subject keys.
        subjects: subject keys, by class: there may be millions.
    """

    since: str
    kms_keys: tuple[KmsKeyUsage, ...]
    keys: tuple[KeyUsage, ...]
    subjects: tuple[SubjectUsage, ...] = ()

    @property
    def calls(self) -> int:
        """Return how many calls key services were asked for, all together."""
        return sum(each.calls for each in self.kms_keys)


class _Calls:
    __slots__ = ("calls", "failures", "last", "seconds")

    def __init__(self) -> None:
        self.calls = 0
        self.failures: dict[str, int] = {}
        self.seconds = 0.0
        self.last = 0.0


class UsageCounters:
    """
    The counters of one application.

    Args:
        clock: the time of day, in seconds.
        timer: seconds that never go back.
        observer: is around each call, too.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
        observer: Observer | None = None,
    ) -> None:
        self._clock = clock
        self._timer = timer
        self._observer = observer
        self._start()
        weak = weakref.WeakMethod(self._start)
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._since = self._clock()
        self._calls: dict[tuple[str, str], _Calls] = {}
        self._keys: dict[bytes, tuple[int, float]] = {}
        self._subjects: dict[str, tuple[int, int]] = {}

    def counted(self, kms_key: str, operation: str, call: Callable[[], T]) -> T:
        """Return what *call* returns, or raise what it raises, and count it."""
        started, failure = self._timer(), ""
        try:
            if self._observer is None:
                return call()
            with self._observer.asking(kms_key, operation):
                return call()
        except BaseException as error:
            failure = error.code if isinstance(error, LacreError) else "other"
            raise
        finally:
            self._count(kms_key, operation, self._timer() - started, failure)

    def _count(self, kms_key: str, operation: str, seconds: float, failure: str) -> None:
        with self._lock:
            one = self._calls.setdefault((kms_key, operation), _Calls())
            one.calls += 1
            one.seconds += seconds
            one.last = self._clock()
            if failure:
                one.failures[failure] = one.failures.get(failure, 0) + 1

    def made(self, class_: str, number: int) -> None:
        """Count that so many subject keys were made."""
        with self._lock:
            made, unwrapped = self._subjects.get(class_, (0, 0))
            self._subjects[class_] = (made + number, unwrapped)

    def unwrapped(self, row: KeyRow) -> None:
        """Count that a key of the key store was unwrapped."""
        key_id = row.key_id
        with self._lock:
            if row.digest is not None:
                made, unwrapped = self._subjects.get(row.scope.class_, (0, 0))
                self._subjects[row.scope.class_] = (made, unwrapped + 1)
                return
            count, _ = self._keys.pop(key_id, (0, 0.0))
            while len(self._keys) >= _KEYS:
                del self._keys[next(iter(self._keys))]
            self._keys[key_id] = (count + 1, self._clock())

    def usage(self) -> Usage:
        """Return the counts as they are now."""
        with self._lock:
            return Usage(
                since=_moment(self._since),
                kms_keys=tuple(
                    KmsKeyUsage(
                        kms_key=kms_key,
                        operation=operation,
                        calls=one.calls,
                        failures=MappingProxyType(dict(one.failures)),
                        seconds=one.seconds,
                        last=_moment(one.last),
                    )
                    for (kms_key, operation), one in sorted(self._calls.items())
                ),
                keys=tuple(
                    KeyUsage(key=key_id.hex(), unwrapped=count, last=_moment(last))
                    for key_id, (count, last) in sorted(self._keys.items())
                ),
                subjects=tuple(
                    SubjectUsage(class_=class_, made=made, unwrapped=unwrapped)
                    for class_, (made, unwrapped) in sorted(self._subjects.items())
                ),
            )


class CountedKeyService:
    """
    *service*, whose calls are counted. Whatever else it does, it does as before.

    It has `wrap` and `rewrap` only where *service* has.

    Args:
        record: takes the event of a call that unwrapped a key, in memory. Where it raises, the key
            is not handed out. The local keystore is nobody else's, and nothing is recorded of it.
    """

    def __init__(
        self,
        service: KeyService,
        counters: UsageCounters,
        record: Callable[[Event], object] | None = None,
    ) -> None:
        self.service = service
        self._counters = counters
        self._record = record

    def __repr__(self) -> str:
        return repr(self.service)

    def mint(self, kms_key: str, context: Mapping[str, str]) -> bytes:
        """See `KeyService.mint`."""
        return self._counters.counted(kms_key, "mint", lambda: self.service.mint(kms_key, context))

    def unwrap(self, kms_key: str, wrapped: bytes, context: Mapping[str, str]) -> KeyMaterial:
        """See `KeyService.unwrap`."""
        return self._recorded(
            kms_key, "unwrap", context, lambda: self.service.unwrap(kms_key, wrapped, context)
        )

    def __getattr__(self, name: str) -> Any:
        if name == "service":  # not made yet, as copies begin
            raise AttributeError(name)
        found = getattr(self.service, name)
        return partial(self._moved, name, found) if name in _MOVES else found

    def _moved(self, operation: str, move: Callable[..., T], kms_key: str, *given: Any, **more: Any) -> T:  # fmt: skip
        call = lambda: move(kms_key, *given, **more)  # noqa: E731 - two uses, one line
        if operation == "rewrap":
            context = given[1] if len(given) > 1 else more.get("context", {})
            return self._recorded(kms_key, operation, context, call)
        return self._counters.counted(kms_key, operation, call)

    def _recorded(
        self, kms_key: str, operation: str, context: Mapping[str, str], call: Callable[[], T]
    ) -> T:
        if self._record is None or scheme_of(kms_key) == "local":
            return self._counters.counted(kms_key, operation, call)
        with gathered() as attempts:
            try:
                answer = self._counters.counted(kms_key, operation, call)
            except BaseException as error:
                failed = key_unwrapped(kms_key, operation, context, attempts=attempts, error=error)
                with suppress(EvidenceUnavailable):  # no key is handed out, and why is told
                    self._record(failed)
                raise
        self._record(key_unwrapped(kms_key, operation, context, attempts=attempts, error=None))
        return answer


def _moment(seconds: float) -> str:
    return moment_text(datetime.fromtimestamp(seconds, UTC))
