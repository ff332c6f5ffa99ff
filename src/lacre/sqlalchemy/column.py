# SPDX-License-Identifier: Apache-2.0
"""
`encrypted(...)`: what a model declares, and the columns that follow from it.

Does not encrypt (`lacre.sqlalchemy.writing`), decrypt (`lacre.sqlalchemy.attribute`) or search
(`lacre.sqlalchemy.searching`).
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.orm import MappedColumn, mapped_column

from lacre.errors import ConfigurationError
from lacre.fields.contains_index import ContainsIndex
from lacre.fields.index import BlindIndex
from lacre.fields.prefix_index import PrefixIndex
from lacre.sqlalchemy.attribute import SealedProperty
from lacre.sqlalchemy.constraints import check
from lacre.sqlalchemy.declared import NOTHING, ROW_ID, Declared
from lacre.sqlalchemy.token_columns import index_columns, second_columns
from lacre.sqlalchemy.types import EncryptedType

__all__ = ["encrypted", "row_id"]

# By name and not as the protocol they share: pyright refuses a class attribute where a protocol has
# a property, and every declaration of a model with it.
_ColumnIndex: TypeAlias = BlindIndex | PrefixIndex | ContainsIndex


def encrypted(
    class_: str,
    type_: Any = None,
    *,
    index: _ColumnIndex | Sequence[_ColumnIndex] = (),
    mask: str | None = None,
    padded: bool | None = None,
    default: Any = NOTHING,
    default_factory: Any = NOTHING,
    nullable: bool | None = None,
    store: str = "main",
    column: str | None = None,
    subject: str | None = None,
    moving: bool = False,
    name: str | None = None,
    init: bool | None = None,
    kw_only: bool | None = None,
) -> Any:
    """
    Declare an encrypted column. Stands where `mapped_column` would.

    Args:
        class_: the class of `lacre.toml` whose keys and rights apply.
        type_: the SQLAlchemy type of the value, where the annotation does not give it (JSON, say).
        index: makes the column searchable, each in a column of its own: the first that answers
            equality in ``NAME_bidx``, any other in ``NAME_INDEXNAME_bidx``.
        mask: what a reader with the right `mask` sees; the class's by default.
        padded: hide the exact length; by default wherever it would tell something.
        default: a value or a callable without arguments, for objects that assign none.
        default_factory: of mapped dataclasses, like *init* and *kw_only*: see `MappedAsDataclass`.
        nullable: as the annotation says, by default. NULL is not encrypted.
        store: the logical name of the database, of `[stores.NAME]`.
        column: the logical name of the column, bound in every value: the column's own, unless it
            was renamed since. A table's is the class attribute ``__lacre_table__``.
        subject: the attribute that holds the id of whom the value is about, whose own key it gets.
            Once they are shredded it is neither read nor written again.
        moving: values from before *subject* was declared, under the class's key, are read too,
            until all of them are moved.
        name: of the column in the database, where it is not the attribute's.
    """
    options: dict[str, Any] = {} if nullable is None else {"nullable": nullable}
    if name is not None:
        options["name"] = name
    of_field = {"init": init, "kw_only": kw_only}
    given: dict[str, Any] = {word: value for word, value in of_field.items() if value is not None}
    if default_factory is not NOTHING:
        if default is not NOTHING:
            raise ConfigurationError("a column has default= or default_factory=, not both")
        given["default_factory"] = default_factory
    declared = EncryptedColumn(
        *(() if type_ is None else (type_,)), **options, attribute_options=_field_options(**given)
    )
    declared.declared = Declared(
        class_=class_,
        indexes=tuple(index) if isinstance(index, Sequence) else (index,),
        mask=mask,
        padded=padded,
        default=default,
        store=store,
        column=column,
        subject=subject,
        moving=moving,
    )
    # Neither the repr nor the comparison of a dataclass looks. Set here and not above, because
    # SQLAlchemy refuses what it was given above on a class that is no dataclass.
    if default is not NOTHING:
        # Always a factory: a plain default would be the column's in 2.1, not the object's.
        given["default_factory"] = default if callable(default) else lambda: default
    declared._attribute_options = _field_options(repr=False, compare=False, **given)  # noqa: SLF001
    return declared


def _field_options(**options: Any) -> Any:
    # Of a dataclass's field. A private name, pinned by a test.
    return mapped_column(**options)._attribute_options  # noqa: SLF001


def row_id(*, init: Literal[False] = False) -> Any:
    """
    Declare the column that identifies a row for its encrypted values: ``lacre_rid: Mapped[UUID] = row_id()``.

    For tables whose primary key can be reused (SQLite rowids) or is not known before the INSERT.
    Random, unique, never changed. *init* tells type checkers that the initialiser of a mapped
    dataclass does not take it.
    """
    # active_history: where it is changed all the same, the values are bound anew from the old one.
    column = mapped_column(
        sa.Uuid(),
        insert_default=uuid4,
        unique=True,
        nullable=False,
        active_history=True,
        info={ROW_ID: True},
    )
    column._attribute_options = _field_options(init=init, compare=False)  # noqa: SLF001
    return column


class EncryptedColumn(MappedColumn[Any]):
    """What `encrypted` returns: a mapped column whose type, index column and property are ours."""

    inherit_cache = True

    declared: Declared

    def _copy(self, **kw: Any) -> Any:
        # Mixins copy their columns. 2.1 has _copy_as below this, 2.0 has not: this is the one
        # both call.
        copy = super()._copy(**kw)
        copy.declared = self.declared
        return copy

    def declarative_scan(self, *args: Any, **kw: Any) -> None:
        # SQLAlchemy resolves the annotation to the value's own type and to nullable; what the
        # database holds is our type around it.
        super().declarative_scan(*args, **kw)
        if isinstance(self.column.type, EncryptedType):
            return
        self._python_type = _python_type(self.column)
        self.declared.check(self._python_type)
        # A column of our own instead of another type in theirs: Enum and Boolean attach
        # constraints on the plaintext to the column they are first given to.
        self.column = sa.Column(
            self.column.name,
            EncryptedType(self.declared.class_, subjects=self.declared.subject is not None),
            key=self.column.key,
            nullable=self.column.nullable,
        )
        self.foreign_keys = self.column.foreign_keys
        self._index_columns = index_columns(self.column, self.declared.indexes)
        self._second_columns = second_columns(self._index_columns, self.declared.indexes)
        check(self.column, self._index_columns, self._second_columns)
        self._property = SealedProperty(
            self.column,
            declared=self.declared,
            python_type=self._python_type,
            index_columns=self._index_columns,
            second_columns=self._second_columns,
        )

    @property
    def columns_to_assign(self) -> list[tuple[sa.Column[Any], int]]:
        columns = list(super().columns_to_assign)
        return columns + [(column, columns[0][1]) for column in self._property.token_columns]

    @property
    def mapper_property_to_assign(self) -> Any:
        # Read twice by declarative; it must be one object.
        return self._property


def _python_type(column: sa.Column[Any]) -> type:
    inner = column.type
    if isinstance(inner, sa.types.NullType):
        raise ConfigurationError(
            f"the type of {column.name} is not known",
            hint='annotate it (Mapped[str]) or name it: encrypted("pii", String())',
        )
    if isinstance(inner, sa.Enum) and inner.enum_class is not None:
        return inner.enum_class
    if isinstance(inner, sa.JSON):
        return dict
    try:
        found: type = inner.python_type
    except NotImplementedError:
        raise ConfigurationError(
            f"{column.name}: values of {type(inner).__name__} have no Python type",
            hint="name a type of which they have one",
        ) from None
    return found
