# SPDX-License-Identifier: Apache-2.0
"""
The CHECK constraints of declared tables: SQLite refuses plaintext that came beside the ORM.

Made with the columns, so they go where the columns go: into the tables of mixins, of subclasses,
and of copies in other metadata. On other databases there are none.

Leans on a private name of SQLAlchemy, pinned by a test: the argument `_create_rule`, since
`ddl_if` is lost where a table is copied.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from lacre.fields.checks import is_ciphertext, is_together

__all__ = ["check"]


class _IsCiphertext(FunctionElement[Any]):
    name = "lacre_is_ciphertext"
    inherit_cache = True


class _IsTogether(FunctionElement[Any]):
    name = "lacre_is_together"
    inherit_cache = True


@compiles(_IsCiphertext)
@compiles(_IsTogether)
def _anything(_element: Any, _compiler: Any, **_: Any) -> str:
    # Migration tools render constraints without asking whether the database gets them.
    return "1 = 1"


@compiles(_IsCiphertext, "sqlite")
def _is_ciphertext(element: Any, compiler: Any, **kw: Any) -> str:
    return is_ciphertext(*(compiler.process(column, **kw) for column in element.clauses))


@compiles(_IsTogether, "sqlite")
def _is_together(element: Any, compiler: Any, **kw: Any) -> str:
    return is_together(*(compiler.process(column, **kw) for column in element.clauses))


def check(column: sa.Column[Any], index: sa.Column[Any] | None) -> None:
    """Have the table that *column* and its blind *index* will be in refuse anything but ciphertext."""
    _constrain(_IsCiphertext(column), column)
    if index is not None:
        _constrain(_IsTogether(column, index), index)


def _constrain(condition: FunctionElement[Any], named: sa.Column[Any]) -> None:
    constraint = sa.CheckConstraint(condition, _create_rule=_on_sqlite)

    # The table's name is known when the columns get there. `conv`: no naming convention on top.
    @event.listens_for(constraint, "before_parent_attach")
    def _name(target: Any, table: Any) -> None:
        target.name = sa.sql.elements.conv(f"ck_{table.name}_{named.name}_lacre")


def _on_sqlite(compiler: Any) -> bool:
    return bool(compiler.dialect.name == "sqlite")
