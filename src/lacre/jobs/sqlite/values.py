# SPDX-License-Identifier: Apache-2.0
"""
What SQLite stores, as a Python value and exactly back.

Implements ``spec/protect-sqlite.md``, section "Values". SQLite types values, not columns, so a
column's declared type only says what its values *should* be; one that would come back as another
storage class or another text is refused. Does not encode for encryption: the field's codec does.
"""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from lacre._core.field import looks_encrypted
from lacre.errors import ConfigurationError, InvalidValue
from lacre.jobs.columns import PlannedColumn
from lacre.jobs.forms import Form, Stored, json_forms, only

__all__ = ["form_of", "forms_for", "type_for"]

_INT64 = 1 << 63


def type_for(declared: str) -> type:
    """
    Return the Python type for a declared SQL type.

    Raises:
        ConfigurationError: there is none; the hint says what to do.
    """
    words = declared.upper().split("(")[0].split()
    word = words[0] if words else ""
    if word.startswith("BOOL"):
        return bool
    if word in ("DATETIME", "TIMESTAMP", "TIMESTAMPTZ"):
        return dt.datetime
    if word == "DATE":
        return dt.date
    if word in ("JSON", "JSONB"):
        return dict
    if word in ("NUMERIC", "DECIMAL"):
        return Decimal
    if any(part in word for word in words for part in ("CHAR", "TEXT", "CLOB")):
        return str
    if "BLOB" in word:
        return bytes
    if word in ("REAL", "FLOAT", "DOUBLE"):
        raise ConfigurationError(
            f"its type is {word}: a binary fraction has no exact text, and none of lacre's codecs takes one",
            hint="store it as NUMERIC or as a whole number of the smallest unit, then protect it",
        )
    if any("INT" in word for word in words if word != "POINT"):
        return int
    raise ConfigurationError(
        f"its declared type {declared!r} says nothing about its values"
        if declared
        else "it has no declared type",
        hint="protected types: TEXT, VARCHAR, INTEGER, BOOLEAN, DATE, DATETIME, TIMESTAMP, NUMERIC, DECIMAL, JSON, BLOB",
    )


def forms_for(python_type: type) -> tuple[Form, ...]:
    """Return the forms that a column of *python_type* may be written in, the likeliest first."""
    return _FORMS[python_type]


def form_of(column: PlannedColumn) -> Form:
    """Return the form that *column* was found to be written in."""
    return next(form for form in forms_for(column.python_type) if form.name == column.form)


def _read_str(stored: Any) -> str:
    text: str = only(str)(stored)
    text.encode()  # bytes that are no UTF-8 arrive as lone surrogates, which do not encode
    return text


def _read_bytes(stored: Any) -> bytes:
    data: bytes = only(bytes)(stored)
    if looks_encrypted(data):
        raise InvalidValue("the value is encrypted already")
    return data


def _read_bool(stored: Any) -> bool:
    if only(int)(stored) not in (0, 1):
        raise InvalidValue("the stored value is neither 0 nor 1")
    return bool(stored)


def _read_decimal(stored: Any) -> Decimal:
    if type(stored) is int:
        return Decimal(stored)
    # A float by its shortest text that reads as this float. NUMERIC affinity made it one long
    # before us; nothing is lost that is still there.
    value = Decimal(repr(stored) if type(stored) is float else only(str)(stored))
    if not value.is_finite():
        raise InvalidValue("the stored value is not finite")
    return value


def _write_decimal(value: Decimal) -> Stored:
    exponent = value.as_tuple().exponent
    if (
        isinstance(exponent, int)
        and 0 <= exponent <= 18
        and not (value.is_zero() and value.is_signed())
    ):
        whole = int(value)
        if -_INT64 <= whole < _INT64:
            return whole
    try:
        binary = float(value)
        if Decimal(repr(binary)) == value:
            return binary
    except (InvalidOperation, OverflowError):
        pass
    return str(value)


def _datetime_form(name: str, separator: str, timespec: str, zulu: bool) -> Form:
    def read(stored: Any) -> dt.datetime:
        return dt.datetime.fromisoformat(only(str)(stored))

    def write(value: dt.datetime) -> str:
        precision = (
            "microseconds" if timespec == "milliseconds" and value.microsecond % 1000 else timespec
        )
        text = value.isoformat(separator, precision)
        return text.removesuffix("+00:00") + "Z" if zulu and text.endswith("+00:00") else text

    return Form(python_type=dt.datetime, name=name, read=read, write=write)


def _form(
    python_type: type, read: Callable[[Any], Any], write: Callable[[Any], Stored]
) -> tuple[Form, ...]:
    return (Form(python_type=python_type, name="plain", read=read, write=write),)


_FORMS: dict[type, tuple[Form, ...]] = {
    str: _form(str, _read_str, str),
    int: _form(int, only(int), int),
    bool: _form(bool, _read_bool, int),
    bytes: _form(bytes, _read_bytes, bytes),
    dt.date: _form(
        dt.date, lambda stored: dt.date.fromisoformat(only(str)(stored)), dt.date.isoformat
    ),
    Decimal: _form(Decimal, _read_decimal, _write_decimal),
    # SQLAlchemy always writes microseconds, Django and SQLite's own functions only where there
    # are any, JavaScript writes milliseconds and a Z.
    dt.datetime: tuple(
        _datetime_form(
            f"{'space' if separator == ' ' else 'T'}-{timespec}-{'Z' if zulu else 'offset'}",
            separator,
            timespec,
            zulu,
        )
        for zulu in (False, True)
        for separator in (" ", "T")
        for timespec in ("microseconds", "auto", "milliseconds")
    ),
    dict: json_forms(),
}
