# SPDX-License-Identifier: Apache-2.0
"""
A field whose values are held by objects: what an ORM needs besides `Field`.

Looks are decided and recorded as everywhere. `holds` and `reopened` decrypt for the unit of work,
which encrypts anew or leaves alone; they hand nothing to a principal, so they are no looks.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from lacre._core import field as core
from lacre.audit.event import Outcome
from lacre.audit.events import Looked, Written
from lacre.context import Acting, current
from lacre.errors import InvalidValue, KeyUnavailable, Tampered
from lacre.fields.field import Field
from lacre.fields.guard import TenantFacts
from lacre.fields.reading import Reading
from lacre.fields.rows import RowId, row_text
from lacre.policy.decisions import Decision
from lacre.policy.model import Right

__all__ = ["HeldField"]

_BINARY = (bytes, bytearray, memoryview)  # a tuple: the union would be made anew for every look


class HeldField(Field):
    """One encrypted column of a mapped class."""

    def look_at_pending(self, value: Any, *, tenant: str | None = None) -> Any:
        """Look at a value that was assigned and not encrypted yet: decided and recorded like any other."""
        acting = current()
        decision = self._guard.policy.decide(acting, self.scheme.class_, Right.DECRYPT)
        facts = self._tenant(acting, tenant)
        decision = self._charged(acting, decision, facts)
        if decision.outcome is Outcome.DENIED:
            return self._denied(acting, facts, decision, "")
        self._record(Looked, acting, facts, decision, "")
        return value if decision.outcome is Outcome.ALLOWED else self._mask(value)

    def look_at_stored(
        self, raw: Any, *, row: RowId, tenant: str | None = None, subject: RowId | None = None
    ) -> Any:
        """`decrypt`, of what a binary column holds: text in it is plaintext, whatever it looks like."""
        return self.decrypt(
            raw if isinstance(raw, _BINARY) else memoryview(b""),
            row=row,
            tenant=tenant,
            subject=subject,
        )

    def reading(self, *, tenant: str | None = None) -> Reading:
        """
        Decide on decrypting this field, once for many values, which the caller records before
        it hands one out.

        Raises:
            AccessDenied: the policy gives this reader nothing, or somebody acts for another tenant
                than *tenant*.
        """
        acting = current()
        decision = self.may_read()
        facts = self._tenant(acting, tenant)
        mask: Any = None
        if decision.outcome is Outcome.MASKED:
            mask = self._mask
        elif decision.outcome is Outcome.DENIED:
            mask = self._hidden
        return Reading(
            decision=decision,
            scheme=self.scheme,
            acting=acting,
            tenant=facts,
            prefetch=partial(self.prefetch, tenant=tenant),
            open_one=self._opened,
            mask=mask,
            failed=partial(self._failed, acting, facts, decision),
            draw=None
            if self._openings is None
            else partial(self._openings.draw, acting, facts.name, self._column),
            charge=None
            if self._budget is None or not self._budget.counts_bulk
            else partial(self._charge_bulk, acting, facts, decision),
        )

    def _charge_bulk(
        self, acting: Acting, facts: TenantFacts, decision: Decision, looks: int
    ) -> None:
        # Refused whatever the budget says comes then: a file of values and masks would be read as
        # one of values.
        charged = self._charged(acting, decision, facts, looks)
        if charged is decision and self._guard.budgets is not None:
            # A reading process has looked at nothing before, and a batch is many looks: here, where
            # I/O is made anyway, it waits to hear what others spent.
            self._guard.budgets.exchange()
            charged = self._charged(acting, decision, facts, 0)
        if charged is not decision:
            raise self._denied_use(acting, Right.DECRYPT, charged, facts.name)

    def may_read(self) -> Decision:
        """
        Decide on decrypting this field. What is not allowed is answered with masks.

        Raises:
            AccessDenied: the policy gives this reader nothing, not even those.
        """
        acting = current()
        decision = self._guard.policy.decide(acting, self.scheme.class_, Right.DECRYPT)
        hidden = self._guard.policy.class_(self.scheme.class_).denied == "mask"
        if decision.outcome is Outcome.DENIED and not hidden:
            raise self._denied_use(acting, Right.DECRYPT, decision)
        return decision

    def _failed(
        self, acting: Acting, facts: TenantFacts, decision: Decision, row: str, key_id: bytes
    ) -> None:
        failed = Decision(Outcome.FAILED, decision.rule)
        self._record(Looked, acting, facts, failed, self._named(row), key_id)

    def take_out(
        self, raw: Any, *, row: RowId, tenant: str | None = None, subject: RowId | None = None
    ) -> Any:
        """
        Return the value, to be encrypted anew for another row id. Recorded as a look.

        Raises:
            AccessDenied: the principal may not decrypt, so it cannot move the row either.
        """
        self._decided(current(), Right.DECRYPT, tenant)
        return self.look_at_stored(raw, row=row, tenant=tenant, subject=subject)

    def reopened(
        self, raw: Any, *, row: RowId, tenant: str | None = None, subject: RowId | None = None
    ) -> Any:
        """
        Return the value of *raw*, to be encrypted anew in the same place.

        Raises:
            Tampered: it is not a value of this field and *row*.
        """
        return self._decode(self._plain(raw, row, tenant, subject))

    def holds(
        self,
        raw: Any,
        value: Any,
        *,
        row: RowId,
        tenant: str | None = None,
        subject: RowId | None = None,
    ) -> bool:
        """
        Whether *raw* is *value*, encrypted. False too where the principal may not decrypt.

        Assigning the value that is there already must not encrypt it anew, and must not answer
        the question what is there.
        """
        acting = current()
        if (
            self._guard.policy.decide(acting, self.scheme.class_, Right.DECRYPT).outcome
            is not Outcome.ALLOWED
        ):
            return False
        try:
            return self._plain(raw, row, tenant, subject) == bytes(self._encode(value))
        except (Tampered, InvalidValue, KeyUnavailable):
            return False

    def shows(
        self,
        raw: Any,
        text: str,
        *,
        row: RowId,
        tenant: str | None = None,
        subject: RowId | None = None,
    ) -> bool:
        """
        Whether *text* is what the principal sees of *raw* in place of the value.

        A form that was filled with a mask sends its text back, which is not a `Mask` any more.
        """
        acting = current()
        decision = self._guard.policy.decide(acting, self.scheme.class_, Right.DECRYPT)
        if decision.outcome is Outcome.DENIED:
            hidden = self._guard.policy.class_(self.scheme.class_).denied == "mask"
            return hidden and str(self._hidden(None)) == text
        try:
            return decision.outcome is Outcome.MASKED and text == str(
                self._mask(self._decode(self._plain(raw, row, tenant, subject)))
            )
        except (Tampered, InvalidValue, KeyUnavailable):
            return False

    def clearing(self, *, tenant: str | None = None) -> Callable[[Sequence[RowId]], Written]:
        """
        Decide on putting NULL in place of values, which destroys them as a write does. Return what
        makes the event of it from the rows: a write without a key.

        Raises:
            AccessDenied: no role has the right to encrypt.
        """
        acting = current()
        decision = self._decided(acting, Right.ENCRYPT, tenant)
        facts = self._tenant(acting, tenant)
        return partial(self._cleared, acting, decision, facts)

    def _cleared(
        self, acting: Acting, decision: Decision, facts: TenantFacts, rows: Sequence[RowId]
    ) -> Written:
        return Written(
            **self._who(acting, facts),
            place=self._place,
            outcome=decision.outcome,
            rule=decision.rule,
            rows=tuple(self._named(row_text(row)) for row in rows),
            count=len(rows),
            key="",
        )

    def _plain(self, raw: Any, row: RowId, of_row: str | None, subject: RowId | None) -> bytes:
        if not isinstance(raw, _BINARY):
            raise Tampered  # plaintext that somebody put there
        tenant = self._tenant(current(), of_row)
        key = self._to_decrypt(tenant, subject, core.key_id_of(raw))
        return core.decrypt(key.prepared, raw, tenant.place.at(row_text(row)))
