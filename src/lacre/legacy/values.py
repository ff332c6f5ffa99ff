# SPDX-License-Identifier: Apache-2.0
"""
Text that another library encrypted in the place of a typed value, read back as that type.

Each type takes the spellings that Python's, Django's, SQLAlchemy's and Rails' own conversions write, and no other: what was
written otherwise is a mistake to be looked at. Does not decrypt.
"""

import datetime as dt
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

from lacre.errors import ConfigurationError, InvalidValue, Tampered

__all__ = ["TextType", "text_type"]

_INT = re.compile(r"-?[0-9]{1,4000}")
_DECIMAL = re.compile(r"-?[0-9]{1,4000}(\.[0-9]{1,4000})?")
_DECIMAL_REPR = re.compile(r"Decimal\('([^']{1,8003})'\)")
_BOOLS = {"true": True, "True": True, "false": False, "False": False}


class TextType:
    """A type, and how its text is read."""

    __slots__ = ("_read", "python_type")

    def __init__(self, python_type: type, read: Callable[[str], Any]) -> None:
        self.python_type = python_type
        self._read = read

    def value(self, plain: bytes) -> Any:
        """
        Return the value of decrypted bytes.

        Raises:
            Tampered: they are no text; with formats that authenticate nothing, that is the wrong key.
            InvalidValue: the text is no value of the type.
        """
        try:
            text = plain.decode()
        except UnicodeDecodeError:
            raise Tampered from None
        try:
            return self._read(text)
        except (ValueError, KeyError, ArithmeticError, RecursionError):
            raise InvalidValue(f"what was encrypted is no {self.python_type.__name__}") from None


def _int(text: str) -> int:
    if not _INT.fullmatch(text):
        raise ValueError
    return int(text)


def _decimal(text: str) -> Decimal:
    # SQLAlchemy-Utils encrypts repr() of what has no conversion of its own.
    if (found := _DECIMAL_REPR.fullmatch(text)) is not None:
        text = found[1]
    if not _DECIMAL.fullmatch(text):
        raise ValueError
    return Decimal(text)


def _json(text: str) -> Any:
    return json.loads(text)


_TYPES = {
    "str": TextType(str, str),
    "int": TextType(int, _int),
    "bool": TextType(bool, _BOOLS.__getitem__),
    "decimal": TextType(Decimal, _decimal),
    "date": TextType(dt.date, dt.date.fromisoformat),
    "datetime": TextType(dt.datetime, dt.datetime.fromisoformat),
    "uuid": TextType(UUID, UUID),
    "json": TextType(dict, _json),
}


def text_type(name: str) -> TextType:
    """
    Return the type of that name.

    Raises:
        ConfigurationError: there is none.
    """
    found = _TYPES.get(name)
    if found is None:
        raise ConfigurationError(
            f"a legacy reader reads no values of type {name!r}", hint="types: " + ", ".join(_TYPES)
        )
    return found
