# SPDX-License-Identifier: Apache-2.0
"""
What Alembic's autogenerate found, completed for encrypted columns.

Alembic compares no CHECK constraints by itself, leaves unique constraints without the name that
a downgrade needs, and would turn a plaintext column into a binary one with the plaintext in it.
Reads the database's structure; executes nothing.

Leans on a private name of SQLAlchemy, pinned by a test: `CheckConstraint._create_rule`.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import render_op_text, renderers
from alembic.operations import ops
from sqlalchemy.sql.elements import conv

from lacre.sqlalchemy.declared import INDEXES, ROW_ID
from lacre.sqlalchemy.token_migrations import complete_tokens
from lacre.sqlalchemy.types import EncryptedType, IndexType, TokensType

__all__ = ["Conversion", "Process", "Render", "options"]

Render = Callable[[str, Any, Any], Any]
Process = Callable[[Any, Any, Any], None]


def options(theirs: Render | None, processed: Process | None) -> dict[str, Any]:
    """Return the options of ``context.configure``, with the application's own two behind ours."""

    def render_item(kind: str, item: Any, autogenerating: Any) -> Any:
        if kind == "type" and isinstance(item, EncryptedType | IndexType):
            return f"{autogenerating.opts['sqlalchemy_module_prefix'] or ''}LargeBinary()"
        if kind == "type" and isinstance(item, TokensType):
            prefix = autogenerating.opts["sqlalchemy_module_prefix"] or ""
            array = autogenerating.dialect.name == "postgresql"
            return f"{prefix}ARRAY({prefix}Integer())" if array else f"{prefix}Text()"
        if kind == "check" and _is_ours(item.name) and not _applies(item, autogenerating.dialect):
            return None
        return False if theirs is None else theirs(kind, item, autogenerating)

    def process_revision_directives(context: Any, revision: Any, directives: list[Any]) -> None:
        if _is_autogenerating(context):
            for script in directives:
                _complete(context, script.upgrade_ops_list[-1])
                script.upgrade_ops_list[-1].reverse_into(script.downgrade_ops_list[-1])
        if processed is not None:
            processed(context, revision, directives)

    return {
        "render_item": render_item,
        "process_revision_directives": process_revision_directives,
    }


def _name_of(constraint: sa.CheckConstraint, dialect: Any) -> str:
    """Return the constraint's name as the database knows it, in quotes if it needs some."""
    return str(dialect.identifier_preparer.format_constraint(constraint))


def _found_checks(connection: Any, table: str, schema: str | None) -> dict[str, Any]:
    """Return the named CHECKs of a table that is there, by the names that `_name_of` gives."""
    preparer = connection.dialect.identifier_preparer
    return {
        preparer.quote(found["name"]): found
        for found in sa.inspect(connection).get_check_constraints(table, schema=schema)
        if found["name"]
    }


class Conversion(ops.MigrateOperation):
    """What turns plaintext columns of one table into encrypted ones, or the way *back*."""

    def __init__(self, parts: list[ops.ModifyTableOps], columns: list[str], *, back: bool) -> None:
        self.parts = parts
        self.columns = columns
        self.back = back

    def reverse(self) -> "Conversion":
        parts = [part.reverse() for part in reversed(self.parts)]
        return Conversion(parts, self.columns, back=not self.back)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("unprotect" if self.back else "protect", self.parts[0].table_name, *self.columns)


@renderers.dispatch_for(Conversion)
def _rendered(autogenerating: Any, conversion: Conversion) -> str:
    autogenerating.imports.add("import lacre.sqlalchemy.migrations")
    part = conversion.parts[0]
    asked = "is_protected" if conversion.back else "is_plaintext"
    schema = f", schema={str(part.schema)!r}" if part.schema else ""
    lines = [
        f"if lacre.sqlalchemy.migrations.{asked}(op, {str(part.table_name)!r}, {conversion.columns!r}{schema}):"
    ]
    for part in conversion.parts:
        depth = 1
        for line in render_op_text(autogenerating, part).splitlines():
            if line.strip():
                lines.append("    " * depth + line)
                depth += line.startswith("with ")
    return "\n".join(lines)


def _is_autogenerating(context: Any) -> bool:
    # With `revision_environment` the hook also runs for `alembic revision` without --autogenerate.
    asked = getattr(context.config, "cmd_opts", None)
    return bool(getattr(asked, "autogenerate", True))


def _is_ours(name: Any) -> bool:
    return name is not None and str(name).startswith("ck_") and str(name).endswith("_lacre")


def _applies(constraint: Any, dialect: Any) -> bool:
    # The rule asks whatever has a dialect: a DDL compiler, usually.
    rule = constraint._create_rule  # noqa: SLF001
    return rule is None or bool(rule(dialect.ddl_compiler(dialect, None)))


