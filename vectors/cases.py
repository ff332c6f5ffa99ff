# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: DTZ001, DTZ901 - times without a zone are values here
"""What the vectors are made of: values worth testing, encodings no codec makes, and the notes."""

import datetime as dt
import enum
import json
from decimal import Decimal
from typing import Any
from uuid import UUID

NOTES = {
    "BadEncoding": ("MALLEABILITY", "The plaintext is authentic and is not an encoding that the codec makes.", "Two encodings of one value, or a value of another type."),
    "BadPadding": ("MALLEABILITY", "The plaintext is authentic and is not one that padding makes.", "Two paddings of one value, or padding taken for content."),
    "BlindIndex": ("BASIC", "A token of a blind index.", "Values are not found."),
    "CaseOfText": ("MALLEABILITY", "A text or JSON form that names the right bytes in another spelling.", "One value has several forms, so a change goes unnoticed."),
    "EdgeCase": ("EDGE_CASE", "The least, greatest, empty or otherwise unusual value of its type.", "Loss or change of a value that is rarely met."),
    "LabelConfusion": ("AUTH_BYPASS", "Derived with the label of another use.", "What was made for one use is accepted for another."),
    "LongContext": ("EDGE_CASE", "A part of the place is long.", "Length prefixes are cut or overflow."),
    "ModifiedBody": ("AUTH_BYPASS", "Ciphertext or tag altered, shortened or extended.", "Forgery."),
    "ModifiedCommitment": ("AUTH_BYPASS", "The commitment is altered; AES-GCM alone would accept the rest.", "A reader that does not compare it accepts values that open under two keys."),
    "ModifiedHeader": ("MODIFIED_PARAMETER", "Magic, suite, flags, key id or salt altered, in some tests with everything else derived to match.", "Downgrade, or unknown meaning accepted."),
    "Normal": ("BASIC", "An ordinary value.", "No interoperability."),
    "Padded": ("FUNCTIONALITY", "Lengths around the steps of the padding.", "Values of some lengths are lost."),
    "WrongKey": ("AUTH_BYPASS", "Made under another key.", "Forgery by the holder of another key."),
    "WrongPlace": ("AUTH_BYPASS", "Read in another row, column, table, store, tenant or as another type than written.", "Values can be moved."),
}  # fmt: skip


class Colour(enum.Enum):
    """An enumeration whose names are not its values."""

    RED = 1
    GRÜN = 2


VALUES: list[tuple[type, list[tuple[str, Any]]]] = [
    (str, [("ascii", "ana@example.org"), ("empty", ""), ("NFC", "Jos\u00e9"), ("NFD", "Jose\u0301"), ("beyond the BMP", "\U0001f600\U00020000"), ("NUL and newline", "a\0b\r\n"), ("ends in what padding uses", "a\x80\0\0"), ("BOM", "\ufeffx"), ("256 characters", "\u00e7" * 256)]),
    (int, [("zero", 0), ("one", 1), ("minus one", -1), ("64 bits", -(1 << 63)), ("beyond 64 bits", 1 << 64), ("640 digits", 10**640 - 1), ("minus 640 digits", -(10**639))]),
    (Decimal, [("zero", Decimal(0)), ("minus zero", Decimal("-0")), ("zero with places", Decimal("0.00")), ("zero with an exponent", Decimal("0E+3")), ("trailing zero", Decimal("1.50")), ("no trailing zero", Decimal("1.5")), ("positive exponent", Decimal("1E+3")), ("several digits, exponent", Decimal("-12.34E+30")), ("least without exponent", Decimal("0.000001")), ("greatest with negative exponent", Decimal("1E-7")), ("integer of 4096 digits", Decimal("9" * 4096)), ("exponent 4095", Decimal("1E+4095")), ("exponent -4095", Decimal("-1E-4095"))]),
    (dt.date, [("first", dt.date.min), ("last", dt.date.max), ("leap day", dt.date(2000, 2, 29)), ("before 1970", dt.date(1969, 12, 31))]),
    (dt.datetime, [("naive", dt.datetime(2026, 11, 22, 10, 0, 0, 123456)), ("first", dt.datetime.min), ("last", dt.datetime.max), ("UTC", dt.datetime(2026, 11, 22, 10, tzinfo=dt.UTC)), ("west of UTC", dt.datetime(1970, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-3)))), ("greatest offset", dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(days=1) - dt.timedelta.resolution))), ("least offset", dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta.resolution - dt.timedelta(days=1)))), ("offset with seconds", dt.datetime(1890, 1, 1, tzinfo=dt.timezone(-dt.timedelta(hours=3, minutes=6, seconds=28))))]),
    (bytes, [("empty", b""), ("one zero", b"\0"), ("marker", b"\x80"), ("looks padded", b"a\x80\0\0\0"), ("a value's beginning", b"\xc1\x01\x01"), ("all bytes", bytes(range(256)))]),
    (bool, [("false", False), ("true", True)]),
    (dict, [("empty object", {}), ("members keep their order", {"b": 1, "a": [True, False, None, 1.0, -0.0, "\u00e9\"\\\n\u001f\u007f\u2028"]}), ("null", None), ("empty text", [""]), ("floats", [0.0001, 1e-05, 1e15, 1e16, 1.5e-07, 5e-324, 1.7976931348623157e308, 0.1, 123456789.125]), ("integers", [0, -1, 1 << 64]), ("64 deep", json.loads("[" * 65 + "]" * 65))]),
    (UUID, [("nil", UUID(int=0)), ("max", UUID(int=(1 << 128) - 1)), ("version 4", UUID("9f5b2d3e-1c4a-4b6f-8d7e-0a1b2c3d4e5f"))]),
    (Colour, [("name", Colour.RED), ("name beyond ASCII", Colour["GRÜN"])]),
]  # fmt: skip

