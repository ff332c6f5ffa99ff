# SPDX-License-Identifier: Apache-2.0
"""
The key resolver: from (scope, key id) to a usable key, by way of cache, key store, key service.

Rule 1: the scope comes from the model and the acting. A row that differs from it in any part is
        refused like a tampered value, before any unwrap, and never cached.
Rule 2: a cached key expires at its own age or at its parent's expiry, whichever is earlier, so
        nothing outlives the key-service answer it came from. Jitter only shortens.
Rule 3: a denial is never answered from the cache, and nothing is used past its expiry.

Does not choose KMS keys (the policy names them), mint or change rows (`lacre.keys.provisioning`).
"""

import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import final

from lacre._core import field
from lacre._core.canonical import canonical
from lacre._core.derive import WRAP, PreparedKey
from lacre.errors import (
    ConfigurationError,
    KeyDestroyed,
    KeyDisabled,
    KeyNotFound,
    KeyUnavailable,
    Tampered,
)
from lacre.keys.hierarchy import USABLE, KeyKind, KeyRow, KeyState, Scope
from lacre.keys.kms_keys import SCHEMES, scheme_of
from lacre.keys.ports import KeyReader, KeyService
from lacre.sensitive import KeyMaterial

__all__ = [
    "CacheLimits",
    "Resolver",
    "ScopeHandle",
    "UsableKey",
    "service_of",
    "since_boot",
    "unwrap_row",
]

_ACTIVE = b"active"  # in the place of a key id: the key that encrypts now
_PENDING = 4  # announced index roots tried at most, the highest versions first
_REVISIONS = 100_000  # revisions remembered at most

# The age of a key goes on while the machine is suspended, where Linux can say so: CLOCK_MONOTONIC
# stands still then, and a key would outlive its age by as long as the machine slept.
since_boot = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLimits:
    """How long and how many keys are held. *age* in seconds is the longest a revoked process keeps reading."""

    age: float = 300.0
    entries: int = 1000


@final
class UsableKey:
    """An authenticated, unwrapped key, until *expires* on the resolver's clock."""

    __slots__ = ("expires", "key_id", "material", "prepared", "version")

    def __init__(self, key_id: bytes, material: KeyMaterial, expires: float, version: int) -> None:
        self.key_id = key_id
        self.material = material
        self.prepared = PreparedKey(material.reveal())  # what values are encrypted with
        self.expires = expires
        self.version = version

    def __repr__(self) -> str:
        return f"<UsableKey {self.key_id.hex()}>"


