# SPDX-License-Identifier: Apache-2.0
"""
Asking the indexes of a field: who may, under which keys, and the record of it.

Rule 1: a search is decided and recorded before a token is made.
Rule 2: an index in parts answers only whoever may also decrypt: hits that nobody re-checks would
        tell the values part by part.
Rule 3: hits are recorded before they leave, where they pass by: how many, and which rows, and of a
        short index that nobody re-checks that they are none for certain.

Does not read rows and does not re-check hits (`lacre.fields.field`).
"""

from collections.abc import Callable, Sequence
from typing import Any

from lacre._core.blind import index_key
from lacre._core.derive import PreparedKey
from lacre.audit.event import Outcome
from lacre.audit.events import Answered, CandidatesGiven, Searched
from lacre.context import current
from lacre.errors import UnsupportedQuery
from lacre.fields.guard import Guarded, TenantFacts
from lacre.fields.index import Index, Question
from lacre.fields.scheme import Scheme
from lacre.keys.resolver import UsableKey
from lacre.policy.model import Right

__all__ = ["Searchable"]

_QUESTIONS: tuple[Question, ...] = ("equals", "contains", "startswith", "endswith")


class Searchable(Guarded):
    """A field, as it is searched."""

    def search_tokens(
        self, value: Any, *, index: str | None = None, question: Question | None = None
    ) -> list[bytes]:
        """
        Return what to look *value* up by: one entry for each index root still in use.

        A row is a hit that holds one of the entries: in an index of several tokens, every token of
        it. There one more entry may come, which rows have that any question may be about. Unless
        the index is `exact`, hits are candidates: `recheck` them.

        Args:
            index: the name of the index, where the field has several.
            question: what is asked about *value*, where the index answers several questions.

        Raises:
            AccessDenied: no role has the right to search.
            InvalidValue: the index's normaliser takes no such value.
        """
        acting = current()
        decision = self._guard.policy.decide(acting, self.scheme.class_, Right.SEARCH)
        tenant = self._tenant(acting)
        chosen = self.index(index)
        asked = self._question(chosen, question)
        event = Searched(
            **self._who(acting, tenant),
            place=self._place,
            index=chosen.name,
            outcome=decision.outcome,
            rule=decision.rule,
            count=1,
        )
        self._guard.recorder.record(event)
        if decision.outcome is not Outcome.ALLOWED:
            raise self._refusal(acting, "search", decision)
        if chosen.several:
            # Its hits mean nothing before they are re-checked, and whoever may not do that would
            # learn the values part by part.
            self._decided(acting, Right.DECRYPT)
        found = [
            chosen.asked(asked, value, self._codec, self._index_keys(tenant, chosen, root))
            for root in self._guard.resolver.searchable(tenant.index)
        ]
        return found if chosen.always is None else [*found, chosen.always]

    def index(self, name: str | None = None) -> Index:
        """Return the index of that name, or the first."""
        for index in self.scheme.indexes:
            if name is None or index.name == name:
                return index
        raise _no_index(self.scheme, name)

    def searched_tenant(self) -> str:
        """Return the tenant whose values a search finds: that of whoever acts."""
        return self._tenant(current()).name

    def rechecks(self) -> bool:
        """Whether whoever acts may have hits of this field re-checked. Records nothing: it refuses nothing."""
        decision = self._guard.policy.decide(current(), self.scheme.class_, Right.DECRYPT)
        return decision.outcome is Outcome.ALLOWED

    def candidates_given(self, index: Index) -> Callable[[int], None]:
        """Return what records that so many rows, hits of *index* that nobody re-checked, leave for whoever acts now."""
        acting = current()
        decision = self._guard.policy.decide(acting, self.scheme.class_, Right.SEARCH)
        tenant = self._tenant(acting)

        def given(count: int) -> None:
            self._guard.recorder.record(
                CandidatesGiven(
                    **self._who(acting, tenant),
                    place=self._place,
                    index=index.name,
                    bits=index.bits,
                    rule=decision.rule,
                    count=count,
                )
            )

        return given

    def answered(self, index: Index, searches: int) -> Callable[..., None]:
        """
        Return what records the rows that so many searches of *index* found, for whoever acts now.

        Called with each piece of the result, of none too: how many rows there are in it, the ids of
        those that are known or the pseudonyms of whom they are about, and how many were excluded.
        """
        acting = current()
        tenant = self._tenant(acting)
        asked, left = searches, searches

        def told(
            count: int, rows: Sequence[str], subjects: Sequence[str], *, excluded: int = 0
        ) -> None:
            nonlocal asked, left
            found = min(count, left)
            event = Answered(
                **self._who(acting, tenant),
                place=self._place,
                index=index.name,
                searches=asked,
                found=found,
                count=count,
                excluded=excluded,
                rows=tuple(rows),
                subjects=tuple(subjects),
            )
            self._guard.recorder.record(event)
            asked, left = 0, left - found

        return told

    def may_recheck(self, *, marks: bool = False) -> None:
        """
        Decide on re-checking hits of this field, before they are read.

        Args:
            marks: whether they could be had marked as candidates, as they are.

        Raises:
            AccessDenied: no role has the right to decrypt.
        """
        acting = current()
        decision = self._guard.policy.decide(acting, self.scheme.class_, Right.DECRYPT)
        if decision.outcome is not Outcome.ALLOWED:
            error = self._denied_use(acting, Right.DECRYPT, decision)
            way = "; or have its hits unchecked and marked: candidates(statement)" if marks else ""
            error.hint = f"{error.hint}; hits of this index are re-checked on the plaintext: with `search` alone ask an index of 96 bits or more (bits=96){way}"
            raise error

    def _question(self, index: Index, question: Question | None) -> Question:
        if question is None:
            return next(found for found in _QUESTIONS if found in index.questions)
        if question not in index.questions:
            raise UnsupportedQuery(
                f"the index {index.name!r} of {self.scheme} does not answer {question}",
                hint=f"it answers {', '.join(sorted(index.questions))}",
            )
        return question

    def _other_root(self, tenant: TenantFacts, active: UsableKey) -> UsableKey | None:
        # The index root of the other parity: announced, or active before. There are never two,
        # unless somebody minted anew: then it is the higher, which alone can become active.
        roots = self._guard.resolver.searchable(tenant.index)
        others = [root for root in roots if (root.version - active.version) % 2]
        return max(others, key=lambda root: root.version, default=None)

    def _keyed(
        self, tenant: TenantFacts, root: UsableKey | None
    ) -> list[tuple[Index, tuple[PreparedKey, ...]]]:
        if root is None:
            return []
        return [(index, self._index_keys(tenant, index, root)) for index in self.scheme.indexes]

    def _index_keys(
        self, tenant: TenantFacts, index: Index, root: UsableKey
    ) -> tuple[PreparedKey, ...]:
        # Of two roots, because while one takes the other's place both are used all the time.
        slot = (index.name, root.version % 2)
        held = tenant.index_keys.get(slot)
        if held is not None and held[0] is root:
            return held[1]
        scheme = self.scheme
        derived = tuple(
            PreparedKey(
                index_key(
                    root.material.reveal(),
                    store=scheme.store,
                    table=scheme.table,
                    column=scheme.column,
                    index=index.name,
                    kind=index.kind,
                    normaliser=index.normaliser,
                    part=part,
                    bits=index.bits,
                    version=index.version,
                )
            )
            for part in index.parts
        )
        tenant.index_keys[slot] = (root, derived)
        return derived


def _no_index(scheme: Scheme, name: str | None) -> UnsupportedQuery:
    wanted = f"no blind index {name!r}" if name else "no blind index"
    return UnsupportedQuery(
        f"{scheme} has {wanted}", hint='declare one: encrypted(..., index=BlindIndex("exact"))'
    )
