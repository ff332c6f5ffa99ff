# SPDX-License-Identifier: Apache-2.0
"""
Moving stored values of a field to the key that encrypts now.

Rule 1: plaintext goes from one ciphertext to the next and to nobody: no look is made.
Rule 2: whoever moves values holds the class's keys, so it needs both rights, `decrypt` and
        `encrypt`, and what it did is evidence (`Moving.event`).
Rule 3: the place stays: the new value is bound to the same row, column and tenant as the old one.

A value under a compromised key is opened too, here and nowhere else. It is not thereby authentic:
whoever stole the key could have written it. Does no SQL and does not choose what is moved.
"""

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, final

from lacre._core import field as core
from lacre.audit.event import Outcome, Place, who
from lacre.audit.events import Reencrypted
from lacre.context import Acting, current
from lacre.errors import PlaintextFound, Tampered
from lacre.fields.field import Field
from lacre.fields.guard import TenantFacts
from lacre.fields.rows import RowId
from lacre.fields.writing import Writing
from lacre.keys.resolver import Resolver, ScopeHandle, UsableKey
from lacre.policy.decisions import Decision
from lacre.policy.model import Right

__all__ = ["Indexing", "Moving", "MovingField"]


@final
class Moving:
    """The permission to move values of one field and tenant. Made by `MovingField.moving`."""

    __slots__ = ("_acting", "_before", "_clock", "_decision", "_key", "_keys", "_padded", "_place", "_pseudonyms", "_resolver", "_tenant", "_whose")  # fmt: skip

    def __init__(
        self,
        *,
        acting: Acting,
        decision: Decision,
        tenant: TenantFacts,
        key: UsableKey | None,
        whose: Callable[[RowId | None], ScopeHandle],
        padded: bool,
        resolver: Resolver,
        place: Place,
        clock: Callable[[], float],
    ) -> None:
        self._acting = acting
        self._decision = decision
        self._tenant = tenant
        self._key = key
        self._whose = whose
        self._padded = padded
        self._resolver = resolver
        self._place = place
        self._clock = clock
        # For as long as a batch takes: keys of subjects, by the texts of their ids, and keys of the
        # class that values from before they had subjects are under.
        self._keys: dict[str, UsableKey] = {}
        self._before: dict[bytes, UsableKey] = {}
        # The pseudonyms of whose values were moved, by row, until their event is made.
        self._pseudonyms: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Moving {self._place.table}.{self._place.column}>"

    @property
    def key_id(self) -> bytes | None:
        """The id of the key that values are moved to; None where each is its subject's."""
        return None if self._key is None else self._key.key_id

    def key_of(self, subject: RowId | None = None) -> UsableKey:
        """Return the key that values are moved to: of *subject*, where the field's values have subjects."""
        whose = self._whose(subject)
        if self._key is not None:
            return self._key
        return self._keys.get(str(subject)) or self._resolver.to_encrypt(whose)

    def get_ready(self, subjects: Collection[str]) -> None:
        """
        Resolve the keys of *subjects*, texts of ids, and make those that are missing, in few statements.

        Raises:
            KeyUnavailable: of one of them. `key_of` says of which.
        """
        handles = {each: self._whose(each) for each in subjects}
        found = self._resolver.to_encrypt_all(handles.values())
        self._keys.update({each: found[handle.token] for each, handle in handles.items()})

    def moved(self, row: str, raw: Any, subject: RowId | None = None) -> bytes:
        """
        Return *raw*, what the column holds in the row whose id text is *row*, under the present key.

        Args:
            subject: whom it is about, where the field's values have subjects. A value from before
                they had, under the class's key, is moved to its subject's too.

        Raises:
            PlaintextFound: it is no lacre value.
            Tampered: it does not open in this place.
            KeyUnavailable: the key it is under cannot be had.
        """
        context = self._tenant.place.at(row)
        key = self.key_of(subject)
        # The encoding is kept byte for byte: its type is bound in the context. A fresh salt, drawn
        # here for this value alone.
        plaintext = self._opened(row, context, raw, subject)
        if key.subject:
            self._pseudonyms[row] = key.subject
        made = core.encrypt(
            key.prepared,
            key.key_id,
            context,
            plaintext,
            salt=os.urandom(24),
            padded=self._padded,
        )
        return bytes(made)

    def opened(self, row: str, raw: Any, subject: RowId | None = None) -> bytes:
        """Return the encoded plaintext of *raw*; raises as `moved` does."""
        return self._opened(row, self._tenant.place.at(row), raw, subject)

    def _opened(self, row: str, context: bytes, raw: Any, subject: RowId | None) -> bytes:
        if not (isinstance(raw, bytes) and core.looks_encrypted(raw)):
            raise PlaintextFound("a column of ciphertext holds something else")
        key = raw[3:19]
        held = None if subject is None else self._before.get(key)
        try:
            held = held or self._resolver.to_move(self._whose(subject), key)
        except Tampered:
            if subject is None:
                raise
            held = self._before[key] = self._resolver.to_move(self._tenant.data, key)
        if held.subject:
            self._pseudonyms[row] = held.subject
        return core.decrypt(held.prepared, raw, context)

    def event(self, rows: Sequence[str], before: Iterable[bytes], *, failed: bool) -> Reencrypted:
        """Return the event of having moved the field in *rows* from the keys *before*, or of having failed to."""
        return Reencrypted(
            **who(self._acting, time=self._clock(), tenant=self._tenant.name),
            place=self._place,
            outcome=Outcome.FAILED if failed else Outcome.ALLOWED,
            rule=self._decision.rule,
            rows=tuple(rows) if self._key is not None else (),
            count=len(rows),
            key="" if failed or self._key is None else self._key.key_id.hex(),
            subjects=tuple(self._pseudonyms.pop(n) for n in rows if n in self._pseudonyms),
            before=tuple(sorted({key.hex() for key in before})),
        )


