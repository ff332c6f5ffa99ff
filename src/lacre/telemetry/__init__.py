# SPDX-License-Identifier: Apache-2.0
"""
What a process does, for those who run it: metrics, traces, log lines and crash reports.

`Telemetry` needs ``lacre[telemetry]``, `lacre.telemetry.emf` OpenTelemetry's SDK (``lacre[emf]``);
`lacre.telemetry.logs` and `lacre.telemetry.scrubbing` need the standard library only. No evidence:
that is the audit log's.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lacre.telemetry.opentelemetry import Telemetry

__all__ = ["Telemetry"]


def __getattr__(name: str) -> Any:
    if name != "Telemetry":
        raise AttributeError(name)
    from lacre.telemetry.opentelemetry import Telemetry

    return Telemetry
