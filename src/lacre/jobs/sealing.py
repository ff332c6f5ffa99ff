# SPDX-License-Identifier: Apache-2.0
"""
Sealing: bring every sealed subject key into a new epoch, and destroy the KMS key of the one before.

Implements ``spec/sealing.md``, section 5. What was shredded before then is readable from no dump
of the key store that was taken before. Every step is done again, or found done, by a second run:
nothing is remembered but rows. The sealer opens seal keys and bucket keys and takes outer layers off
and puts them on; it never sees a subject key.

Two sealers at once race safely: one goes on, the other is told. Shredding is another job
(`lacre.jobs.shredding`).
"""

import datetime as dt
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lacre.audit.event import who
from lacre.audit.events import Sealed
from lacre.audit.recorder import Recorder
from lacre.context import current
from lacre.errors import ConfigurationError, KeyDisabled, MisuseError, Tampered
from lacre.fields.column_state import Signer
from lacre.keys.epochs import FIRST, Epoch, EpochKeys, EpochLedger, Epochs, EpochState
from lacre.keys.hierarchy import USABLE, KeyRow, KeyState, Scope
from lacre.keys.minting import pending_row, wrapped_under
from lacre.keys.moments import moment_text, now_text
from lacre.keys.ports import KeyReader, KeyService, KeyWriter
from lacre.keys.recording import recorded
from lacre.keys.resolver import service_of, unwrap_row
from lacre.keys.sealing import (
    BUCKETS,
    after_all,
    bucket_of,
    bucket_scope,
    cover,
    covered,
    seal_scope,
    uncovered,
)
from lacre.sensitive import KeyMaterial

__all__ = ["SealStore", "Sealer", "SealingStatus"]

_PAGE = 500
_NAMED = 10  # keys that do not open, which are named


