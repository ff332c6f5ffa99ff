# SPDX-License-Identifier: Apache-2.0
"""
Encrypted columns in Alembic migrations. In ``env.py``::

    from lacre.sqlalchemy.migrations import alembic_options

    context.configure(connection=connection, target_metadata=target_metadata, **alembic_options())

Then autogenerate writes encrypted columns and blind indexes as the binary columns they are, adds
the CHECKs by which a table refuses plaintext, also to tables that lack them, gives unique blind
indexes the names a downgrade needs, and takes what `lacre protect` left for what it is. A
migration holds no class, no key and no setting, and needs lacre only where it converts a column.

A migration never encrypts: it knows no keys and no rows. One that finds a plaintext column where
the models say `encrypted` converts it in an empty table, leaves it alone where `lacre protect`
was, and refuses otherwise.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from lacre.errors import ConfigurationError

try:
    from lacre.sqlalchemy.autogenerating import Process, Render, options
except ModuleNotFoundError as error:
    raise ConfigurationError(f"{error.name} is not installed", hint="pip install alembic") from None

__all__ = ["alembic_options", "is_plaintext", "is_protected"]


def alembic_options(
    *, render_item: Render | None = None, process_revision_directives: Process | None = None
) -> dict[str, Any]:
    """
    Return what ``context.configure`` is to be given, in ``env.py``.

    Args:
        render_item: your own function of that name; it is asked about what is not lacre's.
        process_revision_directives: your own; it is called with the finished directives.
    """
    return options(render_item, process_revision_directives)


def is_plaintext(
    operations: Any, table: str, columns: Sequence[str], *, schema: str | None = None
) -> bool:
    """
    Return whether a migration is to convert *columns*: False where `lacre protect` did.

    Raises:
        ConfigurationError: it is, and there are rows, which a migration cannot encrypt.
    """
    if _are_protected(operations, table, columns, schema):
        return False
    _refuse_rows(operations, table, columns, schema, "plaintext", "lacre protect")
    return True


def is_protected(
    operations: Any, table: str, columns: Sequence[str], *, schema: str | None = None
) -> bool:
    """
    Return whether a downgrade is to convert *columns*: False where `lacre unprotect` did.

    Raises:
        ConfigurationError: it is, and there are rows, which a migration cannot decrypt.
    """
    if not _are_protected(operations, table, columns, schema):
        return False
    _refuse_rows(operations, table, columns, schema, "ciphertext", "lacre unprotect")
    return True


def _are_protected(operations: Any, table: str, columns: Sequence[str], schema: str | None) -> bool:
    if operations.get_context().as_sql:
        raise ConfigurationError(
            "whether a column is protected cannot be asked offline",
            hint="run this migration with a connection, without --sql",
        )
    found = sa.inspect(operations.get_bind()).get_columns(table, schema=schema)
    binary = {column["name"] for column in found if isinstance(column["type"], sa.LargeBinary)}
    return set(columns) <= binary


def _refuse_rows(
    operations: Any,
    table: str,
    columns: Sequence[str],
    schema: str | None,
    what: str,
    program: str,
) -> None:
    some = sa.select(sa.literal(1)).select_from(sa.table(table, schema=schema)).limit(1)
    if operations.get_bind().execute(some).first() is not None:
        raise ConfigurationError(
            f"{table} has rows, and its {', '.join(columns)} are {what}: a migration knows no keys",
            hint=f"run `{program}`, then this migration again: it will find the work done",
        )
