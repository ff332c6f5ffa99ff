# SPDX-License-Identifier: Apache-2.0
"""
Changes of rows of keys, on a connection that is given: compare-and-swap, all or nothing.

Says nothing of which change is right, and opens no connection (`lacre.stores.sql` does).
"""

import functools
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

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

_MANY = 16  # from here on one statement is faster than one for each


@functools.cache
def _replace_many(changed: tuple[str, ...]) -> sa.Update:
    # PostgreSQL plans every statement of a batch; this is one, whose parameters are columns.
    named = {f"old_{name}": KEY.c[name].type for name in ("key_id", "state", "revision", "wrapped")}
    named |= {f"new_{name}": KEY.c[name].type for name in changed}
    arrays = [sa.bindparam(name, type_=ARRAY(type_)) for name, type_ in named.items()]
    given = (
        sa.func.unnest(*arrays)
        .table_valued(*(sa.column(name, type_) for name, type_ in named.items()), name="given")
        .render_derived()
    )
    return (
        KEY.update()
        .where(
            KEY.c.key_id == given.c.old_key_id,
            KEY.c.state == given.c.old_state,
            KEY.c.revision == given.c.old_revision,
            KEY.c.wrapped.is_not_distinct_from(given.c.old_wrapped),
        )
        .values({name: given.c[f"new_{name}"] for name in changed})
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
    if replace and _replaced(connection, replace) != len(replace):
        raise changed_meanwhile()
    if add:
        connection.execute(KEY.insert(), [key_columns(row) for row in add])


def _replaced(connection: sa.Connection, pairs: Sequence[tuple[KeyRow, KeyRow]]) -> int:
    if connection.dialect.name == "postgresql" and len(pairs) >= _MANY:
        changed = tuple(
            name
            for name in MUTABLE
            if any(getattr(old, name) != getattr(new, name) for old, new in pairs)
        )
        # Where states change the order counts, and one statement has none.
        if changed and "state" not in changed:
            columns: dict[str, list[Any]] = {
                "old_key_id": [old.key_id for old, _ in pairs],
                "old_state": [str(old.state) for old, _ in pairs],
                "old_revision": [old.revision for old, _ in pairs],
                "old_wrapped": [old.wrapped for old, _ in pairs],
            }
            for name in changed:
                columns[f"new_{name}"] = [getattr(new, name) for _, new in pairs]
            return connection.execute(_replace_many(changed), columns).rowcount
    changes = [
        {
            "old_key_id": old.key_id,
            "old_state": str(old.state),
            "old_revision": old.revision,
            "old_wrapped": old.wrapped,
        }
        | {f"new_{name}": value for name, value in mutable_columns(new).items()}
        for old, new in pairs
    ]
    # In one go, in their order: the drivers send them without waiting for each answer, and count
    # the rows of all.
    return connection.execute(_REPLACE, changes).rowcount