@final
class ScopeHandle:
    """A scope, with its identity as bytes: what the hot path hashes instead of seven strings."""

    __slots__ = ("scope", "token")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        subject = {} if scope.subject is None else {"subject": scope.subject}
        self.token = canonical(scope.pairs() | subject)


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
    """

    def __init__(
        self,
        *,
        store: KeyReader,
        services: Mapping[str, KeyService],
        kms_keys: Callable[[Scope], Sequence[str]],
        limits: CacheLimits,
        clock: Callable[[], float] = since_boot,
    ) -> None:
        self._store = store
        self._services = services
        self._kms_keys = kms_keys
        self._limits = limits
        self._clock = clock
        self._jitter = random.Random()  # noqa: S311 - spreads refreshes; nothing rests on it being unguessable
        self._revisions: dict[bytes, int] = {}
        self._reset()
        weak = weakref.WeakMethod(self._reset)
        # A child of fork starts cold: locks may be held by threads that do not exist there.
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())

    def _reset(self) -> None:
        self._entries: dict[tuple[bytes, bytes], UsableKey] = {}
        self._listed: dict[bytes, tuple[float, list[KeyRow]]] = {}
        self._pending: dict[tuple[bytes, bytes], Future[UsableKey]] = {}
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Drop every cached key. Revisions seen are kept."""
        with self._lock:
            self._entries.clear()
            self._listed.clear()

    def to_encrypt(self, handle: ScopeHandle) -> UsableKey:
        """
        Return the key that encrypts (or indexes, or wraps) in this scope now.

        Raises:
            KeyNotFound: nothing was provisioned in this scope.
            KeyDisabled: the highest version that is not pending is not active.
            KeyServiceDenied, KeyServiceUnreachable, Tampered, ConfigurationError
        """
        entry = self._entries.get((handle.token, _ACTIVE))
        if entry is not None and entry.expires > self._clock():
            return entry
        return self._once((handle.token, _ACTIVE), lambda: self._load_active(handle.scope))

    def held_for(self, handle: ScopeHandle) -> float:
        """Return for how many seconds more the cached key encrypts in this scope; 0 without one."""
        entry = self._entries.get((handle.token, _ACTIVE))
        return 0.0 if entry is None else max(0.0, entry.expires - self._clock())

    def renew(self, handle: ScopeHandle, *, spare: float) -> UsableKey:
        """
        Return what `to_encrypt` does, asked for anew unless the cached key has *spare* seconds left.

        Where that fails the cached key stays, until it expires. Raises as `to_encrypt` does.
        """
        load = partial(self._load_active, handle.scope, spare=spare)
        return self._once((handle.token, _ACTIVE), load, spare=spare)

    def check(self, handle: ScopeHandle) -> None:
        """
        Raise what using the scope's keys will raise once the cached ones expire, as far as the
        key store alone tells: the key service is not asked, and nothing is authenticated.

        Raises:
            KeyNotFound, KeyDisabled, KeyDestroyed
        """
        versions = self._store.versions(handle.scope)
        row = self._active(handle.scope, versions)
        self._check_revision(row)
        if handle.scope.kind is KeyKind.INDEX:
            for other in versions:
                if other.state not in (*USABLE, KeyState.PENDING, KeyState.DESTROYED):
                    raise _not_usable(other, "search")
        if not handle.scope.kind.under_kms:
            for parent in self._store.versions(handle.scope.of_kind(KeyKind.BRANCH)):
                if parent.key_id.hex() == row.parent and parent.state not in USABLE:
                    raise _not_usable(parent, "decrypt")

    def to_decrypt(self, handle: ScopeHandle, key_id: bytes) -> UsableKey:
        """
        Return the key *key_id*, which a value of this scope names.

        Raises:
            Tampered: no such key in this scope.
            KeyDisabled, KeyDestroyed, KeyServiceDenied, KeyServiceUnreachable, ConfigurationError
        """
        entry = self._entries.get((handle.token, key_id))
        if entry is not None and entry.expires > self._clock():
            return entry
        # What was encrypted a moment ago is under the key that encrypts now.
        entry = self.cached(handle, key_id)
        if entry is not None:
            with self._lock:
                self._keep((handle.token, key_id), entry)
            return entry
        return self._once((handle.token, key_id), lambda: self._load(handle.scope, key_id))

    def cached(
        self, handle: ScopeHandle, key_id: bytes | None = None, *, spare: float = 0.0
    ) -> UsableKey | None:
        """Return the key *key_id*, or the one that encrypts now, if it is held, *spare* seconds more. Without I/O."""
        now = self._clock() + spare
        if key_id is not None:
            entry = self._entries.get((handle.token, key_id))
            if entry is not None and entry.expires > now:
                return entry
        entry = self._entries.get((handle.token, _ACTIVE))
        if entry is None or entry.expires <= now or key_id not in (None, entry.key_id):
            return None
        return entry

    def prepare(
        self, handle: ScopeHandle, key_ids: Collection[bytes], *, spare: float = 0.0
    ) -> dict[bytes, KeyUnavailable | Tampered]:
        """
        Resolve those of *key_ids* that are of this scope with one query, for *spare* seconds more.

        Returns:
            why not, for each of the others. The look that needs one says so, once, in its own place.
        """
        now = self._clock()
        wanted = {n for n in key_ids if self.cached(handle, n, spare=spare) is None}
        refused: dict[bytes, KeyUnavailable | Tampered] = {}
        if not wanted:
            return refused
        for row in self._store.find(handle.scope, wanted):
            wanted.discard(row.key_id)
            try:
                load = partial(self._open, handle.scope, row, now, spare=spare)
                self._once((handle.token, row.key_id), load, spare=spare)
            except (KeyDisabled, KeyDestroyed, Tampered) as error:
                refused[row.key_id] = error
        return refused | {key_id: Tampered() for key_id in wanted}

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
        if held is not None:
            return held
        active = self.to_encrypt(handle)
        others = [
            row.key_id
            for row in self._versions(handle)
            if row.key_id != active.key_id
            and row.state not in (KeyState.PENDING, KeyState.DESTROYED)
        ]
        roots = [active, *(self.to_decrypt(handle, key_id) for key_id in others)]
        for row in [row for row in self._versions(handle) if row.state is KeyState.PENDING][
            :_PENDING
        ]:
            if row.key_id == active.key_id:
                continue  # activated since the versions were listed
            try:
                roots.append(
                    self._once(
                        (handle.token, row.key_id),
                        partial(self._open, handle.scope, row, self._clock(), announced=True),
                    )
                )
            except (Tampered, ConfigurationError):
                continue  # planted by someone who may insert but not mint: it says nothing
        return roots

    def cached_searchable(self, handle: ScopeHandle) -> list[UsableKey] | None:
        """Return what `searchable` would, if all of it is held. Without I/O."""
        listed = self._listed.get(handle.token)
        active = self.cached(handle)
        if active is None or listed is None or listed[0] <= self._clock():
            return None
        roots = [active]
        for row in listed[1]:
            if row.key_id != active.key_id and row.state is not KeyState.DESTROYED:
                root = self.cached(handle, row.key_id)
                if root is None:
                    return None
                roots.append(root)
        return roots

    def _versions(self, handle: ScopeHandle) -> list[KeyRow]:
        # Which versions exist changes only with a rotation: held as long as the active key is.
        now = self._clock()
        held = self._listed.get(handle.token)
        if held is None or held[0] <= now:
            held = (now + self._limits.age, list(self._store.versions(handle.scope)))
            with self._lock:
                self._listed.pop(handle.token, None)
                while len(self._listed) >= self._limits.entries:
                    del self._listed[next(iter(self._listed))]
                self._listed[handle.token] = held
        return held[1]

    def _once(
        self, key: tuple[bytes, bytes], load: Callable[[], UsableKey], *, spare: float = 0.0
    ) -> UsableKey:
        # Single flight: of a thousand threads that need one expired key, one asks and all wait.
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.expires > self._clock() + spare:
                return entry
            future = self._pending.get(key)
            mine = future is None
            if future is None:
                future = self._pending[key] = Future()
        if not mine:
            return future.result()
        try:
            entry = load()
        except BaseException as error:
            with self._lock:
                self._pending.pop(key, None)
            future.set_exception(error)
            # Whoever waits raises it; nobody waiting is no reason to report it twice.
            raise
        with self._lock:
            self._keep(key, entry)
            self._pending.pop(key, None)
        future.set_result(entry)
        return entry

    def _keep(self, key: tuple[bytes, bytes], entry: UsableKey) -> None:
        self._entries.pop(key, None)
        while len(self._entries) >= self._limits.entries:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = entry

    def _load_active(self, scope: Scope, *, spare: float = 0.0) -> UsableKey:
        asked = self._clock()
        row = self._active(scope, self._store.versions(scope))
        return self._open(scope, row, asked, spare=spare)

    def _active(self, scope: Scope, rows: Sequence[KeyRow]) -> KeyRow:
        # Pending rows are ignored: anyone who may insert can add one, and it says nothing yet.
        row = next((row for row in rows if row.state is not KeyState.PENDING), None)
        if row is None:
            raise KeyNotFound(
                f"there is no {scope}",
                hint=f"lacre keys create --tenant {scope.tenant} --class {scope.class_}",
            )
        if row.state is not KeyState.ACTIVE:
            self._saw(row)
            raise _not_usable(row, "encrypt")
        return row

    def _load(self, scope: Scope, key_id: bytes) -> UsableKey:
        asked = self._clock()
        rows = self._store.find(scope, [key_id])
        if not rows:
            raise Tampered
        return self._open(scope, rows[0], asked)

    def _open(
        self,
        scope: Scope,
        row: KeyRow,
        asked: float,
        *,
        announced: bool = False,
        spare: float = 0.0,
    ) -> UsableKey:
        if row.scope != scope or row.keystore != self._store.keystore_id:
            raise Tampered
        self._check_revision(row)
        if row.state not in USABLE and not (announced and row.state is KeyState.PENDING):
            self._saw(row)
            raise _not_usable(row, "decrypt")
        # The age counts from before the row was read: what was true then is used no longer.
        expires = asked + self._limits.age * (1 - 0.1 * self._jitter.random())
        parent: UsableKey | None = None
        if not scope.kind.under_kms:
            # Only a branch key of the same app, environment, service, tenant and class is a parent.
            try:
                parent_id = bytes.fromhex(row.parent)
            except ValueError:
                raise Tampered from None
            branch = scope.of_kind(KeyKind.BRANCH)
            above, load = ScopeHandle(branch), partial(self._load, branch, parent_id)
            parent = self.cached(above, parent_id, spare=spare)
            parent = parent or self._once((above.token, parent_id), load, spare=spare)
            expires = min(expires, parent.expires)
        material = unwrap_row(
            row,
            services=self._services,
            kms_keys=self._kms_keys,
            parent=parent.material if parent else None,
        )
        # The row is authentic from here on; its mutable columns are so only with their MAC.
        if row.trusted_state(material) is not row.state:
            raise KeyDisabled(
                f"the state of key {row.key_id.hex()} is not authentic",
                hint="somebody edited the key store; restore it, then look at the audit log",
            )
        self._saw(row)
        return UsableKey(row.key_id, material, expires, row.version)

    def _check_revision(self, row: KeyRow) -> None:
        if row.revision < self._revisions.get(row.key_id, 0):
            raise KeyDisabled(
                f"the key store went back in time: key {row.key_id.hex()}",
                hint="somebody restored an older key store; look at the audit log before going on",
            )

    def _saw(self, row: KeyRow) -> None:
        # A disabled row counts as seen although nothing authenticates it: whoever can write it
        # can only make this process use the key less.
        with self._lock:
            seen = self._revisions.pop(row.key_id, 0)
            while len(self._revisions) >= _REVISIONS:
                del self._revisions[next(iter(self._revisions))]
            self._revisions[row.key_id] = max(seen, row.revision)


