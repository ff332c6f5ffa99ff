"""What a process measures of itself, by a real SDK of OpenTelemetry."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from lacre import AccessDenied, BlindIndex, EvidenceUnavailable, Lacre, LacreError
from lacre.errors import KeyServiceUnreachable
from lacre.fields.column_state import ColumnState, move
from lacre.kms.calling import CallLimits
from lacre.kms.local import Identity
from lacre.kms.openbao import OpenBaoKeyService
from lacre.policy.model import OpenBaoSettings
from lacre.sqlalchemy import encrypted
from lacre.telemetry import Telemetry
from lacre.telemetry.names import METRICS, Kind

CANARIES = ("canary-value@example.org", "canary-principal", "canary-row-77", "canary-correlation", "canary-purpose")  # fmt: skip


class Rig:
    """An application that is measured, and what was."""

    def __init__(self, home: Path, **options: Any) -> None:
        self.reader, self.spans = InMemoryMetricReader(), InMemorySpanExporter()
        self.meters = MeterProvider([self.reader])
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        telemetry = Telemetry(meters=self.meters, tracers=tracers, **{"every": 1} | options)
        self.lacre = Lacre.load(home / "lacre.toml", environ={}, observer=telemetry)

    def points(self, name: str) -> dict[tuple[tuple[str, str], ...], Any]:
        """Return the points of a metric, by their attributes."""
        found = self.reader.get_metrics_data()
        return {
            tuple(sorted(point.attributes.items())): point
            for resource in (found.resource_metrics if found else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        }

    def names(self) -> set[str]:
        """Return the names of all metrics."""
        found = self.reader.get_metrics_data()
        return {metric.name for each in found.resource_metrics for scope in each.scope_metrics for metric in scope.metrics}  # fmt: skip

    def text(self) -> str:
        """Return everything that would be exported."""
        found = self.reader.get_metrics_data()
        return (found.to_json() if found else "") + "".join(span.to_json() for span in self.spans.get_finished_spans())  # fmt: skip


@pytest.fixture
def rig(home: Path) -> Iterator[Rig]:
    """A measured application."""
    rig = Rig(home)
    with rig.lacre:
        yield rig


def _labels(**said: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name.rstrip("_"), value) for name, value in said.items()))


def _use(lacre: Lacre) -> None:
    box = lacre.field("pii", table="t", column="c", index=BlindIndex("email"))
    with lacre.acting_as("canary-principal", roles={"app"}, purpose="canary-purpose"):
        sealed = box.encrypt("canary-value@example.org", row="canary-row-77")
        for _ in range(3):
            box.decrypt(sealed, row="canary-row-77")
        box.search_tokens("canary-value@example.org")
    with (
        lacre.acting_as("canary-principal", roles={"nobody"}, purpose="canary-purpose"),
        pytest.raises(AccessDenied),
    ):
        box.encrypt("canary-value@example.org", row="canary-row-77")
    lacre.flush()


def test_operations(rig: Rig) -> None:
    """Operations are counted by class and outcome, uses of keys by how the key was had, and all are timed."""
    _use(rig.lacre)
    counts = {key: point.value for key, point in rig.points("lacre.operations").items()}
    uses = {key: point.value for key, point in rig.points("lacre.key.uses").items()}

    assert counts[_labels(operation="look", class_="pii", outcome="allowed")] == 3
    assert counts[_labels(operation="encrypt", class_="pii", outcome="allowed")] == 1
    assert counts[_labels(operation="encrypt", class_="pii", outcome="denied")] == 1
    assert counts[_labels(operation="search", class_="pii", outcome="allowed")] == 1
    assert sum(uses.values()) == 4
    assert uses[_labels(class_="pii", cache="hit")] >= 3
    timed = rig.points("lacre.operation.duration")
    assert timed[_labels(operation="decrypt", class_="pii", outcome="done")].count == 3
    assert timed[_labels(operation="encrypt", class_="pii", outcome="denied")].count == 1


def test_one_in_so_many_is_timed(home: Path) -> None:
    """Of operations on one value some are timed, and all are counted."""
    rig = Rig(home, every=4)
    with rig.lacre:
        _use(rig.lacre)
        timed = sum(point.count for point in rig.points("lacre.operation.duration").values())
        counted = sum(point.value for point in rig.points("lacre.operations").values())

    assert (timed, counted) == (2, 6)


def test_key_service(rig: Rig) -> None:
    """Calls of the key service are timed and spanned by KMS key and operation, failures by their code."""
    _use(rig.lacre)
    calls = rig.points("lacre.key_service.duration")
    (key,) = [key for key in calls if ("kms_key", "local://pii-fields") in key]

    assert dict(key) == {"kms_key": "local://pii-fields", "operation": "unwrap", "failure": ""}
    spans = [span for span in rig.spans.get_finished_spans() if span.name == "lacre.key_service unwrap"]  # fmt: skip
    assert {span.attributes["lacre.kms_key"] for span in spans} == {"local://pii-fields", "local://pii-index"}  # fmt: skip


def test_failures_have_codes(rig: Rig, home: Path) -> None:
    """Of an error its code is told, in the metric and in the span; its text and frames are not."""
    for manifest in (home / "lacre/keystore").rglob("*pii-fields*"):
        manifest.write_bytes(b"broken") if manifest.is_file() else None
    box = rig.lacre.field("pii", table="t", column="c")
    with rig.lacre.acting_as("a", roles={"app"}, purpose="p"), pytest.raises(LacreError):
        box.encrypt("canary-value@example.org", row="1")
    failed = [dict(key)["failure"] for key in rig.points("lacre.key_service.duration")]
    (span,) = rig.spans.get_finished_spans()

    assert failed
    assert failed != [""]
    assert (span.status.is_ok, span.attributes["error.type"], span.events) == (False, failed[0], ())


def test_stock(rig: Rig) -> None:
    """Keys are told by class, kind, state and age, columns by state, the recorder by its backlog."""
    keys = rig.points("lacre.keys")
    pii = {dict(key)["kind"]: point.value for key, point in keys.items() if dict(key)["class"] == "pii"}  # fmt: skip

    assert pii == {"branch": 1, "data": 1, "index": 1}
    assert {dict(key)["age"] for key in keys} == {"30d"}
    assert {dict(key)["state"] for key in keys} == {"active"}
    assert max(point.value for point in rig.points("lacre.keys.oldest").values()) < 1
    assert [point.value for point in rig.points("lacre.columns.overdue").values()] == [0]
    assert [point.value for point in rig.points("lacre.recorder.failing").values()] == [0]


def test_refusals(rig: Rig) -> None:
    """What could not be recorded, and so did not happen, is counted, and the recorder is said to fail."""

    class Broken:
        def append(self, events: Any) -> None:
            raise OSError(28, "No space left on device")

    box = rig.lacre.field("pii", table="t", column="c")
    rig.lacre.recorder._sink, kept = Broken(), rig.lacre.recorder._sink
    with rig.lacre.acting_as("a", roles={"app"}, purpose="p"):
        for _ in range(20):
            try:
                box.encrypt("x", row="1")
                rig.lacre.flush()
            except EvidenceUnavailable:
                pass
        refused = [point.value for point in rig.points("lacre.evidence.refused").values()]
        failing = [point.value for point in rig.points("lacre.recorder.failing").values()]
    rig.lacre.recorder._sink = kept

    assert refused[0] >= 18
    assert failing == [1]


def test_nothing_personal(rig: Rig) -> None:
    """No value, principal, purpose, row or correlation id is in anything that is exported."""
    _use(rig.lacre)

    assert not [canary for canary in CANARIES if canary in rig.text()]


def test_bounded(home: Path) -> None:
    """Sets of attributes beyond the limit are one, `other`."""
    rig = Rig(home, limit=2)
    with rig.lacre:
        _use(rig.lacre)
        found = rig.points("lacre.operations")

    assert len(found) == 3
    assert _labels(operation="other", class_="other", outcome="other") in found
    assert sum(point.value for point in found.values()) == 6


def test_only_metrics_that_are_listed(rig: Rig) -> None:
    """Every metric that is exported is in the list, with its unit, kind and attributes."""
    _use(rig.lacre)
    found = rig.reader.get_metrics_data()
    exported = {metric.name: metric for each in found.resource_metrics for scope in each.scope_metrics for metric in scope.metrics}  # fmt: skip

    assert exported.keys() <= METRICS.keys()
    assert METRICS.keys() - exported.keys() <= {"lacre.key_service.resting", "lacre.columns"}
    for name, metric in exported.items():
        assert metric.unit == METRICS[name].unit
        for point in metric.data.data_points:
            assert set(point.attributes) == set(METRICS[name].attributes)
        assert hasattr(metric.data.data_points[0], "bucket_counts") is (METRICS[name].kind is Kind.HISTOGRAM)  # fmt: skip


def test_nothing_without_an_observer(home: Path) -> None:
    """Without an observer nothing is imported, and a field's methods are the class's own."""
    program = f"""
