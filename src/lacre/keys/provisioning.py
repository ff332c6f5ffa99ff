# SPDX-License-Identifier: Apache-2.0
"""
Making keys and taking them through their life: create, activate, rotate, disable, enable, destroy.

Done by an operator, apart from the run time, which only uses keys. Minting and activating are two
steps, which two credentials may do: one that only mints cannot read, one that only unwraps cannot
make a key. Every change is written to the audit log before it is made, and made in one transaction;
two operators at once race safely (one wins, the other is told so). Implements
``spec/key-services.md``, section 5. Does not re-encrypt data, does not touch KMS keys, and does not
move keys from one to another (`lacre.keys.moving`).
"""

import datetime as dt
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lacre.audit.event import who
from lacre.audit.events import KeyChanged
from lacre.audit.recorder import Recorder
from lacre.context import current
from lacre.errors import (  # fmt: skip
    ConfigurationError,
    KeyDestroyed,
    KeyDisabled,
    KeyNotFound,
    KeyServiceDenied,
    MisuseError,
    Tampered,
)
from lacre.keys.hierarchy import USABLE, KeyKind, KeyRow, KeyState, Scope
from lacre.keys.minting import SUITE, pending_row, wrapped_under
from lacre.keys.moments import now_text
from lacre.keys.ports import KeyReader, KeyService, KeyWriter
from lacre.keys.recording import key_changes, recorded
from lacre.keys.resolver import service_of, unwrap_row
from lacre.keys.sealing import check_ended
from lacre.sensitive import KeyMaterial

__all__ = ["KeyTable", "Provisioner"]


