# SPDX-License-Identifier: Apache-2.0
"""
Keeps what botocore logs at DEBUG about lacre's own calls out of every log: keys in the clear are in it.

At that level botocore writes whole requests and answers, and what it signs, session token included.
Records of other calls, of the application's own clients, pass as before; so does everything that says
nothing of what was sent. Leans on the names of three loggers of botocore, pinned by a test.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["unlogged"]

_TELLING: Final = ("botocore.auth", "botocore.endpoint", "botocore.parsers")
_calls = threading.local()  # `ours`: whether this thread is in a call of lacre's


class _NotOurs(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_calls, "ours", False)


_FILTER: Final = _NotOurs()


@contextmanager
def unlogged() -> Iterator[None]:
    """Let botocore log nothing that is sent or answered in the block, on this thread."""
    for name in _TELLING:
        logging.getLogger(name).addFilter(
            _FILTER
        )  # once: a filter that is there is not added again
    _calls.ours = True
    try:
        yield
    finally:
        _calls.ours = False
