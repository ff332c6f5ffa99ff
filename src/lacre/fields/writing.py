# SPDX-License-Identifier: Apache-2.0
"""
One decision to encrypt a field for one tenant, and what is made under it: for a flush or a statement.

Rule 1: it is good for the acting it was decided for, and no longer than its caller's flush or
        statement: revocation waits for it.
Rule 2: its event names the principal and the key that really encrypted, whoever acts when the event
        is recorded.

Does not decide (`lacre.fields.field` does, and hands one of these out) and does no SQL.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, final

from lacre._core.derive import PreparedKey
from lacre.audit.event import Place, who
from lacre.audit.events import Look, Written, told
from lacre.context import Acting
from lacre.errors import UnsupportedQuery
from lacre.fields.codecs import Codec
from lacre.fields.guard import TenantFacts
from lacre.fields.index import Index, Question
from lacre.fields.rows import RowId, row_text
from lacre.fields.stored import IndexTokens, Stored
from lacre.keys.resolver import ScopeHandle, UsableKey
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
        "_even",
        "_indexes",
        "_key",
        "_keys",
        "_other",
        "_others",
        "_place",
        "_resolve",
        "_seal",
        "_slotted",
        "_tenant",
        "_whose",
        "acting",
    )

    def __init__(
        self,
        *,
        acting: Acting,
        decision: Decision,
        tenant: TenantFacts,
        key: UsableKey | None,
        whose: Callable[[RowId | None], ScopeHandle],
        resolve: Callable[[Collection[ScopeHandle]], dict[bytes, UsableKey]],
        indexes: Indexes,
        other: Indexes,
        even: bool,
        others: Callable[[], Sequence[Indexes]],
        seal: Seal,
        codec: Codec,
        place: Place,
        clock: Callable[[], float],
    ) -> None:
        self.acting = acting
        self._decision = decision
        self._tenant = tenant
        # Of one key for all values, or of a key for each subject: held as long as this is.
        self._key = key
        self._keys: dict[str, UsableKey] = {}
        self._whose = whose
        self._resolve = resolve
        self._indexes = tuple(indexes)
        # Of unique indexes: under the root of the other parity than the active one, which is *even*.
        self._other = tuple(other)
        self._even = even
        self._slotted = any(index.unique for index, _ in indexes)
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
    def tenant(self) -> str:
        """Whose values are encrypted."""
        return self._tenant.name

    def get_ready(self, subjects: Iterable[RowId]) -> None:
        """Resolve the keys of *subjects*, and make those that are missing, in few statements."""
        handles = {row_text(subject): self._whose(subject) for subject in subjects}
        wanted = {text: handle for text, handle in handles.items() if text not in self._keys}
        if wanted:
            found = self._resolve(wanted.values())
            self._keys.update({text: found[handle.token] for text, handle in wanted.items()})

    def _of_subject(self, subject: RowId | None) -> UsableKey:
        if subject is None:
            self._whose(subject)  # raises: whom the value is about is missing
            raise KeyError
        text = row_text(subject)
        if text not in self._keys:
            self.get_ready([subject])
        return self._keys[text]

    def stored(self, row: str, value: Any, subject: RowId | None = None) -> Stored:
        """
        Encrypt *value*, which is not None, for the row whose id text is *row*, with its tokens.

        Args:
            subject: whom it is about, where the field's values have subjects.

        Raises:
            InvalidValue, AlreadyEncrypted, MaskWritten
            MisuseError: *subject* is missing, or is one too many.
        """
        key = self._key
        if key is None or subject is not None:
            key = self._of_subject(subject)
        sealed = self._seal(value, row, self._tenant, key)
        tokens = self._tokens(value, self._indexes) if self._indexes else ()
        columns = self._columns(value, tokens) if self._slotted else tokens
        # Stored(...) without the detour by way of its keyword arguments.
        return tuple.__new__(Stored, (sealed, tokens, columns))

    def indexed(self, value: Any, held: Sequence[bytes | None] = ()) -> tuple[bytes | None, ...]:
        """
        Return what the columns of the indexes hold for *value*: `Stored.columns` without its ciphertext.

        Args:
            held: what they hold now. Of several tokens some are random: where those of the value
                are among as many as there should be, they stay.
        """
        tokens = self._tokens(value, self._indexes)
        made: list[bytes | None] = [*(self._columns(value, tokens) if self._slotted else tokens)]
        at = 0
        for index, keys in self._indexes:
            fresh, found = made[at], held[at] if held else None
            if index.several and isinstance(fresh, IndexTokens) and isinstance(found, IndexTokens):
                known = IndexTokens(index.known(value, self._codec, keys))
                if len(found) == len(fresh) and {*known.numbers} <= {*found.numbers}:
                    made[at] = found
            at += 2 if index.unique else 1
        return tuple(made)

    def _columns(self, value: Any, tokens: tuple[bytes, ...]) -> tuple[bytes | None, ...]:
        # A unique index has a slot for the roots of odd versions and one for those of even ones,
        # each with a constraint. While two roots live both are filled, by every process that knows
        # both: so whatever version another one goes by, the database compares like with like.
        others = self._tokens(value, self._other) if self._other else ()
        columns: list[bytes | None] = []
        for at, (index, _) in enumerate(self._indexes):
            if not index.unique:
                columns.append(tokens[at])
                continue
            other = others[at] if others else None
            columns += (other, tokens[at]) if self._even else (tokens[at], other)
        return tuple(columns)

    def fits(self, value: Any, position: int, held: Any) -> bool:
        """
        Whether *held* is what the index at *position* has for *value*, under any root in use.

        Of an index of several tokens only those are asked for that a search of the value would
        ask for: among what is stored are random ones.
        """
        others = self._others[position] if self.has_other_roots else ()
        return any(
            _fits(index, keys, value, held, self._codec)
            for index, keys in (self._indexes[position], *others)
        )

    def tokens(self, value: Any) -> tuple[bytes, ...]:
        """
        Return what each index has for *value*, which is not encrypted: several values together.

        Raises:
            InvalidValue
        """
        return self._tokens(value, self._indexes)

    def name(self, row: str, subject: RowId | None = None) -> str:
        """Return what the event calls a value by: its row's id text, or its subject's pseudonym."""
        if self._key is not None and subject is None:  # mostly
            return row
        return self._of_subject(subject).subject

    def record(
        self,
        record_look: Callable[[Look], None],
        row: str,
        key_id: bytes,
        subject: RowId | None = None,
    ) -> None:
        """Record that the value of *row*, which is *subject*'s, was encrypted, as soon as it was."""
        key = self._key if self._key is not None else self._of_subject(subject)
        record_look(
            Look(
                Written,
                self._clock(),
                self.acting,
                self._tenant.name,
                self._place,
                self._decision.outcome,
                self._decision.rule,
                "" if key.subject else row,
                key_id,
                key.used(),
                key.subject,
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

    def tokens_of_every_root(self, value: Any, position: int) -> list[bytes]:
        """Return what the index at *position* has for *value* under every root in use, encrypting nothing."""
        active = self._tokens(value, [self._indexes[position]])
        return [*active, *self.tokens_of_other_roots(value, position)]

    def _tokens(self, value: Any, indexes: Indexes) -> tuple[bytes, ...]:
        codec = self._codec
        if len(indexes) == 1:  # mostly, and the generator would take as long as the hash
            index, keys = indexes[0]
            return (index.tokens(value, codec, keys),)
        return tuple(index.tokens(value, codec, keys) for index, keys in indexes)

    def _named(self) -> str:
        # Of many subjects no single one: each row's own ciphertext names it.
        keys = (
            {key.key_id for key in self._keys.values()} if self._key is None else {self._key.key_id}
        )
        return keys.pop().hex() if len(keys) == 1 else ""

    def event(self, names: Sequence[str]) -> Written:
        """Return the event of having encrypted the field in rows, by what `name` calls each of them."""
        used = [*self._keys.values()] if self._key is None else [self._key]
        named = tuple(name for name in names if name)
        return Written(
            **who(self.acting, time=self._clock(), tenant=self._tenant.name),
            place=self._place,
            outcome=self._decision.outcome,
            rule=self._decision.rule,
            rows=() if self._key is None else named,
            count=len(names),
            key=self._named(),
            cache=told({key.used() for key in used}),
            subjects=named if self._key is None else (),
        )


def _fits(index: Index, keys: Any, value: Any, held: Any, codec: Codec) -> bool:
    if not index.several:
        return bool(held == index.tokens(value, codec, keys))
    if not isinstance(held, IndexTokens):
        return False
    if held == index.always:
        return True
    question: Question = "contains" if "contains" in index.questions else "startswith"
    try:
        asked = index.asked(question, value, codec, keys)
    except UnsupportedQuery:
        return True  # too short to be found by this index, whatever is stored
    return isinstance(asked, IndexTokens) and set(asked.numbers) <= set(held.numbers)
