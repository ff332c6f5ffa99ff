# SPDX-License-Identifier: Apache-2.0
"""
Log lines that can be followed: who acts, for what, in which request, in which trace.

`Correlated` puts it on every record; `JsonLines` writes a record as one line of JSON, in which no
text can end the line. The same correlation id is in the evidence, so one search finds both.

Does not configure `logging`, and takes no value out of a message (`lacre.telemetry.scrubbing` sees
to tracebacks and shapes).
"""

import json
import logging
import sys
from datetime import UTC, datetime

from lacre.context import Acting, current
from lacre.errors import ActingError
from lacre.telemetry.scrubbing import Scrubber

__all__ = ["Correlated", "JsonLines"]

_SAID = ("correlation", "principal", "purpose", "tenant")


class Correlated(logging.Filter):
    """Puts `correlation`, `principal`, `purpose` and `tenant` on every record, empty where nobody acts."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Never drops a record."""
        acting = _acting()
        record.correlation = acting.origin.correlation if acting else ""
        record.principal = acting.principal if acting else ""
        record.purpose = acting.purpose if acting else ""
        record.tenant = (acting.tenant or "") if acting else ""
        return True


class JsonLines(logging.Formatter):
    """
    Writes a record as a line of JSON: time, level, logger, message, who and where, traceback.

    Args:
        scrubber: of messages and tracebacks.
    """

    def __init__(self, *, scrubber: Scrubber | None = None) -> None:
        super().__init__()
        self._scrubber = scrubber or Scrubber()
        self._correlated = Correlated()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        if not hasattr(record, "correlation"):
            self._correlated.filter(record)
        said = {name: value for name in _SAID if (value := getattr(record, name, ""))}
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="microseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._scrubber.text(record.getMessage()),
            **said,
            **_trace(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = self._scrubber.traceback(record.exc_info[1])
        return json.dumps(line)


def _acting() -> Acting | None:
    try:
        return current()
    except ActingError:
        return None


def _trace() -> dict[str, str]:
    # Whoever traces has imported it.
    trace = sys.modules.get("opentelemetry.trace")
    span = trace.get_current_span().get_span_context() if trace is not None else None
    if span is None or not span.is_valid:
        return {}
    return {"trace": f"{span.trace_id:032x}", "span": f"{span.span_id:016x}"}