import sys
from lacre import Lacre
with Lacre.load({str(home / "lacre.toml")!r}, environ={{}}) as lacre:
    box = lacre.field("pii", table="t", column="c")
    with lacre.acting_as("a", roles={{"app"}}, purpose="p"):
        box.encrypt("x", row="1")
    print([name for name in sys.modules if name.startswith(("opentelemetry", "lacre.telemetry"))], [name for name in vars(box) if name in type(box)._timed])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)  # fmt: skip

    assert done.stdout.strip() == "[] []"


def test_prometheus(home: Path) -> None:
    """Prometheus' exporter shows every metric under the name that the list says."""
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import REGISTRY, generate_latest

    meters = MeterProvider([PrometheusMetricReader()])
    try:
        with Lacre.load(
            home / "lacre.toml", environ={}, observer=Telemetry(meters=meters)
        ) as lacre:
            _use(lacre)
            shown = generate_latest(REGISTRY).decode()
    finally:
        meters.shutdown()
    names = {line.split()[2] for line in shown.splitlines() if line.startswith("# TYPE lacre_")}

    assert names <= {each.prometheus for each in METRICS.values()}
    assert {
        "lacre_operations_total",
        "lacre_operation_duration_seconds",
        "lacre_keys_oldest_days",
    } <= names
    assert not [canary for canary in CANARIES if canary in shown]


