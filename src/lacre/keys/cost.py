# SPDX-License-Identifier: Apache-2.0
"""
What a load costs in calls of the key service, and in money: a model, not a measurement.

A process asks once for each branch key and each index root that it uses, and again when the cached
one is nearly at its age. Values cost no call, and
subject keys none either: a branch key opens them. So, with

    held    = tenants * (classes + indexed)            branch keys and index roots in use
    warm-up = processes * held                         once for each start of all processes
    refresh = processes * held * 3600 / (age * 0.8)    calls an hour, while all of it is used

0.8 is the mean of when a key is asked for anew: its age less up to a tenth, less a tenth to a fifth
of it; the soonest is 0.7. A rotation of a branch key or an index root is three calls (mint, open the
new, open the old), of a data key two. Idle keys are not refreshed, so a real load costs less; each
further version of an index root that look-ups ask under counts as another root.

Knows nothing of a free tier, of other requests of the account, or of prices that change.
"""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["AWS_PRICES", "MEAN", "SOONEST", "Cost", "Line", "Load", "Prices", "cost_of"]

MEAN, SOONEST = 0.8, 0.7  # of its age: when a used key is asked for anew
_HOUR, _MONTH, _YEAR = 3600.0, 730.0, 8760.0  # seconds; hours
_ROTATION_UNDER_KMS, _ROTATION_OF_DATA = 3, 2  # calls


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """
    What uses keys.

    Args:
        tenants: whose keys each process uses.
        classes: of each tenant; *indexed* of them are searchable.
        processes: that run at the same time.
        age: of a cached key, in seconds.
        values: encrypted, decrypted or searched in a second, by all processes.
        kms_keys: in use.
        rotations: of a tenant's and class's branch key and data key, in a year.
        index_rotations: of its index root, in a year.
    """

    tenants: int
    classes: int
    indexed: int
    processes: int
    age: float
    values: float
    kms_keys: int
    rotations: float = 1.0
    index_rotations: float = 0.0

    @property
    def held(self) -> int:
        """Return how many keys a process asks the key service for."""
        return self.tenants * (self.classes + self.indexed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """In dollars. *source* says whose, where and when."""

    per_10000: float
    per_key: float
    source: str


AWS_PRICES = Prices(
    per_10000=0.03,
    per_key=1.0,
    source="AWS KMS list price, us-east-1, as of March 2026, without the free tier",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One kind of calls: *hour* and *month* are how many, *dollars* what a month of them costs."""

    name: str
    hour: float
    month: float
    dollars: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """
    What the load costs.

    Args:
        warm_up: calls when all processes start, once.
        lines: what goes on.
        total: their sum.
        keys: dollars a month for the KMS keys themselves; the same for both.
        per_value: one call for each value, for comparison.
    """

    warm_up: int
    lines: Sequence[Line]
    total: Line
    keys: float
    per_value: Line


def cost_of(load: Load, prices: Prices = AWS_PRICES) -> Cost:
    """Return what *load* costs."""

    def line(name: str, hour: float) -> Line:
        month = hour * _MONTH
        return Line(name=name, hour=hour, month=month, dollars=month * prices.per_10000 / 10_000)

    refresh = load.processes * load.held * _HOUR / (load.age * MEAN)
    scopes = load.tenants * load.classes
    rotated = scopes * load.rotations * (_ROTATION_UNDER_KMS + _ROTATION_OF_DATA)
    rotated += load.tenants * load.indexed * load.index_rotations * _ROTATION_UNDER_KMS
    lines = (line("refresh", refresh), line("rotation", rotated / _YEAR))
    return Cost(
        warm_up=load.processes * load.held,
        lines=lines,
        total=line("lacre", sum(each.hour for each in lines)),
        keys=load.kms_keys * prices.per_key,
        per_value=line("one call per value", load.values * _HOUR),
    )
