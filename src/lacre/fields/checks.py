# SPDX-License-Identifier: Apache-2.0
"""
The CHECK constraints by which a table refuses plaintext by itself, in SQLite's SQL.

Implements ``spec/protect-sqlite.md``, section "What speaks of the column", for whoever makes
tables. They tell a shape, not a key: what passes them need not open.
"""

__all__ = ["is_ciphertext", "is_together"]


def is_ciphertext(column: str) -> str:
    """Return the condition that *column*, a quoted name, holds NULL or what begins like a value."""
    return (
        f"{column} IS NULL OR (typeof({column}) = 'blob' AND length({column}) >= 91 "
        f"AND substr({column}, 1, 2) = x'C101')"
    )


def is_together(column: str, index: str) -> str:
    """
    Return the condition that *column* and its blind *index*, quoted names, are NULL together.

    A writer who knows nothing of lacre may set a column to NULL; alone, that would leave a token
    that still finds the row and still takes the place of a unique value.
    """
    return f"({column} IS NULL) = ({index} IS NULL)"