def _is_lacre_s(column: sa.Column[Any]) -> bool:
    return isinstance(column.type, EncryptedType | IndexType | TokensType) or bool(
        column.info.get(ROW_ID)
    )


def _complete(context: Any, upgrade: Any) -> None:
    # What `lacre protect` keeps beside the tables is no table of the application's.
    upgrade.ops[:] = [
        found
        for found in upgrade.ops
        if not str(getattr(found, "table_name", "")).startswith("lacre_")
    ]
    complete_tokens(context, upgrade, list(_tables(context)))
    created = {
        (found.schema, found.table_name)
        for found in upgrade.ops
        if isinstance(found, ops.CreateTableOp)
    }
    there: dict[Any, ops.ModifyTableOps] = {
        (found.schema, found.table_name): found
        for found in upgrade.ops
        if isinstance(found, ops.ModifyTableOps)
    }
    inspector = sa.inspect(context.connection)
    for table in _tables(context):
        key = (table.schema, table.name)
        if key in created or not inspector.has_table(table.name, schema=table.schema):
            continue
        modify = there.get(key) or ops.ModifyTableOps(table.name, [], schema=table.schema)
        _complete_table(context, table, modify)
        if modify.ops and key not in there:
            upgrade.ops.append(modify)
        if modify.ops:
            checks = _found_checks(context.connection, table.name, table.schema)
            _convert(upgrade, table, modify, checks)
    upgrade.ops[:] = [
        found
        for found in upgrade.ops
        if not (isinstance(found, ops.ModifyTableOps) and not found.ops)
    ]


def _tables(context: Any) -> Iterator[sa.Table]:
    given = context.opts["target_metadata"]
    included = context.opts.get("include_object")
    for metadata in given if isinstance(given, list | tuple) else [given]:
        for table in metadata.sorted_tables:
            if included is None or included(table, table.name, "table", False, None):
                yield table


def _complete_table(context: Any, table: sa.Table, modify: Any) -> None:
    dialect = context.dialect
    columns = {column.name: column for column in table.columns if _is_lacre_s(column)}
    _forget_equals(modify, columns)
    for found in list(modify.ops):
        if isinstance(found, ops.AlterColumnOp) and _is_as_protect_left_it(found, columns):
            modify.ops.remove(found)
    for found in modify.ops:
        if (
            isinstance(found, ops.CreateUniqueConstraintOp)
            and found.constraint_name is None
            and set(found.columns) <= set(columns)
        ):
            # What PostgreSQL would call it: without a name a downgrade could not drop it.
            found.constraint_name = conv(f"{table.name}_{'_'.join(found.columns)}_key")
    # Alembic's own comparison of CHECKs, where it is switched on, did this already.
    handled = {getattr(found, "constraint_name", None) for found in modify.ops}
    wanted = {
        _name_of(constraint, dialect): constraint
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
        and _is_ours(constraint.name)
        and _applies(constraint, dialect)
    }
    found_there = _found_checks(context.connection, table.name, table.schema)
    shadow = sa.Table(table.name, sa.MetaData(), schema=table.schema)
    for name, found in found_there.items():
        if _is_ours(found["name"]) and name not in wanted and found["name"] not in handled:
            gone = sa.CheckConstraint(sa.text(found["sqltext"]), name=conv(found["name"]))
            shadow.append_constraint(gone)
            modify.ops.insert(0, ops.DropConstraintOp.from_constraint(gone))
    for name, constraint in sorted(wanted.items()):
        if name not in found_there and constraint.name not in handled:
            modify.ops.append(ops.AddConstraintOp.from_constraint(constraint))


def _forget_equals(modify: Any, columns: dict[str, Any]) -> None:
    # `lacre protect` keeps an index its old name, and makes unique indexes where models declare
    # unique constraints: the same thing by another name is no difference.
    removed = {
        key: op
        for op in modify.ops
        if (key := _indexed(op, (ops.DropIndexOp, ops.DropConstraintOp), columns))
    }
    added = {
        key: op
        for op in modify.ops
        if (key := _indexed(op, (ops.CreateIndexOp, ops.CreateUniqueConstraintOp), columns))
    }
    for key in removed.keys() & added.keys():
        modify.ops.remove(removed[key])
        modify.ops.remove(added[key])


def _is_as_protect_left_it(op: Any, columns: dict[str, Any]) -> bool:
    # Its row ids are TEXT with a default, for writers that know nothing of them; its tokens may
    # be NULL, but the CHECK ties that to the value's column.
    column = columns.get(op.column_name)
    if column is None or isinstance(column.type, EncryptedType):
        return False
    return bool(column.info.get(ROW_ID)) or op.modify_type is None


