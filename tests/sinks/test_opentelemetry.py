"""Evidence as log records, by a real SDK of OpenTelemetry."""

import json
from pathlib import Path

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from lacre.audit.entries import CATALOGUE, Entry
from lacre.evidence import open_sink
from lacre.policy.loading import load_policy
from lacre.sinks.opentelemetry import OpenTelemetrySink
from tests.audit.looks import STAMP, example, searched


def test_every_event() -> None:
    """Each event of the catalogue is a record whose body is its entry, and whose name, time and severity are its own."""
    kept, loggers = InMemoryLogRecordExporter(), LoggerProvider()
    loggers.add_log_record_processor(SimpleLogRecordProcessor(kept))
    events = [example(kind) for kind in CATALOGUE.values()]
    OpenTelemetrySink(STAMP, loggers=loggers).append(events)
    records = [each.log_record for each in kept.get_finished_logs()]

    assert [Entry.read(each.body.encode()).id for each in records] == [each.id for each in events]
    assert [each.event_name for each in records] == [f"lacre.{each.action}" for each in events]
    assert {each.timestamp for each in records} == {1_800_000_000_000_000_000}
    assert {each.severity_number for each in records} >= {SeverityNumber.INFO}
    loggers.shutdown()


def test_no_text_ends_a_record() -> None:
    """What somebody put into a name is inside a string of the body."""
    kept, loggers = InMemoryLogRecordExporter(), LoggerProvider()
    loggers.add_log_record_processor(SimpleLogRecordProcessor(kept))
    OpenTelemetrySink(STAMP, loggers=loggers).append([searched(principal='a"\n{"action":"x"}')])
    (record,) = [each.log_record for each in kept.get_finished_logs()]

    assert "\n" not in record.body
    assert json.loads(record.body)["principal"] == 'a"\n{"action":"x"}'
    loggers.shutdown()


def test_it_is_a_copy(home: Path) -> None:
    """`[audit] opentelemetry` puts it behind what keeps evidence, and never in its place."""
    config = home / "lacre.toml"
    config.write_text(config.read_text().replace("[audit]\n", "[audit]\nopentelemetry = true\n", 1))
    sink = open_sink(load_policy(config, {}), home)
    sink.append([searched()])

    assert b'"action":"search"' in (home / "lacre/audit.jsonl").read_bytes()
    assert type(sink) is not OpenTelemetrySink
