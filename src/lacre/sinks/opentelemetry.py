# SPDX-License-Identifier: Apache-2.0
"""
Evidence as log records of OpenTelemetry: a copy, for wherever an application's logs go.

Each event is a record whose body is its entry (``spec/evidence-log.md``, section 2), so what reads
lines reads these. A copy only: an exporter drops what it cannot send and tells nobody, so nothing
here may stand for the log or the file of lines, and nothing here refuses a look. What was handed
over twice has the same id twice.
"""

from collections.abc import Sequence
from typing import Any, final

from lacre.audit.entries import Stamp, written
from lacre.audit.event import Event, Status
from lacre.errors import ConfigurationError

__all__ = ["OpenTelemetrySink"]

# By status: OpenTelemetry's numbers of severity are 9 for INFO, 13 for WARN, 17 for ERROR.
_SEVERITY = {Status.PREVENTED: 13, Status.FAILED: 17}


@final
class OpenTelemetrySink:
    """
    Emits events as log records.

    Args:
        stamp: what every entry says.
        loggers: a logger provider; the one that OpenTelemetry was set up with by default.

    Raises:
        ConfigurationError: OpenTelemetry's API is not installed.
    """

    def __init__(self, stamp: Stamp, *, loggers: Any = None) -> None:
        try:
            from opentelemetry import _logs as logs  # as the API calls it until it is stable
        except ModuleNotFoundError:
            raise ConfigurationError(
                "opentelemetry-api is needed to emit evidence as logs, and is not installed",
                hint="pip install 'lacre[telemetry]'",
            ) from None
        self._stamp = stamp
        self._record, self._number = logs.LogRecord, logs.SeverityNumber
        self._logger = logs.get_logger("lacre.audit", logger_provider=loggers)

    def append(self, events: Sequence[Event]) -> None:
        """Emit *events*, in order. Raises nothing: it is a copy."""
        for event in events:
            self._logger.emit(self._of(event))

    def newest(self) -> float | None:
        """Return None: what was emitted is not known here."""
        return None

    def close(self) -> None:
        """Do nothing: the provider is the application's."""

    def _of(self, event: Event) -> Any:
        status = event.judged()
        said = {
            "id": event.id,
            "action": event.action,
            "status": str(status),
            "principal": event.principal,
            "purpose": event.purpose,
            "tenant": event.tenant,
            "correlation": event.origin.correlation,
        }
        return self._record(
            timestamp=round(event.time * 1e9),
            severity_number=self._number(_SEVERITY.get(status, 9)),
            event_name=f"lacre.{event.action}",
            body=written(event, self._stamp).decode("ascii"),
            attributes={f"lacre.{name}": value for name, value in said.items() if value},
        )
