# SPDX-License-Identifier: Apache-2.0
"""
From a row of the key store to a usable key: authenticated, in a usable state, unwrapped.

Rule 1: a row that differs from the scope that was asked for in any part is refused like a tampered
        value, before any unwrap.
Rule 2: a key expires at its own age or with the key that wraps it, whichever is earlier, so nothing
        outlives the key-service answer it came from. Jitter only shortens.
Rule 3: stale use is for decryption with data keys only, after no answer of the key service, never
        after a denial; the states of the row and of the one above are read again, and
        authenticated with the keys that are held.

A denial is remembered for two seconds, so that a loop that is denied does not hammer the key
service. Implements the reader's side of ``spec/key-rows.md``. Caches nothing (`lacre.keys.cache`)
and does not choose what is asked for (`lacre.keys.resolver`).
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Self, final

from lacre._core import field
from lacre._core.derive import WRAP
from lacre.errors import (
    ConfigurationError,
    KeyDestroyed,
    KeyDisabled,
    KeyNotFound,
    KeyServiceDenied,
    KeyServiceUnreachable,
    Tampered,
)
from lacre.keys.cache import ACTIVE, KeyCache, ScopeHandle, Slot, UsableKey, anew
from lacre.keys.hierarchy import USABLE, KeyKind, KeyRow, KeyState, Scope, SubjectRow, SubjectRows
from lacre.keys.kms_keys import SCHEMES, scheme_of
from lacre.keys.ports import KeyReader, KeyService
from lacre.keys.sealing import bucket_of, bucket_scope, cover, uncovered
from lacre.sensitive import KeyMaterial

__all__ = ["Loader", "ReadRows", "not_usable", "service_of", "shredded", "unwrap_row"]

_REVISIONS = 100_000  # revisions remembered at most
_DENIED_FOR = 2.0  # seconds, from when the key service was asked
_DENIALS = 10_000  # remembered at most


@final
class ReadRows:
    """
    Every version of some scopes, as the key store held them at the moment *asked*.

    *subjects*: of some subjects of one scope, those that are known.
    """

    def __init__(
        self,
        versions: Mapping[Scope, Sequence[KeyRow]],
        *,
        asked: float,
        subjects: Mapping[bytes, SubjectRows | None] = MappingProxyType({}),
    ) -> None:
        self.asked = asked
        self.versions = versions
        self.subjects = subjects


class Loader:
    """
    Loads keys into one cache.

    Args:
        kms_keys: names the KMS key of a branch key or index root, from the policy; and after it,
            while keys are moved, the one they come from.
        unwrapped: is told the row of each key that was unwrapped.
    """

    def __init__(
        self,
        *,
        store: KeyReader,
        services: Mapping[str, KeyService],
        kms_keys: Callable[[Scope], Sequence[str]],
        cache: KeyCache,
        unwrapped: Callable[[KeyRow], object],
    ) -> None:
        self._store = store
        self._services = services
        self._kms_keys = kms_keys
        self._cache = cache
        self._unwrapped = unwrapped
        self._revisions: dict[bytes, int] = {}
        self._denied: dict[bytes, tuple[float, KeyServiceDenied]] = {}
        self._read: ReadRows | None = None

    def over(self, rows: ReadRows) -> Self:
        """Return this loader, which takes rows out of *rows*; what it remembers is shared."""
        made = copy.copy(self)
        made._read = rows  # noqa: SLF001 - its own, a moment old
        return made

    def forget(self) -> None:
        """Forget denials. Revisions seen are kept."""
        self._denied.clear()

    def asked(self) -> float:
        """Return the time that the age of a key counts from whose row is read next."""
        return self._cache.clock() if self._read is None else self._read.asked

    def versions(self, handle: ScopeHandle) -> Sequence[KeyRow]:
        """
        Return every version of the scope, highest first. Authenticates nothing.

        Raises:
            KeyDestroyed: they are of a subject that was shredded.
        """
        read = self._read
        if handle.digest is not None:
            held = self._subject(handle)
            return () if held is None else held.versions
        if read is not None and handle.scope in read.versions:
            return read.versions[handle.scope]
        return self._store.versions(handle.scope)

    def _subject(self, handle: ScopeHandle) -> SubjectRows | None:
        digest, read = handle.digest or b"", self._read
        if read is not None and digest in read.subjects:
            held = read.subjects[digest]
        else:
            held = self._store.subjects(handle.scope, [digest]).get(digest)
        if held is not None and held.subject.pseudonym is None:
            # The tombstone is all there is: of whoever is erased nothing is read, and nothing new
            # is written, which would bring them back.
            raise shredded(handle.scope, held.subject)
        return held

    def find(self, handle: ScopeHandle, key_ids: Collection[bytes]) -> Sequence[KeyRow]:
        """Return those of the scope's rows. Authenticates nothing."""
        read = self._read
        if handle.digest is not None or (read is not None and handle.scope in read.versions):
            return [row for row in self.versions(handle) if row.key_id in key_ids]
        return self._store.find(handle.scope, key_ids)

    def active(self, handle: ScopeHandle, spare: float = 0.0) -> UsableKey:
        """Return the key that encrypts, under a key that is good for *spare* seconds more."""
        asked = self.asked()
        row = self.active_row(handle.scope, self.versions(handle))
        if handle.scope.kind is KeyKind.BRANCH:
            # What unwraps wraps too: the key service was asked for it once already.
            held = self._cache.held((handle.token, row.key_id), spare=spare)
            if held is not None:
                self._check_place(handle, row)
                _check_state(row, held.material)
                self._saw(row)
                return held
        return self.open(handle, row, asked, spare)

    def active_row(self, scope: Scope, rows: Sequence[KeyRow]) -> KeyRow:
        """
        Return the row that encrypts, not authenticated yet.

        Raises:
            KeyNotFound, KeyDisabled, KeyDestroyed
        """
        # Pending rows are ignored: anyone who may insert can add one, and it says nothing yet.
        row = next((row for row in rows if row.state is not KeyState.PENDING), None)
        if row is None:
            raise KeyNotFound(
                f"there is no {scope}",
                hint=f"lacre keys create --tenant {scope.tenant} --class {scope.class_}",
            )
        if row.state is not KeyState.ACTIVE:
            self._saw(row)
            raise not_usable(row, "encrypt")
        return row

    def by_id(self, handle: ScopeHandle, key_id: bytes, spare: float = 0.0) -> UsableKey:
        """Return the key *key_id*, which decrypts."""
        asked = self.asked()
        rows = self.find(handle, [key_id])
        if not rows:
            raise Tampered
        return self.to_read(handle, rows[0], asked, spare)

    def compromised(self, handle: ScopeHandle, key_id: bytes, spare: float = 0.0) -> UsableKey:
        """Return the key *key_id*, also where it is compromised: for what moves values away from it."""
        asked = self.asked()
        rows = self.find(handle, [key_id])
        if not rows:
            raise Tampered
        return self.open(handle, rows[0], asked, spare, compromised=True)

    def to_read(
        self, handle: ScopeHandle, row: KeyRow, asked: float, spare: float = 0.0
    ) -> UsableKey:
        """Return what `open` does; where the key service does not answer, the held key once more."""
        try:
            return self.open(handle, row, asked, spare)
        except KeyServiceUnreachable:
            stale = self._stale(handle, row, asked)
            if stale is None:
                raise
            return stale

    def open(
        self,
        handle: ScopeHandle,
        row: KeyRow,
        asked: float,
        spare: float = 0.0,
        *,
        announced: bool = False,
        compromised: bool = False,
    ) -> UsableKey:
        """
        Return the key of *row*, which was read at *asked* or later.

        Args:
            spare: for how many seconds the key above has to be good.
            announced: a pending row is meant.
            compromised: so is one whose key is known to somebody else: to move away what it holds.
        """
        self._check_place(handle, row)
        meant = (announced and row.state is KeyState.PENDING) or (
            compromised and row.state is KeyState.COMPROMISED
        )
        if row.state not in USABLE and not meant:
            self._saw(row)
            raise not_usable(row, "decrypt")
        # The age counts from before the row was read: what was true then is used no longer.
        limits, jitter = self._cache.limits, self._cache.jitter
        expires = asked + limits.age * (1 - 0.1 * jitter.random())
        above: Slot | None = None
        if handle.scope.kind.under_kms:
            material = self._asked_service(row)
        else:
            branch, parent_id = _above(row)
            above = (branch.token, parent_id)
            parent = self._held(branch, parent_id, spare)
            expires = min(expires, parent.expires)
            inner = row
            sealed = cover(row)
            if sealed is not None:
                # The key id says which bucket, never the row: and the layer itself is bound to it.
                if row.scope.kind is not KeyKind.SUBJECT:
                    raise Tampered
                bucket = self._held(
                    ScopeHandle(bucket_scope(row.scope, bucket_of(row.key_id))), sealed, spare
                )
                expires = min(expires, bucket.expires)
                inner = uncovered(row, bucket.material)
            material = self._unwrap(inner, parent.material)
        # The row is authentic from here on; its mutable columns are so only with their MAC.
        _check_state(row, material)
        self._saw(row)
        self._unwrapped(row)
        return UsableKey(
            row.key_id,
            material,
            expires,
            row.version,
            # What is only announced is listed anew at its expiry: it may be active by then.
            fresh=expires - (0 if announced else limits.ahead * (1 - 0.5 * jitter.random())),
            last=expires + limits.stale_for,
            above=above,
            subject=row.scope.subject or "",
        )

    def _held(self, handle: ScopeHandle, key_id: bytes, spare: float) -> UsableKey:
        slot = (handle.token, key_id)
        return self._cache.held(slot, spare=spare) or self._cache.once(
            slot, lambda spare: self.by_id(handle, key_id, spare), spare=spare
        )

    def check_revision(self, row: KeyRow) -> None:
        """Raise where a newer state of the row was seen."""
        if row.revision < self._revisions.get(row.key_id, 0):
            raise KeyDisabled(
                f"the key store went back in time: key {row.key_id.hex()}",
                hint="somebody restored an older key store; look at the audit log before going on",
            )

    def _stale(self, handle: ScopeHandle, row: KeyRow, asked: float) -> UsableKey | None:
        # The key service did not answer. What is held goes on, past its expiry and to its `last`,
        # which counts from the answer it came from and is never moved on.
        limits, now = self._cache.limits, self._cache.clock()
        if not limits.stale_for or row.scope.kind not in (KeyKind.DATA, KeyKind.SUBJECT):
            return None
        branch, parent_id = _above(row)
        above = (branch.token, parent_id)
        token = handle.token
        entries = self._cache.entries
        found = (entries.get((token, row.key_id)), entries.get((token, ACTIVE)))
        held = next((key for key in found if key is not None and key.key_id == row.key_id), None)
        parent = entries.get(above)
        # A key that another wraps since is not what is held; one that is good still needs nothing.
        if (
            held is None
            or parent is None
            or held.above != above
            or not held.expires <= now < held.last
        ):
            return None
        _check_state(row, held.material)
        rows = self.find(branch, [parent_id])
        if not rows:
            raise Tampered
        self._check_place(branch, rows[0])
        if rows[0].state not in USABLE:
            self._saw(rows[0])
            raise not_usable(rows[0], "decrypt")
        _check_state(rows[0], parent.material)
        self._saw(row)
        self._saw(rows[0])
        # For an age at most: then the states are read again. The key service is asked meanwhile.
        return UsableKey(
            held.key_id,
            held.material,
            min(asked + limits.age, held.last),
            held.version,
            fresh=now + self._cache.pause(),
            last=held.last,
            above=above,
            subject=held.subject,
            cache="stale",
        )

    def _check_place(self, handle: ScopeHandle, row: KeyRow) -> None:
        scope = row.scope if handle.digest is None else row.scope.of_kind(KeyKind.SUBJECT)
        # Of a subject's row the digest has to be the one that was asked for, whatever pseudonym
        # led to it; what is destroyed has none any more, and is not opened either.
        anothers = row.digest != handle.digest and row.state is not KeyState.DESTROYED
        kind = handle.scope.kind
        if (
            anothers
            or row.scope.kind is not kind
            or scope != handle.scope
            or row.keystore != self._store.keystore_id
        ):
            raise Tampered
        self.check_revision(row)

    def _asked_service(self, row: KeyRow) -> KeyMaterial:
        asked = self._cache.clock()
        until, denied = self._denied.get(row.key_id, (asked, None))
        if denied is not None and asked < until:
            raise anew(denied)
        try:
            material = self._unwrap(row, None)
        except KeyServiceDenied as error:
            with self._cache.lock:
                self._denied.pop(row.key_id, None)
                while len(self._denied) >= _DENIALS:
                    del self._denied[next(iter(self._denied))]
                # From before it was asked, and not the error itself, which holds its frames.
                self._denied[row.key_id] = (
                    asked + _DENIED_FOR,
                    KeyServiceDenied(str(error), hint=error.hint),
                )
            raise
        self._denied.pop(row.key_id, None)
        return material

    def _unwrap(self, row: KeyRow, parent: KeyMaterial | None) -> KeyMaterial:
        return unwrap_row(row, services=self._services, kms_keys=self._kms_keys, parent=parent)

    def _saw(self, row: KeyRow) -> None:
        # A disabled row counts as seen although nothing authenticates it: whoever can write it
        # can only make this process use the key less.
        with self._cache.lock:
            seen = self._revisions.pop(row.key_id, 0)
            while len(self._revisions) >= _REVISIONS:
                del self._revisions[next(iter(self._revisions))]
            self._revisions[row.key_id] = max(seen, row.revision)