@final
class Indexing:
    """The permission to make tokens of one field and tenant anew. Made by `MovingField.indexing`."""

    __slots__ = ("_decode", "_moving", "_writing", "event", "shredded")

    def __init__(
        self,
        moving: Moving,
        writing: Writing,
        decode: Callable[[bytes], Any],
        shredded: Callable[[Collection[str]], frozenset[str]],
    ) -> None:
        self._moving = moving
        self._writing = writing
        self._decode = decode
        self.event = moving.event
        # Which of these subjects, by the texts of their ids, were shredded: the key store is asked
        # now, whatever keys are held.
        self.shredded = shredded

    def __repr__(self) -> str:
        return f"<Indexing {self._writing}>"

    def value(self, row: str, raw: Any, subject: RowId | None = None) -> Any:
        """
        Return the value of *raw*, in the row whose id text is *row*: for its tokens, and for nobody.

        Raises:
            PlaintextFound, Tampered, KeyUnavailable: it does not open.
        """
        return self._decode(self._moving.opened(row, raw, subject))

    def columns(self, value: Any, held: Sequence[bytes | None]) -> tuple[bytes | None, ...]:
        """
        Return what the columns of the indexes should hold for *value*, where they hold *held* now.

        Raises:
            InvalidValue: its normaliser does not take it.
        """
        return self._writing.indexed(value, held)


class MovingField(Field):
    """One encrypted field, for a job that moves its values to the present key."""

    def moving(self, *, tenant: str | None = None) -> Moving:
        """
        Decide on moving values of this field, once for many; good for as long as a batch takes.

        Raises:
            AccessDenied: no role has both rights, or somebody acts for another tenant than *tenant*.
            Tampered, KeyUnavailable: there is no key to move to.
        """
        acting = current()
        self._decided(acting, Right.DECRYPT, tenant)
        decision = self._decided(acting, Right.ENCRYPT, tenant)
        facts = self._tenant(acting, tenant)
        resolver = self._guard.resolver
        return Moving(
            acting=acting,
            decision=decision,
            tenant=facts,
            key=None if self.scheme.subject else resolver.to_encrypt(facts.data),
            whose=partial(self._whose, facts),
            padded=self._padded,
            resolver=resolver,
            place=self._place,
            clock=self._clock,
        )

    def indexing(self, *, tenant: str | None = None) -> Indexing:
        """Decide on making tokens of this field anew: as `moving`."""
        return Indexing(
            self.moving(tenant=tenant),
            self.writing(tenant=tenant),
            self._decode,
            partial(self._shredded, self._tenant(current(), tenant)),
        )

    def _shredded(self, tenant: TenantFacts, subjects: Collection[str]) -> frozenset[str]:
        texts = {tenant.of_subject(each).digest or b"": each for each in subjects}
        found = self._guard.store.subjects(tenant.subjects.scope, texts)
        return frozenset(texts[n] for n, held in found.items() if held.subject.shredded is not None)
