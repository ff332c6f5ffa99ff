# SPDX-License-Identifier: Apache-2.0
"""
Under which ids a key service answered: noted by what speaks to it, gathered by what records the call.

A key service writes the same ids into its own log, which is how that log and ours are matched
(``docs/how-to/reconcile.md``). Holds them for the length of one call, in the context that makes it.
Does not record anything, and asks nobody.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import final

__all__ = ["Attempts", "gathered", "noted"]

_ID = re.compile(r"[A-Za-z0-9-]{8,64}")
_KEPT = 16  # ids of one call at most: its deadline leaves room for a few attempts


@final
class Attempts:
    """
    What one call of a key service came to.

    *number* counts attempts, *ids* are those under which one was answered: an attempt without an
    answer may have reached the service all the same.
    """

    __slots__ = ("ids", "number")

    def __init__(self) -> None:
        self.number = 0
        self.ids: list[str] = []


_gathering: ContextVar[Attempts | None] = ContextVar("lacre_key_service_attempts", default=None)


@contextmanager
def gathered() -> Iterator[Attempts]:
    """Gather what is noted in the block."""
    attempts = Attempts()
    token = _gathering.set(attempts)
    try:
        yield attempts
    finally:
        _gathering.reset(token)


def noted(request: object = None) -> None:
    """Note an attempt, and the id under which it was answered; whatever is no id is left out."""
    attempts = _gathering.get()
    if attempts is None:
        return
    attempts.number += 1
    # Somebody else's text, on its way into evidence.
    if isinstance(request, str) and _ID.fullmatch(request) and len(attempts.ids) < _KEPT:
        attempts.ids.append(str(request))
