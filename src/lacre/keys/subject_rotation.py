# SPDX-License-Identifier: Apache-2.0
"""
A new version of one subject's key: after it was compromised, or where the present one does not open.

The version before decrypts on, and values are moved by re-encryption. A row that does not open as the
first key of its subject was planted by somebody who may insert rows and holds no branch key, or is
damaged: nothing can be under it that can be read, but a backup of the key store may hold the right
one, so it is destroyed only where that is asked for. Implements ``spec/key-rows.md``, section 7. Does
not rotate what is above (`lacre.keys.provisioning`) and shreds nobody.
"""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from lacre.audit.recorder import Recorder
from lacre.errors import KeyNotFound, MisuseError, SubjectHeld, Tampered
from lacre.keys.cache import ScopeHandle
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope, SubjectRow, SubjectRows
from lacre.keys.loading import shredded
from lacre.keys.moments import now_text
from lacre.keys.recording import key_changes, recorded
from lacre.keys.resolver import Resolver
from lacre.keys.subjects import new_subject_row
from lacre.sensitive import KeyMaterial

__all__ = ["SubjectRotation", "SubjectVersions"]


class SubjectVersions(Protocol):
    """A key store as this needs it."""

    @property
    def keystore_id(self) -> str: ...

    def subjects(self, scope: Scope, digests: Collection[bytes]) -> Mapping[bytes, SubjectRows]: ...

    def add_subject_version(self, row: KeyRow, *, over: tuple[KeyRow, KeyRow] | None) -> None:
        """
        Insert *row*, and put the second of *over* in the place of the first, in one transaction.

        Raises:
            MisuseError: the subject was shredded, or its keys were changed or sealed, at the same moment.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectRotation:
    """
    Rotates subject keys, one at a time.

    Args:
        resolver: opens the present key and the branch key, and authenticates both.
        cover: returns a new key with its outer layer, where its class is sealed.
    """

    store: SubjectVersions
    resolver: Resolver
    recorder: Recorder
    cover: Callable[[KeyRow, bool], KeyRow]
    now: Callable[[], str] = now_text
    entropy: Callable[[int], bytes] = os.urandom

    def rotate(self, scope: Scope, digest: bytes, *, unreadable: bool = False) -> KeyRow:
        """
        Return the new version of the subject's key of *scope*'s tenant and class, which is in use.

        Args:
            unreadable: destroy the present version, which does not open.

        Raises:
            KeyNotFound: the subject is unknown, or has no key in this class.
            KeyDestroyed: it was shredded.
            KeyDisabled: the present version opens, and its state is not authentic.
            SubjectHeld: the present version would be destroyed, and the subject is under a hold.
            MisuseError: the present version does not open, or does, against what *unreadable* says;
                or somebody else was faster.
            KeyUnavailable: the branch key cannot be had.
        """
        self.resolver.forget()
        held = self.store.subjects(scope, [digest]).get(digest)
        if held is not None and held.subject.pseudonym is None:
            raise shredded(scope, held.subject)
        versions = [] if held is None else [row for row in held.versions if row.digest in (digest, None)]  # fmt: skip
        if held is None or not versions:
            raise KeyNotFound(
                f"the subject has no key of tenant {scope.tenant!r}, class {scope.class_!r}",
                hint="its first key is made by whoever encrypts first for it",
            )
        if len(versions) < len(held.versions):
            raise MisuseError(
                "keys of another subject stand under this one's pseudonym; nothing was done",
                hint="somebody edited the key store: restore it",
            )
        over = self._over(scope, held.subject, versions[0], unreadable)
        fresh = self._row(scope, held.subject, versions[0].version + 1)
        changes = key_changes([fresh] if over is None else [over[1], fresh])
        with recorded(self.recorder.write, self.store, changes):
            self.store.add_subject_version(fresh, over=over)
        return fresh

    def _over(
        self, scope: Scope, subject: SubjectRow, current_: KeyRow, unreadable: bool
    ) -> tuple[KeyRow, KeyRow] | None:
        if current_.state is not KeyState.ACTIVE:
            return None  # it stays what it is: compromised, destroyed ...
        whose = ScopeHandle(scope.of_kind(KeyKind.SUBJECT)).of_subject(subject.digest)
        material: KeyMaterial | None = None
        try:
            material = self.resolver.to_encrypt(whose).material
        except Tampered:
            # The branch key itself is asked for below, and says so if it is what cannot be had.
            self.resolver.to_encrypt(ScopeHandle(scope.of_kind(KeyKind.BRANCH)))
        if (material is None) is not unreadable:
            raise MisuseError(
                "the subject's present key does not open: it was planted, or the key store is damaged; nothing was done"
                if material is None
                else "the subject's present key opens; nothing was done",
                hint="restore the key store if a backup has the right one; otherwise --unreadable destroys it and makes the next"
                if material is None
                else "rotate it without --unreadable",
            )
        if material is not None:
            old = current_.stepped(KeyState.DECRYPT_ONLY, changed=self.now(), material=material)
        elif subject.hold is not None:
            raise SubjectHeld(
                "the subject is under a legal hold, and a backup of the key store may hold its right key; nothing was destroyed",
                hint="restore the key store, or lift the hold: lacre hold lift",
            )
        else:
            old = current_.stepped(KeyState.DESTROYED, changed=self.now())
        return current_, old

    def _row(self, scope: Scope, subject: SubjectRow, version: int) -> KeyRow:
        row = new_subject_row(
            scope,
            subject,
            version=version,
            branch=self.resolver.to_encrypt(ScopeHandle(scope.of_kind(KeyKind.BRANCH))),
            keystore=self.store.keystore_id,
            now=self.now(),
            entropy=self.entropy,
        )
        return self.cover(row, True)
