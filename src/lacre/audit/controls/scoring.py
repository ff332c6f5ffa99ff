# SPDX-License-Identifier: Apache-2.0
"""
The score of a snapshot: a vector of controls, their weighted mean, the gates that cap it, a trend.

``score = 100 * sum(w * x) / sum(w)``: x is *passed* over *assessed*; a control that was not
assessed counts as 0, one that had nothing to assess is left out of both sums. A gate that fails
caps the score at 49 and makes the status FAIL. In whole numbers, so that every machine rounds alike.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lacre.audit.controls.definition import Body, Control, Finding, Standing
from lacre.audit.controls.registry import CONTROLS, registry_digest
from lacre.audit.controls.snapshot import Snapshot
from lacre.errors import ConfigurationError

__all__ = ["CAP", "Assessed", "Assessment", "Past", "assess", "definition_digest"]

CAP = 49
FAIL, HOLD = "FAIL", "GATES HOLD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessed:
    """One control as it was found; *weight* is the one that the policy gives it, *gated* whether its gate counts."""

    control: Control
    finding: Finding
    weight: int
    gated: bool

    @property
    def fails(self) -> bool:
        """Whether its gate fails the report."""
        return self.gated and bool(self.finding.gate)

    @property
    def tenths(self) -> int | None:
        """Tenths of a per cent, rounded down; None where there was nothing to assess."""
        return None if self.finding.standing is Standing.NOTHING else _tenths(self.finding.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """An earlier snapshot's score. *comparable*: its definition is that of this one."""

    snapshot: str
    until: str
    tenths: int
    status: str
    comparable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What a snapshot says, judged."""

    controls: tuple[Assessed, ...]
    tenths: int
    uncapped: int
    definition: str
    history: tuple[Past, ...]

    @property
    def gates(self) -> tuple[Assessed, ...]:
        """The controls whose gates fail."""
        return tuple(each for each in self.controls if each.fails)

    @property
    def status(self) -> str:
        return FAIL if self.gates else HOLD

    @property
    def worst(self) -> Assessed:
        """The assessed control with the lowest share: of equal ones, the heavier. Without any, the heaviest."""
        shown = self.of(Standing.ASSESSED) or self.controls
        return min(shown, key=lambda each: (each.fails is False, each.tenths or 0, -each.weight))

    def of(self, standing: Standing) -> tuple[Assessed, ...]:
        return tuple(each for each in self.controls if each.finding.standing is standing)

    @property
    def change(self) -> int | None:
        """Tenths of a point since the newest comparable snapshot; None where there is none."""
        before = [past for past in self.history if past.comparable]
        return self.tenths - before[-1].tenths if before else None


def assess(snapshot: Snapshot) -> Assessment:
    """
    Judge *snapshot*: nothing but what is in it counts.

    Raises:
        ConfigurationError: it was made by a release whose controls are others.
    """
    body = snapshot.body
    definition = body["definition"]
    if definition["registry"] != registry_digest():
        raise ConfigurationError(
            f"the snapshot was made by lacre {str(body['code'])[:40]!r}, whose controls are others than this release's",
            hint="render it with that release",
        )
    weights, gates = definition["weights"], definition["gates"]
    controls = tuple(
        Assessed(
            control=control,
            finding=control.assess(body),
            weight=weights[control.id],
            gated=control.id in gates,
        )
        for control in CONTROLS
    )
    uncapped = _mean(controls)
    failed = any(each.fails for each in controls)
    digest = definition_digest(body)
    return Assessment(
        controls=controls,
        uncapped=uncapped,
        tenths=min(uncapped, CAP * 10) if failed else uncapped,
        definition=digest,
        history=_past(body["history"], digest),
    )


def definition_digest(body: Body) -> str:
    """Return the SHA-256 of what was measured and how it was weighed: only equal ones compare."""
    manual = [(each["name"], each["every"]) for each in body["manual"]]
    measured = {"definition": body["definition"], "manual": manual, "days": body["period"]["days"]}
    return hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()


def _mean(controls: Sequence[Assessed]) -> int:
    counting = [each for each in controls if each.finding.standing is not Standing.NOTHING]
    weight = sum(each.weight for each in counting)
    if not weight:
        return 0
    return _tenths(sum((each.weight * each.finding.share for each in counting), Fraction(0)) / weight)  # fmt: skip


def _tenths(share: Fraction) -> int:
    # Rounded down: 100 is said of all of them only.
    return int(share * 1000)


def _past(history: Sequence[Mapping[str, Any]], digest: str) -> tuple[Past, ...]:
    return tuple(
        Past(
            snapshot=each["snapshot"],
            until=each["until"],
            tenths=each["tenths"],
            status=each["status"],
            comparable=each["definition"] == digest,
        )
        for each in history
    )
