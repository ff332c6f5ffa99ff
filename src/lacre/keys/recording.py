# SPDX-License-Identifier: Apache-2.0
"""
What is recorded of keys: of those that are made or change their state, and of calls to unwrap one.

Does not write it: whoever changes a key says when, which is before it is done; of a call it is
after, in memory, because only then is its outcome known.
"""

import time
from collections.abc import Iterable, Mapping

from lacre.audit.event import Outcome, who
from lacre.audit.events import KeyChanged, KeyUnwrapped
from lacre.context import Acting, current
from lacre.errors import ActingError, KeyServiceDenied
from lacre.keys.hierarchy import KeyRow
from lacre.keys.requests import Attempts

__all__ = ["key_changes", "key_unwrapped"]

# Keys are warmed up, and asked for ahead of their end, while nobody acts.
_ITSELF = Acting("lacre", frozenset(), "keys", None)


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
