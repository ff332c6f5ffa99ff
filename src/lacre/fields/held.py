# SPDX-License-Identifier: Apache-2.0
"""
A field whose values are held by objects: what an ORM needs besides `Field`.

Looks are decided and recorded as everywhere. `holds` and `reopened` decrypt for the unit of work,
which encrypts anew or leaves alone; they hand nothing to a principal, so they are no looks.
"""

from collections.abc import Sequence
from typing import Any

from lacre._core import field as core
from lacre._core.blind import token
from lacre.audit.events import Looked, Outcome, Written
from lacre.context import current
from lacre.errors import InvalidValue, KeyUnavailable, Tampered
from lacre.fields.field import Field
from lacre.fields.rows import RowId, row_text
from lacre.fields.stored import IndexToken
from lacre.policy.model import Right

__all__ = ["HeldField"]


class HeldField(Field):
    """One encrypted column of a mapped class."""

    def look_at_pending(self, value: Any) -> Any:
        """Look at a value that was assigned and not encrypted yet: decided and recorded like any other."""
        acting = current()
        decision = self._guard.policy.decide(acting, self.scheme.class_, Right.DECRYPT)
        tenant = self._tenant(acting)
        if decision.outcome is Outcome.DENIED:
            return self._denied(acting, tenant, decision, "")
        self._record(Looked, acting, tenant, decision, "", b"")
        return value if decision.outcome is Outcome.ALLOWED else self._mask(value)

    def look_at_stored(self, raw: Any, *, row: RowId) -> Any:
        """`decrypt`, of what a binary column holds: text in it is plaintext, whatever it looks like."""
        return self.decrypt(
            raw if isinstance(raw, bytes | bytearray | memoryview) else memoryview(b""), row=row
        )

    def take_out(self, raw: Any, *, row: RowId) -> Any:
        """
        Return the value, to be encrypted anew for another row id. Recorded as a look.

        Raises:
            AccessDenied: the principal may not decrypt, so it cannot move the row either.
        """
        self._decided(current(), Right.DECRYPT)
        return self.look_at_stored(raw, row=row)

    def reopened(self, raw: Any, *, row: RowId) -> Any:
        """
        Return the value of *raw*, to be encrypted anew in the same place.

        Raises:
            Tampered: it is not a value of this field and *row*.
        """
        return self._decode(self._plain(raw, row))

    def holds(self, raw: Any, value: Any, *, row: RowId) -> bool:
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
            return self._plain(raw, row) == bytes(self._encode(value))
        except (Tampered, InvalidValue, KeyUnavailable):
            return False

    def decide_on_clearing(self) -> None:
        """
        Raise unless the principal may put NULL in place of a value: it destroys the value, as a write does.

        Raises:
            AccessDenied: no role has the right to encrypt.
        """
        self._decided(current(), Right.ENCRYPT)

    def cleared(self, rows: Sequence[RowId]) -> Written:
        """Return the event of having put NULL in place of values in *rows*: a write without a key."""
        acting = current()
        decision = self._decided(acting, Right.ENCRYPT)
        return Written(
            **self._who(acting, self._tenant(acting)),
            place=self._place,
            outcome=decision.outcome,
            rule=decision.rule,
            rows=tuple(row_text(row) for row in rows),
            count=len(rows),
            key="",
        )

    def tokens_of_other_roots(self, value: Any) -> list[IndexToken]:
        """Return the tokens of *value* under every index root but the active one: before a rotation, or just after."""
        tenant = self._tenant(current())
        index = self.index()
        roots = self._guard.resolver.searchable(tenant.index)[1:]
        normalised = index.normalised(value, self._codec) if roots else b""
        return [
            IndexToken(token(self._index_key(tenant, index, root).reveal(), normalised, index.bits))
            for root in roots
        ]

    def _plain(self, raw: Any, row: RowId) -> bytes:
        if not isinstance(raw, bytes | bytearray | memoryview):
            raise Tampered  # plaintext that somebody put there
        tenant = self._tenant(current())
        key = self._guard.resolver.to_decrypt(tenant.data, core.key_id_of(raw))
        return core.decrypt(key.prepared, raw, tenant.place.at(row_text(row)))
