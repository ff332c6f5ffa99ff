# SPDX-License-Identifier: Apache-2.0
"""
Refusing to write encrypted columns by INSERT and UPDATE statements.

Such a statement does not know the rows whose ids a ciphertext is bound to, and would leave the
index column as it was; one that copies from another column would put plaintext there without
any value being bound. Sees the statements that a session of lacre executes, and no others.

Leans on private names of SQLAlchemy, each pinned by a test: `_values`, `_ordered_values`,
`_multi_values`, `_select_names`, `_post_values_clause`, `_where_criteria`.
"""

from typing import Any

from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import Delete, Update, UpdateBase

from lacre.errors import LacreError, UnsupportedQuery
from lacre.sqlalchemy.declared import IDENTIFIES, MOVES
from lacre.sqlalchemy.selecting import NotInSQL
from lacre.sqlalchemy.types import EncryptedType, IndexType, TokensType, unwrapped

__all__ = ["refuse_values", "refuse_written"]


def refuse_values(
    statement: Any, parameters: Any, *, rows_given: bool = False, by_key: bool = False
) -> None:
    """
    Raise if the statement, or one inside it, writes an encrypted column or a blind index.

    Args:
        parameters: of the statement.
        rows_given: encrypted columns are written row by row (`lacre.sqlalchemy.bulk`), which goes
            together with neither a conflict clause nor conditions.
        by_key: the parameters name rows by their primary key, and do not change it.

    Raises:
        UnsupportedQuery
    """
    for found in visitors.iterate(statement):
        refuse_written(found)
    if isinstance(statement, UpdateBase):
        more = _parameters(parameters)
        if isinstance(statement, Update):
            _refuse_move(statement, more, (MOVES,) if by_key else (MOVES, IDENTIFIES))
        if not isinstance(statement, Delete):
            _refuse(statement, more)
    if rows_given and getattr(statement, "_post_values_clause", None) is not None:
        # Of a row that was there already the ciphertext would be dropped, or put in place of one
        # that is bound to another row; and evidence would name rows that were not written.
        raise _unsupported(
            f"encrypted values of {statement.table} are not inserted with ON CONFLICT",
            "look the rows up first; insert those that are not there, update the others by primary key",
        )
    if rows_given and list(getattr(statement, "_where_criteria", ())):
        raise _unsupported(
            f"encrypted values of {statement.table} are updated by primary key and under no further condition",
            "leave the rows out that are not meant",
        )


def refuse_written(part: Any) -> None:
    """`refuse_values`, of one part of a statement, whatever it is."""
    if isinstance(part, UpdateBase) and not isinstance(part, Delete):
        _refuse_move(part, _changed(part), (MOVES, IDENTIFIES))
        _refuse(part, _given(part))


def _given(statement: Any) -> list[Any]:
    given = [*_values(statement), *(getattr(statement, "_select_names", None) or ())]
    for several in getattr(statement, "_multi_values", None) or ():
        given += [key for row in several for key in row]
    return given + _of_conflict(statement)


def _changed(statement: Any) -> list[Any]:
    # What a row that is there already gets another value of.
    return _values(statement) if isinstance(statement, Update) else _of_conflict(statement)


def _values(statement: Any) -> list[Any]:
    # 2.1 keeps ordered values among the others, 2.0 in a list of their own.
    return [
        *(statement._values or ()),  # noqa: SLF001
        *(pair[0] for pair in getattr(statement, "_ordered_values", None) or ()),
    ]


def _of_conflict(statement: Any) -> list[Any]:
    conflict = getattr(statement, "_post_values_clause", None)
    # dict() of what 2.1 keeps as a dict and 2.0 as pairs.
    return list(dict(getattr(conflict, "update_values_to_set", None) or ()))


def _parameters(parameters: Any) -> list[Any]:
    rows = parameters if isinstance(parameters, list | tuple) else [parameters or {}]
    return [key for row in rows for key in row]


def _names(given: list[Any]) -> set[Any]:
    return {
        key.prop.columns[0].key if isinstance(key, NotInSQL) else getattr(key, "key", key)
        for key in given
    }


def _refuse_move(statement: Any, changed: list[Any], marks: tuple[str, ...]) -> None:
    names = _names(changed)
    for column in getattr(statement.table, "columns", ()) if names else ():
        if {column.key, column.name} & names and any(column.info.get(mark) for mark in marks):
            raise _unsupported(
                f"{column} says which row or tenant encrypted values are bound to, and does not change without them",
                "load the objects, assign the attribute and flush: every value is encrypted anew",
            )


def _refuse(statement: Any, given: list[Any]) -> None:
    names = _names(given)
    for column in getattr(statement.table, "columns", ()):
        if isinstance(column.type, EncryptedType | IndexType | TokensType) and (
            column.key in names or column.name in names
        ):
            raise _unsupported(
                f"{column} is encrypted and cannot be written by a statement that names no row for each value",
                "session.execute(insert(Model), [{...}, ...]) or session.execute(update(Model), [{primary key, ...}, ...]);"
                " or load the objects, assign the attribute and flush: a ciphertext is bound to its row",
            )


def _unsupported(text: str, hint: str) -> LacreError:
    return unwrapped(UnsupportedQuery(text, hint=hint))
