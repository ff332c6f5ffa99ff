# SPDX-License-Identifier: Apache-2.0
"""
What PostgreSQL stores, as a Python value and exactly back, by way of its text form.

Implements ``spec/protect-postgresql.md``, section "Values". The column's type is the server's
word, so a column has one form; only json keeps the spelling it was given. Does not encode for
encryption: the field's codec does.
"""

import datetime as dt
import enum
import json
import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

from lacre._core.field import looks_encrypted
from lacre.errors import ConfigurationError, InvalidValue
from lacre.jobs.columns import PlannedColumn
from lacre.jobs.forms import Form, Stored, identical, json_forms, only
from lacre.jobs.postgresql.catalogue import Column

__all__ = ["form_of", "forms_for", "read_as", "type_for", "with_type", "written_as"]

_TYPES: dict[str, type] = {
    "text": str,
    "varchar": str,
    "bpchar": str,
    "citext": str,
    "int2": int,
    "int4": int,
    "int8": int,
    "numeric": Decimal,
    "bool": bool,
    "uuid": UUID,
    "bytea": bytes,
    "date": dt.date,
    "timestamp": dt.datetime,
    "timestamptz": dt.datetime,
    "json": dict,
    "jsonb": dict,
}
_RANGES = {"int2": 15, "int4": 31, "int8": 63}
_EXACT = Context(prec=20_000)
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}(\.\d{1,6})?(\+00)?")


def type_for(column: Column) -> type:
    """
    Return the Python type of a column's values.

    Raises:
        ConfigurationError: there is none; the hint says what to do.
    """
    if column.category == "e":
        return _enum_type(column.base.rpartition(".")[2].strip('"'), column.labels)
    if column.category == "array":
        raise ConfigurationError(
            f"its type is {column.declared}, an array",
            hint="store it as jsonb, or each element in a row of its own, then protect that",
        )
    if column.kind in ("float4", "float8"):
        raise ConfigurationError(
            f"its type is {column.declared}: a binary fraction has no exact text, and none of lacre's codecs takes one",
            hint="store it as numeric or as a whole number of the smallest unit, then protect it",
        )
    found = _TYPES.get(column.kind)
    if found is None:
        raise ConfigurationError(
            f"lacre has no codec for values of type {column.declared}",
            hint="protected types: " + ", ".join(sorted({*_TYPES} - {"bpchar"} | {"char", "enum"})),
        )
    return found


@lru_cache
def _enum_type(name: str, labels: tuple[str, ...]) -> type[enum.Enum]:
    # Cached, because members of two classes are not equal.
    return cast("type[enum.Enum]", enum.Enum(name, {label: label for label in labels}))


def with_type(planned: PlannedColumn, column: Column) -> PlannedColumn:
    """Return *planned*, read from a job's row, with the Enum whose labels the database has."""
    if planned.python_type is not enum.Enum:
        return planned
    return replace(planned, python_type=type_for(column))


def forms_for(column: Column) -> tuple[Form, ...]:
    """Return the forms that the values of *column* may be written in, the likeliest first."""
    if column.kind == "json":
        return json_forms()
    return (_form(column),)


def form_of(column: Column, planned: PlannedColumn) -> Form:
    """Return the form that *planned*'s values were found to be written in."""
    return next(form for form in forms_for(column) if form.name == planned.form)


def read_as(name: str, column: Column) -> str:
    """Return the expression that reads *name*, quoted, of *column*'s type."""
    return name if column.kind == "bytea" else f"{name}::pg_catalog.text"


def written_as(name: str, column: Column) -> str:
    """Return the expression that makes a value of *column*'s type of *name*, what `write` gave."""
    return name if column.kind == "bytea" else f"{name}::{column.declared}"


def _form(column: Column) -> Form:
    python_type = type_for(column)
    read, write = _MAKERS[column.category if column.category == "e" else column.kind](column)
    same = _same_json if column.kind == "jsonb" else identical
    return Form(python_type=python_type, name="plain", read=read, write=write, same=same)


_Pair = tuple[Callable[[Any], Any], Callable[[Any], Stored]]


def _text(column: Column) -> _Pair:
    length = (
        column.typmod - 4 if column.kind in ("varchar", "bpchar") and column.typmod > 4 else None
    )

    def write(value: str) -> str:
        if column.kind == "bpchar":
            value = value.rstrip(" ")
        if "\0" in value:
            raise InvalidValue("the text holds a NUL, which PostgreSQL stores in no text")
        if length is not None and len(value) > length:
            raise InvalidValue(f"the text is longer than {column.declared}")
        return value

    return only(str), write


