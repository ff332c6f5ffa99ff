# SPDX-License-Identifier: Apache-2.0
"""
Making keys and moving them through their life: create, rotate, disable, enable, destroy.

Done by an operator, apart from the run time, which only uses keys. Every change is written to
the audit log before it is made, and made in one transaction; two operators at once race safely
(one wins, the other is told so). Does not re-encrypt data and does not touch KMS keys.
"""

import datetime as dt
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lacre._core import field
from lacre._core.derive import WRAP
from lacre.audit.events import KeyChanged
from lacre.audit.recorder import Recorder
from lacre.context import current
from lacre.errors import KeyNotFound, MisuseError
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope
from lacre.keys.ports import KeyReader, KeyService, KeyWriter
from lacre.keys.resolver import service_of, unwrap_row
from lacre.sensitive import KeyMaterial

__all__ = ["KeyTable", "Provisioner"]

_SUITE = 1


class KeyTable(KeyReader, KeyWriter, Protocol):
    """A key store as provisioning needs it."""

    @property
    def keystore_id(self) -> str:
        """The key store's own id, bound in every row."""
        ...

    def row(self, key_id: bytes) -> KeyRow:
        """Return the row with this id, or raise `KeyNotFound`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioner:
    """
    Provisions one application's keys.

    Args:
        kms_key: names the KMS key of a branch key or index root, from the policy.
        now: RFC 3339 text in UTC.
        entropy: returns that many fresh random bytes.
    """

    store: KeyTable
    services: Mapping[str, KeyService]
    kms_key: Callable[[Scope], str]
    recorder: Recorder
    now: Callable[[], str] = lambda: (
        dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    )
    entropy: Callable[[int], bytes] = os.urandom

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
        A new index root makes tokens of new writes; look-ups ask under both versions.

        Raises:
            KeyNotFound: there is nothing to rotate.
        """
        versions = self.store.versions(scope)
        active = next((row for row in versions if row.state is KeyState.ACTIVE), None)
        if active is None:
            raise KeyNotFound(
                f"there is no active {scope}",
                hint=f"lacre keys create --tenant {scope.tenant} --class {scope.class_}",
            )
        make = self._generate if scope.kind is KeyKind.DATA else self._mint
        fresh, material = make(scope, versions[0].version + 1)
        old = active.stepped(
            KeyState.DECRYPT_ONLY, changed=self.now(), material=self._unwrap(active).reveal()
        )
        activated = fresh.stepped(KeyState.ACTIVE, changed=self.now(), material=material.reveal())
        replaced = [(active, old)]
        if scope.kind is KeyKind.BRANCH:
            replaced += [
                (row, self._rewrapped(row, activated, material))
                for row in self.store.versions(scope.of_kind(KeyKind.DATA))
                if row.wrapped
            ]
        self._change([activated, old], add=[activated], replace=replaced)
        return activated

    def step(self, key_id: bytes, state: KeyState) -> KeyRow:
        """
        Move one key to *state*.

        Towards less use (disabled, compromised, destroyed) nothing but the row is needed;
        enabling needs a credential that can unwrap.

        Raises:
            KeyNotFound, MisuseError: no such key; a step that is not allowed.
        """
        row = self.store.row(key_id)
        usable = state in (KeyState.ACTIVE, KeyState.DECRYPT_ONLY)
        material = self._unwrap(row).reveal() if usable and row.wrapped is not None else None
        moved = row.stepped(state, changed=self.now(), material=material)
        self._change([moved], replace=[(row, moved)])
        return moved

    def enable(self, key_id: bytes) -> KeyRow:
        """Bring a disabled key back: active if it is the highest version that is not pending, else decrypt-only."""
        row = self.store.row(key_id)
        highest = next(
            found for found in self.store.versions(row.scope) if found.state is not KeyState.PENDING
        )
        return self.step(
            key_id, KeyState.ACTIVE if highest.key_id == key_id else KeyState.DECRYPT_ONLY
        )

    def _first(
        self, scope: Scope, make: Callable[[Scope, int], tuple[KeyRow, KeyMaterial]]
    ) -> list[KeyRow]:
        versions = self.store.versions(scope)
        if not versions:
            fresh, material = make(scope, 1)
            self.store.change(add=[fresh])
        elif versions[0].state is KeyState.PENDING:
            fresh = versions[0]
            material = self._unwrap(fresh)
        else:
            return []
        active = fresh.stepped(KeyState.ACTIVE, changed=self.now(), material=material.reveal())
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
        kms_key = self.kms_key(scope)
        row = self._row(scope, version, kms_key)
        row = replace(
            row, wrapped=service_of(self.services, kms_key).mint(kms_key, row.wrap_context())
        )
        return row, self._unwrap(row)

    def _generate(self, scope: Scope, version: int) -> tuple[KeyRow, KeyMaterial]:
        branch = next(
            (
                row
                for row in self.store.versions(scope.of_kind(KeyKind.BRANCH))
                if row.state is KeyState.ACTIVE
            ),
            None,
        )
        if branch is None:
            raise KeyNotFound(
                f"there is no active {scope.of_kind(KeyKind.BRANCH)}",
                hint=f"lacre keys create --tenant {scope.tenant} --class {scope.class_}",
            )
        material = KeyMaterial(self.entropy(32))
        row = self._row(scope, version, branch.key_id.hex())
        return self._wrapped(row, branch, self._unwrap(branch), material), material

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

    def _unwrap(self, row: KeyRow) -> KeyMaterial:
        parent = None
        if not row.under_kms:
            parent_row = self.store.row(bytes.fromhex(row.parent))
            if parent_row.scope != row.scope.of_kind(KeyKind.BRANCH):
                raise MisuseError(
                    "the key's parent is of another scope",
                    hint="the key store was edited; restore it",
                )
            parent = self._unwrap(parent_row)
        return unwrap_row(row, services=self.services, kms_key=self.kms_key, parent=parent)

    def _change(
        self,
        told: Sequence[KeyRow],
        *,
        add: Sequence[KeyRow] = (),
        replace: Sequence[tuple[KeyRow, KeyRow]] = (),
    ) -> None:
        acting = current()
        when = dt.datetime.now(dt.UTC).timestamp()
        events = [
            KeyChanged(
                time=when,
                principal=acting.principal,
                roles=tuple(sorted(acting.roles)),
                purpose=acting.purpose,
                tenant=row.scope.tenant,
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
