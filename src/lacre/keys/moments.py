# SPDX-License-Identifier: Apache-2.0
"""
Moments as key rows, epochs and certificates have them: RFC 3339 text in UTC, to the second.

Reads the clock of this machine where it is asked for the present one, and decides nothing by it.
"""

import datetime as dt

__all__ = ["moment_text", "now_text"]


def moment_text(moment: dt.datetime) -> str:
    """Return the text of *moment*, which knows its time zone."""
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def now_text() -> str:
    """Return the text of the present moment."""
    return moment_text(dt.datetime.now(dt.UTC))
