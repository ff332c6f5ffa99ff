# SPDX-License-Identifier: Apache-2.0
"""
The report page: the newest signed evidence snapshot, judged.

A pure function of that file (`lacre.audit.controls`): it does not say what became of things since.
"""

from lacre.audit.controls.definition import Standing
from lacre.dashboard.plots import Bucket, Series, ring, stacked
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
    trend = [*found.history]
    plot = None
    if trend:
        buckets = [Bucket(short=past.until[:10], full=past.until[:10]) for past in trend]
        plot = stacked(
            "Score of the snapshots before this",
            buckets,
            [Series(name="score", kind="compliant", values=[past.tenths // 10 for past in trend])],
            what="points",
            head="snapshot until",
        )
    return Shown(
        template="report.html",
        context={
            "latest": latest,
            "found": found,
            "score": score,
            "ring": ring(f"The score: {score} of 100, {found.status.lower()}", score),
            "body": latest.snapshot.body,
            "plot": plot,
            "nothing": Standing.NOTHING,
            "unassessed": Standing.NOT_ASSESSED,
            "manual": latest.snapshot.body["manual"],
        },
    )
