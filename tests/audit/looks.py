"""Looks and events for the audit tests."""

import time

from lacre.audit.events import Look, Looked, Outcome, Place, Searched
from lacre.context import Acting

PLACE = Place("main", "customers", "email", "pii")


def look(row: str = "1", *, principal: str = "svc:x", outcome: Outcome = Outcome.ALLOWED) -> Look:
    """One look of *principal* at one row."""
    acting = Acting(principal, frozenset({"app"}), "test", None)
    return Look(Looked, time.time(), acting, "default", PLACE, outcome, "rule", row, b"\x01" * 16)


def searched(**names: str) -> Searched:
    """One search."""
    said = {"principal": "svc:x", "purpose": "test", "tenant": "default"} | names
    return Searched(
        time=1_800_000_000.0, roles=("app",), place=PLACE, index="email", outcome=Outcome.ALLOWED, rule="rule", count=1, **said
    )  # fmt: skip
