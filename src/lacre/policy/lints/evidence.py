# SPDX-License-Identifier: Apache-2.0
"""Lints of `[audit]`: how long evidence is kept. Does not keep any."""

from collections.abc import Callable, Iterator

from lacre.policy.lints.finding import Finding, Level
from lacre.policy.model import PolicyFile

__all__ = ["EVIDENCE", "short_retention"]


def short_retention(file: PolicyFile) -> Iterator[Finding]:
    """Seven years are never 2555 days: what is to be kept for years is said in years."""
    term = file.audit.retention
    short = term.short_of()
    if short is not None:
        years, days = short
        yield Finding(
            rule="short-retention",
            level=Level.WARNING,
            path=("audit", "retention"),
            sentence=f'"{term}" is short of {years} years by {days} days',
            hint=f'say "{years} years", which the calendar counts',
        )


EVIDENCE: tuple[Callable[[PolicyFile], Iterator[Finding]], ...] = (short_retention,)
