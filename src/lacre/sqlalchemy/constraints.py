# SPDX-License-Identifier: Apache-2.0
"""
The CHECK constraints of declared tables: SQLite and PostgreSQL refuse plaintext that came beside
the ORM.

Made with the columns, so they go where the columns go: into the tables of mixins, of subclasses,
and of copies in other metadata. On other databases there are none. For migrations, which have no
columns, `CiphertextCheck` and `TogetherCheck` take names.

Leans on a private name of SQLAlchemy, pinned by a test: the argument `_create_rule`, since
`ddl_if` is lost where a table is copied.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from lacre.fields.checks import is_ciphertext, is_together

__all__ = ["CiphertextCheck", "TogetherCheck", "check"]

_DIALECTS = ("sqlite", "postgresql")


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
@compiles(_IsCiphertext, "postgresql")
def _is_ciphertext(element: Any, compiler: Any, **kw: Any) -> str:
    [column] = (compiler.process(column, **kw) for column in element.clauses)
    return is_ciphertext(column, dialect=compiler.dialect.name)


@compiles(_IsTogether, "sqlite")
@compiles(_IsTogether, "postgresql")
def _is_together(element: Any, compiler: Any, **kw: Any) -> str:
    return is_together(*(compiler.process(column, **kw) for column in element.clauses))


def _where_enforced(compiler: Any) -> bool:
    return compiler.dialect.name in _DIALECTS


class CiphertextCheck(sa.CheckConstraint):
    """A table's own refusal of whatever is not NULL or ciphertext in *column*."""

    inherit_cache = True

    def __init__(self, column: str | sa.Column[Any], *, name: str | None = None) -> None:
        super().__init__(_IsCiphertext(_named(column)), name=name, _create_rule=_where_enforced)


class TogetherCheck(sa.CheckConstraint):
    """A table's own refusal of a token without its ciphertext, and of one without its token."""

    inherit_cache = True

    def __init__(
        self,
        column: str | sa.Column[Any],
        index: str | sa.Column[Any],
        second: str | sa.Column[Any] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        named = (column, index) if second is None else (column, index, second)
        condition = _IsTogether(*map(_named, named))
        super().__init__(condition, name=name, _create_rule=_where_enforced)


def _named(column: str | sa.Column[Any]) -> Any:
    return sa.column(column) if isinstance(column, str) else column


def check(
    column: sa.Column[Any],
    indexes: Sequence[sa.Column[Any]],
    seconds: Sequence[sa.Column[Any] | None],
) -> None:
    """Have the table that *column* and its *indexes* will be in refuse anything but ciphertext."""
    _name(CiphertextCheck(column), column)
    for index, second in zip(indexes, seconds, strict=True):
        # Of a unique index under the name of its second column: a table made before there was one
        # has the first's CHECK, which a migration then knows for another.
        _name(TogetherCheck(column, index, second), index if second is None else second)


def _name(constraint: sa.CheckConstraint, named: sa.Column[Any]) -> None:
    # The table's name is known when the columns get there. `conv`: no naming convention on top.
    @event.listens_for(constraint, "before_parent_attach")
    def attached(target: Any, table: Any) -> None:
        target.name = sa.sql.elements.conv(f"ck_{table.name}_{named.name}_lacre")
