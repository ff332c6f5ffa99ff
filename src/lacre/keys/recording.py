# SPDX-License-Identifier: Apache-2.0
"""
What is recorded of keys: of those that are made or change their state, and of calls to unwrap one.

A change is recorded in its own transaction where the key store has an outbox, else before it is
done: an auditor sees that it was meant, whatever happens. A call is recorded after it, in memory,
because only then is its outcome known.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lacre.audit.event import Event, Outcome, who
from lacre.audit.events import KeyChanged, KeyUnwrapped
from lacre.context import Acting, current
from lacre.errors import ActingError, KeyServiceDenied
from lacre.keys.hierarchy import KeyRow
from lacre.keys.requests import Attempts

__all__ = ["key_changes", "key_unwrapped", "recorded"]

# Keys are warmed up, and asked for ahead of their end, while nobody acts.
_ITSELF = Acting("lacre", frozenset(), "keys", None)


@contextmanager
def recorded(
    write: Callable[[Sequence[Event]], None],
    store: Any,
    events: Sequence[Event],
    *,
    again: bool = False,
) -> Iterator[None]:
    """
    Record *events* of the one change of *store* that the block makes.

    Args:
        write: hands events over before it returns, where the store has no outbox.
        again: they were handed over before, of a change that did not happen: only an outbox needs them.

    Raises:
        EvidenceUnavailable: they cannot be recorded; nothing is changed.
    """
    if getattr(store, "keeps_evidence", False):
        with store.recording(events):
            yield
        return
    if not again:
        write(events)
    yield


def key_changes(rows: Iterable[KeyRow]) -> list[KeyChanged]:
    """Return the event of each row as it will be, done by whoever acts now."""
    acting, now = current(), time.time()
    return [
        KeyChanged(
            **who(acting, time=now, tenant=row.scope.tenant),
            class_=row.scope.class_,
            kind=str(row.scope.kind),
            key=row.key_id.hex(),
            version=row.version,
            state=str(row.state),
        )
        for row in rows
    ]


def key_unwrapped(
    kms_key: str,
    operation: str,
    context: Mapping[str, str],
    *,
    attempts: Attempts,
    error: BaseException | None,
) -> KeyUnwrapped:
    """Return the event of one call, done for whoever acts now, or for the process itself."""
    try:
        acting = current()
    except ActingError:
        acting = _ITSELF
    outcome = Outcome.ALLOWED
    if error is not None:
        outcome = Outcome.DENIED if isinstance(error, KeyServiceDenied) else Outcome.FAILED
    return KeyUnwrapped(
        **who(acting, time=time.time(), tenant=context.get("tenant", "")),
        kms_key=kms_key,
        key=context.get("lacre-key", ""),
        kind=context.get("kind", ""),
        class_=context.get("class", ""),
        operation=operation,
        digest=context.get("lacre-row", ""),
        outcome=outcome,
        requests=tuple(attempts.ids),
        attempts=max(attempts.number, 1),
    )
