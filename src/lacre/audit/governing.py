# SPDX-License-Identifier: Apache-2.0
"""
Events of what governs access: grants, secrets, the policy, manual controls.

Does not decide or keep any of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from lacre.audit.event import Event

__all__ = ["ControlDone", "GrantChanged", "KnownPolicy", "PolicyChanged", "SecretUsed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantChanged(Event):
    """
    A grant was `requested`, `approved`, `executed`, `revoked`, `reviewed`, `used` or `expired` (`step`).

    *beneficiary* is whose right it is; *right* and *class_* which; *until* RFC 3339, or empty.
    """

    action: ClassVar[str] = "grant"
    members: ClassVar[frozenset[str]] = frozenset(
        {"step", "grant", "beneficiary", "class", "right", "until", "breakglass"}
    )

    step: str
    grant: str
    beneficiary: str
    class_: str
    right: str
    until: str
    breakglass: bool = False

    def details(self) -> Mapping[str, object]:
        return {
            "step": self.step,
            "grant": self.grant,
            "beneficiary": self.beneficiary,
            "class": self.class_,
            "right": self.right,
            "until": self.until,
            "breakglass": self.breakglass,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretUsed(Event):
    """A secret was `read`, `written`, `rotated` or `deleted` (`step`). *secret* is its path, never its value."""

    action: ClassVar[str] = "secret"
    members: ClassVar[frozenset[str]] = frozenset({"step", "secret", "version"})

    step: str
    secret: str
    version: str

    def details(self) -> Mapping[str, object]:
        return {"step": self.step, "secret": self.secret, "version": self.version}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChanged(Event):
    """
    A process works by a policy that is new to the log. *policy* is the SHA-256 of it, *before* of the one before.

    *gives* is what it gives, each right, purpose, mask and column in one sentence; *widened* is what of
    that the one before did not. Without a policy before, nothing is widened.
    """

    action: ClassVar[str] = "policy"
    members: ClassVar[frozenset[str]] = frozenset({"policy", "before", "gives", "widened"})

    policy: str
    before: str
    gives: tuple[str, ...]
    widened: tuple[str, ...]

    def details(self) -> Mapping[str, object]:
        return {
            "policy": self.policy,
            "before": self.before,
            "gives": list(self.gives),
            "widened": list(self.widened),
        }


class KnownPolicy(NamedTuple):
    """The policy that an application's evidence met last: the SHA-256 of it, and what it gives."""

    policy: str
    gives: tuple[str, ...]

    @classmethod
    def of(cls, members: Mapping[str, Any], service: str) -> "KnownPolicy | None":
        """
        Return it from an entry's *members*; None where they are another service's.

        Raises:
            TypeError, KeyError: they are of no such entry.
        """
        if members["service"] != service:
            return None
        return cls(str(members["policy"]), tuple(map(str, members["gives"])))


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlDone(Event):
    """A manual control was done: a penetration test, a review, a drill. *proof* is the SHA-256 of what shows it, or empty."""

    action: ClassVar[str] = "control"
    members: ClassVar[frozenset[str]] = frozenset({"control", "due", "proof"})

    control: str
    due: str
    proof: str

    def details(self) -> Mapping[str, object]:
        return {"control": self.control, "due": self.due, "proof": self.proof}
