# SPDX-License-Identifier: Apache-2.0
"""
Subject keys under an older branch key are wrapped under the present one: after its rotation.

The keys and their ids stay, so no value is touched. There may be millions: they are read in pages
and stored in small transactions, each a compare-and-swap; what is done stands in the rows
themselves, so killed at any point the next run does the rest. Until then the older branch key,
which decrypts on, opens them. Local work: the key service is asked for each branch key once.

Does not rotate (`lacre.keys.provisioning`), and does not move keys between KMS keys
(`lacre.keys.moving`). A sealed key keeps its bucket key: the inner
layer is made anew, and the outer one around it.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from lacre._core import field
from lacre._core.derive import WRAP
from lacre.errors import MisuseError, Tampered
from lacre.keys.cache import ScopeHandle, UsableKey
from lacre.keys.hierarchy import KeyKind, KeyRow, Scope
from lacre.keys.ports import KeyWriter
from lacre.keys.resolver import Resolver
from lacre.keys.sealing import bucket_of, bucket_scope, cover, covered, uncovered

__all__ = ["Below", "Subjects", "TakenOver"]

_PAGE = 1000  # rows read, and stored in one transaction


class Subjects(KeyWriter, Protocol):
    """A key store, as this needs it."""

    def subject_page(
        self, scope: Scope, *, after: tuple[str, int] = ("", 0), limit: int = 1000
    ) -> Sequence[KeyRow]:
        """Return subject keys of the scope's tenant and class, by (pseudonym, version) above *after*."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """
    What a run did: keys wrapped anew, keys that were as they should be, and keys somebody else kept
    changing. *unreadable* are the ids of those that do not open: nobody reads what is under them.
    """

    moved: int
    current: int
    left: int
    unreadable: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """
    Wraps subject keys under their present branch keys.

    Args:
        resolver: opens branch keys, the older ones too, and bucket keys; it authenticates them.
        entropy: returns that many fresh random bytes.
    """

    store: Subjects
    resolver: Resolver
    entropy: Callable[[int], bytes] = os.urandom

    def take_over(
        self, scope: Scope, progress: Callable[[int], object] = lambda _done: None
    ) -> TakenOver:
        """
        Wrap what is under another branch key of *scope*'s tenant and class under the active one.

        Raises:
            KeyUnavailable: the active branch key, or one of before, cannot be had.
        """
        above = ScopeHandle(scope.of_kind(KeyKind.BRANCH))
        branch, place = self.resolver.to_encrypt(above), ("", 0)
        parent = branch.key_id.hex()
        moved = current = left = 0
        unreadable: list[bytes] = []
        storing: Future[int] | None = None
        given = 0
        # One page is stored while the next is wrapped: one waits for the database, one computes.
        with ThreadPoolExecutor(max_workers=1) as behind:
            while True:
                page = self.store.subject_page(scope, after=place, limit=_PAGE)
                todo = [row for row in page if row.wrapped is not None and row.parent != parent]
                current += len(page) - len(todo)
                pairs = []
                for row in todo:
                    try:
                        pairs.append((row, self._under(above, branch, row)))
                    except Tampered:
                        # Left as it is: wrapped anew it would be authentic. And it holds up no
                        # other: whoever may insert a first key, and no more, can plant such a row.
                        unreadable.append(row.key_id)
                if storing is not None:
                    stored = storing.result()
                    moved, left = moved + stored, left + given - stored
                    progress(moved)
                if not page:
                    break
                place = (page[-1].scope.subject or "", page[-1].version)
                storing, given = behind.submit(self._stored, pairs), len(pairs)
        return TakenOver(moved=moved, current=current, left=left, unreadable=tuple(unreadable))

    def _under(self, above: ScopeHandle, branch: UsableKey, row: KeyRow) -> KeyRow:
        try:
            before = self.resolver.to_decrypt(above, bytes.fromhex(row.parent))
        except ValueError:
            raise Tampered from None
        bare, bucket, outer = row, None, cover(row)
        if outer is not None:
            of_bucket = ScopeHandle(bucket_scope(row.scope, bucket_of(row.key_id)))
            bucket = self.resolver.to_decrypt(of_bucket, outer)
            bare = uncovered(row, bucket.material)
        # Opened with what is bound to the row as it is, which authenticates every column of it.
        key = field.decrypt(
            before.material.reveal(), bare.wrapped or b"", row.immutable(), label=WRAP
        )
        under = replace(row, parent=branch.key_id.hex())
        # A fresh salt for each wrap: one key, wrapped twice, has two.
        wrapped = field.encrypt(
            branch.material.reveal(), branch.key_id, under.immutable(), key, salt=self.entropy(24), padded=False, label=WRAP
        )  # fmt: skip
        under = replace(under, wrapped=bytes(wrapped))
        if bucket is None:
            return under
        salt = self.entropy(24)
        return covered(under, bucket=bucket.key_id, key=bucket.material, salt=salt)

    def _stored(self, pairs: Sequence[tuple[KeyRow, KeyRow]]) -> int:
        if not pairs:
            return 0
        try:
            self.store.change(replace=pairs)
        except MisuseError:
            if len(pairs) == 1:
                return 0  # shredded, or somebody else was faster: the next run looks again
            half = len(pairs) // 2
            return self._stored(pairs[:half]) + self._stored(pairs[half:])
        return len(pairs)
