# SPDX-License-Identifier: Apache-2.0
"""
What an upgrade of a key store consists of: statements to run, or to print for a DBA.

Runs nothing; `lacre.stores.sql` does, in one transaction. Does not say who may do what
(`lacre.stores.roles`).
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from lacre.stores.schema import META, STEPS, AddColumn, AddReference, LeaveRoom

__all__ = ["Upgrade"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """The way from version *before* to version *to*; nothing where it is there already."""

    before: int
    to: int

    def statements(self, schema: str | None) -> Sequence[sa.Executable]:
        """Return the statements, in order, about the tables of *schema*."""
        if self.before >= self.to:
            return []
        meta = META.to_metadata(sa.MetaData(schema=schema))
        made: list[sa.Executable] = [
            _in(schema, statement)
            for step in STEPS[self.before : self.to]
            for statement in step
            # Only PostgreSQL has schemas, foreign keys that are added to a table, and a fillfactor.
            if schema is not None or not isinstance(statement, AddReference | LeaveRoom)
        ]
        if self.before:
            made.append(meta.update().where(meta.c.name == "schema").values(value=str(self.to)))
            return made
        first = {"keystore": secrets.token_hex(16), "schema": str(self.to)}
        if self.to > 1:
            # Made with the memory of manifests, it has it from its first day.
            first["seen"] = "always"
        made += [meta.insert().values(name=name, value=value) for name, value in first.items()]
        return made

    def script(
        self, *, dialect: sa.Dialect, schema: str | None, more: Sequence[str] = ()
    ) -> Sequence[str]:
        """Return the statements as text, and *more* after them, as one transaction."""
        lines = ["BEGIN"]
        if schema is not None:
            lines.append(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        for statement in self.statements(schema):
            compiled = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})  # type: ignore[attr-defined]
            lines.append(str(compiled).strip())
        return [f"{line};" for line in (*lines, *more, "COMMIT")]


def _in(schema: str | None, ddl: sa.schema.ExecutableDDLElement) -> sa.schema.ExecutableDDLElement:
    # The same statement about a table that names its schema.
    metadata = sa.MetaData(schema=schema)
    match ddl:
        case sa.schema.CreateTable(element=sa.Table() as table):
            return sa.schema.CreateTable(table.to_metadata(metadata))
        case sa.schema.CreateIndex(element=sa.Index(table=sa.Table() as table, name=name)):
            indexes = table.to_metadata(metadata).indexes
            return sa.schema.CreateIndex(next(index for index in indexes if index.name == name))
        case AddColumn(column=column):
            return AddColumn(column.table.to_metadata(metadata).c[column.name])
        case LeaveRoom(table=table, percent=percent):
            return LeaveRoom(table.to_metadata(metadata), percent)
        case AddReference(name=name, columns=columns, to=to):
            own, other = (each[0].table.to_metadata(metadata) for each in (columns, to))
            return AddReference(
                name, [own.c[each.name] for each in columns], [other.c[each.name] for each in to]
            )
    return ddl
