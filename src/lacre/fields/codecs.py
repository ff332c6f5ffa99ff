# SPDX-License-Identifier: Apache-2.0
"""
Codecs: one Python type to bytes and back, exactly.

Implements ``spec/field-format.md``, section "Codecs". Nothing is coerced: an `int` column takes
an int and not a bool, a `str` comes back code point for code point (no Unicode normalisation).
Does not know SQL types, and does not encrypt.
"""

import datetime as dt
import enum
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from lacre.errors import ConfigurationError, InvalidValue, Tampered

__all__ = ["Codec", "codec_for"]

# What every CPython converts whatever its `int_max_str_digits` is set to: a value that one
# process wrote, every other can read.
_INT_DIGITS = 640
_INT_BITS = (10**_INT_DIGITS - 1).bit_length()
_DECIMAL_DIGITS = 4096  # digits and exponent together: no short text makes a huge number
_JSON_DEPTH = 64
_INT = re.compile(rb"0|-?[1-9][0-9]{0,%d}" % (_INT_DIGITS - 1))
_DECIMAL = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:E[+-][1-9][0-9]*)?")
_EPOCH = dt.datetime(1, 1, 1)  # noqa: DTZ001 - counts of microseconds, with and without a zone
_MICROSECOND = dt.timedelta(microseconds=1)
_NAIVE = -(1 << 63)


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """
    Encode and decode the values of one type.

    `name` is what the field context binds, so that ``1``, ``"1"``, ``True`` and ``b"1"`` never
    read as one another. `padded` is true where the encoding's length tells about the value.
    `encode` raises `InvalidValue`; `decode` raises `Tampered` for bytes `encode` never makes.
    """

    name: str
    padded: bool
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def codec_for(python_type: type) -> Codec:
    """
    Return the codec of *python_type*.

    Raises:
        ConfigurationError: there is none for that type.
    """
    # Annotations are not always types: `str | None` reaches this as an object.
    if isinstance(python_type, type) and issubclass(python_type, enum.Enum):  # type: ignore[redundant-expr]
        return _enum_codec(python_type)
    codec = _CODECS.get(python_type)
    if codec is None:
        hint = (
            "use Decimal: a float does not survive its own text"
            if python_type is float
            else "types: " + ", ".join(t.__name__ for t in _CODECS)
        )
        raise ConfigurationError(
            f"no codec for values of type {getattr(python_type, '__name__', python_type)}",
            hint=hint,
        )
    return codec


def _exactly(python_type: type, value: object) -> None:
    # `type() is`, not isinstance: a bool is an int and a datetime is a date, and each has a
    # codec of its own. str and bytes subclasses would lose what they add.
    if type(value) is not python_type:
        raise InvalidValue(
            f"the field holds {python_type.__name__}, the value is of type {type(value).__name__}"
        )


def _encode_str(value: str) -> bytes:
    if type(value) is not str:  # asked here first: most values are text
        _exactly(str, value)
    try:
        return value.encode()
    except UnicodeEncodeError:
        pass
    # Raised outside the handler: Python's own error holds the whole text, and would be this one's context.
    raise InvalidValue("the text holds a lone surrogate, which is not valid Unicode")


