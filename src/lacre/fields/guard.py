# SPDX-License-Identifier: Apache-2.0
"""
What every use of a field passes through: whose keys, whether it may, and the trace it leaves.

Does not encrypt, decrypt or search (`lacre.fields.field`).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, final

from lacre._core.canonical import FieldPlace
from lacre._core.derive import PreparedKey
from lacre.audit.event import Outcome, who
from lacre.audit.events import LegacyLooked, Look, Looked, Written
from lacre.audit.observing import Observer, timed
from lacre.audit.openings import Openings
from lacre.audit.recorder import Recorder
from lacre.context import Acting, current
from lacre.errors import AccessDenied, LacreError, MisuseError, Tampered
from lacre.fields.budgets import Budgets
from lacre.fields.masks import mask as mask_named
from lacre.fields.rows import RowId, row_text
from lacre.fields.scheme import Scheme
from lacre.keys.hierarchy import KeyKind, subject_digest
from lacre.keys.ports import KeyReader
from lacre.keys.resolver import Resolver, ScopeHandle, UsableKey
from lacre.policy.decisions import Decision, Policy
from lacre.policy.model import Right
from lacre.sensitive import Mask

__all__ = ["Guard", "Guarded", "TenantFacts"]

T = TypeVar("T")

_SUBJECTS = 10_000  # subjects whose digests are kept at most
_TENANTS = 1000  # tenants whose derived facts a field keeps at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What every field of one application shares: policy, keys and evidence."""

    policy: Policy
    resolver: Resolver
    recorder: Recorder
    store: KeyReader
    clock: Callable[[], float] = time.time
    openings: Openings | None = None  # in mode strict: what looks draw on
    budgets: Budgets | None = None
    observer: Observer | None = None


@final
class TenantFacts:
    """What a field derives once for each tenant."""

    __slots__ = ("_whose", "data", "index", "index_keys", "name", "place", "subjects")

    def __init__(
        self,
        name: str,
        *,
        data: ScopeHandle,
        index: ScopeHandle,
        subjects: ScopeHandle,
        place: FieldPlace,
    ) -> None:
        self.name = name
        self.data = data
        self.index = index
        self.subjects = subjects
        self.place = place
        self._whose: dict[str, ScopeHandle] = {}
        # Index keys are derived from an index root; they live no longer than the root they came
        # from, because they are looked up by the resolved root object itself.
        self.index_keys: dict[tuple[str, int], tuple[UsableKey, tuple[PreparedKey, ...]]] = {}

    def of_subject(self, subject: str) -> ScopeHandle:
        """Return the handle of the keys of *subject*, the text of an id."""
        found = self._whose.get(subject)
        if found is None:
            if len(self._whose) >= _SUBJECTS:
                self._whose.clear()
            digest = subject_digest(self.subjects.scope, subject)
            found = self._whose[subject] = self.subjects.of_subject(digest)
        return found


