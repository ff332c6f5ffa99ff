# SPDX-License-Identifier: Apache-2.0
"""
Changes of rows of keys, on a connection that is given: compare-and-swap, all or nothing.

Says nothing of which change is right, and opens no connection (`lacre.stores.sql` does).
"""

from collections.abc import Sequence

import sqlalchemy as sa

from lacre.errors import MisuseError
from lacre.keys.hierarchy import KeyRow
from lacre.stores.rows import MUTABLE, key_columns, mutable_columns
from lacre.stores.schema import KEY

__all__ = ["change_keys", "changed_meanwhile"]

# Made once: SQLAlchemy takes longer to make it than a database to do it, and a move of keys does it
# ten thousand times.
_REPLACE = (
    KEY.update()
    .where(
        KEY.c.key_id == sa.bindparam("old_key_id"),
        KEY.c.state == sa.bindparam("old_state"),
        KEY.c.revision == sa.bindparam("old_revision"),
        KEY.c.wrapped.is_not_distinct_from(sa.bindparam("old_wrapped")),
    )
    .values({name: sa.bindparam(f"new_{name}") for name in MUTABLE})
)


def changed_meanwhile() -> MisuseError:
    """Return what is raised where somebody else was faster."""
    return MisuseError(
        "another process changed these keys at the same moment; nothing was done",
        hint="look at `lacre keys list`, then try again",
    )


def change_keys(
    connection: sa.Connection,
    *,
    add: Sequence[KeyRow] = (),
    replace: Sequence[tuple[KeyRow, KeyRow]] = (),
) -> None:
    """
    Insert *add* and replace each (old, new).

    Raises:
        MisuseError: a row is not as *old* has it. Whoever calls ends the transaction.
    """
    # Replacements first: the row that stops being active makes room for the next.
    changes = [
        {
            "old_key_id": old.key_id,
            "old_state": str(old.state),
            "old_revision": old.revision,
            "old_wrapped": old.wrapped,
        }
        | {f"new_{name}": value for name, value in mutable_columns(new).items()}
        for old, new in replace
    ]
    # In one go, in their order: the drivers send them without waiting for each answer, and count
    # the rows of all.
    if changes and connection.execute(_REPLACE, changes).rowcount != len(changes):
        raise changed_meanwhile()
    if add:
        connection.execute(KEY.insert(), [key_columns(row) for row in add])
