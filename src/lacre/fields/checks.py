# SPDX-License-Identifier: Apache-2.0
"""
The CHECK constraints by which a table refuses plaintext by itself, in SQLite's and PostgreSQL's SQL.

Implements ``spec/protect-sqlite.md``, section "What speaks of the column", for whoever makes
tables. They tell a shape, not a key: what passes them need not open.
"""

__all__ = ["is_ciphertext", "is_together"]

# Each says what a value is: bytes, 91 of them at least, that begin with magic and suite. A column of
# PostgreSQL has one type, bytea. There a CHECK costs every single INSERT about a microsecond for
# each node: NULL, of which this says nothing, passes a CHECK by itself; and E'' with a cast is a
# constant, the same under every setting of the server.
_HOLDS = {
    "sqlite": "{0} IS NULL OR (typeof({0}) = 'blob' AND length({0}) >= 91 AND substr({0}, 1, 2) = x'C101')",
    "postgresql": r"octet_length({0}) >= 91 AND substring({0} from 1 for 2) = E'\\xc101'::bytea",
}


def is_ciphertext(column: str, *, dialect: str = "sqlite") -> str:
    """
    Return the condition of a CHECK that *column*, a quoted name, holds NULL or what begins like a value.

    Of NULL it may be NULL, which a CHECK lets pass.
    """
    return _HOLDS[dialect].format(column)


def is_together(column: str, index: str, second: str | None = None) -> str:
    """
    Return the condition that *column* and its blind *index*, quoted names, are NULL together.

    A writer who knows nothing of lacre may set a column to NULL; alone, that would leave a token
    that still finds the row and still takes the place of a unique value.

    Args:
        second: the other column of a unique index: one of the two has a token, or both.
    """
    if second is None:
        return f"({column} IS NULL) = ({index} IS NULL)"
    return f"({column} IS NULL) = (coalesce({index}, {second}) IS NULL)"
