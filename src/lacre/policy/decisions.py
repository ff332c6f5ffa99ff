# SPDX-License-Identifier: Apache-2.0
"""
Decide one access: a right on a class, for an acting. Deny by default.

Does not authenticate the principal and does not stop code that avoids it: in a process that
holds a class's key this is a guard rail (``docs/threat-model.md``).
"""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lacre.audit.event import Outcome
from lacre.context import Acting
from lacre.errors import ConfigurationError, NoTenant
from lacre.keys.hierarchy import KeyKind, Scope
from lacre.keys.kms_keys import expanded, pinned
from lacre.policy.grants.grant import Grant, Grants, NoGrants
from lacre.policy.model import ClassPolicy, PolicyFile, Right

__all__ = ["Decision", "Policy", "Step"]


_REMEMBERED = 4096  # principals whose roles were looked up
_EVERY: frozenset[str] = frozenset({"*"})  # no principal is declared: roles are as they are said


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome, the rule of the policy it follows from, and the id of the grant, if it is one's."""

    outcome: Outcome
    rule: str
    grant: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One link of the chain: what was *asked* (principal, purpose, role, right, grant), the rule, the answer."""

    asked: str
    rule: str
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """
    What a class says, in the order in which it is asked: purposes, rights, grants, masks, nothing.

    Decisions are made once and not for every look: they are the same whoever asks.
    """

    purposes: tuple[tuple[str, frozenset[str]], ...]
    rights: Mapping[Right, tuple[tuple[str, Decision], ...]]
    masks: tuple[tuple[str, Decision], ...]
    on_grant: Mapping[Right, tuple[str, ...]]
    emergency: bool
    may_be_granted: bool
    otherwise: Mapping[Right, Decision]


class Policy:
    """
    The decisions that follow from one policy file.

    Args:
        pins: what its aliases of KMS keys stand for; see `lacre.policy.loading.load_pins`.
        today: in UTC, for the window of a move; the system's by default.
        grants: those in effect; none by default.
    """

    def __init__(
        self,
        file: PolicyFile,
        *,
        pins: Mapping[str, str] | None = None,
        today: Callable[[], dt.date] | None = None,
        grants: Grants | None = None,
    ) -> None:
        self.file = file
        self.grants: Grants = grants or NoGrants()
        self._names: dict[str, frozenset[str]] = {}
        self._rules: dict[str, _Rules] = {}
        self._purposes = {name: each.purposes for name, each in file.roles.items()}
        # The text of a public identity is its format, its name and its keys.
        self._operators = {line.split()[1] for line in file.local.signers if len(line.split()) > 1}
        self._pins = dict(pins or {})
        self._today = today or _utc_today

    def class_(self, name: str) -> ClassPolicy:
        """
        Return the class.

        Raises:
            ConfigurationError: there is none of that name.
        """
        try:
            return self.file.classes[name]
        except KeyError:
            known = ", ".join(sorted(self.file.classes))
            raise ConfigurationError(
                f"lacre.toml has no class {name!r}",
                hint=f"it has {known}; add [classes.{name}] with its KMS keys and rights",
            ) from None

    def check_place(self, class_: str, store: str, table: str, column: str) -> None:
        """
        Check that a column may hold *class_*.

        Raises:
            ConfigurationError: there is no such store, or the class is for other columns.
        """
        stores = self.file.stores
        if store not in stores:
            raise ConfigurationError(
                f"lacre.toml has no store {store!r}",
                hint=f"add [stores.{store}], or name one of {sorted(stores)}",
            )
        declared = self.file.classes.get(class_)
        if declared is None or declared.columns is None:
            return
        if f"{table}.{column}" not in declared.columns:
            raise ConfigurationError(
                f"class {class_!r} is not for {table}.{column}",
                hint=f"[classes.{class_}] columns names those that may hold it; add this one, or use another class",
            )

    def tenant(self, acting: Acting) -> str:
        """Return whose data the acting is about, or raise `NoTenant`."""
        tenant = acting.tenant or self.file.default_tenant
        if tenant is None:
            raise NoTenant(
                "no tenant was named",
                hint='acting_as(..., tenant="..."), or default_tenant in lacre.toml',
            )
        return tenant

    def scope(self, kind: KeyKind, class_: str, tenant: str) -> Scope:
        """Return the scope of the keys of a tenant and class."""
        return Scope(
            kind=kind,
            app=self.file.app,
            env=self.file.env,
            service=self.file.service,
            tenant=tenant,
            class_=class_,
        )

    def service_scope(self) -> Scope:
        """Return the scope of the service's seal keys, which serve every tenant and class of it."""
        file = self.file
        return Scope(
            kind=KeyKind.SEAL,
            app=file.app,
            env=file.env,
            service=file.service,
            tenant="-",
            class_="-",
        )

    def kms_key(self, scope: Scope) -> str:
        """
        Return the URI of the KMS key that wraps the branch key, or the index root, of *scope*.

        Never an alias: what `lacre.lock` says it stands for.
        """
        return pinned(self._named(scope), self._pins)

    def kms_keys(self, scope: Scope) -> tuple[str, ...]:
        """Return `kms_key`, and during a move the one that *scope*'s keys come from."""
        present = self.kms_key(scope)
        move = self.file.move
        if move is None or self._today() > move.until:
            return (present,)
        use = "index" if scope.kind is KeyKind.INDEX else "fields"
        before = expanded(move.from_, class_=scope.class_, use=use)
        return tuple(dict.fromkeys((present, pinned(before, self._pins))))

    def named_kms_keys(self) -> tuple[str, ...]:
        """Return every KMS key that classes name, and during a move the old ones; no alias."""
        return tuple(dict.fromkeys(pinned(each, self._pins) for each in self.file.named_keys()))

    def rotates_after(self, scope: Scope) -> dt.timedelta | None:
        """Return after how long a key of *scope* is rotated; None: never, or of a class that is gone."""
        declared = self.file.classes.get(scope.class_)
        if declared is None:
            return None
        indexes = scope.kind is KeyKind.INDEX
        return declared.rotate_index_after if indexes else declared.rotate_after

    def _named(self, scope: Scope) -> str:
        found = self.class_(scope.class_)
        uri = found.index if scope.kind is KeyKind.INDEX else found.fields
        if uri is None:
            raise ConfigurationError(
                f"class {scope.class_!r} allows no blind index",
                hint=f"[classes.{scope.class_}] index = the URI of a KMS key would allow it",
            )
        return uri

    def decide(self, acting: Acting, class_: str, right: Right) -> Decision:
        """
        Return whether *acting* may use *right* on *class_*.

        `ALLOWED` where a role has the right, or a grant gives it; for `decrypt`, `MASKED` where a
        role has `mask`; `DENIED` otherwise. Nothing but the file, the acting and the grants in
        effect counts.
        """
        # Kept on the acting, so it ends with it; keyed by this policy, so a new one decides anew.
        key = (self, class_, right)
        decision: Decision | None = acting.decisions.get(key)
        if decision is None:
            decision = self._decide(acting, class_, right, None)
            # A grant begins and ends while somebody acts; roles and the file do not change.
            if decision.grant or (
                decision.outcome is not Outcome.ALLOWED and self._rules[class_].may_be_granted
            ):
                return decision
            acting.decisions[key] = decision
        return decision

    def explain(
        self, acting: Acting, class_: str, right: Right
    ) -> tuple[Decision, tuple[Step, ...]]:
        """Return the decision, and the chain of rules that it follows from, in their order."""
        told: list[Step] = []
        return self._decide(acting, class_, right, told), tuple(told)

    def roles_of(self, principal: str) -> frozenset[str]:
        """Return the roles declared for *principal*: none of a stranger's, and none where nobody is declared."""
        held = self._named_roles(principal)
        return frozenset() if held is None or held is _EVERY else held

    def _decide(
        self, acting: Acting, class_: str, right: Right, told: list[Step] | None
    ) -> Decision:
        """One engine: what `explain` tells step by step is what `decide` returns."""
        rules = self._rules.get(class_) or self._rules_of(class_)
        held = self._names.get(acting.principal)
        if held is None:
            held = self._named_roles(acting.principal)
            if held is None:
                return _denied("principals", f"nobody is called {acting.principal!r}", told)
        purpose, roles = acting.purpose, acting.roles
        if told is not None:
            told.append(Step("principal", f"principals: {acting.principal!r}", True))
        for where, purposes in rules.purposes:
            if purpose not in purposes:
                return _denied(where, f"{purpose!r} is not among them", told)
            if told is not None:
                told.append(Step("purpose", f"{where}: {purpose!r}", True))
        if told is not None:
            told += [self._role_step(role, held, purpose) for role in sorted(roles)]
        for role, decision in rules.rights[right]:
            if role in roles and self._counts(role, held, purpose):
                return _settled(decision, told)
        if rules.may_be_granted:
            granted = self._granted(acting, class_, rules, right, held)
            if granted is not None:
                rule = f"grants.{granted.id}: {right}"
                return _settled(Decision(Outcome.ALLOWED, rule, granted.id), told)
        if right is Right.DECRYPT:
            for role, decision in rules.masks:
                if role in roles and self._counts(role, held, purpose):
                    return _settled(decision, told)
        return _settled(rules.otherwise[right], told)

    def _counts(self, role: str, held: frozenset[str], purpose: str) -> bool:
        """Whether a role that somebody acts in is theirs, and may be taken for the purpose."""
        if held is not _EVERY and role not in held:
            return False
        purposes = self._purposes.get(role)
        return purposes is None or purpose in purposes

    def _role_step(self, role: str, held: frozenset[str], purpose: str) -> Step:
        if self._counts(role, held, purpose):
            return Step("role", f"roles: {role!r}", True)
        if held is not _EVERY and role not in held:
            return Step("role", f"principals: {role!r} is not among its roles", False)
        return Step("role", f"roles.{role}.purposes: {purpose!r} is not among them", False)

    def _granted(
        self, acting: Acting, class_: str, rules: _Rules, right: Right, held: frozenset[str]
    ) -> Grant | None:
        ordinary = any(
            role in acting.roles and self._counts(role, held, acting.purpose)
            for role in rules.on_grant[right]
        )
        if not ordinary and not (rules.emergency and right is Right.DECRYPT):
            return None
        found = self.grants.effective(acting, class_, right)
        return found if found is not None and (ordinary or found.break_glass) else None

    def _rules_of(self, class_: str) -> _Rules:
        declared = self.class_(class_)
        told = f"classes.{class_}"
        allowed = {
            right: tuple(
                (role, Decision(Outcome.ALLOWED, f"{told}.rights.{role}: {right}"))
                for role in sorted(declared.rights)
                if right in declared.rights[role]
            )
            for right in Right
        }
        none = {right: f"{told}.rights: none gives {right}" for right in Right}
        if declared.denied == "mask":
            none[Right.DECRYPT] = f"{told}.denied: mask"
        masks = tuple(
            (role, Decision(Outcome.MASKED, f"{told}.rights.{role}: mask"))
            for role in sorted(declared.rights)
            if Right.MASK in declared.rights[role]
        )
        on_grant = {
            right: tuple(
                sorted(role for role, given in declared.on_grant.items() if right in given)
            )
            for right in Right
        }
        places = (("purposes", self.file.purposes), (f"{told}.purposes", declared.purposes))
        made = self._rules[class_] = _Rules(
            purposes=tuple((where, each) for where, each in places if each is not None),
            rights=allowed,
            masks=masks,
            on_grant=on_grant,
            emergency=declared.break_glass,
            may_be_granted=bool(declared.on_grant or declared.break_glass),
            otherwise={right: Decision(Outcome.DENIED, rule) for right, rule in none.items()},
        )
        return made

    def _named_roles(self, principal: str) -> frozenset[str] | None:
        """The roles of a declared principal, `_EVERY` where none is declared at all, None of a stranger."""
        principals = self.file.principals
        if not principals:
            return _EVERY
        held: frozenset[str] | None
        if principal in self._operators:
            held = frozenset({"operator"})  # pinned by [local] signers, declared or not
        elif principal in principals and not principal.endswith("*"):
            held = principals[principal].roles
        else:
            # The longest beginning is the one that was meant: "agent:night:*" before "agent:*".
            begun = [
                name
                for name in principals
                if name.endswith("*") and principal.startswith(name[:-1])
            ]
            held = principals[max(begun, key=len)].roles if begun else None
        if held is not None:
            if len(self._names) >= _REMEMBERED:
                self._names.clear()
            self._names[principal] = held
        return held


def _settled(decision: Decision, told: list[Step] | None) -> Decision:
    if told is not None:
        asked = "grant" if decision.grant else "right"
        told.append(Step(asked, decision.rule, decision.outcome is Outcome.ALLOWED))
    return decision


def _denied(where: str, why: str, told: list[Step] | None) -> Decision:
    decision = Decision(Outcome.DENIED, f"{where}: {why}")
    if told is not None:
        asked = where.rpartition(".")[2].removesuffix("s")
        told.append(Step(asked, decision.rule, False))
    return decision


def _utc_today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()
