# SPDX-License-Identifier: Apache-2.0
"""
One decision to decrypt a field for one tenant, and what is opened under it: for a batch of rows.

Rule: the caller records the batch before a value of it leaves. What does not open is recorded here.

Does not decide (`lacre.fields.held` does, and hands one of these out) and does no SQL.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

from lacre._core.field import key_id_of
from lacre.audit.event import Outcome
from lacre.context import Acting
from lacre.errors import KeyDestroyed, KeyUnavailable, PlaintextFound, Tampered
from lacre.fields.guard import TenantFacts
from lacre.fields.rows import RowId
from lacre.fields.scheme import Scheme
from lacre.policy.decisions import Decision
from lacre.sensitive import Mask

__all__ = ["Reading"]


@final
class Reading:
    """The permission to read one field for one tenant. Made by `HeldField.reading`; holds no value."""

    __slots__ = (
        "_charge",
        "_draw",
        "_failed",
        "_mask",
        "_open_one",
        "_prefetch",
        "_tenant",
        "acting",
        "decision",
        "erased",
        "keys",
        "scheme",
        "subjects",
    )

    def __init__(
        self,
        *,
        decision: Decision,
        scheme: Scheme,
        acting: Acting,
        tenant: TenantFacts,
        prefetch: Callable[[Iterable[Any]], None],
        open_one: Callable[..., Any],
        mask: Callable[[object], Mask] | None,
        failed: Callable[[str, bytes], None],
        draw: Callable[[int], None] | None = None,
        charge: Callable[[int], None] | None = None,
    ) -> None:
        self.decision = decision
        self.scheme = scheme
        self.acting = acting
        self.keys: set[bytes] = set()  # that opened a value
        self.subjects: set[str] = set()  # pseudonyms of whom the values were about
        self.erased = 0  # values whose subject was shredded, read as NULL
        self._tenant = tenant
        self._prefetch = prefetch
        self._open_one = open_one
        self._mask = mask
        self._failed = failed
        self._draw = draw
        self._charge = charge

    def __repr__(self) -> str:
        return f"<Reading {self.scheme}>"

    @property
    def tenant(self) -> str:
        """Whose values are read."""
        return self._tenant.name

    def opened(
        self, items: Sequence[tuple[str, Any]], *, subjects: Sequence[RowId] | None = None
    ) -> list[Any]:
        """
        Return the values of (row id text, what the column holds): as masks, for who gets those.

        *subjects* are those of the items, where the field's values have subjects.

        NULL stays None, and a value whose subject was shredded is None too, and counted in
        `erased`. After one query for the keys they name.

        Raises:
            Tampered, PlaintextFound, KeyUnavailable: one does not open; recorded, and none is returned.
            AccessDenied: they are more than is left of the reader's budget.
        """
        if self.decision.outcome is Outcome.DENIED:
            # Of one constant, so nothing is opened for it.
            mask: Any = self._mask
            return [None if raw is None else mask(None) for _, raw in items]
        if self._charge is not None:
            self._charge(sum(1 for _, raw in items if raw is not None))
        if self._draw is not None:
            self._draw(len(items))
        self._prefetch([raw for _, raw in items if raw is not None])
        open_one, tenant, keys, masked = self._open_one, self._tenant, self.keys, self._mask
        values: list[Any] = []
        for number, (row, raw) in enumerate(items):
            if raw is None:
                values.append(None)
                continue
            try:
                subject = None if subjects is None else subjects[number]
                value = open_one(raw, row, tenant, subject, names=self.subjects)
            except KeyDestroyed:
                if subjects is None:
                    values.clear()
                    self._failed(row, b"")
                    raise
                # Erased on purpose, person by person: the others' values are still to be had.
                self.erased += 1
                values.append(None)
                continue
            except (Tampered, PlaintextFound, KeyUnavailable):
                values.clear()  # whoever logs the locals of a traceback must not log what opened
                self._failed(row, b"")
                raise
            keys.add(key_id_of(raw))
            values.append(value if masked is None else masked(value))
        return values