class KeyTable(KeyReader, KeyWriter, Protocol):
    """A key store as provisioning needs it."""

    def row(self, key_id: bytes) -> KeyRow:
        """Return the row with this id, or raise `KeyNotFound`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioner:
    """
    Provisions one application's keys.

    Args:
        kms_keys: names the KMS key of a branch key or index root, from the policy; and after it,
            while keys are moved, the one they come from.
        now: RFC 3339 text in UTC.
        entropy: returns that many fresh random bytes.
        settle: seconds until every process knows of an announced index root: the longest cache
            age among them. 0 where nothing runs.
    """

    store: KeyTable
    services: Mapping[str, KeyService]
    kms_keys: Callable[[Scope], Sequence[str]]
    recorder: Recorder
    now: Callable[[], str] = now_text
    entropy: Callable[[int], bytes] = os.urandom
    settle: float = 0.0

    def create(self, scope: Scope, *, indexed: bool, anew: bool = False) -> list[KeyRow]:
        """
        Provision a tenant's class: branch key, data key and, if *indexed*, index root.

        Finishes what an interrupted call began. Where this credential may mint and not unwrap,
        keys stay pending until somebody who may unwrap calls `activate`.

        Args:
            anew: mint although something pending waits that this credential cannot open: what
                waits was planted, or is lost.

        Returns:
            the rows made by this call, and those found pending that it may not activate; none
            where nothing is left to do.

        Raises:
            KeyServiceDenied: this credential may not even mint.
        """
        made = self._first(scope.of_kind(KeyKind.BRANCH), anew=anew)
        if not any(row.state is KeyState.PENDING for row in made):
            made += self._first_data(scope.of_kind(KeyKind.DATA))
        if indexed:
            made += self._first(scope.of_kind(KeyKind.INDEX), anew=anew)
        return made

    def activate(self, scope: Scope, *, indexed: bool) -> list[KeyRow]:
        """
        Activate what somebody who may only mint left pending, and make the first data key.

        Pending rows are opened, the highest first; one that does not open says nothing, because
        anyone who may insert can plant one. A pending branch key takes the place of the active
        one, and wraps its data keys; an index root does once it is known everywhere (`rotate`).

        Returns:
            the rows activated, and index roots that wait for their time, pending.

        Raises:
            KeyNotFound: nothing pending opens, and nothing was activated before.
            KeyServiceDenied: this credential may not unwrap.
        """
        made = self._activated(scope.of_kind(KeyKind.BRANCH))
        made += self._first_data(scope.of_kind(KeyKind.DATA))
        if indexed:
            made += self._activated(scope.of_kind(KeyKind.INDEX))
        return made

    def rotate(self, scope: Scope, *, anew: bool = False) -> KeyRow:
        """
        Make a new active version of the scope's key; the old one decrypts on.

        A new branch key re-wraps the data keys below it (local work, no data row is touched).
        A new index root makes tokens of new writes; look-ups ask under both versions. Where the
        highest version is no longer active (disabled, compromised) it stays as it is.

        An index root is rotated by two calls, *settle* seconds apart: the first announces the
        new root and returns it pending, the second activates it. In between every process comes
        to know it, so that none misses rows, or duplicates of unique values, that another
        process writes under a root it has not heard of.

        Where this credential may mint and not unwrap, the new branch key or index root is
        returned pending; `activate`, or this by somebody who may unwrap, goes on with it.

        Args:
            anew: as in `create`.

        Raises:
            KeyNotFound: there is nothing to rotate.
            KeyDisabled: the active row was not made active by anyone who holds the key.
            MisuseError: the announced index root is not known everywhere yet, or the one before it
                was not destroyed: unique values are compared under two roots and no more.
        """
        versions = self.store.versions(scope)
        if _settled(versions) is None:
            raise _nothing(scope)
        if scope.kind is KeyKind.INDEX:
            _refuse_third(scope, versions)
        if scope.kind is KeyKind.DATA:
            fresh, material = self._generate(scope, versions)
            return self._promoted(versions, fresh, material, stored=False)
        try:
            found = self._opened(_waiting(versions))
        except KeyServiceDenied:
            waiting = self._plausible(_waiting(versions))
            if waiting and not anew:
                return waiting[0]
            found = None
        if found is not None:
            fresh, material = found
            if scope.kind is KeyKind.INDEX and (left := self.settles_in(fresh)) > 0:
                raise MisuseError(
                    f"the new index root was announced {self.settle - left:.0f} s ago, and running processes learn of it within {self.settle:.0f} s",
                    hint=f"run the same command again in {left:.0f} s: that activates it",
                )
            return self._promoted(versions, fresh, material, stored=True)
        fresh = self._mint(scope, versions)
        announced = scope.kind is KeyKind.INDEX
        if announced:
            self._change([fresh], add=[fresh])
            if self.settle > 0:
                return fresh
        try:
            material = self._unwrap(fresh)
        except KeyServiceDenied:
            if not announced:
                self._change([fresh], add=[fresh])
            return fresh
        return self._promoted(versions, fresh, material, stored=announced)

    def settles_in(self, row: KeyRow) -> float:
        """Return for how many seconds more an announced index root has to wait."""
        waited = (
            dt.datetime.fromisoformat(self.now()) - dt.datetime.fromisoformat(row.created)
        ).total_seconds()
        return max(0.0, self.settle - waited)

    def step(self, key_id: bytes, state: KeyState) -> KeyRow:
        """
        Move one key to *state*.

        Towards less use (disabled, compromised, destroyed) nothing but the row is needed;
        enabling needs a credential that can unwrap.

        Raises:
            KeyNotFound, MisuseError: no such key; a step that is not allowed.
        """
        row = self.store.row(key_id)
        check_ended(row, state)
        material = self._trusted(row) if state in USABLE and row.wrapped is not None else None
        moved = row.stepped(state, changed=self.now(), material=material)
        self._change([moved], replace=[(row, moved)])
        return moved

    def enable(self, key_id: bytes) -> KeyRow:
        """Bring a disabled key back: active if it is the highest version that is not pending, else decrypt-only."""
        row = self.store.row(key_id)
        highest = _settled(self.store.versions(row.scope)) or row
        return self.step(
            key_id, KeyState.ACTIVE if highest.key_id == key_id else KeyState.DECRYPT_ONLY
        )

    def record_kms(self, scope: Scope, *, version: int, state: KeyState) -> None:
        """
        Record that the KMS key of *scope*'s kind and class gets, or got, a version.

        Its administration is the key service's; only the record is made here.
        """
        event = KeyChanged(
            **who(current(), time=time.time(), tenant=""),
            class_=scope.class_,
            kind="kms",
            key=self.kms_keys(scope)[0],
            version=version,
            state=str(state),
        )
        self.recorder.write([event])

    def _first(self, scope: Scope, *, anew: bool) -> list[KeyRow]:
        versions = self.store.versions(scope)
        if _settled(versions) is not None:
            return []
        try:
            found = self._opened(_waiting(versions))
        except KeyServiceDenied:
            # Minted before, as far as this credential can tell.
            waiting = self._plausible(versions)
            if waiting and not anew:
                return waiting[:1]
            found = None
        if found is None:
            fresh = self._mint(scope, versions)
            self._change([fresh], add=[fresh])
            try:
                material = self._unwrap(fresh)
            except KeyServiceDenied:
                return [fresh]
            found = fresh, material
        return [self._promoted(versions, *found, stored=True)]

    def _first_data(self, scope: Scope) -> list[KeyRow]:
        versions = self.store.versions(scope)
        if _settled(versions) is not None:
            return []
        try:
            found = self._opened(_waiting(versions))
            if found is None:
                fresh, material = self._generate(scope, versions)
                self._change([fresh], add=[fresh])
                found = fresh, material
        except KeyServiceDenied as error:
            raise self._may_not_unwrap(scope, error) from None
        return [self._promoted(versions, *found, stored=True)]

    def _activated(self, scope: Scope) -> list[KeyRow]:
        versions = self.store.versions(scope)
        try:
            found = self._opened(_waiting(versions))
        except KeyServiceDenied as error:
            raise self._may_not_unwrap(scope, error) from None
        if found is None:
            if _settled(versions) is not None:
                return []
            planted = any(row.state is KeyState.PENDING for row in versions)
            raise KeyNotFound(
                f"there is no pending {scope}{' that opens' if planted else ''}",
                hint=f"lacre keys create --tenant {scope.tenant} --class {scope.class_}{' --anew' if planted else ''}, with the credential that mints",
            )
        fresh, material = found
        # The first root settles nothing: no row has tokens of another.
        waits = scope.kind is KeyKind.INDEX and _settled(versions) is not None
        if waits and self.settles_in(fresh) > 0:
            return [fresh]
        return [self._promoted(versions, fresh, material, stored=True)]

    def _opened(self, waiting: Sequence[KeyRow]) -> tuple[KeyRow, KeyMaterial] | None:
        # The highest pending row that somebody who may mint made. One that does not open says
        # nothing: anyone who may insert can add one. Nor does one under the KMS key that keys are
        # moved from: during a move that key opens what there was, and makes nothing new.
        for row in waiting:
            if row.scope.kind.under_kms and row.parent != self.kms_keys(row.scope)[0]:
                continue
            try:
                material = self._unwrap(row)
            except (Tampered, ConfigurationError, KeyNotFound, KeyDisabled, KeyDestroyed):
                continue
            if row.trusted_state(material) is KeyState.PENDING:
                return row, material
        return None

    def _plausible(self, waiting: Sequence[KeyRow]) -> list[KeyRow]:
        # What a credential that may not unwrap can tell of a pending row.
        return [
            row
            for row in waiting
            if row.wrapped is not None
            and row.parent == self.kms_keys(row.scope)[0]
            and (row.keystore, row.suite, row.revision) == (self.store.keystore_id, SUITE, 1)
        ]

    def _promoted(
        self, versions: Sequence[KeyRow], fresh: KeyRow, material: KeyMaterial, *, stored: bool
    ) -> KeyRow:
        # In one transaction: the new version is active, the old one decrypts on, and data keys
        # are under the new branch key.
        activated = fresh.stepped(KeyState.ACTIVE, changed=self.now(), material=material)
        add, replaced = ([], [(fresh, activated)]) if stored else ([activated], [])
        parents = {fresh.key_id.hex(): material}
        active = next((row for row in versions if row.state is KeyState.ACTIVE), None)
        if active is not None:
            before = parents[active.key_id.hex()] = self._trusted(active)
            old = active.stepped(KeyState.DECRYPT_ONLY, changed=self.now(), material=before)
            # First of all: the row that stops being active makes room for the next.
            replaced.insert(0, (active, old))
        told = [activated, *(new for _, new in replaced if new is not activated)]
        if fresh.scope.kind is KeyKind.BRANCH and _settled(versions) is not None:
            replaced += self._taken_over(activated, parents)
        self._change(told, add=add, replace=replaced)
        return activated

    def _taken_over(
        self, branch: KeyRow, parents: dict[str, KeyMaterial]
    ) -> list[tuple[KeyRow, KeyRow]]:
        moved, material = [], parents[branch.key_id.hex()]
        for row in self.store.versions(branch.scope.of_kind(KeyKind.DATA)):
            if row.wrapped is None:
                continue
            try:
                key = self._unwrap(row, parents)
            except (Tampered, ConfigurationError):
                if row.state is KeyState.PENDING:
                    continue
                raise
            # The key and its id stay, so no value is touched; its parent is new, and bound anew.
            under = replace(row, parent=branch.key_id.hex())
            moved.append((row, self._wrapped(under, branch, material, key)))
        return moved

    def _row(self, scope: Scope, version: int, parent: str) -> KeyRow:
        return pending_row(
            scope,
            version=version,
            parent=parent,
            keystore=self.store.keystore_id,
            now=self.now(),
            entropy=self.entropy,
        )

    def _mint(self, scope: Scope, versions: Sequence[KeyRow]) -> KeyRow:
        # The key service draws the key and returns it wrapped; only then is it unwrapped, by a
        # credential that may, to activate it.
        kms_key = self.kms_keys(scope)[0]
        row = self._row(scope, _next(versions), kms_key)
        try:
            wrapped = service_of(self.services, kms_key).mint(kms_key, row.wrap_context())
        except KeyServiceDenied as error:
            raise KeyServiceDenied(
                f"making a {scope} takes the right to mint: {error}",
                hint=error.hint or "use the credential that provisions",
            ) from None
        return replace(row, wrapped=wrapped)

    def _may_not_unwrap(self, scope: Scope, error: KeyServiceDenied) -> KeyServiceDenied:
        return KeyServiceDenied(
            f"activating a {scope} takes the right to unwrap: {error}",
            hint=error.hint
            or f"use the credential that activates: lacre keys activate --tenant {scope.tenant} --class {scope.class_}",
        )

    def _generate(self, scope: Scope, versions: Sequence[KeyRow]) -> tuple[KeyRow, KeyMaterial]:
        branch = _settled(self.store.versions(scope.of_kind(KeyKind.BRANCH)))
        if branch is None:
            raise _nothing(scope.of_kind(KeyKind.BRANCH))
        if branch.state is not KeyState.ACTIVE:
            raise KeyDisabled(
                f"the {branch.scope}, version {branch.version}, is {branch.state} and wraps no new key",
                hint="rotate the branch key first",
            )
        material = KeyMaterial(self.entropy(32))
        row = self._row(scope, _next(versions), branch.key_id.hex())
        return self._wrapped(row, branch, self._trusted(branch), material), material

    def _wrapped(
        self, row: KeyRow, parent: KeyRow, parent_material: KeyMaterial, material: KeyMaterial
    ) -> KeyRow:
        return wrapped_under(row, parent.key_id, parent_material, material, entropy=self.entropy)

    def _trusted(self, row: KeyRow) -> KeyMaterial:
        # Before a state is built upon: otherwise a state somebody wrote into the key store would
        # get a right MAC with the next step, or a stolen key become the parent of new ones.
        material = self._unwrap(row)
        if row.trusted_state(material) is not row.state:
            raise KeyDisabled(
                f"the state of key {row.key_id.hex()} is not authentic",
                hint="somebody edited the key store; restore it, then look at the audit log",
            )
        return material

    def _unwrap(self, row: KeyRow, parents: dict[str, KeyMaterial] | None = None) -> KeyMaterial:
        # *parents* are branch keys unwrapped before, by id; those unwrapped here join them.
        if row.keystore != self.store.keystore_id:
            raise Tampered
        parent = None
        if not row.scope.kind.under_kms:
            parents = {} if parents is None else parents
            parent = parents.get(row.parent)
            if parent is None:
                branches = self.store.versions(row.scope.of_kind(KeyKind.BRANCH))
                found = next((held for held in branches if held.key_id.hex() == row.parent), None)
                if found is None:
                    raise Tampered
                parent = parents[row.parent] = self._unwrap(found)
        return unwrap_row(row, services=self.services, kms_keys=self.kms_keys, parent=parent)

    def _change(
        self,
        told: Sequence[KeyRow],
        *,
        add: Sequence[KeyRow] = (),
        replace: Sequence[tuple[KeyRow, KeyRow]] = (),
    ) -> None:
        with recorded(self.recorder.write, self.store, key_changes(told)):
            self.store.change(add=add, replace=replace)


def _settled(versions: Sequence[KeyRow]) -> KeyRow | None:
    # The highest version that is not pending. Anyone who may insert can add a pending row.
    return next((row for row in versions if row.state is not KeyState.PENDING), None)


def _waiting(versions: Sequence[KeyRow]) -> list[KeyRow]:
    # Pending rows that may become active: those above the highest that is not pending. One below
    # would be active and not the highest, and nothing could be encrypted.
    settled = _settled(versions)
    least = 0 if settled is None else settled.version
    return [row for row in versions if row.state is KeyState.PENDING and row.version > least]


def _next(versions: Sequence[KeyRow]) -> int:
    # The lowest number that is free above what was ever in use: whoever plants a pending row with
    # the highest number there is does not use the numbers up.
    # An index root is of another parity than the one before it: each parity has a column of its own
    # in every unique index.
    settled = _settled(versions)
    taken = {row.version for row in versions}
    number = 1 if settled is None else settled.version + 1
    step = 2 if settled is not None and settled.scope.kind is KeyKind.INDEX else 1
    while number in taken:
        number += step
    return number


def _refuse_third(scope: Scope, versions: Sequence[KeyRow]) -> None:
    gone = (KeyState.PENDING, KeyState.DESTROYED)
    live = [row for row in versions if row.state not in gone]
    if len(live) > 1:
        raise MisuseError(
            f"two versions of the {scope} are in use, and a third has no place in unique indexes",
            hint=f"lacre reencrypt --indexes, then lacre keys destroy {live[-1].key_id.hex()[:8]}",
        )


def _nothing(scope: Scope) -> KeyNotFound:
    return KeyNotFound(f"there is no {scope}", hint=f"lacre keys create --tenant {scope.tenant} --class {scope.class_}")  # fmt: skip
