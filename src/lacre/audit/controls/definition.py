# SPDX-License-Identifier: Apache-2.0
"""
What a control is, and what is found when one is assessed.

A control counts: *passed* of *assessed*. Does not list the controls (`lacre.audit.controls.registry`)
or add them up (`lacre.audit.controls.scoring`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

__all__ = ["Body", "Control", "Finding", "Regime", "Standing", "counted", "not_assessed", "nothing"]

# The body of a snapshot: `lacre.audit.controls.snapshot`.
Body = Mapping[str, Any]


class Regime(StrEnum):
    """What auditors ask by. A control is evidence for a clause of one, never compliance with it."""

    LGPD = "LGPD"
    GDPR = "GDPR"
    PCI = "PCI DSS 4.0.1"
    RBI = "RBI"
    SOX = "SOX"
    ISO = "ISO 27001:2022"


class Standing(StrEnum):
    """
    Whether a control says anything.

    *not assessed*: what it counts was not there to be counted; it counts as 0. *nothing to
    assess*: there was nothing of the kind in the window; it is left out of the score.
    """

    ASSESSED = "assessed"
    NOT_ASSESSED = "not assessed"
    NOTHING = "nothing to assess"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found of one control. *why* says what is missing; *gate* why the gate failed, or is empty."""

    standing: Standing
    passed: int = 0
    assessed: int = 0
    why: str = ""
    gate: str = ""

    @property
    def share(self) -> Fraction:
        """The control's value, from 0 to 1: 0 where it was not assessed."""
        return Fraction(self.passed, self.assessed) if self.assessed else Fraction(0)


def counted(passed: int, assessed: int, why: str = "", *, gate: str = "") -> Finding:
    """Return the finding that *passed* of *assessed* passed."""
    return Finding(standing=Standing.ASSESSED, passed=passed, assessed=assessed, why=why, gate=gate)


def not_assessed(why: str) -> Finding:
    """Return the finding that nobody counted, and why."""
    return Finding(standing=Standing.NOT_ASSESSED, why=why)


def nothing(why: str) -> Finding:
    """Return the finding that there was nothing to count."""
    return Finding(standing=Standing.NOTHING, why=why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """
    One control, in words that a report prints and a digest binds.

    *numerator* and *denominator* say what is counted, *window* of which time, *gate* what fails the
    whole report, or is empty. *weight* is the one that counts where `[report] weights` has none.
    *evidence* is the command that shows what was counted. *clauses* are those that it is evidence for.
    """

    id: str
    title: str
    numerator: str
    denominator: str
    window: str
    weight: int
    evidence: str
    clauses: Mapping[Regime, tuple[str, ...]]
    assess: Callable[[Body], Finding]
    gate: str = ""

    def defined(self) -> dict[str, object]:
        """Return what the digest of the definition is made of."""
        return {
            "id": self.id,
            "title": self.title,
            "numerator": self.numerator,
            "denominator": self.denominator,
            "window": self.window,
            "gate": self.gate,
        }
