# SPDX-License-Identifier: Apache-2.0
"""
A copy of a statement that holds none of the values it asks for.

SQLAlchemy compiles a statement once and keeps it, parameters included, for as long as an engine
lives. The copy's terms refer to those of the original weakly; what is kept finds nothing once
the original is gone. Does not reach into aliased subqueries, CTEs, loader options and a
relationship's `has` and `any`: their first values stay with the compiled form.

Leans on private names of SQLAlchemy, each pinned by a test: `_where_criteria`,
`_having_criteria`, `_setup_joins`, `_generate`, `_is_clone_of`.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import Delete, Update
from sqlalchemy.sql.selectable import CompoundSelect, FromClause

from lacre.sqlalchemy.searching import Term

__all__ = ["lightened", "replaced"]


def lightened(statement: Any) -> Any:
    """Return *statement*, or a copy of it without values."""
    if isinstance(statement, CompoundSelect):
        copy: Any = statement._generate()  # noqa: SLF001
        copy.selects = [lightened(part) for part in statement.selects]
        return copy
    if not isinstance(statement, sa.Select | Update | Delete):
        return statement
    copy = statement._generate()  # noqa: SLF001
    for name in ("_where_criteria", "_having_criteria"):
        criteria = getattr(statement, name, ())
        if criteria:
            setattr(copy, name, tuple(replaced(found, _replacement) for found in criteria))
    joins = getattr(statement, "_setup_joins", ())
    if joins:
        copy._setup_joins = tuple(  # noqa: SLF001
            (
                target,
                replaced(on, _replacement) if isinstance(on, sa.ColumnElement) else on,
                *rest,
            )
            for target, on, *rest in joins
        )
    return copy


def replaced(criterion: Any, replacement: Callable[..., Any]) -> Any:
    """Return a copy of *criterion* with what *replacement* returns in place of its parts, which remembers none of them."""
    copy: Any = visitors.replacement_traverse(criterion, {}, replacement)
    for element in visitors.iterate(copy):
        # A copy remembers what it was made of, which SQLAlchemy needs of tables and columns only.
        if not isinstance(element, FromClause | sa.ColumnClause):
            element.__dict__.pop("_is_clone_of", None)
    return copy


def _replacement(element: Any, **_: Any) -> Any:
    if isinstance(element, Term):
        return element if element.light else element.lightened()
    if isinstance(element, sa.Select | CompoundSelect):
        return lightened(element)
    # Whatever rows come from keeps its identity: the entities of a query are told apart by it.
    return element if isinstance(element, FromClause) else None