def unwrap_row(
    row: KeyRow,
    *,
    services: Mapping[str, KeyService],
    kms_keys: Callable[[Scope], Sequence[str]],
    parent: KeyMaterial | None,
) -> KeyMaterial:
    """
    Return the key that *row* holds, which authenticates every immutable column of it.

    Args:
        parent: the unwrapped parent, for a row under a key of the key store.

    Raises:
        Tampered: the row was edited or swapped.
        ConfigurationError: it is under another KMS key than the policy names.
        KeyDestroyed, KeyServiceDenied, KeyServiceUnreachable
    """
    if row.wrapped is None:
        raise _not_usable(row, "decrypt")
    # The kind says what wraps it, never the row: otherwise whoever holds a branch key could
    # plant an index root of their own making, and a branch key its own parent.
    if row.scope.kind.under_kms:
        pinned = kms_keys(row.scope)
        # The row's own word never chooses a KMS key: it only has to agree with the policy.
        if row.parent not in pinned:
            raise ConfigurationError(
                f"the {row.scope} is wrapped by another KMS key than the policy names ({pinned[0]})",
                hint="name the old KMS key again, or move the keys: [move] in lacre.toml and `lacre keys rewrap`",
            )
        service = service_of(services, row.parent)
        return service.unwrap(row.parent, row.wrapped, row.wrap_context())
    if parent is None or field.key_id_of(row.wrapped).hex() != row.parent:
        raise Tampered
    material = field.decrypt(parent.reveal(), row.wrapped, row.immutable(), label=WRAP)
    if len(material) != 32:
        raise Tampered
    return KeyMaterial(material)


def service_of(services: Mapping[str, KeyService], kms_key: str) -> KeyService:
    scheme = scheme_of(kms_key)
    try:
        return services[scheme]
    except KeyError:
        raise ConfigurationError(
            f"no key service answers to {scheme}://",
            hint=f"key services are: {', '.join(f'{each}://' for each in SCHEMES)}",
        ) from None


def _not_usable(row: KeyRow, wanted: str) -> KeyDisabled | KeyDestroyed:
    if row.state is KeyState.DESTROYED or row.wrapped is None:
        return KeyDestroyed(
            f"the {row.scope}, version {row.version}, was destroyed",
            hint="what it protected cannot be read again",
        )
    hint = {
        KeyState.DECRYPT_ONLY: "make a new version: lacre keys rotate",
        KeyState.PENDING: "activate it: lacre keys create finishes what it began",
        KeyState.COMPROMISED: "rotate, then re-encrypt what it protected",
    }.get(row.state, "lacre keys enable brings it back")
    return KeyDisabled(
        f"the {row.scope}, version {row.version}, is {row.state} and does not {wanted}", hint=hint
    )
