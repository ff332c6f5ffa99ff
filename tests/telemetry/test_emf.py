"""CloudWatch's embedded metric format, checked against the rules of its specification."""

import importlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from lacre import Lacre
from lacre.errors import ConfigurationError
from lacre.telemetry import Telemetry
from lacre.telemetry.emf import EmfExporter

# The standard units of CloudWatch's MetricDatum.
_UNITS = {
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Bytes",
    "Percent",
    "Count",
    "Count/Second",
    "None",
}


def _check(line: str) -> dict[str, Any]:
    """The rules of the specification, for one line."""
    assert len(line) < 256 * 1024
    root = json.loads(line)
    about = root["_aws"]
    assert set(about) == {"Timestamp", "CloudWatchMetrics"}
    assert isinstance(about["Timestamp"], int)
    (directive,) = about["CloudWatchMetrics"]
    assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
    assert 1 <= len(directive["Namespace"]) <= 1024
    assert 1 <= len(directive["Metrics"]) <= 100
    for dimensions in directive["Dimensions"]:
        assert len(dimensions) <= 30
        for name in dimensions:
            assert isinstance(root[name], str)
            assert 1 <= len(root[name]) <= 1024
    for metric in directive["Metrics"]:
        assert 1 <= len(metric["Name"]) <= 1024
        assert metric["Unit"] in _UNITS
        assert isinstance(root[metric["Name"]], int | float)
    return root


def test_the_format(home: Path) -> None:
    """Every line keeps the rules; counts are of what happened since the last time."""
    stream = io.StringIO()
    exporter = EmfExporter(namespace="shop", dimensions={"service": "orders"}, stream=stream, clock=lambda: 1_800_000_000.25)  # fmt: skip
    meters = MeterProvider(
        [PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)]
    )
    with Lacre.load(home / "lacre.toml", environ={}, observer=Telemetry(meters=meters)) as lacre:
        box = lacre.field("pii", table="t", column="c")
        with lacre.acting_as("canary-principal", roles={"app"}, purpose="p"):
            box.encrypt_many([("1", "x"), ("2", "y")])
        lacre.flush()
        meters.force_flush()
        first = [_check(line) for line in stream.getvalue().splitlines()]
        stream.seek(0)
        stream.truncate()
        with lacre.acting_as("canary-principal", roles={"app"}, purpose="p"):
            box.encrypt("z", row="3")
        lacre.flush()
        meters.force_flush()
        second = [_check(line) for line in stream.getvalue().splitlines()]
        meters.shutdown()

    def counted(lines: list[dict[str, Any]]) -> list[int]:
        return [line["lacre.operations"] for line in lines if line.get("operation") == "encrypt" and "lacre.operations" in line]  # fmt: skip

    assert (counted(first), counted(second)) == ([2], [1])
    assert {line["service"] for line in first} == {"orders"}
    assert {line["_aws"]["Timestamp"] for line in first} == {1_800_000_000_250}
    assert any(line.get("lacre.key_service.duration.count") == 1 for line in first)
    assert "canary-principal" not in json.dumps([first, second])


@pytest.mark.parametrize("namespace", ["", "AWS/KMS", "with space", ":x", "a" * 256])
def test_a_namespace_is_one_of_ours(namespace: str) -> None:
    """What CloudWatch would refuse, or keeps for AWS, is refused at once."""
    with pytest.raises(ConfigurationError):
        EmfExporter(namespace=namespace)


def test_without_the_sdk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing it is a mistake of the installation, and the line that mends it is there."""
    monkeypatch.delitem(sys.modules, "lacre.telemetry.emf")
    for name in [name for name in sys.modules if name.startswith("opentelemetry.sdk")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(ConfigurationError) as caught:
        importlib.import_module("lacre.telemetry.emf")

    assert caught.value.hint == "pip install 'lacre[emf]'"
