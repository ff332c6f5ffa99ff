# SPDX-License-Identifier: Apache-2.0
"""
The log of the process: one line of ASCII JSON for each message, by the logger ``lacre.alerts.raised``.

For whoever ships the log anyway, and where nothing else gets through. Whether it is shown is the
application's logging to say.
"""

import json
import logging

from lacre.audit.alerts import Message
from lacre.audit.detection.finding import Severity

__all__ = ["Log"]

_LEVELS = {
    Severity.LOW: logging.INFO,
    Severity.MEDIUM: logging.WARNING,
    Severity.HIGH: logging.ERROR,
    Severity.CRITICAL: logging.CRITICAL,
}
_log = logging.getLogger("lacre.alerts.raised")


class Log:
    """Python's logging."""

    def send(self, message: Message) -> None:
        """Deliver *message*: it never fails, because logging does not say whether it did."""
        _log.log(_LEVELS[message.severity], "%s", json.dumps(message.written(), sort_keys=True))