def _above(row: KeyRow) -> tuple[ScopeHandle, bytes]:
    # Only the branch key of the same app, environment, service, tenant and class is a parent; of a
    # bucket key the service's seal key.
    try:
        return ScopeHandle(row.scope.above()), bytes.fromhex(row.parent)
    except ValueError:
        raise Tampered from None


def _check_state(row: KeyRow, material: KeyMaterial) -> None:
    if row.trusted_state(material) is not row.state:
        raise KeyDisabled(
            f"the state of key {row.key_id.hex()} is not authentic",
            hint="somebody edited the key store; restore it, then look at the audit log",
        )


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
        raise not_usable(row, "decrypt")
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


def shredded(scope: Scope, subject: SubjectRow) -> KeyDestroyed:
    return KeyDestroyed(
        f"the {scope} was destroyed with all others of its subject",
        hint=f"the subject was shredded on {subject.shredded}: what is about it is neither read nor written again",
    )


def not_usable(row: KeyRow, wanted: str) -> KeyDisabled | KeyDestroyed:
    if row.state is KeyState.DESTROYED or row.wrapped is None:
        return KeyDestroyed(
            f"the {row.scope}, version {row.version}, was destroyed",
            hint="what it protected cannot be read again",
        )
    hint = {
        KeyState.DECRYPT_ONLY: "make a new version: lacre keys rotate",
        KeyState.PENDING: "activate it: lacre keys activate, with a credential that may unwrap",
        KeyState.COMPROMISED: "rotate, then re-encrypt what it protected",
    }.get(row.state, "lacre keys enable brings it back")
    return KeyDisabled(
        f"the {row.scope}, version {row.version}, is {row.state} and does not {wanted}", hint=hint
    )
