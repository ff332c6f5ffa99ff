# SPDX-License-Identifier: Apache-2.0
"""
The key resolver: from (scope, key id) to a usable key, by way of cache, key store, key service.

Rule 1: the scope comes from the model and the acting, never from a value. A row of another scope
        is refused like a tampered value and never cached.
Rule 2: nothing is used past its expiry; but for stale use, where lacre.toml allows it, which only
        decrypts, and ends at a time that was fixed when the key service answered last.
Rule 3: a denial is never answered from the cache: it empties it.

How rows become keys is in `lacre.keys.loading`, how long they are held in `lacre.keys.cache`. Does
not choose KMS keys (the policy names them), mint or change rows (`lacre.keys.provisioning`).
"""

import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial

from lacre.errors import (
    ConfigurationError,
    EvidenceUnavailable,
    KeyDestroyed,
    KeyDisabled,
    KeyNotFound,
    KeyUnavailable,
    Tampered,
)
from lacre.keys.cache import ACTIVE, CacheLimits, KeyCache, ScopeHandle, UsableKey
from lacre.keys.hierarchy import USABLE, KeyKind, KeyRow, KeyState, Scope, SubjectRows
from lacre.keys.loading import Loader, ReadRows, not_usable, service_of, shredded, unwrap_row
from lacre.keys.ports import KeyReader, KeyService

__all__ = [
    "CacheLimits",
    "Resolver",
    "ScopeHandle",
    "UsableKey",
    "service_of",
    "since_boot",
    "unwrap_row",
]

_MOVED = b"moved"  # before the id of a key: what it opens is moved to another and goes nowhere else
_PENDING = 4  # announced index roots tried at most, the highest versions first
_AT_ONCE = 2000  # subjects whose keys are read or made in one go
_NOWHERE = (b"", b"")
_PATIENCE = 5.0  # seconds that `close` waits for what runs in the background

# The age of a key goes on while the machine is suspended, where Linux can say so: CLOCK_MONOTONIC
# stands still then, and a key would outlive its age by as long as the machine slept.
since_boot = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _ignored(_: KeyRow) -> None: ...


