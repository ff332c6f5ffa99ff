# SPDX-License-Identifier: Apache-2.0
"""
How a database writes a value, read exactly and written exactly back. Which forms there are, each
database's package says. Does not encode for encryption: the field's codec does.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lacre._core.field import MAX_ENCODED, OVERHEAD
from lacre._core.padding import padded_length
from lacre.errors import InvalidValue
from lacre.fields.codecs import Codec

__all__ = ["Form", "Stored", "encrypted_size", "identical", "json_form", "json_forms", "only"]

# What the drivers give for a stored value. SQLite's five storage classes; PostgreSQL's text form.
Stored = int | float | str | bytes | None


def identical(one: Stored, other: Stored) -> bool:
    """Whether two stored values are the same, type and all."""
    return type(one) is type(other) and one == other


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """
    How the values of one column are written.

    *same* compares what `write` gives with what is stored. `write` is total where the database takes every value of the type; elsewhere it raises
    `InvalidValue` for what the column's own type would have refused or changed.
    """

    python_type: type
    name: str
    read: Callable[[Any], Any]
    write: Callable[[Any], Stored]
    same: Callable[[Stored, Stored], bool] = identical

    def load(self, stored: Stored) -> Any:
        """
        Return the value of *stored*.

        Raises:
            InvalidValue: `write` would not give exactly *stored* back.
        """
        try:
            value = self.read(stored)
            same = value is not None and self.same(self.write(value), stored)
        except (ValueError, TypeError, ArithmeticError, RecursionError):
            same = False
        if not same:
            raise InvalidValue(f"the stored value is not exactly a {self.python_type.__name__}")
        return value


def encrypted_size(codec: Codec, value: Any) -> int:
    """
    Return the length of *value* encrypted.

    Raises:
        InvalidValue: the codec does not take it, or it is longer than a value may be.
    """
    size = len(codec.encode(value))
    if size > MAX_ENCODED:
        raise InvalidValue("the encoded value is longer than 16 MiB")
    return OVERHEAD + (padded_length(size) if codec.padded else size)


def only(python_type: type) -> Callable[[Any], Any]:
    """Return what lets values of exactly *python_type* through."""

    def read(stored: Any) -> Any:
        if type(stored) is not python_type:
            raise InvalidValue(f"the stored value is not {python_type.__name__}")
        return stored

    return read


def json_form(name: str, separators: tuple[str, str], ascii_only: bool) -> Form:
    """Return a spelling of JSON text."""

    def read(stored: Any) -> Any:
        return json.loads(only(str)(stored))

    def write(value: Any) -> str:
        return json.dumps(value, separators=separators, ensure_ascii=ascii_only)

    return Form(python_type=dict, name=name, read=read, write=write)


def json_forms() -> tuple[Form, ...]:
    """Return the spellings that programs give JSON text, the likeliest first."""
    return tuple(
        json_form(f"{spacing}-{'ascii' if ascii_only else 'utf8'}", separators, ascii_only)
        for spacing, separators in (("spaced", (", ", ": ")), ("compact", (",", ":")))
        for ascii_only in (True, False)
    )
