# SPDX-License-Identifier: Apache-2.0
"""
Metrics as CloudWatch's embedded metric format: a line of JSON for each set of attributes, to stdout.

For Lambda, ECS and whatever else has its stdout in CloudWatch Logs: no agent, no network. It is an
exporter for OpenTelemetry's SDK, which the application sets up::

    MeterProvider([PeriodicExportingMetricReader(EmfExporter(namespace="shop"))])

Implements the `embedded metric format specification`_ of 2019. A histogram is told by its count,
sum, least and greatest, because the format has no buckets.

.. _embedded metric format specification: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from lacre.errors import ConfigurationError

try:
    from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
    from opentelemetry.sdk.metrics.export import (
        AggregationTemporality,
        MetricExporter,
        MetricExportResult,
        MetricsData,
    )
except ModuleNotFoundError as missing:
    raise ConfigurationError(
        f"{missing.name} is not installed", hint="pip install 'lacre[emf]'"
    ) from None

__all__ = ["EmfExporter"]

_METRICS = 100  # of one directive, by the format
_NAMESPACE = re.compile(r"[A-Za-z0-9._#:/-]{1,255}")
_UNITS = {"s": "Seconds"}  # CloudWatch has a closed list; anything else is counted, or bare
_Point = tuple[str, str, float]  # name, unit, value
_SINCE_LAST = AggregationTemporality.DELTA


class EmfExporter(MetricExporter):
    """
    Writes metrics to *stream*.

    Args:
        namespace: of CloudWatch.
        dimensions: constant ones beside the attributes, as ``{"service": "shop"}``.
        stream: stdout by default.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        *,
        namespace: str = "lacre",
        dimensions: Mapping[str, str] | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not _NAMESPACE.fullmatch(namespace) or namespace.startswith(("AWS/", ":")):
            raise ConfigurationError(
                "a namespace of CloudWatch is 1 to 255 letters, digits and ._#:/-, and not AWS/",
                hint='for example "shop"',
            )
        # CloudWatch adds up what it is given, so what is counted is told since the last time.
        super().__init__(
            preferred_temporality={
                Counter: _SINCE_LAST,
                ObservableCounter: _SINCE_LAST,
                Histogram: _SINCE_LAST,
            }
        )
        self._namespace = namespace
        self._dimensions = dict(dimensions or {})
        self._stream = stream
        self._clock = clock

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any
    ) -> MetricExportResult:
        """Write a line for each set of attributes."""
        stream = self._stream or sys.stdout
        now = round(self._clock() * 1000)
        alike: dict[tuple[tuple[str, str], ...], list[_Point]] = {}
        for attributes, point in _points(metrics_data):
            alike.setdefault(attributes, []).append(point)
        for attributes, points in alike.items():
            for start in range(0, len(points), _METRICS):
                line = self._line(dict(attributes), points[start : start + _METRICS], now)
                stream.write(json.dumps(line) + "\n")
        stream.flush()
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Whether all is written: always."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Do nothing: the stream is not ours."""

    def _line(
        self, attributes: dict[str, str], points: list[_Point], now: int
    ) -> dict[str, object]:
        # An empty value is none in CloudWatch, and a dimension has to have one.
        said = self._dimensions | {name: value or "-" for name, value in attributes.items()}
        return {
            "_aws": {
                "Timestamp": now,
                "CloudWatchMetrics": [
                    {
                        "Namespace": self._namespace,
                        "Dimensions": [sorted(said)],
                        "Metrics": [{"Name": name, "Unit": unit} for name, unit, _ in points],
                    }
                ],
            },
            **said,
            **{name: value for name, _, value in points},
        }


def _points(found: MetricsData) -> Iterator[tuple[tuple[tuple[str, str], ...], _Point]]:
    for resource in found.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    said = sorted((point.attributes or {}).items())
                    attributes = tuple((name, str(value)) for name, value in said)
                    for each in _told(metric.name, metric.unit or "", point):
                        yield attributes, each


def _told(name: str, unit: str, point: Any) -> Iterator[_Point]:
    unit = _UNITS.get(unit, "Count" if unit.startswith("{") else "None")
    if not hasattr(point, "bucket_counts"):
        yield name, unit, point.value
        return
    yield f"{name}.count", "Count", point.count
    yield f"{name}.sum", unit, point.sum
    if point.count:
        yield f"{name}.min", unit, point.min
        yield f"{name}.max", unit, point.max
