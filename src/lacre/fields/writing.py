# SPDX-License-Identifier: Apache-2.0
"""
One decision to encrypt a field for one tenant, and what is made under it: for a flush or a statement.

Rule 1: it is good for the acting it was decided for, and no longer than its caller's flush or
        statement: revocation waits for it.
Rule 2: its event names the principal and the key that really encrypted, whoever acts when the event
        is recorded.

Does not decide (`lacre.fields.field` does, and hands one of these out) and does no SQL.
"""

from collections.abc import Callable, Sequence
from typing import Any, final

from lacre._core.derive import PreparedKey
from lacre.audit.events import Look, Place, Written, who
from lacre.context import Acting
from lacre.fields.codecs import Codec
from lacre.fields.guard import TenantFacts
from lacre.fields.index import Index
from lacre.fields.rows import RowId, row_text
from lacre.fields.stored import Stored
from lacre.keys.resolver import UsableKey
from lacre.policy.decisions import Decision

__all__ = ["Writing"]

Indexes = Sequence[tuple[Index, Sequence[PreparedKey]]]
Seal = Callable[[Any, str, TenantFacts, UsableKey], bytes | bytearray]


@final
class Writing:
    """The permission to encrypt one field for one tenant. Made by `Field.writing`; prints no key."""

    __slots__ = (
        "_clock",
        "_codec",
        "_decision",
        "_indexes",
        "_key",
        "_others",
        "_place",
        "_seal",
        "_tenant",
        "acting",
    )

    def __init__(
        self,
        *,
        acting: Acting,
        decision: Decision,
        tenant: TenantFacts,
        key: UsableKey,
        indexes: Indexes,
        others: Callable[[], Sequence[Indexes]],
        seal: Seal,
        codec: Codec,
        place: Place,
        clock: Callable[[], float],
    ) -> None:
        self.acting = acting
        self._decision = decision
        self._tenant = tenant
        self._key = key
        self._indexes = tuple(indexes)
        self._others: Any = others  # until it is asked for: then what it gave, for each index
        self._seal = seal
        self._codec = codec
        self._place = place
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Writing {self._place.table}.{self._place.column}>"

    def __str__(self) -> str:
        return f"{self._place.table}.{self._place.column}"

    @property
    def key_id(self) -> bytes:
        """The id of the key that encrypts."""
        return self._key.key_id

    @property
    def tenant(self) -> str:
        """Whose values are encrypted."""
        return self._tenant.name

    def stored(self, row: str, value: Any) -> Stored:
        """
        Encrypt *value*, which is not None, for the row whose id text is *row*, with its tokens.

        Raises:
            InvalidValue, AlreadyEncrypted, MaskWritten
        """
        sealed = self._seal(value, row, self._tenant, self._key)
        tokens = self._tokens(value, self._indexes) if self._indexes else ()
        # Stored(...) without the detour by way of its keyword arguments.
        return tuple.__new__(Stored, (sealed, tokens))

    def tokens(self, value: Any) -> tuple[bytes, ...]:
        """Return what each index has for *value* under the active root: for a comparison."""
        return self._tokens(value, self._indexes)

    def record(self, record_look: Callable[[Look], None], row: str) -> None:
        """Record that the value of *row* was encrypted, as soon as it was."""
        record_look(
            Look(
                Written,
                self._clock(),
                self.acting,
                self._tenant.name,
                self._place,
                self._decision.outcome,
                self._decision.rule,
                row,
                self._key.key_id,
            )
        )

    @property
    def has_other_roots(self) -> bool:
        """Whether an index root but the active one is still in use."""
        if callable(self._others):
            self._others = self._others()
        return any(self._others)

    def tokens_of_other_roots(self, value: Any, position: int = 0) -> list[bytes]:
        """
        Return what the index at *position* has for *value* under every root but the active one:
        before a rotation, or just after.
        """
        return list(self._tokens(value, self._others[position])) if self.has_other_roots else []

    def _tokens(self, value: Any, indexes: Indexes) -> tuple[bytes, ...]:
        codec = self._codec
        if len(indexes) == 1:  # mostly, and the generator would take as long as the hash
            index, keys = indexes[0]
            return (index.tokens(value, codec, keys),)
        return tuple(index.tokens(value, codec, keys) for index, keys in indexes)

    def event(self, rows: Sequence[RowId]) -> Written:
        """Return the event of having encrypted the field in *rows*."""
        return Written(
            **who(self.acting, time=self._clock(), tenant=self._tenant.name),
            place=self._place,
            outcome=self._decision.outcome,
            rule=self._decision.rule,
            rows=tuple(row_text(row) for row in rows),
            count=len(rows),
            key=self._key.key_id.hex(),
        )
