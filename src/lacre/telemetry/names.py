# SPDX-License-Identifier: Apache-2.0
"""
The metrics of lacre: their names, units and attributes. A closed list, which dashboards are tested against.

An attribute is a word of lacre.toml or of this library: a class, a KMS key, a declared column, an
operation, an outcome. Never a principal, a tenant, a row, a subject, or anything of a request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["METRICS", "Kind", "Metric"]


_SUFFIXES = {"s": "_seconds", "d": "_days"}  # what Prometheus' exporter makes of units


class Kind(StrEnum):
    """What sort of metric."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. *unit* is UCUM's, as OpenTelemetry writes it."""

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()

    @property
    def prometheus(self) -> str:
        """Return its name as Prometheus has it."""
        name = self.name.replace(".", "_")
        name += _SUFFIXES.get(self.unit, "")
        return f"{name}_total" if self.kind is Kind.COUNTER else name


METRICS: Mapping[str, Metric] = {
    each.name: each
    for each in (
        Metric(
            name="lacre.operations",
            kind=Kind.COUNTER,
            unit="{value}",
            description="values and searches, as the evidence has them",
            attributes=("operation", "class", "outcome"),
        ),
        Metric(
            name="lacre.operation.duration",
            kind=Kind.HISTOGRAM,
            unit="s",
            description="of one operation of a field, with what it waited for",
            attributes=("operation", "class", "outcome"),
        ),
        Metric(
            name="lacre.key.uses",
            kind=Kind.COUNTER,
            unit="{use}",
            description="uses of keys: from the cache (hit), asked for (fetched), past its age (stale)",
            attributes=("class", "cache"),
        ),
        Metric(
            name="lacre.key_service.duration",
            kind=Kind.HISTOGRAM,
            unit="s",
            description="of one call of a key service, with every attempt and pause",
            attributes=("kms_key", "operation", "failure"),
        ),
        Metric(
            name="lacre.key_service.resting",
            kind=Kind.GAUGE,
            unit="{flag}",
            description="1 while the breaker of an endpoint is open",
            attributes=("endpoint",),
        ),
        Metric(
            name="lacre.keys",
            kind=Kind.GAUGE,
            unit="{key}",
            description="keys of the key store",
            attributes=("class", "kind", "state", "age"),
        ),
        Metric(
            name="lacre.keys.oldest",
            kind=Kind.GAUGE,
            unit="d",
            description="age of the oldest active key",
            attributes=("class", "kind"),
        ),
        Metric(
            name="lacre.columns",
            kind=Kind.GAUGE,
            unit="{column}",
            description="declared columns by their authenticated state: plaintext is left where it is not encrypted",
            attributes=("column", "class", "state"),
        ),
        Metric(
            name="lacre.columns.overdue",
            kind=Kind.GAUGE,
            unit="{column}",
            description="columns past their deadline that are not encrypted",
        ),
        Metric(
            name="lacre.recorder.backlog",
            kind=Kind.GAUGE,
            unit="{look}",
            description="looks that are in memory, on their way to the evidence",
        ),
        Metric(
            name="lacre.recorder.failing",
            kind=Kind.GAUGE,
            unit="{flag}",
            description="1 while the evidence cannot be written",
        ),
        Metric(
            name="lacre.evidence.refused",
            kind=Kind.COUNTER,
            unit="{refusal}",
            description="uses that did not happen, because they could not be recorded",
        ),
    )
}
