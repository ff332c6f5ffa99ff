# SPDX-License-Identifier: Apache-2.0
"""
Python values to Arrow columns: exactly, or not at all.

The type of a column follows from what the model declares, never from the values that happen to be
there, so that two readings have one schema. A value that its type cannot carry without loss is
an `InvalidValue`, which does not quote it. Needs pyarrow.
"""

import datetime as dt
import enum
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import sqlalchemy as sa

from lacre.errors import ConfigurationError, InvalidValue

__all__ = ["ArrowColumn", "arrow_column", "batch_of", "masked_column", "python_type_of"]

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrowColumn:
    """One column of the result: its name, its type, and what makes of a value one that Arrow takes."""

    name: str
    type: Any
    convert: Convert | None  # None: Arrow takes the values as they are


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _name(value: Any) -> str:
    return str(value.name) if isinstance(value, enum.Enum) else str(value)


def _aware(value: Any) -> Any:
    # Arrow would take a time without a zone for one in UTC.
    if value.utcoffset() is None:
        raise ValueError
    return value


def _naive(value: Any) -> Any:
    # And it would drop the zone of one that has it.
    if value.utcoffset() is not None:
        raise ValueError
    return value


_UTC = pa.timestamp("us", tz="UTC")
# 38 digits are what every reader of Parquet takes, nine of them behind the point.
_DEFAULT: dict[type, tuple[Any, Convert | None]] = {
    str: (pa.string(), None),
    int: (pa.int64(), None),
    float: (pa.float64(), None),
    Decimal: (pa.decimal128(38, 9), None),
    bool: (pa.bool_(), None),
    bytes: (pa.binary(), bytes),
    dt.date: (pa.date32(), None),
    dt.datetime: (_UTC, _aware),
    dt.time: (pa.time64("us"), None),
    dt.timedelta: (pa.duration("us"), None),
    UUID: (pa.string(), str),
    dict: (pa.string(), _json),
    list: (pa.string(), _json),
}


def arrow_column(name: str, python_type: type, wanted: Any = None) -> ArrowColumn:
    """
    Return the column for values of *python_type*; *wanted* is another Arrow type than the usual.

    Raises:
        ConfigurationError: there is none for it, or *wanted* would lose something.
    """
    if issubclass(python_type, enum.Enum):
        usual: tuple[Any, Convert | None] = (pa.string(), _name)
    elif python_type in _DEFAULT:
        usual = _DEFAULT[python_type]
    else:
        raise ConfigurationError(
            f"the column {name} holds values of type {python_type.__name__}, which bulk reading has no Arrow type for",
            hint="leave the column out",
        )
    if wanted is None or wanted == usual[0]:
        return ArrowColumn(name=name, type=usual[0], convert=usual[1])
    convert = _other(python_type, wanted)
    if convert is None:
        raise ConfigurationError(
            f"the column {name} holds {python_type.__name__}, which is not read as {wanted}",
            hint="int: string or decimal; Decimal: string or decimal; datetime: a timestamp in us, with a zone or without; date, UUID: string",
        )
    return ArrowColumn(name=name, type=wanted, convert=convert)


def _other(python_type: type, wanted: Any) -> Convert | None:
    text = pa.types.is_string(wanted) or pa.types.is_large_string(wanted)
    if text and python_type in (dt.date, dt.datetime, dt.time):
        return lambda value: value.isoformat()
    if text and python_type in (int, Decimal, UUID, str):
        return str
    if pa.types.is_decimal(wanted) and python_type in (int, Decimal):
        return Decimal
    if python_type is dt.datetime and pa.types.is_timestamp(wanted) and wanted.unit == "us":
        return _naive if wanted.tz is None else _aware
    return None


def masked_column(name: str) -> ArrowColumn:
    """Return the column for masks: text."""
    return ArrowColumn(name=name, type=pa.string(), convert=str)


def python_type_of(column: Any) -> tuple[type, Any]:
    """Return the type of the values of a plain *column*, and the Arrow type it declares, or None."""
    type_ = column.type
    if isinstance(type_, sa.Enum):
        return enum.Enum, None
    if isinstance(type_, sa.JSON):
        return dict, None
    try:
        found: type = type_.python_type
    except NotImplementedError:  # 2.0's word for what is `object` in 2.1
        return object, None
    if found is dt.datetime and not getattr(type_, "timezone", False):
        return found, pa.timestamp("us")
    precision, scale = getattr(type_, "precision", None), getattr(type_, "scale", None)
    if found is Decimal and precision is not None and precision <= 76:
        wide = pa.decimal128 if precision <= 38 else pa.decimal256
        return found, wide(precision, scale or 0)
    return found, None


def batch_of(columns: Sequence[ArrowColumn], values: Sequence[Sequence[Any]], schema: Any) -> Any:
    """
    Return the record batch of *values*, column by column.

    Raises:
        InvalidValue: a value does not fit the type of its column.
    """
    return pa.RecordBatch.from_arrays(
        [_array(column, given) for column, given in zip(columns, values, strict=True)],
        schema=schema,
    )


def _array(column: ArrowColumn, values: Sequence[Any]) -> Any:
    convert = column.convert
    try:
        if convert is not None:
            values = [None if value is None else convert(value) for value in values]
        made = pa.array(values, type=column.type)
        if isinstance(made, pa.Array):
            return made
    except (pa.ArrowException, ArithmeticError, AttributeError, TypeError, ValueError):
        pass
    # Outside the handler: Arrow's own words quote the value, and would be this error's context.
    del values
    raise InvalidValue(
        f"a value of {column.name} does not fit {column.type}",
        hint=f'name a type that carries it: types={{"{column.name}": pa.string()}}',
    )
