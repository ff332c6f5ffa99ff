# SPDX-License-Identifier: Apache-2.0
"""
The port of whoever measures: what was recorded, what is asked of key services, what fields do.

Nothing is called where nobody observes. An observer decides nothing and sees no plaintext, search
term or key: what was recorded holds none, and the rest is names. What it raises while events are
told is dropped; it must not raise elsewhere. No evidence: that is the recorder's.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, Protocol

from lacre.audit.event import Event
from lacre.audit.events import Look

__all__ = ["Observer", "timed"]


class Observer(Protocol):
    """Measures one application."""

    def recorded(self, taken: Sequence[Look | Event]) -> None:
        """
        Be told of looks and events that are in the evidence now.

        In the thread that drains the recorder, or in that of a write; never in that of a look.
        """
        ...

    def asking(self, kms_key: str, operation: str) -> AbstractContextManager[object]:
        """Return what is around one call of a key service; it sees the error, if there is one."""
        ...

    def doing(self, operation: str, class_: str) -> AbstractContextManager[object]:
        """Return what is around one operation of a field of *class_*."""
        ...

    def watch(self, application: Any) -> None:
        """Begin to measure how *application* is, from time to time: its keys, columns, recorder."""
        ...


def timed(field: Any, operations: Sequence[str], class_: str, observer: Observer) -> None:
    """Put `Observer.doing` around methods of *field*, on this object alone."""
    for name in operations:
        setattr(field, name, _around(getattr(field, name), name, class_, observer))


def _around(method: Any, name: str, class_: str, observer: Observer) -> Any:
    @wraps(method)
    def around(*given: Any, **more: Any) -> Any:
        with observer.doing(name, class_):
            return method(*given, **more)

    return around