class Guarded:
    """A field, before it does anything: its scheme, its tenants, its decisions, its record."""

    _timed: tuple[str, ...] = ()  # methods that an observer is around

    def __init__(self, guard: Guard, scheme: Scheme) -> None:
        self.scheme = scheme
        self._guard = guard
        self._codec = scheme.codec
        self._encode = self._codec.encode
        self._decode = self._codec.decode
        self._padded = self._codec.padded if scheme.padded is None else scheme.padded
        self._place = scheme.place
        self._unique = any(index.unique for index in scheme.indexes)
        declared = guard.policy.class_(scheme.class_)
        self._mask = mask_named(scheme.mask or declared.mask)
        self._hidden = mask_named("hidden")
        if scheme.indexes:
            guard.policy.kms_key(
                guard.policy.scope(KeyKind.INDEX, scheme.class_, "any")
            )  # raises if the class forbids indexes
        self._record_look = guard.recorder.record_look
        self._openings = guard.openings
        self._column = scheme.name
        self._budget = None if guard.budgets is None else guard.budgets.meter(scheme.class_)
        self._clock = guard.clock
        self._default_tenant = guard.policy.file.default_tenant
        self._tenants: dict[str | None, TenantFacts] = {}
        self._rules_elsewhere: dict[tuple[str, str], str] = {}
        # Replaced as a whole, so that threads see one or another.
        self._looking: tuple[Acting, str | None, Decision, TenantFacts] | None = None
        if guard.observer is not None:
            timed(self, self._timed, scheme.class_, guard.observer)

    def __repr__(self) -> str:
        return f"<Field {self.scheme} ({self.scheme.class_})>"

    def look_elsewhere(
        self, read: Callable[[], Any], *, by: str, row: RowId, tenant: str | None = None
    ) -> Any:
        """
        Look at a value that is in another format: decide, let *read* decrypt it, record, as any look.

        Args:
            by: the legacy reader, which the evidence names.

        Returns:
            The value, or a `Mask`.
        """
        acting = current()
        decision = self._guard.policy.decide(acting, self.scheme.class_, Right.DECRYPT)
        facts, text = self._tenant(acting, tenant), row_text(row)
        decision = self._charged(acting, decision, facts)
        if decision.outcome is Outcome.DENIED:
            return self._denied(acting, facts, decision, text)
        value = self._elsewhere(read, acting, facts, decision, text, by)
        return value if decision.outcome is Outcome.ALLOWED else self._mask(value)

    def take_elsewhere(self, read: Callable[[], T], *, by: str) -> T:
        """
        Look at a value in another format, to be encrypted in this field. Recorded as `look_elsewhere` is.

        Raises:
            AccessDenied: the principal may not decrypt this class, so it cannot move its values in.
        """
        acting = current()
        facts = self._tenant(acting)
        decision = self._charged(acting, self._decided(acting, Right.DECRYPT), facts)
        if decision.outcome is not Outcome.ALLOWED:
            raise self._denied_use(acting, Right.DECRYPT, decision)
        return self._elsewhere(read, acting, facts, decision, "", by)

    def _elsewhere(
        self,
        read: Callable[[], T],
        acting: Acting,
        facts: TenantFacts,
        decision: Decision,
        row: str,
        by: str,
    ) -> T:
        rule = self._rules_elsewhere.get((decision.rule, by))
        if rule is None:  # one object for all looks, so that they are grouped by identity
            rule = f"{decision.rule}; legacy reader {by}"
            self._rules_elsewhere[decision.rule, by] = rule
        if self._openings is not None and decision.outcome is not Outcome.DENIED:
            self._openings.draw(acting, facts.name, self._column)
        try:
            value = read()
        except LacreError:
            failed = Decision(Outcome.FAILED, rule)
            self._record(LegacyLooked, acting, facts, failed, self._named(row))
            raise
        try:
            looked = Decision(decision.outcome, rule)
            self._record(LegacyLooked, acting, facts, looked, self._named(row))
        except BaseException:
            del value  # whoever logs the locals of a traceback must not log what was refused
            raise
        return value

    def _charged(
        self, acting: Acting, decision: Decision, facts: TenantFacts, looks: int = 1
    ) -> Decision:
        # Only what would be handed out is counted: masks and denials cost nothing.
        if self._budget is None or decision.outcome is not Outcome.ALLOWED:
            return decision
        return self._budget.charge(acting, decision, facts.name, looks)

    def _decided(self, acting: Acting, right: Right, tenant: str | None = None) -> Decision:
        decision = self._guard.policy.decide(acting, self.scheme.class_, right)
        if decision.outcome is not Outcome.ALLOWED:
            raise self._denied_use(acting, right, decision, tenant)
        return decision

    def _denied_use(
        self, acting: Acting, right: Right, decision: Decision, tenant: str | None = None
    ) -> AccessDenied:
        event = Looked if right is Right.DECRYPT else Written
        denied = Decision(Outcome.DENIED, decision.rule)
        self._record(event, acting, self._tenant(acting, tenant), denied, "")
        return self._refusal(acting, str(right), decision)

    def _denied(
        self,
        acting: Acting,
        tenant: TenantFacts,
        decision: Decision,
        row: str,
        claimed: tuple[bytes, str] = (b"", ""),
    ) -> Mask:
        key_id, whose = claimed
        self._record(Looked, acting, tenant, decision, self._named(row), key_id, "", whose)
        if self._guard.policy.class_(self.scheme.class_).denied == "mask":
            return self._hidden(None)
        raise self._refusal(acting, "decrypt", decision)

    def _refusal(self, acting: Acting, verb: str, decision: Decision) -> AccessDenied:
        roles = ", ".join(sorted(acting.roles)) or "no role"
        return AccessDenied(
            f"{acting.principal} ({roles}) may not {verb} {self.scheme} (class {self.scheme.class_}) for {acting.purpose}",
            hint=f"the policy's rule: {decision.rule}",
        )

    def _record(
        self,
        event: type[Looked | Written],
        acting: Acting,
        tenant: TenantFacts,
        decision: Decision,
        row: str,
        key_id: bytes = b"",
        cache: str = "",
        subject: str = "",
    ) -> None:
        # Look(...) without the detour by way of its keyword arguments, which takes as long as
        # AES does: this runs for every look.
        self._record_look(
            tuple.__new__(
                Look,
                (
                    event,
                    self._clock(),
                    acting,
                    tenant.name,
                    self._place,
                    decision.outcome,
                    decision.rule,
                    row,
                    key_id,
                    cache,
                    subject,
                ),
            )
        )

    def _named(self, row: str) -> str:
        # What evidence names where no key was had: of a value that is somebody's, nothing. The log
        # outlives the subject, and its pseudonym is in the key's row.
        return "" if self.scheme.subject else row

    def _who(self, acting: Acting, tenant: TenantFacts) -> dict[str, Any]:
        return who(acting, time=self._clock(), tenant=tenant.name)

    def _tenant(self, acting: Acting, of_row: str | None = None) -> TenantFacts:
        # A row that names its tenant decides whose keys are used; whoever acts for another one has
        # no business with it. The default tenant is for who names none, so it is no other.
        if of_row is not None and acting.tenant is not None and acting.tenant != of_row:
            raise self._other_tenant(acting)
        name = of_row or acting.tenant or self._default_tenant
        tenant = self._tenants.get(name)
        return (
            self._new_tenant(name or self._guard.policy.tenant(acting))
            if tenant is None
            else tenant
        )

    def _other_tenant(self, acting: Acting) -> AccessDenied:
        rule = "tenant: the row is another tenant's"
        denied = Decision(Outcome.DENIED, rule)
        self._record(Looked, acting, self._tenant(acting), denied, "")
        return AccessDenied(
            f"{acting.principal} acts for another tenant than the row of {self.scheme} is of",
            hint='act for the row\'s tenant: acting_as(..., tenant="..."), or for none',
        )

    def _whose(self, tenant: TenantFacts, subject: RowId | None) -> ScopeHandle:
        # The scheme says whether values have subjects, and the caller who: never the value.
        if subject is None:
            if self.scheme.subject:
                raise MisuseError(
                    f"a value of {self.scheme} is of a subject, and none was named",
                    hint="subject=: the id of whom the value is about",
                )
            return tenant.data
        if not self.scheme.subject:
            raise MisuseError(
                f"values of {self.scheme} are of no single subject, and one was named",
                hint="declare it: subject=True of lacre.field, or encrypted(..., subject=...)",
            )
        return tenant.of_subject(row_text(subject))

    def _to_decrypt(
        self, tenant: TenantFacts, subject: RowId | None, key_id: bytes, *, moving: bool = False
    ) -> UsableKey:
        resolver = self._guard.resolver
        try:
            return resolver.to_decrypt(self._whose(tenant, subject), key_id)
        except Tampered:
            # Declared, never guessed: a value from before the column had subjects. Whoever was
            # shredded is not read this way either, because their tombstone is no Tampered.
            if subject is None or not (moving or self.scheme.moving):
                raise
        return resolver.to_decrypt(tenant.data, key_id)

    def _new_tenant(self, name: str) -> TenantFacts:
        policy, scheme = self._guard.policy, self.scheme
        place = FieldPlace(
            column=scheme.column,
            store=scheme.store,
            table=scheme.table,
            tenant=name,
            type=self._codec.name,
        )
        data = ScopeHandle(policy.scope(KeyKind.DATA, scheme.class_, name))
        index = ScopeHandle(policy.scope(KeyKind.INDEX, scheme.class_, name))
        subjects = ScopeHandle(policy.scope(KeyKind.SUBJECT, scheme.class_, name))
        if len(self._tenants) >= _TENANTS:
            self._tenants.clear()
        tenant = self._tenants[name] = TenantFacts(
            name, data=data, index=index, subjects=subjects, place=place
        )
        return tenant
