"""Looks and events for the audit tests."""

import time
from dataclasses import fields
from enum import EnumType
from typing import Any

from lacre.audit.entries import Stamp
from lacre.audit.event import Event, Outcome, Place
from lacre.audit.events import Look, Looked, Searched
from lacre.context import NOWHERE, Acting

STAMP = Stamp(app="shop", env="test", service="shop")
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


def example(kind: type[Event]) -> Event:
    """An event of *kind*, whatever it is, with values of the right types."""
    values: dict[str, Any] = {
        "float": 1_800_000_000.0, "str": "x", "int": 3, "bool": False, "Place": PLACE,
        "Outcome": Outcome.ALLOWED, "Origin": NOWHERE, "tuple[str, ...]": ("1",),
        "tuple[tuple[str, str, Outcome, str], ...]": (("email", "pii", Outcome.ALLOWED, "rule"),),
    }  # fmt: skip
    given = {
        each.name: values[each.type if isinstance(each.type, str) else _name(each.type)]
        for each in fields(kind)
        if each.name != "id"
    }
    return kind(**given)


def _name(kind: Any) -> str:
    return kind.__name__ if type(kind) is type or isinstance(kind, EnumType) else str(kind).replace("lacre.audit.event.", "")  # fmt: skip
