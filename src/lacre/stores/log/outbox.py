# SPDX-License-Identifier: Apache-2.0
"""
The table of an outbox in an application's own database, and who may do what with it.

The application inserts and reads nothing, whoever sequences reads and deletes, and nobody changes
a row. Written so that running it again changes nothing. Puts nothing in it
(`lacre.sqlalchemy.outbox`) and takes nothing out.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from lacre.errors import ConfigurationError
from lacre.stores.identifiers import is_plain
from lacre.stores.log.schema import OUTBOX

__all__ = ["outbox_statements"]


def outbox_statements(
    dialect: Any, *, application: str | None = None, sequencer: str | None = None
) -> Sequence[str]:
    """
    Return the statements that make the table and, on PostgreSQL, give the roles their rights.

    Args:
        application: the role whose writes are recorded.
        sequencer: the role that `[audit.outboxes]` connects as.

    Raises:
        ConfigurationError: a role that is no plain name, or roles where the database has none.
    """
    create = sa.schema.CreateTable(OUTBOX, if_not_exists=True).compile(dialect=dialect)
    statements = ["\n".join(line.rstrip() for line in str(create).strip().splitlines())]
    roles = [role for role in (application, sequencer) if role is not None]
    if roles and dialect.name != "postgresql":
        raise ConfigurationError(f"{dialect.name} has no roles", hint="leave them out")
    if not all(is_plain(role) for role in roles):
        raise ConfigurationError(
            "a role is a name of a-z, 0-9 and underscore that SQL does not reserve"
        )
    table, position = OUTBOX.name, f"{OUTBOX.name}_position_seq"
    if roles:
        # First nothing, then what each needs: an owner's default privileges may have given more.
        statements += [
            f"REVOKE ALL ON {table} FROM PUBLIC, {', '.join(roles)}",
            f"REVOKE ALL ON SEQUENCE {position} FROM PUBLIC, {', '.join(roles)}",
        ]
    if application is not None:
        statements += [
            f"GRANT INSERT ON {table} TO {application}",
            f"GRANT USAGE ON SEQUENCE {position} TO {application}",
        ]
    if sequencer is not None:
        statements += [f"GRANT SELECT, DELETE ON {table} TO {sequencer}"]
    return statements
