# SPDX-License-Identifier: Apache-2.0
"""
What is recorded of keys that are made, or change their state: one event for each row.

Does not write them: whoever changes a key says when, which is before it is done.
"""

import time
from collections.abc import Iterable

from lacre.audit.event import who
from lacre.audit.events import KeyChanged
from lacre.context import current
from lacre.keys.hierarchy import KeyRow

__all__ = ["key_changes"]


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
