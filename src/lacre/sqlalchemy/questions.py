# SPDX-License-Identifier: Apache-2.0
"""
SQLAlchemy's text operators as questions to an index: what exactly means ``contains`` and the like.

A pattern that says more than one of these questions is none of them. Asks nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.sql import operators

from lacre.fields.index import Question

__all__ = ["LIKE", "TEXT", "text_question"]

# The operators, what they ask, and whether capital letters make no difference.
TEXT: dict[Any, tuple[Question, bool]] = {
    operators.contains_op: ("contains", False),
    operators.icontains_op: ("contains", True),
    operators.startswith_op: ("startswith", False),
    operators.istartswith_op: ("startswith", True),
    operators.endswith_op: ("endswith", False),
    operators.iendswith_op: ("endswith", True),
}
LIKE = {operators.like_op: False, operators.ilike_op: True}


def text_question(
    op: Any, other: Sequence[Any], options: Mapping[str, Any]
) -> tuple[Question, str, bool] | None:
    """
    Return what *op* asks, of which text, and whether capital letters make no difference.

    None where it asks none of the questions. The text of ``contains`` is taken as it is, per cent
    signs and all, unless there is an escape character.
    """
    escape = options.get("escape")
    if not other or not isinstance(other[0], str) or not (op in TEXT or op in LIKE):
        return None
    if op in TEXT:
        question, whatever_case = TEXT[op]
        text = other[0] if escape is None else _literal(other[0], escape)
        return None if text is None else (question, text, whatever_case)
    pattern = other[0]
    before, after = pattern.startswith("%"), len(pattern) > 1 and pattern.endswith("%")
    if (escape is None and "\\" in pattern) or (escape is not None and pattern[-2:-1] == escape):
        # Databases differ in what a backslash is; and whether a last sign is escaped depends on
        # what is before it.
        return None
    text = _literal(pattern[before : len(pattern) - after], escape)
    if text is None or not (before or after):
        return None
    if before and after:
        return "contains", text, LIKE[op]
    return ("startswith" if after else "endswith"), text, LIKE[op]


def _literal(text: str, escape: str | None) -> str | None:
    """Return *text* without its escapes, or None where a sign in it stands for others."""
    found, escaped = [], False
    for char in text:
        if not escaped and char in ("%", "_"):
            return None
        if not escaped and char == escape:
            escaped = True
            continue
        found.append(char)
        escaped = False
    return None if escaped else "".join(found)
