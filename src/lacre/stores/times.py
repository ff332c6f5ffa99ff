# SPDX-License-Identifier: Apache-2.0
"""
The latest time that a key store knows of. Authenticates nothing: a time only ever makes it later.
"""

import sqlalchemy as sa

from lacre.fields.deadlines import latest_of
from lacre.stores.schema import COLUMN_STATE, KEY

__all__ = ["newest"]


def newest(connection: sa.Connection) -> float | None:
    """Return the latest time of any row, and of PostgreSQL's own clock, in seconds."""
    columns = (KEY.c.created, KEY.c.changed, COLUMN_STATE.c.changed)
    texts = [connection.execute(sa.select(sa.func.max(column))).scalar() for column in columns]
    if connection.dialect.name == "postgresql":
        texts.append(connection.execute(sa.select(sa.func.now())).scalar_one().isoformat())
    return latest_of([text if isinstance(text, str) else None for text in texts])