def _int(column: Column) -> _Pair:
    bits = _RANGES[column.kind]

    def write(value: int) -> str:
        if not -(1 << bits) <= value < 1 << bits:
            raise InvalidValue(f"the number is no {column.declared}")
        return str(value)

    return int, write


def _numeric(column: Column) -> _Pair:
    # As numeric's typmod packs them: precision, and the scale in 11 signed bits.
    precision = scale = None
    if column.typmod >= 4:
        precision = (column.typmod - 4) >> 16 & 0xFFFF
        scale = ((column.typmod - 4 & 0x7FF) ^ 1024) - 1024

    def read(stored: str) -> Decimal:
        value = Decimal(stored)
        if not value.is_finite():
            raise InvalidValue("the stored number is not finite")
        return value

    def write(value: Decimal) -> str:
        if value.is_zero() and value.is_signed():
            value = -value
        if precision is not None and scale is not None:
            fitted = value.quantize(Decimal(1).scaleb(-scale), context=_EXACT)
            if fitted != value or (value and fitted.adjusted() >= precision - scale):
                raise InvalidValue(f"the number does not fit {column.declared}")
            value = fitted
        return format(value, "f")

    return read, write


def _bool(_column: Column) -> _Pair:
    def read(stored: str) -> bool:
        return {"true": True, "false": False}[stored]

    return read, lambda value: "true" if value else "false"


def _uuid(_column: Column) -> _Pair:
    return UUID, str


def _bytes(_column: Column) -> _Pair:
    def read(stored: bytes) -> bytes:
        if looks_encrypted(stored):
            raise InvalidValue("the value is encrypted already")
        return stored

    return read, bytes


def _date(_column: Column) -> _Pair:
    return dt.date.fromisoformat, dt.date.isoformat


def _timestamp(column: Column) -> _Pair:
    zoned = column.kind == "timestamptz"
    places = column.typmod if 0 <= column.typmod <= 6 else 6

    def read(stored: str) -> dt.datetime:
        if not _TIMESTAMP.fullmatch(stored):
            raise InvalidValue("the stored time is not between the years 1 and 9999")
        text, _, zone = stored.partition("+")
        head, _, fraction = text.partition(".")
        value = dt.datetime.fromisoformat(f"{head}.{fraction.ljust(6, '0')}" if fraction else head)
        return value.replace(tzinfo=dt.UTC) if zone else value

    def write(value: dt.datetime) -> str:
        if (value.tzinfo is None) is zoned:
            raise InvalidValue(
                f"the time has {'no' if zoned else 'a'} zone, unlike {column.declared}"
            )
        if zoned:
            value = value.astimezone(dt.UTC)
        if value.microsecond % 10 ** (6 - places):
            raise InvalidValue(f"the time is more precise than {column.declared}")
        text = value.replace(tzinfo=None).isoformat(" ")
        if value.microsecond:
            text = text.rstrip("0")
        return text + "+00" if zoned else text

    return read, write


def _jsonb(_column: Column) -> _Pair:
    return json.loads, lambda value: json.dumps(value, ensure_ascii=False)


def _same_json(one: Stored, other: Stored) -> bool:
    """Whether two texts are one jsonb value: it orders members as it likes, and counts digits."""
    return bool(_exactly(one) == _exactly(other))


def _exactly(stored: Any) -> Any:
    # Tuples, because to Python True is 1.
    return json.loads(stored, parse_float=_number, parse_int=_number)


def _number(text: str) -> tuple[Decimal]:
    return (Decimal(text),)


def _enum(_column: Column) -> _Pair:
    python_type = type_for(_column)

    def write(value: enum.Enum) -> str:
        return value.name

    def read(stored: str) -> Any:
        found = python_type.__members__.get(stored)  # type: ignore[attr-defined]
        if found is None:
            raise InvalidValue("the stored label was added after the job began")
        return found

    return read, write


_MAKERS: dict[str, Callable[[Column], _Pair]] = {
    **dict.fromkeys(("text", "varchar", "bpchar", "citext"), _text),
    **dict.fromkeys(("int2", "int4", "int8"), _int),
    **dict.fromkeys(("timestamp", "timestamptz"), _timestamp),
    "numeric": _numeric,
    "bool": _bool,
    "uuid": _uuid,
    "bytea": _bytes,
    "date": _date,
    "jsonb": _jsonb,
    "e": _enum,
}
