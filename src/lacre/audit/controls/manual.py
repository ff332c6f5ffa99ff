# SPDX-License-Identifier: Apache-2.0
"""
Manual controls: what people do and a program only knows of by their word, each with its day.

Those of the audit plan are here; `[report.manual]` of ``lacre.toml`` changes their periods, leaves
some out and adds others. That one was done is an event (`ControlDone`), with the SHA-256 of what
shows it. Does not read the log.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["MANUAL", "ManualControl", "manual_facts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualControl:
    """Something to be done *every* so many days."""

    name: str
    title: str
    every: int


MANUAL = (
    ManualControl(name="penetration-test", title="Penetration test by a third party", every=365),
    ManualControl(name="key-policy-review", title="Review of the policies of all KMS keys", every=92),
    ManualControl(name="access-review", title="Review of who may read which class", every=92),
    ManualControl(name="training", title="Training of staff who see personal data", every=365),
    ManualControl(name="restore-drill", title="Restore of the data's backups, with their keys", every=183),
    ManualControl(name="incident-exercise", title="Exercise of the incident runbook", every=365),
    ManualControl(name="audit-logging-review", title="Review of alerts and of rules that are off", every=31),
)  # fmt: skip


def manual_facts(
    controls: Iterable[ManualControl],
    done: Mapping[str, tuple[dt.datetime, str]],
    *,
    now: dt.datetime,
) -> list[dict[str, object]]:
    """
    Return what a snapshot says of *controls*, by name.

    Args:
        done: of each name when it was done last, and the SHA-256 of its proof or nothing.
        now: the moment of the snapshot.
    """
    facts: list[dict[str, object]] = []
    for control in sorted(controls, key=lambda each: each.name):
        last = done.get(control.name)
        due = None if last is None else (last[0] + dt.timedelta(days=control.every)).date()
        facts.append(
            {
                "name": control.name,
                "title": control.title,
                "every": control.every,
                "done": None if last is None else last[0].date().isoformat(),
                "proof": "" if last is None else last[1],
                "due": None if due is None else due.isoformat(),
                "overdue": due is None or due < now.date(),
            }
        )
    return facts
