# SPDX-License-Identifier: Apache-2.0
"""
Keys in memory: bounded, each until its expiry, asked for once by however many need it.

Single flight: of all threads that miss a key, one asks, the others wait for its answer, and its
failure is theirs. Ahead: a key that is used in the last part of its age is asked for anew by one
background flight, while everybody goes on with the one that is held.

A refusal (denied, disabled, destroyed, not found, tampered) takes the key out of the cache at
once, and what it wraps. No answer at all leaves it there until its expiry.

Asks nobody itself: what loads a key is given (`lacre.keys.loading`).
"""

import os
import random
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import final

from lacre._core.canonical import canonical
from lacre._core.derive import PreparedKey
from lacre.errors import (
    KeyDestroyed,
    KeyDisabled,
    KeyNotFound,
    KeyServiceDenied,
    LacreError,
    Tampered,
)
from lacre.keys.ahead import Background
from lacre.keys.hierarchy import KeyKind, Scope
from lacre.sensitive import KeyMaterial

__all__ = ["ACTIVE", "CacheLimits", "KeyCache", "Load", "ScopeHandle", "Slot", "UsableKey", "anew"]

ACTIVE = b"active"  # in the place of a key id: the key that encrypts now

_AHEAD = 0.2  # of a key's age: what is left of it, at most, when it is asked for anew
_AHEAD_ABOVE = (
    0.35  # the same of the key above it: all of a fifth, jitter and what passed between the two
)
_PAUSE = 0.02  # of a key's age: how long nobody is asked again, doubled at most, and
_PAUSE_AT_LEAST = 1.0  # seconds

_REFUSALS = (KeyServiceDenied, KeyDisabled, KeyDestroyed, KeyNotFound, Tampered)

Slot = tuple[bytes, bytes]  # a scope's token, and a key id or `ACTIVE`


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLimits:
    """
    How long and how many keys are held.

    *age* and *stale_for* in seconds: their sum is the longest a revoked process keeps reading.
    *stale_for* is for reading values only, while the key service does not answer at all. *subjects*
    are the subject keys held besides: many people pass by, and none of them pushes a branch key
    out, which the key service would have to be asked for again.
    """

    age: float = 300.0
    entries: int = 1000
    subjects: int = 10_000
    stale_for: float = 0.0

    @property
    def ahead(self) -> float:
        """Return how many seconds before its expiry a key that is used is asked for anew, at most."""
        return self.age * _AHEAD


@final
class UsableKey:
    """
    An authenticated, unwrapped key, until *expires* on the resolver's clock.

    Until *fresh* it is used without a thought; then it is asked for anew while it is used. *above*
    is where the key that wraps it is cached; *last* is the end of every stale use. *subject* is
    the pseudonym of whose it is, or empty. *cache* is for the evidence: `used` says how it was had.
    """

    __slots__ = ("above", "cache", "expires", "fresh", "key_id", "last", "material", "prepared", "subject", "version")  # fmt: skip

    def __init__(
        self,
        key_id: bytes,
        material: KeyMaterial,
        expires: float,
        version: int,
        *,
        fresh: float | None = None,
        last: float | None = None,
        above: Slot | None = None,
        subject: str = "",
        cache: str = "fetched",
    ) -> None:
        self.key_id = key_id
        self.material = material
        self.prepared = PreparedKey(material.reveal())  # what values are encrypted with
        self.expires = expires
        self.version = version
        self.fresh = expires if fresh is None else fresh
        self.last = expires if last is None else last
        self.above = above
        self.subject = subject  # of one: held besides the others
        self.cache = cache

    def used(self) -> str:
        """Return how the key was had for the use that is recorded now: `fetched` the first time."""
        found = self.cache
        if found == "fetched":
            self.cache = "hit"  # two threads at once may both say that they fetched it
        return found

    def __repr__(self) -> str:
        return f"<UsableKey {self.key_id.hex()}>"


