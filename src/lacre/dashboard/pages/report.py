# SPDX-License-Identifier: Apache-2.0
"""
The report page: the newest signed evidence snapshot, judged.

A pure function of that file (`lacre.audit.controls`): it does not say what became of things since.
"""

from lacre.audit.controls.definition import Standing
from lacre.dashboard.plots import ring, spark
from lacre.dashboard.rendering import Asked, Shown
from lacre.dashboard.sources import Sources

__all__ = ["show"]


def show(sources: Sources, _: Asked) -> Shown:
    """Show the newest snapshot's score, gate by gate and control by control."""
    latest = sources.report()
    if latest is None:
        return Shown(
            template="report.html",
            context={"latest": None, "directory": sources.policy.file.report.snapshots},
        )
    found = latest.assessment
    score = found.tenths // 10
    trend = [(past.until[:10], past.tenths // 10, past.comparable) for past in found.history]
    told = ", ".join(f"{points} until {until}" for until, points, _ in trend)
    return Shown(
        template="report.html",
        context={
            "latest": latest,
            "found": found,
            "score": score,
            "ring": ring(f"The score: {score} of 100, {found.status.lower()}", score),
            "body": latest.snapshot.body,
            "trend": trend,
            "plot": spark(f"Scores before this: {told}", [points for _, points, _ in trend]),
            "nothing": Standing.NOTHING,
            "unassessed": Standing.NOT_ASSESSED,
            "manual": latest.snapshot.body["manual"],
        },
    )
