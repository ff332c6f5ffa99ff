# SPDX-License-Identifier: Apache-2.0
"""
Making subjects and their first keys: what the run time adds to a key store, below a branch key.

Many at once in few statements, and as often as anybody likes: of two processes that make one
subject's key at the same moment one is first, the other's is dropped, and both use the one that is
there. Implements ``spec/key-rows.md``, section 7. Does not read keys (`lacre.keys.loading`), rotate
them or shred anybody.
"""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from lacre.audit.recorder import Recorder
from lacre.errors import MisuseError
from lacre.keys.cache import UsableKey
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope, SubjectRow
from lacre.keys.minting import pending_row, wrapped_under
from lacre.keys.moments import now_text
from lacre.keys.ports import SubjectWriter
from lacre.keys.recording import key_changes, recorded
from lacre.sensitive import KeyMaterial

__all__ = ["SubjectMaker", "new_subject_row"]

_ATTEMPTS = 3  # where a subject of the batch is shredded at the same moment


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectMaker:
    """
    Makes one application's subjects.

    Args:
        cover: returns a new key with its outer layer, where its class is sealed; asks for what it
            needs *anew* after somebody else sealed at the same moment.
        made: is told how many keys of a class were made.
        now: RFC 3339 text in UTC.
        entropy: returns that many fresh random bytes.
    """

    store: SubjectWriter
    recorder: Recorder
    cover: Callable[[KeyRow, bool], KeyRow] = lambda row, _anew: row
    made: Callable[[str, int], object] = lambda _class, _number: None
    now: Callable[[], str] = now_text
    entropy: Callable[[int], bytes] = os.urandom

    def make(self, scope: Scope, branch: UsableKey, digests: Collection[bytes]) -> None:
        """
        Make what is missing of the subjects and of their keys of *scope*, active at once.

        A tombstone is left alone, and so is a subject that has a key, in whatever state.

        Args:
            branch: encrypts, which is to say wraps, in the scope's tenant and class.

        Raises:
            NoPrincipal: nobody acts, whose doing it would be.
            EvidenceUnavailable, ConfigurationError, KeyStoreUnreachable
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._once(scope, branch, digests, anew=attempt > 1)
            except MisuseError:
                if attempt == _ATTEMPTS:
                    raise
            else:
                return

    def _once(
        self, scope: Scope, branch: UsableKey, digests: Collection[bytes], *, anew: bool
    ) -> None:
        held = dict(self.store.subjects(scope, digests))
        unknown = [digest for digest in digests if digest not in held]
        if unknown:
            # The pseudonym is drawn, not derived: what is derived from an id cannot be erased.
            self.store.add_subjects(
                [
                    SubjectRow(digest=digest, pseudonym=self.entropy(16).hex(), created=self.now())
                    for digest in unknown
                ]
            )
            # Whoever was first has made the pseudonym that counts.
            held |= self.store.subjects(scope, unknown)
        rows = [
            self.cover(
                new_subject_row(
                    scope,
                    found.subject,
                    version=1,
                    branch=branch,
                    keystore=self.store.keystore_id,
                    now=self.now(),
                    entropy=self.entropy,
                ),
                anew,
            )
            for found in held.values()
            if found.subject.pseudonym is not None
            and all(row.state is KeyState.PENDING for row in found.versions)
        ]
        if rows:
            # A key that somebody else made first is never there, and its record stays.
            with recorded(self.recorder.write, self.store, key_changes(rows)):
                self.store.add_subject_keys(rows)
            self.made(scope.class_, len(rows))


def new_subject_row(
    scope: Scope,
    subject: SubjectRow,
    *,
    version: int,
    branch: UsableKey,
    keystore: str,
    now: str,
    entropy: Callable[[int], bytes],
) -> KeyRow:
    """Return an active version of a subject's key in *scope*'s class, wrapped by *branch*; not stored, and not sealed."""
    # Random, like every stored key: a key that could be derived again could not be shredded.
    material = KeyMaterial(entropy(32))
    row = pending_row(
        replace(scope.of_kind(KeyKind.SUBJECT), subject=subject.pseudonym),
        version=version,
        parent=branch.key_id.hex(),
        keystore=keystore,
        now=now,
        entropy=entropy,
        digest=subject.digest,
    )
    row = wrapped_under(row, branch.key_id, branch.material, material, entropy=entropy)
    return row.stepped(KeyState.ACTIVE, changed=now, material=material)
