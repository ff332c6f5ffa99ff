# SPDX-License-Identifier: Apache-2.0
"""
What Alembic's autogenerate found, completed for indexes of several tokens.

On SQLite their tokens have a table of their own and triggers that keep it, which no metadata
holds: a migration makes them beside the column, takes them away with it, and makes them anew
where Alembic copies the table, which loses its triggers. Reads the database's structure; executes
nothing.
"""

from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import renderers
from alembic.operations import ops

from lacre.sqlalchemy.token_columns import TOKEN, create_statements, drop_statements
from lacre.sqlalchemy.types import TokensType

__all__ = ["Tokens", "complete_tokens"]


class Tokens(ops.MigrateOperation):
    """The statements that make the table of the tokens of a column, and those that take it away."""

    def __init__(self, forth: list[str], back: list[str]) -> None:
        self.forth = forth
        self.back = back

    def reverse(self) -> "Tokens":
        return Tokens(self.back, self.forth)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("index_tokens", *self.forth)


@renderers.dispatch_for(Tokens)
def _rendered(autogenerating: Any, tokens: Tokens) -> str:
    prefix = autogenerating.opts["alembic_module_prefix"] or ""
    return "\n".join(f"{prefix}execute({sql!r})" for sql in tokens.forth)


def complete_tokens(context: Any, upgrade: Any, tables: list[sa.Table]) -> None:
    """Complete the operations of *upgrade* for the columns of several tokens in *tables*."""
    if context.dialect.name != "sqlite":
        return
    held = {
        (table.name, column.name): table
        for table in tables
        for column in table.columns
        if isinstance(column.type, TokensType)
    }
    inspector = sa.inspect(context.connection)
    names = inspector.get_table_names()
    there = {
        name
        for name in names
        if TOKEN in {column["name"] for column in inspector.get_columns(name)}
    }
    _forget(upgrade, held, there)
    changed = {
        found.table_name
        for found in upgrade.ops
        if isinstance(found, ops.ModifyTableOps) and found.ops
    }
    for (name, column), table in held.items():
        back = drop_statements(table, column, context.dialect)
        forth = create_statements(table, column, context.dialect)
        if f"{name}_{column}" not in there:
            upgrade.ops.append(Tokens(forth, back))
        elif name in changed:
            # Where the table is copied its triggers go, and what they kept may be old by then.
            upgrade.ops.append(Tokens([*back, *forth], [*back, *forth]))
    for name in names:
        for column in [
            found.removeprefix(f"{name}_") for found in there if found.startswith(f"{name}_")
        ]:
            if (name, column) in held:
                continue
            table = sa.Table(name, sa.MetaData(), autoload_with=context.connection)
            if column in table.columns:
                forth = create_statements(table, column, context.dialect)
                # First: SQLite drops no column that a trigger speaks of.
                upgrade.ops.insert(
                    0, Tokens(drop_statements(table, column, context.dialect), forth)
                )


def _forget(upgrade: Any, held: Any, there: set[str]) -> None:
    # Tables of tokens are in no metadata; and SQLite has none of PostgreSQL's indexes.
    kept = []
    for found in upgrade.ops:
        if isinstance(found, ops.ModifyTableOps):
            found.ops[:] = [op for op in found.ops if not _is_gin(op, held)]
        if getattr(found, "table_name", None) not in there and not _is_gin(found, held):
            kept.append(found)
    upgrade.ops[:] = kept


def _is_gin(op: Any, held: Any) -> bool:
    if not isinstance(op, ops.CreateIndexOp):
        return False
    return any((op.table_name, column.name) in held for column in op.to_index().columns)