@final
class ScopeHandle:
    """
    A scope, with its identity as bytes: what the hot path hashes instead of seven strings.

    Of a subject key the scope says which tenant's and class's, and *digest* whose: the pseudonym
    is known to the key store only.
    """

    __slots__ = ("digest", "scope", "token")

    def __init__(self, scope: Scope, digest: bytes | None = None) -> None:
        self.scope = scope
        self.digest = digest
        subject = {} if scope.subject is None else {"subject": scope.subject}
        # What is canonical says itself where it ends, so no digest makes it another scope's.
        self.token = canonical(scope.pairs() | subject) + (digest or b"")

    def of_subject(self, digest: bytes) -> "ScopeHandle":
        """Return the handle of one subject of this scope, which is of subject keys."""
        made = ScopeHandle.__new__(ScopeHandle)
        made.scope = self.scope
        made.digest = digest
        made.token = self.token + digest
        return made

    @property
    def of_all(self) -> bytes:
        """The token without whose: of all subjects."""
        return self.token if self.digest is None else self.token[: -len(self.digest)]

    @property
    def of_subjects(self) -> bool:
        """Whether keys of many subjects are meant, and none of them is named."""
        return self.digest is None and self.scope.kind is KeyKind.SUBJECT


# Given how many seconds the key that wraps it has to be good for: otherwise that is asked for too.
Load = Callable[[float], UsableKey]


