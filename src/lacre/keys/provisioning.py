# SPDX-License-Identifier: Apache-2.0
"""
Making keys and moving them through their life: create, rotate, disable, enable, destroy.

Done by an operator, apart from the run time, which only uses keys. Every change is written to
the audit log before it is made, and made in one transaction; two operators at once race safely
(one wins, the other is told so). Does not re-encrypt data and does not touch KMS keys.
"""

import datetime as dt
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lacre._core import field
from lacre._core.derive import WRAP
from lacre.audit.events import KeyChanged, who
from lacre.audit.recorder import Recorder
from lacre.context import current
from lacre.errors import ConfigurationError, KeyDisabled, KeyNotFound, MisuseError, Tampered
from lacre.keys.hierarchy import USABLE, KeyKind, KeyRow, KeyState, Scope
from lacre.keys.ports import KeyReader, KeyService, KeyWriter
from lacre.keys.resolver import service_of, unwrap_row
from lacre.sensitive import KeyMaterial

__all__ = ["KeyTable", "Provisioner"]

_SUITE = 1


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
    now: Callable[[], str] = lambda: (
        dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    )
    entropy: Callable[[int], bytes] = os.urandom
    settle: float = 0.0

    def create(self, scope: Scope, *, indexed: bool) -> list[KeyRow]:
        """
        Provision a tenant's class: branch key, data key and, if *indexed*, index root.

        Finishes what an interrupted call began; returns the rows made by this call, so that a
        second call returns none.
        """
        made = self._first(scope.of_kind(KeyKind.BRANCH), self._mint)
        made += self._first(scope.of_kind(KeyKind.DATA), self._generate)
        if indexed:
            made += self._first(scope.of_kind(KeyKind.INDEX), self._mint)
        return made

    def rotate(self, scope: Scope) -> KeyRow:
        """
        Make a new active version of the scope's key; the old one decrypts on.

        A new branch key re-wraps the data keys below it (local work, no data row is touched).
        A new index root makes tokens of new writes; look-ups ask under both versions. Where the
        highest version is no longer active (disabled, compromised) it stays as it is.

        An index root is rotated by two calls, *settle* seconds apart: the first announces the
        new root and returns it pending, the second activates it. In between every process comes
        to know it, so that none misses rows, or duplicates of unique values, that another
        process writes under a root it has not heard of.

        Raises:
            KeyNotFound: there is nothing to rotate.
            KeyDisabled: the active row was not made active by anyone who holds the key.
            MisuseError: the announced index root is not known everywhere yet.
        """
        versions = self.store.versions(scope)
        if all(row.state is KeyState.PENDING for row in versions):
            raise _nothing(scope)
        active = next((row for row in versions if row.state is KeyState.ACTIVE), None)
        if scope.kind is KeyKind.INDEX:
            fresh, material, known = self._announced(scope, versions)
            if not known:
                return fresh
            add, replaced = (
                [],
                [(fresh, fresh.stepped(KeyState.ACTIVE, changed=self.now(), material=material))],
            )
            activated = replaced[0][1]
        else:
            make = self._generate if scope.kind is KeyKind.DATA else self._mint
            fresh, material = make(scope, versions[0].version + 1)
            activated = fresh.stepped(KeyState.ACTIVE, changed=self.now(), material=material)
            add, replaced = [activated], []
        if active is not None:
            old = active.stepped(
                KeyState.DECRYPT_ONLY, changed=self.now(), material=self._trusted(active)
            )
            # First of all: the row that stops being active makes room for the next.
            replaced.insert(0, (active, old))
        told = [activated, *(new for _, new in replaced if new is not activated)]
        if scope.kind is KeyKind.BRANCH:
            replaced += [
                (row, self._rewrapped(row, activated, material))
                for row in self.store.versions(scope.of_kind(KeyKind.DATA))
                if row.wrapped
            ]
        self._change(told, add=add, replace=replaced)
        return activated

    def _announced(
        self, scope: Scope, versions: Sequence[KeyRow]
    ) -> tuple[KeyRow, KeyMaterial, bool]:
        # The pending root that somebody who may mint announced, and whether it is known by now.
        # A pending row that does not open says nothing: anyone who may insert can add one.
        for row in versions:
            if row.state is not KeyState.PENDING:
                continue
            try:
                material = self._unwrap(row)
            except (Tampered, ConfigurationError):
                continue
            waited = (_moment(self.now()) - _moment(row.created)).total_seconds()
            if waited < self.settle:
                raise MisuseError(
                    f"the new index root was announced {waited:.0f} s ago, and running processes learn of it within {self.settle:.0f} s",
                    hint=f"run the same command again in {self.settle - waited:.0f} s: that activates it",
                )
            return row, material, True
        fresh, material = self._mint(scope, versions[0].version + 1)
        self._change([fresh], add=[fresh])
        return fresh, material, self.settle <= 0

    def step(self, key_id: bytes, state: KeyState) -> KeyRow:
        """
        Move one key to *state*.

        Towards less use (disabled, compromised, destroyed) nothing but the row is needed;
        enabling needs a credential that can unwrap.

        Raises:
            KeyNotFound, MisuseError: no such key; a step that is not allowed.
        """
        row = self.store.row(key_id)
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

    def _first(
        self, scope: Scope, make: Callable[[Scope, int], tuple[KeyRow, KeyMaterial]]
    ) -> list[KeyRow]:
        versions = self.store.versions(scope)
        if _settled(versions) is not None:
            return []
        if versions:
            fresh = versions[-1]
            material = self._unwrap(fresh)
        else:
            fresh, material = make(scope, 1)
            self._change([fresh], add=[fresh])
        active = fresh.stepped(KeyState.ACTIVE, changed=self.now(), material=material)
        self._change([active], replace=[(fresh, active)])
        return [active]

    def _row(self, scope: Scope, version: int, parent: str) -> KeyRow:
        now = self.now()
        return KeyRow(
            key_id=self.entropy(16),
            scope=scope,
            version=version,
            parent=parent,
            suite=_SUITE,
            created=now,
            keystore=self.store.keystore_id,
            wrapped=None,
            state=KeyState.PENDING,
            revision=1,
            changed=now,
            mac=None,
        )

    def _mint(self, scope: Scope, version: int) -> tuple[KeyRow, KeyMaterial]:
        # The key service draws the key and returns it wrapped; only then is it unwrapped, by a
        # credential that may, to activate it.
        kms_key = self.kms_keys(scope)[0]
        row = self._row(scope, version, kms_key)
        row = replace(
            row, wrapped=service_of(self.services, kms_key).mint(kms_key, row.wrap_context())
        )
        return row, self._unwrap(row)

    def _generate(self, scope: Scope, version: int) -> tuple[KeyRow, KeyMaterial]:
        branch = _settled(self.store.versions(scope.of_kind(KeyKind.BRANCH)))
        if branch is None:
            raise _nothing(scope.of_kind(KeyKind.BRANCH))
        if branch.state is not KeyState.ACTIVE:
            raise KeyDisabled(
                f"the {branch.scope}, version {branch.version}, is {branch.state} and wraps no new key",
                hint="rotate the branch key first",
            )
        material = KeyMaterial(self.entropy(32))
        row = self._row(scope, version, branch.key_id.hex())
        return self._wrapped(row, branch, self._trusted(branch), material), material

    def _wrapped(
        self, row: KeyRow, parent: KeyRow, parent_material: KeyMaterial, material: KeyMaterial
    ) -> KeyRow:
        wrapped = field.encrypt(
            parent_material.reveal(), parent.key_id, row.immutable(), material.reveal(), salt=self.entropy(24), padded=False, label=WRAP
        )  # fmt: skip
        return replace(row, wrapped=bytes(wrapped))

    def _rewrapped(self, row: KeyRow, parent: KeyRow, parent_material: KeyMaterial) -> KeyRow:
        # The key and its id stay, so no value is touched; its parent, an immutable column, is new.
        return self._wrapped(
            replace(row, parent=parent.key_id.hex()), parent, parent_material, self._unwrap(row)
        )

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

    def _unwrap(self, row: KeyRow) -> KeyMaterial:
        if row.keystore != self.store.keystore_id:
            raise Tampered
        parent = None
        if not row.scope.kind.under_kms:
            branches = self.store.versions(row.scope.of_kind(KeyKind.BRANCH))
            found = next((held for held in branches if held.key_id.hex() == row.parent), None)
            if found is None:
                raise Tampered
            parent = self._unwrap(found)
        return unwrap_row(row, services=self.services, kms_keys=self.kms_keys, parent=parent)

    def _change(
        self,
        told: Sequence[KeyRow],
        *,
        add: Sequence[KeyRow] = (),
        replace: Sequence[tuple[KeyRow, KeyRow]] = (),
    ) -> None:
        acting, now = current(), time.time()
        events = [
            KeyChanged(
                **who(acting, time=now, tenant=row.scope.tenant),
                class_=row.scope.class_,
                kind=str(row.scope.kind),
                key=row.key_id.hex(),
                version=row.version,
                state=str(row.state),
            )
            for row in told
        ]
        self.recorder.write(events)
        self.store.change(add=add, replace=replace)


def _settled(versions: Sequence[KeyRow]) -> KeyRow | None:
    # The highest version that is not pending. Anyone who may insert can add a pending row.
    return next((row for row in versions if row.state is not KeyState.PENDING), None)


def _moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def _nothing(scope: Scope) -> KeyNotFound:
    return KeyNotFound(
        f"there is no {scope}",
        hint=f"lacre keys create --tenant {scope.tenant} --class {scope.class_}",
    )