class Resolver:
    """
    Resolves keys for every field of one application.

    Args:
        store: where wrapped keys are.
        services: a key service for each URI scheme (``local``).
        kms_keys: names the KMS key of a branch key or index root, from the policy; and after it,
            while keys are moved, the one they come from.
        limits: of the cache.
        clock: seconds that never go back.
        unwrapped: is told the row of each key of the key store that was unwrapped.
        make: makes subjects of a scope, by their digests, and their first keys under a branch key.
    """

    def __init__(
        self,
        *,
        store: KeyReader,
        services: Mapping[str, KeyService],
        kms_keys: Callable[[Scope], Sequence[str]],
        limits: CacheLimits,
        clock: Callable[[], float] = since_boot,
        unwrapped: Callable[[KeyRow], object] = _ignored,
        make: Callable[[Scope, UsableKey, Collection[bytes]], None] | None = None,
    ) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock
        self._make = make
        self._cache = KeyCache(limits=limits, clock=clock)
        self._entries = self._cache.entries
        self.subject_named = self._cache.subject_named
        self._loader = Loader(
            store=store,
            services=services,
            kms_keys=kms_keys,
            cache=self._cache,
            unwrapped=unwrapped,
        )
        self._reset()
        weak = weakref.WeakMethod(self._reset)
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())

    def _reset(self) -> None:
        self._listed: dict[bytes, tuple[float, Sequence[KeyRow]]] = {}  # by when they were read
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Drop every cached key and every denial. Revisions seen are kept."""
        self._cache.forget()
        self._loader.forget()
        with self._lock:
            self._listed.clear()

    def close(self) -> None:
        """`forget`, and wait for what runs in the background. It can be used again."""
        self._cache.background.end(_PATIENCE)
        self.forget()

    def to_encrypt(self, handle: ScopeHandle) -> UsableKey:
        """
        Return the key that encrypts (or indexes, or wraps) in this scope now.

        Raises:
            KeyNotFound: nothing was provisioned in this scope.
            KeyDisabled: the highest version that is not pending is not active.
            KeyServiceDenied, KeyServiceUnreachable, Tampered, ConfigurationError
        """
        entry = self._entries.get((handle.token, ACTIVE))
        if entry is not None and entry.fresh > self._clock():
            return entry
        return self._active_late(handle, entry)

    def _active(self, handle: ScopeHandle, spare: float = 0.0) -> UsableKey:
        try:
            return self._loader.active(handle, spare)
        except KeyNotFound:
            if handle.digest is None or self._make is None:
                raise
        self._made(handle.scope, [handle.digest])
        return self._loader.active(handle, spare)

    def _made(self, scope: Scope, digests: Collection[bytes]) -> None:
        if self._make is not None and digests:
            above = ScopeHandle(scope.of_kind(KeyKind.BRANCH))
            branch = self.to_encrypt(above)
            self._cache.keep((above.token, branch.key_id), branch)
            self._make(scope, branch, digests)

    def to_encrypt_all(self, handles: Collection[ScopeHandle]) -> dict[bytes, UsableKey]:
        """
        Return what `to_encrypt` does for many subjects, by their handles' tokens, in few statements.

        Whoever writes many rows holds what it returns: they may be more than the cache takes.

        Raises: as `to_encrypt`.
        """
        found: dict[bytes, UsableKey] = {}
        missing: dict[Scope, list[ScopeHandle]] = {}
        for handle in handles:
            entry = self.cached(handle)
            if entry is None:
                missing.setdefault(handle.scope, []).append(handle)
            else:
                found[handle.token] = entry
        for scope, several in missing.items():
            for start in range(0, len(several), _AT_ONCE):
                found |= self._actives(scope, several[start : start + _AT_ONCE])
        return found

    def _actives(self, scope: Scope, handles: Sequence[ScopeHandle]) -> dict[bytes, UsableKey]:
        digests = {handle.digest: None for handle in handles if handle.digest is not None}
        asked = self._clock()
        held: dict[bytes, SubjectRows] = dict(self._store.subjects(scope, digests))
        new = [n for n in digests if n not in held or not _begun(held[n])]
        if new:
            self._made(scope, new)
            held |= self._store.subjects(scope, new)
        rows = ReadRows({}, asked=asked, subjects={n: held.get(n) for n in digests})
        loader = self._loader.over(rows)
        return {
            handle.token: self._cache.once((handle.token, ACTIVE), partial(loader.active, handle))
            for handle in handles
        }

    def _active_late(self, handle: ScopeHandle, entry: UsableKey | None) -> UsableKey:
        slot, load = (handle.token, ACTIVE), partial(self._active, handle)
        if entry is None or entry.expires <= self._clock():
            return self._cache.once(slot, load)
        self._cache.ahead(slot, entry, load)
        return entry

    def held_for(self, handle: ScopeHandle) -> float:
        """Return for how many seconds more the cached key encrypts in this scope; 0 without one."""
        entry = self._entries.get((handle.token, ACTIVE))
        return 0.0 if entry is None else max(0.0, entry.expires - self._clock())

    def reads_for(self, handle: ScopeHandle) -> float:
        """Return for how many seconds more values of the key that encrypted last are read, stale use included."""
        entry = self._entries.get((handle.token, ACTIVE))
        if entry is None:
            return 0.0
        try:
            found = self.to_decrypt(handle, entry.key_id)
        except (KeyUnavailable, Tampered, ConfigurationError, EvidenceUnavailable):
            return 0.0
        return max(0.0, found.last - self._clock())

    def renew(self, handle: ScopeHandle, *, spare: float) -> UsableKey:
        """
        Return what `to_encrypt` does, asked for anew unless the cached key has *spare* seconds left.

        Where nobody answers the cached key stays, until it expires. Raises as `to_encrypt` does.
        """
        load = partial(self._active, handle)
        return self._cache.once((handle.token, ACTIVE), load, spare=spare)

    def check(self, handle: ScopeHandle) -> None:
        """
        Raise what using the scope's keys will raise once the cached ones expire, as far as the
        key store alone tells: the key service is not asked, and nothing is authenticated.

        Raises:
            KeyNotFound, KeyDisabled, KeyDestroyed
        """
        versions = self._store.versions(handle.scope)
        row = self._loader.active_row(handle.scope, versions)
        self._loader.check_revision(row)
        if handle.scope.kind is KeyKind.INDEX:
            for other in versions:
                if other.state not in (*USABLE, KeyState.PENDING, KeyState.DESTROYED):
                    raise not_usable(other, "search")
        if not handle.scope.kind.under_kms:
            for parent in self._store.versions(handle.scope.of_kind(KeyKind.BRANCH)):
                if parent.key_id.hex() == row.parent and parent.state not in USABLE:
                    raise not_usable(parent, "decrypt")

    def to_decrypt(self, handle: ScopeHandle, key_id: bytes) -> UsableKey:
        """
        Return the key *key_id*, which a value of this scope names.

        Raises:
            Tampered: no such key in this scope.
            KeyDisabled, KeyDestroyed, KeyServiceDenied, KeyServiceUnreachable, ConfigurationError
        """
        slot = (handle.token, key_id)
        entry = self._entries.get(slot)
        if entry is not None and entry.fresh > self._clock():
            return entry
        if entry is None or entry.expires <= self._clock():
            # What was encrypted a moment ago is under the key that encrypts now.
            entry = self._cache.held((handle.token, ACTIVE))
            if entry is None or entry.key_id != key_id:
                load = partial(self._loader.by_id, handle, key_id)
                return self._cache.once(slot, load)
            self._cache.keep(slot, entry)
        if entry.fresh <= self._clock():
            self._decrypting_late(handle, entry)
        return entry

    def to_move(self, handle: ScopeHandle, key_id: bytes) -> UsableKey:
        """
        Return the key *key_id*, to move what it encrypted to another: a compromised one too.

        A compromised key is held apart, so that nothing else ever decrypts with it. What it opens
        is not thereby authentic: whoever stole it may have written it.

        Raises:
            Tampered: no such key in this scope.
            KeyDisabled, KeyDestroyed, KeyServiceDenied, KeyServiceUnreachable, ConfigurationError
        """
        slot = (handle.token, _MOVED + key_id)
        entry = self._entries.get(slot)
        if entry is not None and entry.expires > self._clock():
            return entry
        return self._cache.once(slot, partial(self._loader.compromised, handle, key_id))

    def _decrypting_late(self, handle: ScopeHandle, entry: UsableKey) -> None:
        # The key that encrypts too is asked for as that, once for both.
        active = self._entries.get((handle.token, ACTIVE))
        if active is entry:
            self._active_late(handle, entry)
        else:
            load = partial(self._loader.by_id, handle, entry.key_id)
            self._cache.ahead((handle.token, entry.key_id), entry, load)

    def cached(
        self, handle: ScopeHandle, key_id: bytes | None = None, *, spare: float = 0.0
    ) -> UsableKey | None:
        """
        Return the key *key_id*, or the one that encrypts now, if it is held, *spare* seconds more.

        Without I/O; in the last part of its age somebody else asks for it anew.
        """
        now = self._clock()
        if handle.of_subjects:
            # Whosever it is: who looks at the value names the subject, and is told then.
            entry = self._entries.get(self._cache.named.get(key_id or b"", _NOWHERE))
            return entry if entry is not None and entry.expires > now + spare else None
        if key_id is not None:
            entry = self._entries.get((handle.token, key_id))
            if entry is not None and entry.expires > now + spare:
                if entry.fresh <= now:
                    self._decrypting_late(handle, entry)
                return entry
        entry = self._entries.get((handle.token, ACTIVE))
        if entry is None or entry.expires <= now + spare or key_id not in (None, entry.key_id):
            return None
        if entry.fresh <= now:
            self._active_late(handle, entry)
        return entry

    def prepare(
        self, handle: ScopeHandle, key_ids: Collection[bytes], *, spare: float = 0.0
    ) -> dict[bytes, KeyUnavailable | Tampered]:
        """
        Resolve those of *key_ids* that are of this scope with one query, for *spare* seconds more.

        Returns:
            why not, for each of the others. The look that needs one says so, once, in its own place.
        """
        asked = self._clock()
        wanted = {n for n in key_ids if self.cached(handle, n, spare=spare) is None}
        refused: dict[bytes, KeyUnavailable | Tampered] = {}
        if not wanted:
            return refused
        if handle.of_subjects:
            return self._prepare_subjects(handle, wanted, asked, spare)
        for row in self._loader.find(handle, wanted):
            wanted.discard(row.key_id)
            try:
                load = partial(self._loader.to_read, handle, row, asked)
                self._cache.once((handle.token, row.key_id), load, spare=spare)
            except (KeyDisabled, KeyDestroyed, Tampered) as error:
                refused[row.key_id] = error
        return refused | {key_id: Tampered() for key_id in wanted}

    def _prepare_subjects(
        self, handle: ScopeHandle, wanted: set[bytes], asked: float, spare: float
    ) -> dict[bytes, KeyUnavailable | Tampered]:
        # By the ids that values name, among the keys of this tenant and class. Each is held as the
        # key of the subject that its own row authenticates: a look that names another one finds
        # nothing there.
        refused: dict[bytes, KeyUnavailable | Tampered] = {}
        for row, subject in self._store.subject_keys_named(handle.scope, wanted):
            wanted.discard(row.key_id)
            try:
                if row.digest is None:
                    raise not_usable(row, "decrypt")
                if subject is None or subject.pseudonym != row.scope.subject:
                    raise Tampered if subject is None else shredded(handle.scope, subject)
                whose = handle.of_subject(row.digest)
                load = partial(self._loader.to_read, whose, row, asked)
                self._cache.once((whose.token, row.key_id), load, spare=spare)
            except (KeyDisabled, KeyDestroyed, Tampered) as error:
                refused[row.key_id] = error
        return refused | {key_id: Tampered() for key_id in wanted}

    def of_another(self, handle: ScopeHandle, key_id: bytes) -> bool:
        """Whether *key_id* is held as the key of another subject than *handle* names. Without I/O."""
        slot = self._cache.named.get(key_id)
        return slot is not None and handle.digest is not None and slot[0] != handle.token

    def searchable(self, handle: ScopeHandle) -> list[UsableKey]:
        """
        Return every index root that tokens may have been made under, the active one first.

        Announced roots are among them: another process may write under one before this process
        hears of its activation.

        Raises:
            KeyDisabled: a version is disabled or compromised. Without it the answer would leave
                out rows and say nothing, so there is none until it is enabled or destroyed.
        """
        held = self.cached_searchable(handle)
        return self._roots(handle, self._loader) if held is None else held

    def _roots(self, handle: ScopeHandle, loader: Loader) -> list[UsableKey]:
        token = handle.token
        active = self._cache.once((token, ACTIVE), partial(loader.active, handle))
        listed, versions = self._versions(handle, loader)
        roots = [active]
        for row in versions:
            if row.key_id != active.key_id and row.state not in (
                KeyState.PENDING,
                KeyState.DESTROYED,
            ):
                load = partial(loader.by_id, handle, row.key_id)
                roots.append(self._cache.once((token, row.key_id), load))
        pending = [row for row in versions if row.state is KeyState.PENDING]
        silent = {row.key_id for row in pending[_PENDING:]}
        for row in pending[:_PENDING]:
            if row.key_id == active.key_id:
                continue  # activated since the versions were listed
            loader.check_revision(row)
            try:
                load = partial(loader.open, handle, row, listed, announced=True)
                roots.append(self._cache.once((token, row.key_id), load))
            except (Tampered, ConfigurationError, KeyNotFound, KeyDisabled, KeyDestroyed) as error:
                if isinstance(error, KeyDisabled) and row.revision != 1:
                    raise  # not as it was minted: tokens may have been made under it
                # Planted by someone who may insert but not mint: it names a KMS key or version
                # that is not there, or holds nothing.
                silent.add(row.key_id)
        self._pass_over(handle, listed, silent)
        return roots

    def _pass_over(self, handle: ScopeHandle, listed: float, silent: Collection[bytes]) -> None:
        # Until the versions are listed anew: otherwise every search would ask for planted rows
        # again, and nothing that is not held would ever be all that is needed.
        with self._lock:
            held = self._listed.get(handle.token)
            if silent and held is not None and held[0] == listed:
                rows = [row for row in held[1] if row.key_id not in silent]
                self._listed[handle.token] = (listed, rows)

    def cached_searchable(self, handle: ScopeHandle) -> list[UsableKey] | None:
        """Return what `searchable` would, if all of it is held. Without I/O."""
        listed = self._listed.get(handle.token)
        active = self.cached(handle)
        if active is None or listed is None or listed[0] + self._limits.age <= self._clock():
            return None
        roots = [active]
        for row in listed[1]:
            if row.key_id != active.key_id and row.state is not KeyState.DESTROYED:
                root = self.cached(handle, row.key_id)
                if root is None:
                    return None
                roots.append(root)
        return roots

    def _versions(self, handle: ScopeHandle, loader: Loader) -> tuple[float, Sequence[KeyRow]]:
        # Which versions exist changes only with a rotation: held as long as the active key is.
        held = self._listed.get(handle.token)
        if held is None or held[0] + self._limits.age <= self._clock():
            held = (loader.asked(), loader.versions(handle))
            with self._lock:
                self._listed.pop(handle.token, None)
                while len(self._listed) >= self._limits.entries:
                    del self._listed[next(iter(self._listed))]
                self._listed[handle.token] = held
        return held

    def warm(self, handles: Collection[ScopeHandle], *, concurrent: int) -> None:
        """
        Resolve what encrypts in each scope and decrypts it again, and every index root searched under.

        Rows are read in few queries; the key service is asked once for each branch key and index
        root, *concurrent* times at once at most.

        Raises:
            the first error, when nothing of this runs any more.
        """
        asked = self._clock()
        scopes = {handle.scope for handle in handles}
        scopes |= {scope.of_kind(KeyKind.BRANCH) for scope in scopes if not scope.kind.under_kms}
        rows = ReadRows(self._store.versions_of(scopes), asked=asked)
        _at_once(partial(self._warm, self._loader.over(rows)), handles, concurrent)

    def _warm(self, loader: Loader, handle: ScopeHandle) -> None:
        if handle.scope.kind is KeyKind.INDEX:
            self._roots(handle, loader)
        else:
            load = partial(loader.active, handle)
            active = self._cache.once((handle.token, ACTIVE), load)
            self._cache.keep((handle.token, active.key_id), active)


def _begun(held: SubjectRows) -> bool:
    # Pending rows say nothing: anyone who may insert can add one. A tombstone is not begun anew.
    return held.subject.pseudonym is None or any(
        row.state is not KeyState.PENDING for row in held.versions
    )


def _at_once(
    work: Callable[[ScopeHandle], None], handles: Collection[ScopeHandle], threads: int
) -> None:
    errors: list[BaseException] = []

    def run(handle: ScopeHandle) -> None:
        if not errors:
            try:
                work(handle)
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)

    if min(threads, len(handles)) <= 1:
        for handle in handles:
            run(handle)
    else:
        pool = ThreadPoolExecutor(min(threads, len(handles)), thread_name_prefix="lacre-warm-up")
        try:
            wait([pool.submit(run, handle) for handle in handles])
        finally:
            pool.shutdown(cancel_futures=True)  # where whoever waits was interrupted
    if errors:
        raise errors[0]