def test_grafana() -> None:
    """Every query of the dashboard names metrics and labels that there are, and every metric is in it."""
    board = json.loads((Path(__file__).parents[2] / "infra/grafana/lacre.json").read_text("utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    suffixes = ("_bucket", "_sum", "_count")
    known = {metric.prometheus: metric for metric in METRICS.values()}
    used: set[str] = set()
    for query in queries:
        for name in re.findall(r"\blacre_[a-z_]+", query):
            found = next((name.removesuffix(end) for end in suffixes if name.endswith(end) and name.removesuffix(end) in known), name)  # fmt: skip
            assert found in known, query
            used.add(found)
        labels = set(re.findall(r"by \(([a-z_, ]+)\)", query)) | set(re.findall(r"([a-z_]+)(?:=|!=|=~)\"", query))  # fmt: skip
        said = {label.strip() for each in labels for label in each.split(",")}
        allowed = {"le"}.union(*(known[name].attributes for name in used))
        assert said <= allowed, query

    assert used == set(known)


def test_sessions(home: Path) -> None:
    """What an ORM session writes and looks at is counted and timed, too."""

    class Base(DeclarativeBase):
        pass

    class Customer(Base):
        __tablename__ = "customers"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        email: Mapped[str] = encrypted("pii", index=BlindIndex("email"))

    rig, engine = Rig(home), create_engine(f"sqlite:///{home}/shop.db")
    Base.metadata.create_all(engine)
    with rig.lacre as lacre:
        sessions = lacre.sqlalchemy(sessionmaker(engine))
        with lacre.acting_as("svc:a", roles={"app"}, purpose="p"):
            with sessions() as session:
                session.add_all([Customer(email="a@example.org"), Customer(email="b@example.org")])
                session.commit()
            with sessions() as session:
                found = session.scalars(select(Customer).where(Customer.email == "a@example.org")).one()  # fmt: skip
                assert found.email == "a@example.org"
        lacre.flush()
        counts = {key: point.value for key, point in rig.points("lacre.operations").items()}
        timed = {dict(key)["operation"] for key in rig.points("lacre.operation.duration")}
    engine.dispose()

    assert counts[_labels(operation="encrypt", class_="pii", outcome="allowed")] == 2
    assert counts[_labels(operation="search", class_="pii", outcome="allowed")] == 1
    assert counts[_labels(operation="look", class_="pii", outcome="allowed")] >= 1
    assert "decrypt" in timed


def test_columns_with_plaintext(home: Path) -> None:
    """A column that is not encrypted yet is told by the state that the operator signed."""
    rig = Rig(home)
    with rig.lacre as lacre:
        place = {"store": "main", "table": "customers", "column": "email", "class_": "pii"}
        operator = Identity.load(home / "lacre/identities/operator.key", None)
        move(
            lacre.store, operator, to=ColumnState.DUAL,
            keystore=lacre.store.keystore_id, changed="2026-11-22T12:00:00Z", **place,
        )  # fmt: skip
        (key,) = rig.points("lacre.columns")

    assert dict(key) == {"column": "main.customers.email", "class": "pii", "state": "dual"}


def test_breaker(home: Path, tmp_path: Path) -> None:
    """Where an endpoint gives no answer, its breaker is told to be open."""
    settings = OpenBaoSettings.model_validate({"address": "https://127.0.0.1:1", "auth": "token"})
    service = OpenBaoKeyService.open(
        settings, limits=CallLimits(deadline=0.01, attempt=0.01), base=tmp_path, environ={"BAO_TOKEN": "s.x"},
    )  # fmt: skip
    rig = Rig(home)
    with rig.lacre as lacre:
        lacre.services = {**lacre.services, "openbao": service}
        before = [point.value for point in rig.points("lacre.key_service.resting").values()]
        for _ in range(3):
            with pytest.raises(KeyServiceUnreachable):
                service.status("openbao://transit/pii")
        ((key, point),) = rig.points("lacre.key_service.resting").items()

    assert before == [0]
    assert (dict(key), point.value) == ({"endpoint": "https://127.0.0.1:1"}, 1)
