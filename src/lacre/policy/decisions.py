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
from lacre.policy.model import ClassPolicy, PolicyFile, Right

__all__ = ["Decision", "Policy"]


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome, and the rule of the policy it follows from."""

    outcome: Outcome
    rule: str


class Policy:
    """
    The decisions that follow from one policy file.

    Args:
        pins: what its aliases of KMS keys stand for; see `lacre.policy.loading.load_pins`.
        today: in UTC, for the window of a move; the system's by default.
    """

    def __init__(
        self,
        file: PolicyFile,
        *,
        pins: Mapping[str, str] | None = None,
        today: Callable[[], dt.date] | None = None,
    ) -> None:
        self.file = file
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

        `ALLOWED` where a role has the right; for `decrypt`, `MASKED` where a role has `mask`
        or the class answers the denied with masks; `DENIED` otherwise.
        """
        # Kept on the acting, so it ends with it; keyed by this policy, so a new one decides anew.
        key = (self, class_, right)
        decision: Decision | None = acting.decisions.get(key)
        if decision is None:
            decision = acting.decisions[key] = self._decide(acting, class_, right)
        return decision

    def _decide(self, acting: Acting, class_: str, right: Right) -> Decision:
        declared = self.class_(class_)
        purposes = self.file.purposes
        if purposes is not None and acting.purpose not in purposes:
            return Decision(Outcome.DENIED, f"purposes: {acting.purpose!r} is not among them")
        for role in sorted(acting.roles):
            if right in declared.rights.get(role, ()):
                return Decision(Outcome.ALLOWED, f"classes.{class_}.rights.{role}: {right}")
        if right is Right.DECRYPT:
            for role in sorted(acting.roles):
                if Right.MASK in declared.rights.get(role, ()):
                    return Decision(Outcome.MASKED, f"classes.{class_}.rights.{role}: mask")
            if declared.denied == "mask":
                return Decision(Outcome.DENIED, f"classes.{class_}.denied: mask")
        return Decision(Outcome.DENIED, f"classes.{class_}.rights: none gives {right}")


def _utc_today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()