class KeyCache:
    """
    The keys of one resolver.

    *entries* may be read by anyone, without the lock: what is in it is never changed but for
    `UsableKey.fresh` and `cache`, and expired keys are in it until their place is needed.
    """

    def __init__(self, *, limits: CacheLimits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.clock = clock
        self.jitter = random.Random()  # noqa: S311 - spreads refreshes; nothing rests on it being unguessable
        self.entries: dict[Slot, UsableKey] = {}
        self.background = Background()
        self.named: dict[bytes, Slot] = {}  # where a subject key is, by its id
        self._below: dict[Slot, set[Slot]] = {}
        # In the order in which they came: those of subjects, and all others.
        self._orders: tuple[dict[Slot, None], dict[Slot, None]] = ({}, {})
        self._reset()
        weak = weakref.WeakMethod(self._reset)
        # A child of fork starts cold: locks may be held by threads that do not exist there.
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())

    def _reset(self) -> None:
        self.lock = threading.Lock()
        self._flights: dict[Slot, Future[UsableKey]] = {}
        self._empty()

    def _empty(self) -> None:
        for held in (self.entries, self.named, self._below, *self._orders):
            held.clear()

    def subject_named(self, key_id: bytes) -> str:
        """Return the pseudonym of the subject whose key *key_id* is held; empty without one. Without I/O."""
        slot = self.named.get(key_id)
        entry = None if slot is None else self.entries.get(slot)
        return "" if entry is None else entry.subject

    def forget(self) -> None:
        """Drop every key."""
        with self.lock:
            self._empty()

    def held(self, slot: Slot, *, spare: float = 0.0) -> UsableKey | None:
        """Return the key in *slot*, if it is good for *spare* seconds more."""
        entry = self.entries.get(slot)
        return entry if entry is not None and entry.expires > self.clock() + spare else None

    def once(
        self,
        slot: Slot,
        load: Load,
        *,
        spare: float = 0.0,
        instead_of: UsableKey | None = None,
    ) -> UsableKey:
        """
        Return the key in *slot*, loaded unless it is good for *spare* seconds more.

        Args:
            instead_of: this one is not what is wanted, however long it is good for.
        """
        mine: Future[UsableKey] = Future()
        # All of it is inside: a signal (a time limit, the end of a worker) raises between any two
        # lines, and a flight that nobody ends would be waited for by everybody, for ever.
        try:
            while True:
                with self.lock:
                    entry = self.held(slot, spare=spare)
                    if entry is not None and entry is not instead_of:
                        return entry
                    flight = self._flights.setdefault(slot, mine)
                if flight is mine:
                    break
                error = flight.exception()
                if error is None:
                    return flight.result()
                # Whoever asked was interrupted: that was meant for them, so somebody else asks.
                if isinstance(error, Exception):
                    raise anew(error) from None
            entry = load(spare)
            with self.lock:
                self._keep(slot, entry)
                self._flights.pop(slot, None)
            mine.set_result(entry)
        except BaseException as error:
            with self.lock:
                if self._flights.get(slot) is mine:
                    if isinstance(error, _REFUSALS):
                        self._drop(slot)
                    del self._flights[slot]
            if not mine.done():
                mine.set_exception(error)
            raise
        return entry

    def ahead(self, slot: Slot, entry: UsableKey, load: Load) -> None:
        """Have *entry*, which is good still, asked for anew. Returns at once."""
        self._rest(entry)
        self.background.do(slot, partial(self._renew, slot, entry, load))

    def _renew(self, slot: Slot, entry: UsableKey, load: Load) -> None:
        try:
            self.once(slot, partial(_ahead, load, self.limits.age * _AHEAD_ABOVE), instead_of=entry)
        except Exception:  # noqa: BLE001 - whatever it was, the key is good until it expires
            self._rest(entry)

    def _rest(self, entry: UsableKey) -> None:
        # Jitter only lengthens, so that keys that failed together do not come back together.
        entry.fresh = min(entry.expires, self.clock() + self.pause())

    def pause(self) -> float:
        """Return for how many seconds a key that could not be had anew is not asked for again."""
        return max(_PAUSE_AT_LEAST, self.limits.age * _PAUSE) * (1 + self.jitter.random())

    def keep(self, slot: Slot, entry: UsableKey) -> None:
        """Hold *entry* in *slot*."""
        with self.lock:
            self._keep(slot, entry)

    def _keep(self, slot: Slot, entry: UsableKey) -> None:
        token, key_id = slot
        if key_id == ACTIVE and (token, entry.key_id) in self.entries:
            self._keep((token, entry.key_id), entry)
        self._take(slot)
        order = self._orders[not entry.subject]
        while len(order) >= (self.limits.subjects if entry.subject else self.limits.entries):
            self._take(next(iter(order)))
        self.entries[slot] = entry
        order[slot] = None
        if entry.subject:
            self.named[entry.key_id] = slot
        if entry.above is not None:
            self._below.setdefault(entry.above, set()).add(slot)

    def _take(self, slot: Slot) -> None:
        entry = self.entries.pop(slot, None)
        if entry is None:
            return
        self._orders[not entry.subject].pop(slot, None)
        if self.named.get(entry.key_id) == slot:
            del self.named[entry.key_id]
        if entry.above is not None:
            below = self._below.get(entry.above)
            if below is not None:
                below.discard(slot)
                if not below:
                    del self._below[entry.above]

    def _drop(self, slot: Slot) -> None:
        # By whichever name it is held, and what it wraps.
        token, key_id = slot
        entry = self.entries.get(slot)
        named = (token, key_id if entry is None else entry.key_id)
        active = self.entries.get((token, ACTIVE))
        if active is not None and active.key_id == named[1]:
            self._take((token, ACTIVE))
        self._take(slot)
        self._take(named)
        for below in tuple(self._below.get(named, ())):
            self._take(below)


def _ahead(load: Load, above: float, spare: float) -> UsableKey:
    # The key above is asked for too unless that was done lately: nothing would be won otherwise.
    return load(max(above, spare))


def anew(error: Exception) -> Exception:
    """
    Return the error as if it were raised for the first time.

    Raised in every thread that waits, one and the same would gather the frames of all of them.
    """
    if isinstance(error, Tampered):
        return Tampered()
    if isinstance(error, LacreError):
        try:
            return type(error)(str(error), hint=error.hint)
        except TypeError:  # one of somebody's own
            return error
    return error
