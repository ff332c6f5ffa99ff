# SPDX-License-Identifier: Apache-2.0
"""
Events of commands that have the log and no recorder: handed over in a transaction of their own, or somebody's.

Such entries have no writer and no number: what is handed over here and removed before it is
sequenced is not missed. Does not sequence.
"""

import sqlalchemy as sa

from lacre.audit.entries import Stamp, written
from lacre.audit.event import Event
from lacre.stores.log.schema import INBOX

__all__ = ["tell"]


def tell(connection: sa.Connection, event: Event, stamp: Stamp) -> None:
    """Hand *event* over, within the transaction of *connection*."""
    connection.execute(
        sa.insert(INBOX).values(id=bytes.fromhex(event.id), entry=written(event, stamp))
    )