BAD: dict[str, list[tuple[str, bytes]]] = {
    "str": [("overlong UTF-8", b"\xc0\x80"), ("surrogate in UTF-8", b"\xed\xa0\x80"), ("cut UTF-8", b"\xc3"), ("above U+10FFFF", b"\xf4\x90\x80\x80")],
    "int": [("empty", b""), ("leading zero", b"007"), ("minus zero", b"-0"), ("plus", b"+1"), ("space", b" 1"), ("newline", b"1\n"), ("underscore", b"1_0"), ("other digits", "\u0661".encode()), ("641 digits", b"1" * 641), ("fraction", b"1.0"), ("only a sign", b"-")],
    "decimal": [("empty", b""), ("leading zero", b"007"), ("leading plus", b"+1"), ("exponent zero", b"1E+0"), ("small e", b"1e+3"), ("exponent without sign", b"1E3"), ("not normalised", b"0.1E-7"), ("two digits before the point", b"12.3E+5"), ("plain where scientific is due", b"0.0000001"), ("scientific where plain is due", b"1E-6"), ("point without digits", b"1."), ("no digit before the point", b".5"), ("NaN", b"NaN"), ("infinity", b"-Infinity"), ("exponent past the limit", b"1E+4096"), ("exponent far past the limit", b"1E+999999999999999999"), ("digits past the limit", b"9" * 4097)],
    "date": [("day 0", bytes(4)), ("after the last day", (3652060).to_bytes(4, "big")), ("3 bytes", b"\0\0\x01"), ("5 bytes", b"\0\0\0\0\x01"), ("greatest number", b"\xff" * 4), ("empty", b"")],
    "datetime": [("after the last microsecond", (315537897600000000).to_bytes(8, "big") + b"\x80" + bytes(7)), ("offset of one day", bytes(8) + (86400000000).to_bytes(8, "big")), ("offset of minus one day", bytes(8) + (-86400000000).to_bytes(8, "big", signed=True)), ("greatest offset", bytes(8) + b"\x7f" + b"\xff" * 7), ("15 bytes", bytes(15)), ("greatest time", b"\xff" * 8 + bytes(8)), ("almost the mark of no offset", bytes(8) + b"\x80" + bytes(6) + b"\x01")],
    "bool": [("2", b"\x02"), ("digit", b"1"), ("empty", b""), ("two bytes", b"\0\0")],
    "json": [("empty", b""), ("white space", b'{"a": 1}'), ("newline at the end", b"{}\n"), ("member twice", b'{"a":1,"a":1}'), ("needless escape", b'"\\u0061"'), ("escaped solidus", b'"\\/"'), ("upper-case escape", b'"\\u001F"'), ("long escape of newline", b'"\\u000a"'), ("lone surrogate", b'"\\ud800"'), ("escaped pair", b'"\\ud83d\\ude00"'), ("raw control", b'"\x01"'), ("NaN", b"NaN"), ("infinity", b"-Infinity"), ("trailing zero", b"1.50"), ("short exponent", b"1e+5"), ("plain past 10^16", b"10000000000000000.0"), ("scientific below 10^16", b"1e+15"), ("exponent of one digit", b"1e-7"), ("exponent without sign", b"1e16"), ("capital E", b"1E+16"), ("minus zero integer", b"-0"), ("number past binary64", b"1e+400"), ("65 deep", b"[" * 66 + b"]" * 66), ("trailing comma", b"[1,]"), ("two texts", b"1 2"), ("UTF-16", "{}".encode("utf-16-le")), ("BOM", b"\xef\xbb\xbf{}"), ("invalid UTF-8", b'"\xff"'), ("641 digits", b"1" * 641), ("cut", b'{"a":')],
    "uuid": [("15 bytes", bytes(15)), ("17 bytes", bytes(17)), ("text", b"9f5b2d3e-1c4a-4b6f-8d7e-0a1b2c3d4e5f")],
    "enum": [("unknown", b"BLUE"), ("lower case", b"red"), ("empty", b""), ("its value", b"1"), ("invalid UTF-8", b"\xff")],
}  # fmt: skip
