# SPDX-License-Identifier: Apache-2.0
"""
One encrypted field: decides, encrypts, decrypts and records, without an ORM.

Rule 1: no value leaves before its look is recorded, no ciphertext before the policy allowed it.
Rule 2: ciphertext and index tokens of one value are made by one call (`prepare`).
Rule 3: a plaintext is never kept here; keys are, by the resolver.

Does no SQL and does not know how a row is stored: the caller names the row.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any

from lacre._core import field as core
from lacre._core.textform import to_json, to_text
from lacre.audit.event import Outcome
from lacre.audit.events import Looked, Written
from lacre.context import current
from lacre.errors import (
    KeyDestroyed,
    KeyUnavailable,
    MisuseError,
    PlaintextFound,
    Tampered,
)
from lacre.fields.guard import TenantFacts
from lacre.fields.index import Index, Question
from lacre.fields.rows import RowId, row_text
from lacre.fields.sealing import Sealing
from lacre.fields.searching import Searchable
from lacre.fields.stored import Sealed, Stored
from lacre.fields.writing import Writing
from lacre.policy.decisions import Decision
from lacre.policy.model import Right

__all__ = ["Field"]

_BINARY = (bytes, bytearray, memoryview)  # a tuple: the union would be made anew for every look


class Field(Sealing, Searchable):
    """
    One encrypted field of an application; `Lacre.field` makes it.

    Every method acts as whoever `acting_as` says, and raises `NoPrincipal`, `ActingEnded` or
    `NoTenant` where nobody does; `AccessDenied` where the policy says no; `EvidenceUnavailable`
    where it could not be recorded; and the `KeyUnavailable` family where the key cannot be had.
    """

    _timed = ("encrypt", "encrypt_many", "decrypt", "prefetch", "search_tokens")

    # Writing

    def encrypt(
        self,
        value: Any,
        *,
        row: RowId,
        tenant: str | None = None,
        subject: RowId | None = None,
    ) -> Sealed | bytearray | None:
        """
        Encrypt *value* for its row. None stays None: NULL is not encrypted.

        Args:
            tenant: whose row it is, where the row says so; else whoever acts does.
            subject: the id of whom the value is about, where the field's values have subjects.
                Who has no key yet gets one; who was shredded gets none.

        Returns:
            The ciphertext to store; for values of 64 KiB and more a bytearray, so that no
            second copy is made.

        Raises:
            InvalidValue: the field's type cannot carry the value.
            AlreadyEncrypted, MaskWritten: the value is a ciphertext, or a mask.
            AccessDenied: also where somebody acts for another tenant than *tenant*.
            MisuseError: *subject* is missing, or is one too many.
        """
        if value is None:
            return None
        acting = current()
        guard = self._guard
        decision = guard.policy.decide(acting, self.scheme.class_, Right.ENCRYPT)
        if decision.outcome is not Outcome.ALLOWED:
            raise self._denied_use(acting, Right.ENCRYPT, decision, tenant)
        facts = self._tenant(acting, tenant)
        key = guard.resolver.to_encrypt(self._whose(facts, subject))
        text = row_text(row)
        sealed = self._sealed(value, text, facts, key)
        self._record(
            Written,
            acting,
            facts,
            decision,
            "" if key.subject else text,
            key.key_id,
            key.used(),
            key.subject,
        )
        return Sealed(sealed) if isinstance(sealed, bytes) else sealed

    def writing(self, *, tenant: str | None = None) -> Writing:
        """
        Decide on encrypting this field, once for many values, which the caller records.

        Raises:
            AccessDenied: no role has the right, or somebody acts for another tenant than *tenant*.
        """
        acting = current()
        decision = self._decided(acting, Right.ENCRYPT, tenant)
        facts = self._tenant(acting, tenant)
        resolver, indexes = self._guard.resolver, self.scheme.indexes
        root = resolver.to_encrypt(facts.index) if indexes else None
        other = self._other_root(facts, root) if self._unique and root is not None else None
        return Writing(
            acting=acting,
            decision=decision,
            tenant=facts,
            key=None if self.scheme.subject else resolver.to_encrypt(facts.data),
            whose=partial(self._whose, facts),
            resolve=resolver.to_encrypt_all,
            indexes=self._keyed(facts, root),
            other=self._keyed(facts, other),
            even=root is not None and root.version % 2 == 0,
            others=lambda: [
                [
                    (index, self._index_keys(facts, index, root))
                    for root in resolver.searchable(facts.index)[1:]
                ]
                for index in indexes
            ],
            seal=self._sealed,
            codec=self._codec,
            place=self._place,
            clock=self._clock,
        )

    def prepare(
        self,
        value: Any,
        *,
        row: RowId,
        tenant: str | None = None,
        subject: RowId | None = None,
    ) -> Stored:
        """Encrypt *value* and make its index tokens, in one call: they never disagree."""
        return self.prepare_many([(row, value)], tenant=tenant, subjects=_one(subject))[0]

    def prepare_many(
        self,
        items: Sequence[tuple[RowId, Any]],
        *,
        recorded: bool = True,
        tenant: str | None = None,
        subjects: Sequence[RowId] | None = None,
    ) -> list[Stored]:
        """
        `prepare` for many (row, value), none of them None, with one decision.

        New subjects get their keys in a few statements for all of them.

        Args:
            recorded: False where the caller records the writes in its own transaction, with
                `written`.
            tenant: whose rows they are, where the rows say so.
            subjects: of each item whom it is about, where the field's values have subjects.
        """
        writing = self.writing(tenant=tenant)
        if subjects is not None:
            writing.get_ready(subjects)
        stored = []
        for (row, value), subject in _each(items, subjects):
            text = row_text(row)
            made = writing.stored(text, value, subject)
            stored.append(made)
            if recorded:
                writing.record(self._record_look, text, bytes(made.value[3:19]), subject)
        return stored

    def written(self, rows: Sequence[RowId], *, tenant: str | None = None) -> Written:
        """
        Return the event of having encrypted this field in *rows*, for a caller that records it.

        Of a field whose values have subjects it says how many rows, and not which.
        """
        return self.writing(tenant=tenant).event([self._named(row_text(row)) for row in rows])

    def encrypt_many(
        self,
        items: Iterable[tuple[RowId, Any]],
        *,
        tenant: str | None = None,
        subjects: Sequence[RowId] | None = None,
    ) -> list[Sealed | bytearray | None]:
        """`encrypt` for many (row, value); *subjects* as in `prepare_many`."""
        items = list(items)
        # Held until the last is encrypted: they may be more than the cache takes.
        _held = self._ready(subjects, tenant) if subjects is not None else None
        return [
            self.encrypt(value, row=row, tenant=tenant, subject=subject)
            for (row, value), subject in _each(items, subjects)
        ]

    def _ready(self, subjects: Sequence[RowId], tenant: str | None) -> Writing:
        writing = self.writing(tenant=tenant)
        writing.get_ready(subjects)
        return writing

    def encrypt_text(
        self,
        value: Any,
        *,
        row: RowId,
        tenant: str | None = None,
        subject: RowId | None = None,
    ) -> str | None:
        """`encrypt`, as canonical base64url text for a text column."""
        sealed = self.encrypt(value, row=row, tenant=tenant, subject=subject)
        return None if sealed is None else to_text(sealed)

    def encrypt_json(
        self,
        value: Any,
        *,
        row: RowId,
        tenant: str | None = None,
        subject: RowId | None = None,
    ) -> dict[str, Any] | None:
        """`encrypt`, as the seven-member JSON form (``spec/field-format.md``)."""
        sealed = self.encrypt(value, row=row, tenant=tenant, subject=subject)
        return None if sealed is None else to_json(sealed)

    # Reading

    def decrypt(
        self,
        sealed: bytes | bytearray | memoryview | str | Mapping[str, Any] | None,
        *,
        row: RowId,
        tenant: str | None = None,
        subject: RowId | None = None,
    ) -> Any:
        """
        Look at a value: decide, decrypt, record. None stays None.

        Args:
            sealed: in its binary, text or JSON form.
            tenant: whose row it is, where the row says so; else whoever acts does.
            subject: the id of whom the value is about, where the field's values have subjects.

        Returns:
            The value; or a `Mask`, for a reader to whom the policy gives one.

        Raises:
            AccessDenied: the policy gives this reader nothing.
            Tampered: the value was altered, moved, or is of another field.
            PlaintextFound: it is not a lacre value at all.
            KeyDestroyed: the subject was shredded.
            MisuseError: *subject* is missing, or is one too many.
        """
        if sealed is None:
            return None
        acting, guard = current(), self._guard
        # Whoever looks at one value mostly looks at the next: what was found for the same acting
        # and tenant, by identity of the acting, is what would be found again.
        last = self._looking
        if last is not None and last[0] is acting and last[1] == tenant:
            _, _, decision, facts = last
        else:
            decision = guard.policy.decide(acting, self.scheme.class_, Right.DECRYPT)
            facts = self._tenant(acting, tenant)
            self._looking = (acting, tenant, decision, facts)
        text = row_text(row)
        if self._budget is not None:
            decision = self._charged(acting, decision, facts)
        if decision.outcome is Outcome.DENIED:
            claimed = self._claimed(facts, sealed, subject) if self.scheme.subject else (b"", "")
            return self._denied(acting, facts, decision, text, claimed)
        if self._openings is not None:
            self._openings.draw(acting, facts.name, self._column)
        key_id = b""
        try:
            binary = isinstance(sealed, _BINARY) and core.looks_encrypted(sealed)
            raw: Any = sealed if binary else self._binary(sealed)
            key_id = bytes(raw[3:19])
            if subject is None and not self.scheme.subject:  # mostly, and a call less
                key = guard.resolver.to_decrypt(facts.data, key_id)
            else:
                key = self._to_decrypt(facts, subject, key_id)
            value = self._decode(core.decrypt(key.prepared, raw, facts.place.at(text)))
        except (Tampered, PlaintextFound, KeyUnavailable):
            failed = Decision(Outcome.FAILED, decision.rule)
            self._record(Looked, acting, facts, failed, self._named(text), key_id)
            raise
        try:
            whose = key.subject
            # In its order: by keyword it takes as long as the rest of the look.
            self._record(
                Looked,
                acting,
                facts,
                decision,
                "" if whose else text,
                key_id,
                key.used(),
                whose,
            )
        except BaseException:
            del value  # whoever logs the locals of a traceback must not log what was refused
            raise
        return value if decision.outcome is Outcome.ALLOWED else self._mask(value)

    def whose(self, sealed: Any, *, subject: RowId, tenant: str) -> str:
        """Return the pseudonym of *subject*, whose key *sealed* names, where that is cached; else nothing. Without I/O."""
        return self._claimed(self._tenants.get(tenant) or self._new_tenant(tenant), sealed, subject)[1]  # fmt: skip

    def _claimed(
        self, tenant: TenantFacts, sealed: Any, subject: RowId | None
    ) -> tuple[bytes, str]:
        # The key that the value names, and whose it is: nothing is opened, so it is what the row
        # claims. A key of another subject than the model names says nobody's name.
        try:
            key_id = core.key_id_of(sealed if isinstance(sealed, _BINARY) else self._binary(sealed))
        except (Tampered, PlaintextFound):
            return b"", ""
        resolver = self._guard.resolver
        if subject is None or resolver.of_another(self._whose(tenant, subject), key_id):
            return key_id, ""
        return key_id, resolver.subject_named(key_id)

    def decrypt_many(
        self,
        items: Iterable[tuple[RowId, Any]],
        *,
        tenant: str | None = None,
        subjects: Sequence[RowId] | None = None,
    ) -> list[Any]:
        """`decrypt` for many (row, sealed), after one query for the keys they name; *subjects* as in `prepare_many`."""
        items = list(items)
        self.prefetch([sealed for _, sealed in items if sealed is not None], tenant=tenant)
        return [
            self.decrypt(sealed, row=row, tenant=tenant, subject=subject)
            for (row, sealed), subject in _each(items, subjects)
        ]

    def prefetch(self, sealed: Iterable[Any], *, tenant: str | None = None) -> None:
        """Resolve the keys these values name, with one query. Values that name none are left alone."""
        acting = current()
        decision = self._guard.policy.decide(acting, self.scheme.class_, Right.DECRYPT)
        if decision.outcome is Outcome.DENIED:
            return  # no key is unwrapped for a reader who gets nothing; the look says so
        key_ids = set()
        for value in sealed:
            if isinstance(value, _BINARY) and core.looks_encrypted(value):
                key_ids.add(bytes(value[3:19]))
                continue
            try:
                key_ids.add(core.key_id_of(self._binary(value)))
            except (Tampered, PlaintextFound):
                continue  # its own look says so
        if key_ids:
            facts = self._tenant(acting, tenant)
            if self._openings is not None:
                self._openings.ensure(acting, facts.name, [self._column])
            if self.scheme.subject:
                self._guard.resolver.prepare(facts.subjects, key_ids)
            if not self.scheme.subject or self.scheme.moving:
                self._guard.resolver.prepare(facts.data, key_ids)

    def recheck(
        self,
        items: Sequence[tuple[RowId, Any]],
        index: Index,
        value: Any,
        *,
        question: Question | None = None,
        subjects: Sequence[RowId | None] | None = None,
    ) -> list[bool]:
        """
        Tell which (row, sealed) really hold a value of which *question* about *value* is true.

        For hits of an index that may find others besides. Needs the right to decrypt; hands no
        value out, so it is part of the search and not a look. Of a subject that was shredded
        nothing is true: its index values go a moment after its keys, and stop nobody's search.
        """
        asked = self._question(index, question)
        acting = current()
        decision = self._decided(acting, Right.DECRYPT)
        tenant = self._tenant(acting)
        self.prefetch([sealed for _, sealed in items if sealed is not None])
        wanted = index.normalised(value, self._codec)
        held = []
        for (row, sealed), subject in _each(items, subjects):
            text = row_text(row)
            try:
                held.append(
                    sealed is not None
                    and index.answers(
                        asked, self._opened(sealed, text, tenant, subject), wanted, self._codec
                    )
                )
            except (Tampered, PlaintextFound, KeyUnavailable) as error:
                if subject is not None and isinstance(error, KeyDestroyed):
                    held.append(False)
                    continue
                failed = Decision(Outcome.FAILED, decision.rule)
                self._record(Looked, acting, tenant, failed, self._named(text))
                raise
        return held

    def reopened_any(
        self,
        sealed: Any,
        *,
        row: RowId,
        tenant: str | None = None,
        subject: RowId | None = None,
    ) -> Any:
        """
        Return the value, be it under its subject's key or, from before the field's values had subjects, the class's.

        For the operator's job that encrypts it anew under the first. Records nothing.

        Raises:
            AccessDenied: no role has both rights that encrypting anew takes.
            Tampered, PlaintextFound, KeyUnavailable
        """
        acting = current()
        for right in (Right.DECRYPT, Right.ENCRYPT):
            self._decided(acting, right, tenant)
        facts = self._tenant(acting, tenant)
        return self._opened(sealed, row_text(row), facts, subject, moving=True)


def _one(subject: RowId | None) -> list[RowId] | None:
    return None if subject is None else [subject]


def _each(
    items: Sequence[tuple[RowId, Any]], subjects: Sequence[RowId | None] | None
) -> Iterable[tuple[tuple[RowId, Any], RowId | None]]:
    if subjects is None:
        return zip(items, repeat(None))
    if len(subjects) != len(items):
        raise MisuseError("there is not one subject for each value")
    return zip(items, subjects, strict=True)
