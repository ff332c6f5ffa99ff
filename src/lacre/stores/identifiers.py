# SPDX-License-Identifier: Apache-2.0
"""
Names that stand in PostgreSQL's SQL as they are, without quotes.

Those of schemas and roles are given by users and stand in statements that SQLAlchemy does not
make. So a name that would need quotes, or means something else without them, is refused.
"""

import re

from sqlalchemy.dialects import postgresql

__all__ = ["is_plain"]

# Reserved, or special as the name of a role, and not on SQLAlchemy's list. A test asks the server.
_MORE = frozenset(
    {"collation", "concurrently", "lateral", "none", "public", "system_user", "tablesample"}
)


def is_plain(name: str) -> bool:
    """Whether *name* is an identifier in lower case that PostgreSQL neither reserves nor keeps for itself."""
    if not re.fullmatch("[a-z][a-z0-9_]{0,62}", name) or name.startswith("pg_"):
        return False
    quoted = postgresql.dialect().identifier_preparer.quote(name)  # type: ignore[no-untyped-call]
    return quoted == name and name not in _MORE