class SealStore(KeyReader, KeyWriter, Epochs, Protocol):
    """A key store as sealing needs it."""

    def bucket_keys(self) -> Sequence[KeyRow]:
        """Return every bucket key."""
        ...

    def subject_keys_by_id(self, *, after: bytes, limit: int) -> Sequence[KeyRow]:
        """Return subject keys that were not destroyed, by id, above *after*."""
        ...

    def destroyed_subject_keys(self) -> Sequence[tuple[bytes, str]]:
        """Return the id of every subject key that was destroyed, and when."""
        ...

    def replace_buckets(
        self, *, add: Sequence[KeyRow], replace: Sequence[tuple[KeyRow, KeyRow]]
    ) -> None:
        """As `change`, once nobody is in the middle of making a subject key."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingStatus:
    """
    How sealing is.

    Args:
        epochs: the newest first.
        shredded: keys that were destroyed, and that a dump from before still holds under keys that live.
        due: when the next sealing is due; None where there is no cadence, or no epoch yet.
        unfinished: whether a sealing was begun and not ended.
    """

    epochs: Sequence[Epoch]
    shredded: int
    due: dt.datetime | None
    unfinished: bool


class _Held:
    """Seal keys, each opened when it is asked for first."""

    def __init__(
        self, opened: Callable[[bytes], KeyMaterial | None], keys: dict[bytes, KeyMaterial]
    ) -> None:
        self._opened = opened
        self._keys: dict[bytes, KeyMaterial | None] = dict(keys)

    def get(self, key_id: bytes) -> KeyMaterial | None:
        if key_id not in self._keys:
            self._keys[key_id] = self._opened(key_id)
        return self._keys[key_id]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealer:
    """
    Seals one service's subject keys.

    Args:
        scope: any of the service's.
        keys: makes and destroys epoch KMS keys.
        services: mint and unwrap seal keys.
        classes: whose subject keys are sealed.
        prove: takes a dump of the key store, restores it aside, opens what was sealed in it, and
            returns the dump's SHA-256 in hex; raises where that fails.
        kept: for how long backups of the key service hold a destroyed KMS key; None where nobody
            knows. Not added where the key service itself says when.
        told: called with a sentence for each step.
    """

    store: SealStore
    ledger: EpochLedger
    keys: EpochKeys
    services: Mapping[str, KeyService]
    scope: Scope
    classes: frozenset[str]
    signer: Signer
    recorder: Recorder
    prove: Callable[[], str]
    kept: dt.timedelta | None = None
    waits: bool = False
    told: Callable[[str], object] = lambda _: None
    now: Callable[[], str] = now_text
    entropy: Callable[[int], bytes] = os.urandom

    def seal(self) -> Epoch:
        """
        Begin the next epoch, or go on with the one that was begun; end the one before.

        Raises:
            MisuseError: somebody else seals at the same moment; or keys that do not open would be lost.
            ConfigurationError: another service's keys are sealed in this key store.
            Tampered: an epoch that nobody who is trusted signed.
            whatever *prove* and the key service raise: nothing was destroyed then.
        """
        self._check_alone()
        rows = self.ledger.rows()
        newest = rows[0] if rows else None
        ended = all(row.state is EpochState.DESTROYED for row in rows[1:])
        if newest is None or (newest.state is EpochState.ACTIVE and ended):
            newest = self._begun(newest)
        if newest.state is EpochState.OPENING:
            newest = self._moved(newest)
        for row in self.ledger.rows():
            if row.number < newest.number and row.state is not EpochState.DESTROYED:
                self._ended(row, newest)
        return newest

    def status(self, *, every: dt.timedelta | None) -> SealingStatus:
        """Return how sealing is; *every* is its cadence."""
        rows = self.ledger.rows()
        active = self._active_buckets()
        shredded = sum(
            1
            for key_id, when in self.store.destroyed_subject_keys()
            if (bucket := active.get(bucket_of(key_id))) is not None and when >= bucket.created
        )
        due = None
        if rows and every is not None:
            due = dt.datetime.fromisoformat(rows[0].opened) + every
        unfinished = bool(rows) and (
            rows[0].state is not EpochState.ACTIVE
            or any(row.state is not EpochState.DESTROYED for row in rows[1:])
        )
        return SealingStatus(epochs=rows, shredded=shredded, due=due, unfinished=unfinished)

    # The next epoch

    def _check_alone(self) -> None:
        # Epochs are a key store's: what ends one of them ends the keys of every service under it.
        for row in self.store.bucket_keys():
            if row.state is not KeyState.DESTROYED and not self._is_ours(row):
                raise ConfigurationError(
                    f"the key store holds sealed keys of another service, {row.scope.service!r} ({row.scope.app}, {row.scope.env}), which would be lost; nothing was done",
                    hint="give each service that seals a key store of its own: [key_store] url",
                )

    def _is_ours(self, row: KeyRow) -> bool:
        return seal_scope(row.scope) == seal_scope(self.scope)

    def _begun(self, before: Epoch | None) -> Epoch:
        number = 1 if before is None else before.number + 1
        kms_key = self.keys.open(number, above=None if before is None else before.material)
        now = self.now()
        row = Epoch(
            number=number,
            kms_key=kms_key,
            state=EpochState.OPENING,
            opened=now,
            changed=now,
            keystore=self.ledger.keystore,
            unsealed=None if before is None else before.unsealed,
        ).signed(self.signer)
        with recorded(self.recorder.write, self.store, [self._event("begin", number, "")]):
            self.store.put_epoch(row, over=None)
        self.told(f"epoch {number} begins, under {kms_key}")
        return row

    def _moved(self, epoch: Epoch) -> Epoch:
        epoch, seal, key = self._sealed(epoch)
        held = _Held(self._seal_key, {seal.key_id: key})
        self._carry_buckets(epoch, seal, key, held)
        epoch = self._carry_subjects(epoch, held)
        digest = self.prove()
        self.told("a dump was taken, restored aside, and opened")
        service = service_of(self.services, epoch.kms_key)
        assert seal.wrapped is not None  # it was unwrapped above
        version_of = getattr(service, "version_of", None)
        material = None if version_of is None else version_of(seal.wrapped)
        with recorded(
            self.recorder.write, self.store, [self._event("active", epoch.number, digest)]
        ):
            return self._put(epoch, state=EpochState.ACTIVE, material=material, dump=digest)

    def _sealed(self, epoch: Epoch) -> tuple[Epoch, KeyRow, KeyMaterial]:
        # The epoch's seal key, active; and the one before only opens.
        scope = seal_scope(self.scope)
        if epoch.seal is None:
            if epoch.number == 1:
                # From here on the key service shows any other key store that this one is in use.
                self.keys.open(epoch.number, above=FIRST)
            versions = self.store.versions(scope)
            fresh = self._row(scope, versions, epoch.kms_key)
            wrapped = service_of(self.services, epoch.kms_key).mint(
                epoch.kms_key, fresh.wrap_context()
            )
            fresh = replace(fresh, wrapped=wrapped)
            self.store.change(add=[fresh])
            epoch = self._put(epoch, seal=fresh.key_id.hex())
        versions = self.store.versions(scope)
        row = next((each for each in versions if each.key_id.hex() == epoch.seal), None)
        if row is None or row.parent != epoch.kms_key:
            raise Tampered
        key = self._unwrapped(row)
        if row.state is KeyState.PENDING:
            if row.trusted_state(key) is not KeyState.PENDING:
                raise Tampered
            active = row.stepped(KeyState.ACTIVE, changed=self.now(), material=key)
            moved = [(row, active)]
            for other in versions:
                if other.state is KeyState.ACTIVE:
                    held = self._trusted(other, self._unwrapped(other))
                    old = other.stepped(KeyState.DECRYPT_ONLY, changed=self.now(), material=held)
                    moved.insert(0, (other, old))
            self.store.change(replace=moved)
            row = active
        self._trusted(row, key)
        return epoch, row, key

    def _seal_key(self, key_id: bytes) -> KeyMaterial | None:
        # Only where something is under it still: a dump that was restored names seal keys whose
        # epoch has ended since, and nothing in it needs them.
        rows = self.store.versions(seal_scope(self.scope))
        found = next((row for row in rows if row.key_id == key_id and row.state in USABLE), None)
        return None if found is None else self._trusted(found, self._unwrapped(found))

    def _carry_buckets(self, epoch: Epoch, seal: KeyRow, key: KeyMaterial, held: _Held) -> None:
        versions: dict[int, list[KeyRow]] = {bucket: [] for bucket in range(BUCKETS)}
        for row in self.store.bucket_keys():
            if row.scope == bucket_scope(self.scope, int(row.scope.subject or "", 16)):
                versions[int(row.scope.subject or "", 16)].append(row)
        shredded: dict[int, str] = {}
        for key_id, when in self.store.destroyed_subject_keys():
            bucket = bucket_of(key_id)
            shredded[bucket] = max(when, shredded.get(bucket, ""))
        fresh: list[KeyRow] = []
        retired: list[tuple[KeyRow, KeyRow]] = []
        carried: list[tuple[KeyRow, KeyRow]] = []
        for bucket, rows in versions.items():
            active = next((row for row in rows if row.state is KeyState.ACTIVE), None)
            if active is not None and active.parent == seal.key_id.hex():
                continue
            if active is None or shredded.get(bucket, "") >= active.created:
                # Its key dies with the epoch before: what was shredded is under it in older dumps.
                made = after_all(shredded.get(bucket, ""), now=self.now())
                fresh.append(self._new_bucket(bucket, rows, seal, key, made))
                if active is not None:
                    before = self._bucket_material(active, held)
                    old = active.stepped(KeyState.DECRYPT_ONLY, changed=self.now(), material=before)
                    retired.append((active, old))
            else:
                material = self._bucket_material(active, held)
                moved = replace(active, parent=seal.key_id.hex())
                carried.append((active, self._wrapped(moved, seal, key, material)))
        # The new ones first: whoever makes a subject key from then on finds them.
        if fresh:
            self.store.replace_buckets(add=fresh, replace=retired)
        if carried:
            self.store.change(replace=carried)
        self.told(f"{BUCKETS} bucket keys are under epoch {epoch.number}, {len(fresh)} of them new")

    def _new_bucket(
        self, bucket: int, rows: Sequence[KeyRow], seal: KeyRow, key: KeyMaterial, made: str
    ) -> KeyRow:
        material = KeyMaterial(self.entropy(32))
        fresh = self._row(bucket_scope(self.scope, bucket), rows, seal.key_id.hex(), now=made)
        fresh = self._wrapped(fresh, seal, key, material)
        return fresh.stepped(KeyState.ACTIVE, changed=made, material=material)

    def _carry_subjects(self, epoch: Epoch, held: _Held) -> Epoch:
        # Whoever makes a subject key from now on finds the new bucket keys, so one pass that finds
        # nothing to do has seen every key.
        while True:
            carried, lost = 0, list[str]()
            buckets = {row.key_id: row for row in self.store.bucket_keys() if row.state in USABLE}
            opened: dict[bytes, KeyMaterial] = {}
            after = b""
            while page := self.store.subject_keys_by_id(after=after, limit=_PAGE):
                after = page[-1].key_id
                moves: list[tuple[KeyRow, KeyRow]] = []
                for row in page:
                    try:
                        moved = self._carried(row, buckets, opened, held)
                    except Tampered:
                        lost.append(row.key_id.hex())
                        continue
                    if moved is not None:
                        moves.append((row, moved))
                # Said before it is so: a run that goes on where this one died finds no bare key.
                if bare := [row.created for row, _ in moves if cover(row) is None]:
                    epoch = self._put(epoch, unsealed=max(self.now(), *bare))
                carried += self._changed(moves)
            if not carried:
                break
            self.told(f"{carried} subject keys wrapped anew")
        if lost:
            raise MisuseError(
                f"{len(lost)} subject keys do not open, and would be lost with the epoch before; nothing was destroyed: {', '.join(lost[:_NAMED])}",
                hint="somebody planted them, or the key store is damaged: restore it, or lacre keys rotate --kind subject --class C --subject key:ID --unreadable",
            )
        return epoch

    def _carried(
        self,
        row: KeyRow,
        buckets: Mapping[bytes, KeyRow],
        opened: dict[bytes, KeyMaterial],
        held: _Held,
    ) -> KeyRow | None:
        def material(bucket: KeyRow) -> KeyMaterial:
            if bucket.key_id not in opened:
                opened[bucket.key_id] = self._bucket_material(bucket, held)
            return opened[bucket.key_id]

        if row.keystore != self.ledger.keystore:
            raise Tampered
        named = cover(row)
        if named is None and not (self._is_ours(row) and row.scope.class_ in self.classes):
            return None
        scope = bucket_scope(self.scope, bucket_of(row.key_id))
        active = next(
            (b for b in buckets.values() if b.scope == scope and b.state is KeyState.ACTIVE), None
        )
        if active is None:
            raise Tampered
        if named == active.key_id:
            return None
        if named is not None:
            before = buckets.get(named)
            if before is None or before.scope != scope:
                raise Tampered
            bare = uncovered(row, material(before))
        else:
            bare = row
        return covered(bare, bucket=active.key_id, key=material(active), salt=self.entropy(24))

    def _changed(self, moves: Sequence[tuple[KeyRow, KeyRow]]) -> int:
        if not moves:
            return 0
        try:
            self.store.change(replace=moves)
        except MisuseError:
            # A key was shredded, or its branch key rotated, meanwhile: one by one, and the next
            # pass finds what was left.
            for move in moves:
                try:
                    self.store.change(replace=[move])
                except MisuseError:
                    continue
        return len(moves)

    # The epoch before

    def _ended(self, old: Epoch, newest: Epoch) -> None:
        if old.state is not EpochState.CLOSING:
            old = self._put(old, state=EpochState.CLOSING)
        self.recorder.write([self._event("destroy", old.number, "")])
        final = self.keys.destroy(old.kms_key, old.material, kept=newest.material)
        self.told(f"epoch {old.number} was destroyed in the key service")
        seals = [
            row
            for row in self.store.versions(seal_scope(self.scope))
            if row.key_id.hex() == old.seal and row.state is not KeyState.DESTROYED
        ]
        gone = {row.key_id.hex() for row in seals}
        buckets = [
            row
            for row in self.store.bucket_keys()
            if row.parent in gone and row.state is not KeyState.DESTROYED
        ]
        ended = [(row, row.stepped(KeyState.DESTROYED, changed=self.now())) for row in (*buckets, *seals)]  # fmt: skip
        if ended:
            self.store.change(replace=ended)
        with recorded(self.recorder.write, self.store, [self._event("destroyed", old.number, "")]):
            self._put(old, state=EpochState.DESTROYED, final=self._final(final))

    def _final(self, said: str) -> str | None:
        # A service that waits says when it is over; of the others backups are the only way back.
        if self.waits:
            return said
        if self.kept is None:
            return None
        until = dt.datetime.fromisoformat(said) + self.kept
        return moment_text(until)

    # Rows

    def _active_buckets(self) -> dict[int, KeyRow]:
        return {
            int(row.scope.subject or "", 16): row
            for row in self.store.bucket_keys()
            if row.state is KeyState.ACTIVE
        }

    def _put(self, row: Epoch, **changes: object) -> Epoch:
        fresh = replace(row, changed=self.now(), **changes).signed(self.signer)  # type: ignore[arg-type]
        self.store.put_epoch(fresh, over=row)
        return fresh

    def _row(
        self, scope: Scope, versions: Sequence[KeyRow], parent: str, *, now: str | None = None
    ) -> KeyRow:
        return pending_row(
            scope,
            version=max((row.version for row in versions), default=0) + 1,
            parent=parent,
            keystore=self.ledger.keystore,
            now=now or self.now(),
            entropy=self.entropy,
        )

    def _wrapped(
        self, row: KeyRow, seal: KeyRow, key: KeyMaterial, material: KeyMaterial
    ) -> KeyRow:
        return wrapped_under(row, seal.key_id, key, material, entropy=self.entropy)

    def _unwrapped(self, row: KeyRow) -> KeyMaterial:
        if row.keystore != self.ledger.keystore:
            raise Tampered
        return unwrap_row(row, services=self.services, kms_keys=self.ledger.kms_keys, parent=None)

    def _bucket_material(self, row: KeyRow, held: _Held) -> KeyMaterial:
        parent = held.get(bytes.fromhex(row.parent))
        if parent is None or row.keystore != self.ledger.keystore:
            raise Tampered
        material = unwrap_row(
            row, services=self.services, kms_keys=self.ledger.kms_keys, parent=parent
        )
        return self._trusted(row, material)

    def _trusted(self, row: KeyRow, material: KeyMaterial) -> KeyMaterial:
        if row.trusted_state(material) is not row.state:
            raise KeyDisabled(
                f"the state of key {row.key_id.hex()} is not authentic",
                hint="somebody edited the key store; restore it, then look at the audit log",
            )
        return material

    def _event(self, step: str, number: int, dump: str) -> Sealed:
        return Sealed(**who(current(), time=time.time(), tenant=""), step=step, epoch=number, dump=dump)  # fmt: skip