def _indexed(op: Any, kinds: Any, columns: dict[str, Any]) -> tuple[str, bool] | None:
    if not isinstance(op, kinds):
        return None
    found: Any = (
        op.to_index() if isinstance(op, ops.DropIndexOp | ops.CreateIndexOp) else op.to_constraint()
    )
    names = [column.name for column in getattr(found, "columns", ())]
    if len(names) != 1 or names[0] not in columns or isinstance(found, sa.CheckConstraint):
        return None
    return names[0], isinstance(found, sa.UniqueConstraint) or bool(found.unique)


def _convert(upgrade: Any, table: sa.Table, modify: Any, checks: dict[str, Any]) -> None:
    """Take the operations that convert columns out of *modify*, and have `Conversion`s instead."""
    changed = {
        op.column_name: op
        for op in modify.ops
        if isinstance(op, ops.AlterColumnOp) and op.modify_type is not None
    }
    forth = [name for name, op in changed.items() if isinstance(op.modify_type, EncryptedType)]
    back = [
        name
        for name in changed
        if name not in forth and any(_speaks_of(found["name"], name) for found in checks.values())
    ]
    for names in (forth, back):
        if names:
            parts = _parts(table, modify, {name: changed[name] for name in names})
            upgrade.ops.append(Conversion(parts, sorted(names), back=names is back))


def _parts(table: sa.Table, modify: Any, changed: dict[str, Any]) -> list[Any]:
    indexes = {name: _index_columns(table, modify, name) for name in changed}
    about = {part for name, found in indexes.items() for part in (name, *found)} | {"lacre_rid"}
    about |= {column.name for column in table.columns if column.info.get(ROW_ID)}
    # Apart, and constraints go before columns and come after them: in one step SQLite's copy of
    # the table would keep the constraints of a column that was dropped and added.
    kinds: tuple[Any, ...] = (
        (ops.DropConstraintOp, ops.DropIndexOp),
        ops.DropColumnOp,
        ops.AddColumnOp,
        (ops.AddConstraintOp, ops.CreateIndexOp),
    )
    sorted_: list[list[Any]] = [[], [], [], []]
    for name, op in changed.items():
        modify.ops.remove(op)
        schema, column = table.schema, table.c[name]
        sorted_[1].append(ops.DropColumnOp.from_column_and_tablename(schema, table.name, _old(op)))
        sorted_[2].append(ops.AddColumnOp.from_column_and_tablename(schema, table.name, column))
    for op in list(modify.ops):
        if any(_speaks(op, name) for name in about):
            modify.ops.remove(op)
            next(
                found for kind, found in zip(kinds, sorted_, strict=True) if isinstance(op, kind)
            ).append(op)
    return [
        ops.ModifyTableOps(table.name, found, schema=table.schema)
        for found in (sorted_[0] + sorted_[1], sorted_[2] + sorted_[3])
    ]


def _index_columns(table: sa.Table, modify: Any, column: str) -> set[str]:
    # Of the model where it has them, else of the columns that go.
    found = {each.name for each in table.columns if each.info.get(INDEXES) == column}
    gone = (op.column_name for op in modify.ops if isinstance(op, ops.DropColumnOp))
    return found | {
        name for name in gone if re.fullmatch(f"{re.escape(column)}_(.+_)?bidx2?", name)
    }


def _old(op: Any) -> sa.Column[Any]:
    default = op.existing_server_default
    return sa.Column(
        op.column_name,
        op.existing_type,
        nullable=op.existing_nullable,
        server_default=default if default is not False else None,
    )


def _speaks_of(constraint: Any, column: str) -> bool:
    ends = (f"_{column}_lacre", f"_{column}_bidx_lacre", f"_{column}_bidx2_lacre")
    return str(constraint).endswith(ends)


def _speaks(op: Any, column: str) -> bool:
    """Whether *op* adds or drops *column*, or what is about it alone."""
    if isinstance(op, ops.AddColumnOp):
        return bool(op.column.name == column)
    if isinstance(op, ops.DropColumnOp):
        return bool(op.column_name == column)
    if isinstance(op, ops.DropIndexOp | ops.CreateIndexOp):
        return [found.name for found in op.to_index().columns] == [column]
    if isinstance(op, ops.CreateCheckConstraintOp):
        return _speaks_of(op.constraint_name, column)
    if isinstance(op, ops.DropConstraintOp | ops.CreateUniqueConstraintOp):
        constraint: Any = op.to_constraint()
        names = [found.name for found in getattr(constraint, "columns", ())]
        return names == [column] or _speaks_of(op.constraint_name, column)
    return False
