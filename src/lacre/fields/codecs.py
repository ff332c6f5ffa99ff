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

_MAX_DIGITS = 4096  # of an int or Decimal: below CPython's own limit for int(), and ample
_INT = re.compile(rb"0|-?[1-9][0-9]{0,%d}" % (_MAX_DIGITS - 1))
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
    if isinstance(python_type, type) and issubclass(python_type, enum.Enum):
        return _enum_codec(python_type)
    codec = _CODECS.get(python_type)
    if codec is None:
        hint = "use Decimal: a float does not survive its own text" if python_type is float else "types: " + ", ".join(t.__name__ for t in _CODECS)
        raise ConfigurationError(f"no codec for values of type {getattr(python_type, '__name__', python_type)}", hint=hint)
    return codec


def _exactly(python_type: type, value: object) -> None:
    # `type() is`, not isinstance: a bool is an int and a datetime is a date, and each has a
    # codec of its own. str and bytes subclasses would lose what they add.
    if type(value) is not python_type:
        raise InvalidValue(f"the field holds {python_type.__name__}, the value is a {type(value).__name__}")


def _encode_str(value: str) -> bytes:
    _exactly(str, value)
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise InvalidValue("the text holds a lone surrogate, which is not valid Unicode") from None


def _decode_str(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Tampered from None


def _encode_bytes(value: bytes | bytearray | memoryview) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise InvalidValue(f"the field holds bytes, the value is a {type(value).__name__}")
    return value  # type: ignore[return-value] # any buffer serves, and no copy is made


def _encode_int(value: int) -> bytes:
    _exactly(int, value)
    if value.bit_length() > _MAX_DIGITS * 3.3219:
        raise InvalidValue(f"an int has at most {_MAX_DIGITS} digits")
    text = str(value).encode()
    if not _INT.fullmatch(text):
        raise InvalidValue(f"an int has at most {_MAX_DIGITS} digits")
    return text


def _decode_int(data: bytes) -> int:
    if not _INT.fullmatch(data):
        raise Tampered
    return int(data)


def _encode_decimal(value: Decimal) -> bytes:
    _exactly(Decimal, value)
    if not value.is_finite():
        raise InvalidValue("a Decimal is a finite number")
    digits, exponent = value.as_tuple().digits, value.as_tuple().exponent
    if len(digits) + abs(int(exponent)) > _MAX_DIGITS:
        raise InvalidValue(f"a Decimal has at most {_MAX_DIGITS} digits")
    return str(value).encode()


def _decode_decimal(data: bytes) -> Decimal:
    if len(data) > _MAX_DIGITS + 16 or not _DECIMAL.fullmatch(data):
        raise Tampered
    try:
        value = Decimal(data.decode())
    except InvalidOperation:
        raise Tampered from None
    if str(value).encode() != data:
        raise Tampered
    return value


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
    _exactly(uuid.UUID, value)
    return value.bytes


def _decode_uuid(data: bytes) -> uuid.UUID:
    if len(data) != 16:
        raise Tampered
    return uuid.UUID(bytes=data)


def _plain_json(value: object, depth: int = 0) -> None:
    # json.dumps would write a tuple as a list, 1 as the key "1" and a str subclass as a str:
    # values that come back as something else are refused instead.
    kind = type(value)
    if depth > 64:
        raise InvalidValue("a JSON value is nested at most 64 deep")
    if kind is dict:
        for key, item in value.items():  # type: ignore[attr-defined]
            _exactly(str, key)
            _plain_json(item, depth + 1)
    elif kind is list:
        for item in value:  # type: ignore[attr-defined]
            _plain_json(item, depth + 1)
    elif kind not in (str, int, float, bool, type(None)):
        raise InvalidValue(f"a JSON value holds dict, list, str, int, float, bool and None; this one holds a {kind.__name__}")


def _encode_json(value: Any) -> bytes:
    _plain_json(value)
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except ValueError:  # NaN, infinity, lone surrogates, an int past the digit limit
        raise InvalidValue("the value has no exact JSON form (NaN, infinity, a lone surrogate, a huge int)") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Tampered
    return members


def _not_json(_: str) -> Any:
    raise Tampered


def _decode_json(data: bytes) -> Any:
    try:
        return json.loads(data.decode(), object_pairs_hook=_no_duplicates, parse_constant=_not_json)
    except (ValueError, RecursionError):
        raise Tampered from None


def _enum_codec(python_type: type[enum.Enum]) -> Codec:
    # Members travel by name, as SQLAlchemy's own Enum stores them: renaming a value is free,
    # renaming a member needs its old name kept as an alias.
    def encode(value: Any) -> bytes:
        if not isinstance(value, python_type) or value.name is None or value.name not in python_type.__members__:
            raise InvalidValue(f"the field holds members of {python_type.__name__}")
        return value.name.encode()

    def decode(data: bytes) -> enum.Enum:
        try:
            return python_type[data.decode()]
        except (KeyError, UnicodeDecodeError):
            raise Tampered from None

    return Codec(name="enum", padded=True, encode=encode, decode=decode)


def _codec(name: str, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any], *, padded: bool) -> Codec:
    return Codec(name=name, padded=padded, encode=encode, decode=decode)


_JSON = _codec("json", _encode_json, _decode_json, padded=True)

_CODECS: dict[type, Codec] = {
    str: _codec("str", _encode_str, _decode_str, padded=True),
    int: _codec("int", _encode_int, _decode_int, padded=True),
    Decimal: _codec("decimal", _encode_decimal, _decode_decimal, padded=True),
    dt.date: _codec("date", _encode_date, _decode_date, padded=False),
    dt.datetime: _codec("datetime", _encode_datetime, _decode_datetime, padded=False),
    bytes: _codec("bytes", _encode_bytes, lambda data: data, padded=True),
    bool: _codec("bool", _encode_bool, _decode_bool, padded=False),
    uuid.UUID: _codec("uuid", _encode_uuid, _decode_uuid, padded=False),
    dict: _JSON,
    list: _JSON,
}