def _decode_str(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Tampered from None


def _encode_bytes(value: bytes | bytearray | memoryview) -> bytes:
    # bytes go through without a copy. Database drivers hand out the other two for binary
    # columns; a copy of theirs cannot change while it is encrypted.
    if type(value) is bytes:
        return value
    if type(value) is bytearray or type(value) is memoryview:
        return bytes(value)
    raise InvalidValue(f"the field holds bytes, the value is of type {type(value).__name__}")


def _encode_int(value: int) -> bytes:
    _exactly(int, value)
    return _int_text(value).encode()


def _int_text(value: int) -> str:
    # Bits first: str() of a huge int takes quadratic time.
    if value.bit_length() <= _INT_BITS:
        text = str(value)
        if len(text) - (value < 0) <= _INT_DIGITS:
            return text
    raise InvalidValue(f"an int has at most {_INT_DIGITS} digits")


def _decode_int(data: bytes) -> int:
    if not _INT.fullmatch(data):
        raise Tampered
    return int(data)


def _encode_decimal(value: Decimal) -> bytes:
    _exactly(Decimal, value)
    if not value.is_finite():
        raise InvalidValue("a Decimal is a finite number")
    _, digits, exponent = value.as_tuple()
    if len(digits) + abs(int(exponent)) > _DECIMAL_DIGITS:
        raise InvalidValue(f"a Decimal has at most {_DECIMAL_DIGITS} digits, its exponent included")
    # upper(): str() writes a small "e" in a thread whose decimal context has capitals=0.
    return str(value).upper().encode()


def _decode_decimal(data: bytes) -> Decimal:
    if len(data) > _DECIMAL_DIGITS + 16 or not _DECIMAL.fullmatch(data):
        raise Tampered
    try:
        value = Decimal(data.decode())
        if _encode_decimal(value) == data:
            return value
    except (InvalidOperation, InvalidValue):
        pass
    raise Tampered


def _encode_bool(value: bool) -> bytes:
    _exactly(bool, value)
    return b"\x01" if value else b"\x00"


def _decode_bool(data: bytes) -> bool:
    if data not in (b"\x00", b"\x01"):
        raise Tampered
    return data == b"\x01"


def _encode_date(value: dt.date) -> bytes:
    _exactly(dt.date, value)
    return value.toordinal().to_bytes(4, "big")


def _decode_date(data: bytes) -> dt.date:
    if len(data) != 4:
        raise Tampered
    try:
        return dt.date.fromordinal(int.from_bytes(data, "big"))
    except (ValueError, OverflowError):
        raise Tampered from None


def _encode_datetime(value: dt.datetime) -> bytes:
    _exactly(dt.datetime, value)
    offset = value.utcoffset()
    micros = (value.replace(tzinfo=None) - _EPOCH) // _MICROSECOND
    zone = _NAIVE if offset is None else offset // _MICROSECOND
    return micros.to_bytes(8, "big") + zone.to_bytes(8, "big", signed=True)


def _decode_datetime(data: bytes) -> dt.datetime:
    if len(data) != 16:
        raise Tampered
    zone = int.from_bytes(data[8:], "big", signed=True)
    try:
        value = _EPOCH + dt.timedelta(microseconds=int.from_bytes(data[:8], "big"))
        if zone == _NAIVE:
            return value
        return value.replace(tzinfo=dt.timezone(dt.timedelta(microseconds=zone)))
    except (ValueError, OverflowError):
        raise Tampered from None


def _encode_uuid(value: uuid.UUID) -> bytes:
    # Drivers return subclasses of their own (asyncpg). A UUID is its 128 bits and nothing else:
    # what comes back is equal to what was given, or it is refused.
    if not isinstance(value, uuid.UUID):
        _exactly(uuid.UUID, value)
    if type(value) is not uuid.UUID and uuid.UUID(bytes=bytes(value.bytes)) != value:
        raise InvalidValue("the UUID is of a type that its bytes do not make again")
    return value.bytes


def _decode_uuid(data: bytes) -> uuid.UUID:
    if len(data) != 16:
        raise Tampered
    return uuid.UUID(bytes=data)


def _plain_json(value: object, depth: int = 0) -> None:
    # json.dumps would write a tuple as a list, 1 as the key "1" and a str subclass as a str:
    # values that come back as something else are refused instead.
    kind = type(value)
    if depth > _JSON_DEPTH:
        raise InvalidValue(f"a JSON value is nested at most {_JSON_DEPTH} deep")
    if kind is dict:
        for key, item in value.items():  # type: ignore[attr-defined]
            _exactly(str, key)
            _plain_json(item, depth + 1)
    elif kind is list:
        for item in value:  # type: ignore[attr-defined]
            _plain_json(item, depth + 1)
    elif kind is int:
        _int_text(value)  # type: ignore[arg-type]
    elif kind not in (str, float, bool, type(None)):
        raise InvalidValue(
            f"a JSON value holds dict, list, str, int, float, bool and None; this one holds a {kind.__name__}"
        )


def _encode_json(value: Any) -> bytes:
    _plain_json(value)
    try:
        return json.dumps(
            value, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()
    except ValueError:
        pass
    # Outside the handler, as for text.
    raise InvalidValue("the value has no exact JSON form (NaN, infinity, a lone surrogate)")


def _decode_json(data: bytes) -> Any:
    # Encoding what was read and comparing refuses every other spelling of it at once: white
    # space, escapes, duplicate members, 1.50, NaN, too deep.
    try:
        value = json.loads(data.decode())
        if _encode_json(value) == data:
            return value
    except (ValueError, RecursionError):  # InvalidValue is a ValueError
        pass
    raise Tampered


def _enum_codec(python_type: type[enum.Enum]) -> Codec:
    # Members travel by name, as SQLAlchemy's own Enum stores them: renaming a value is free,
    # renaming a member needs its old name kept as an alias.
    def encode(value: Any) -> bytes:
        if not isinstance(value, python_type) or value.name not in python_type.__members__:
            raise InvalidValue(f"the field holds members of {python_type.__name__}")
        return value.name.encode()

    def decode(data: bytes) -> enum.Enum:
        try:
            return python_type[data.decode()]
        except (KeyError, UnicodeDecodeError):
            raise Tampered from None

    return _codec("enum", encode, decode, padded=True)


def _codec(
    name: str, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any], *, padded: bool
) -> Codec:
    def decode_quietly(data: bytes) -> Any:
        try:
            return decode(data)
        except Tampered:
            pass
        # Raised anew and outside the handler: the error's traceback and context then hold no
        # frame that has the plaintext among its locals, which error reporters log.
        del data
        raise Tampered

    return Codec(name=name, padded=padded, encode=encode, decode=decode_quietly)


_JSON = _codec("json", _encode_json, _decode_json, padded=True)

_CODECS: dict[type, Codec] = {
    str: _codec("str", _encode_str, _decode_str, padded=True),
    int: _codec("int", _encode_int, _decode_int, padded=True),
    Decimal: _codec("decimal", _encode_decimal, _decode_decimal, padded=True),
    dt.date: _codec("date", _encode_date, _decode_date, padded=False),
    dt.datetime: _codec("datetime", _encode_datetime, _decode_datetime, padded=False),
    bytes: Codec(name="bytes", padded=True, encode=_encode_bytes, decode=lambda data: data),
    bool: _codec("bool", _encode_bool, _decode_bool, padded=False),
    uuid.UUID: _codec("uuid", _encode_uuid, _decode_uuid, padded=False),
    dict: _JSON,
    list: _JSON,
}
