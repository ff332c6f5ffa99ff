# SPDX-License-Identifier: Apache-2.0
"""
`[report]` of `lacre.toml`: what a compliance report looks at, how it is weighed, and what people have to do.

Does not measure anything (`lacre.audit.controls`).
"""

import datetime as dt
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from lacre.audit.controls.manual import MANUAL, ManualControl
from lacre.audit.controls.registry import CONTROLS, GATES, control_named
from lacre.policy.values import Name, Period, Table, period

__all__ = ["ManualSettings", "ReportSettings"]


def _ends(value: object) -> dt.timedelta:
    found = period(value)
    if found is None:
        raise ValueError('a number of days, for example "30 days"')
    return found


Days = Annotated[dt.timedelta, BeforeValidator(_ends)]


class ManualSettings(Table):
    """
    `[report.manual.NAME]`: something that people do *every* so many days, or "never" to leave it out.

    *title* is what the report calls it.
    """

    every: Period
    title: str = Field(default="", max_length=120)


class ReportSettings(Table):
    """
    `[report]`: the compliance report.

    *period* is what one looks back on. *grace* is how long after its period an active key fails the
    report; *erasure_within*, *drill_within* and *alerts_within* are the times for these. *weights*
    are of controls, by id, where they are not the registry's; *gates* are those that may fail the
    report. *snapshots* is where they are kept, which is what a trend is made of.
    """

    period: Days = dt.timedelta(days=90)
    grace: Days = dt.timedelta(days=30)
    erasure_within: Days = dt.timedelta(days=30)
    drill_within: Days = dt.timedelta(days=365)
    alerts_within: Days = dt.timedelta(days=3)
    weights: dict[Name, Annotated[int, Field(ge=0, le=100)]] = Field(default_factory=dict)
    gates: tuple[Name, ...] = GATES
    snapshots: str = "lacre/snapshots"
    manual: dict[Name, ManualSettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_controls_there_are(self) -> Self:
        if unknown := sorted(name for name in self.weights if control_named(name) is None):
            raise ValueError(
                f"weights names {', '.join(unknown)}: there is no such control (docs/reference/controls.md)"
            )
        if unknown := sorted(set(self.gates) - set(GATES)):
            raise ValueError(
                f"gates names {', '.join(unknown)}, which is no gate; gates are {', '.join(GATES)}"
            )
        if not any(self.weight(control.id) for control in CONTROLS):
            raise ValueError("weights leave no control: at least one is more than 0")
        return self

    def weight(self, control: str) -> int:
        """Return how much *control* counts."""
        found = control_named(control)
        return self.weights.get(control, 0 if found is None else found.weight)

    def manual_controls(self) -> tuple[ManualControl, ...]:
        """Return what people have to do."""
        found = {each.name: each for each in MANUAL}
        for name, each in self.manual.items():
            if each.every is None:
                found.pop(name, None)
                continue
            known = found.get(name)
            title = each.title or (known.title if known else name)
            found[name] = ManualControl(name=name, title=title, every=each.every.days)
        return tuple(found.values())

    def definition(self) -> dict[str, object]:
        """Return what a snapshot says of how it is judged."""
        names = ("grace", "erasure_within", "drill_within", "alerts_within")
        return {
            "weights": {control.id: self.weight(control.id) for control in CONTROLS},
            "gates": sorted(self.gates),
            "settings": {name: getattr(self, name).days for name in names},
        }
