# SPDX-License-Identifier: Apache-2.0
"""
What every event says, and the words that events share.

Does not list the events: those of values and keys are in `lacre.audit.events`, those of grants,
secrets and the policy in `lacre.audit.governing`, those of the evidence itself in
`lacre.audit.keeping`; `lacre.audit.entries` has them all, and their one written form.
"""

import os
import re
import time as clock
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from lacre.context import NOWHERE, Acting, Origin

__all__ = [
    "PLACED",
    "Event",
    "Outcome",
    "Place",
    "Status",
    "Surrogate",
    "new_id",
    "placed",
    "surrogates",
    "who",
]

# Text that a person is not known by: a UUID, or a number too short for a telephone or a document.
_SURROGATE = re.compile(r"[0-9]{1,6}|[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Outcome(StrEnum):
    """What became of one reading."""

    ALLOWED = "allowed"
    MASKED = "masked"
    DENIED = "denied"
    FAILED = "failed"


class Status(StrEnum):
    """
    Whether an operation was as the policy wants it.

    *prevented*: the policy said no, and nothing was handed out. *failed*: a value did not open, or
    a step did not succeed. *transitional*: allowed for a time only, as a legacy reader is.
    """

    COMPLIANT = "compliant"
    PREVENTED = "prevented"
    FAILED = "failed"
    TRANSITIONAL = "transitional"


_STATUS = {
    Outcome.ALLOWED: Status.COMPLIANT,
    Outcome.MASKED: Status.COMPLIANT,
    Outcome.DENIED: Status.PREVENTED,
    Outcome.FAILED: Status.FAILED,
}


@dataclass(frozen=True, slots=True)
class Place:
    """A column, as evidence names it."""

    store: str
    table: str
    column: str
    class_: str


class Surrogate(str):
    """The text of a row id that was an integer or a UUID, whatever its digits look like."""

    __slots__ = ()


def new_id() -> str:
    """Return the id of a new event: a UUID of version 7 (RFC 9562), 32 hex digits, so that ids grow with time."""
    milliseconds = int(clock.time() * 1000) & 0xFFFFFFFFFFFF
    drawn = int.from_bytes(os.urandom(10), "big")
    number = (
        milliseconds << 80 | 0x7 << 76 | (drawn >> 68) << 64 | 0b10 << 62 | drawn & (1 << 62) - 1
    )
    return f"{number:032x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """
    What every event says: when, who, as what, why, for which tenant, asked from where. Never raised itself.

    *members* are the names of what `details` returns: an entry of the log has those and no others.
    """

    action: ClassVar[str]
    members: ClassVar[frozenset[str]] = frozenset()
    status: ClassVar[Status] = Status.COMPLIANT

    time: float
    principal: str
    roles: tuple[str, ...]
    purpose: str
    tenant: str
    origin: Origin = NOWHERE
    id: str = field(default_factory=new_id)

    def details(self) -> Mapping[str, object]:
        """The event's own fields, for a sink to write."""
        raise NotImplementedError

    def judged(self) -> Status:
        """Return whether it was as the policy wants it."""
        outcome = getattr(self, "outcome", None)
        status = self.status if outcome is None else _STATUS[outcome]
        return self.status if status is Status.COMPLIANT else status


def who(acting: Acting, *, time: float, tenant: str) -> dict[str, Any]:
    """Return what every event says of the one who acts, as arguments of any event."""
    return {
        "time": time,
        "principal": acting.principal,
        "roles": tuple(sorted(acting.roles)),
        "purpose": acting.purpose,
        "tenant": tenant,
        "origin": acting.origin,
    }


def placed(place: Place) -> dict[str, object]:
    """Return how events write a column."""
    return {
        "store": place.store,
        "table": place.table,
        "column": place.column,
        "class": place.class_,
    }


PLACED = frozenset({"store", "table", "column", "class"})


def surrogates(rows: Iterable[str]) -> list[str]:
    """Return those row ids that are surrogates; the event's count says how many rows there were."""
    # The type first, then the shape: most rows are settled without a regular expression.
    return [row for row in rows if type(row) is Surrogate or _SURROGATE.fullmatch(row)]
