# SPDX-License-Identifier: Apache-2.0
"""Codecs: every value comes back exactly, every encoding has one spelling, no type is another."""

import datetime as dt
import decimal
import enum
import json
import math
import subprocess
import sys
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lacre._core import field
from lacre._core.canonical import canonical
from lacre.errors import ConfigurationError, InvalidValue, Tampered
from lacre.fields.codecs import codec_for


class Plan(enum.Enum):
    FREE = "free"
    PAID = "paid"
    GRATIS = "free"  # noqa: PIE796 - an alias of FREE


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Level(enum.IntEnum):
    LOW = 1


class AutumnNight(dt.tzinfo):
    """A zone in the hour that is there twice: summer time first, then not."""

    def utcoffset(self, value: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(hours=0 if value is not None and value.fold else 1)

    def dst(self, value: dt.datetime | None) -> dt.timedelta:
        return self.utcoffset(value)

    def tzname(self, value: dt.datetime | None) -> str:
        return "autumn"


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
OFFSETS = st.integers(-86399999999, 86399999999).map(
    lambda micros: dt.timezone(dt.timedelta(microseconds=micros))
)
INTS = st.integers() | st.integers(-(10**640) + 1, 10**640 - 1)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False) | st.builds(
    lambda sign, digits, exponent: Decimal((sign, digits, exponent)),
    st.integers(0, 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.integers(-4000, 4000),
)
JSON = st.recursive(
    st.none() | st.booleans() | INTS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)
# Of each type: values of it. One entry serves both the round trip and the confusion matrix.
VALUES: dict[type, st.SearchStrategy[Any]] = {
    str: TEXTS,
    int: INTS,
    Decimal: DECIMALS,
    dt.date: st.dates(),
    dt.datetime: st.datetimes(timezones=st.none() | OFFSETS).map(
        lambda value: value.replace(fold=0)
    ),
    bytes: st.binary(),
    bool: st.booleans(),
    uuid.UUID: st.uuids(),
    dict: st.dictionaries(TEXTS, JSON, max_size=4),
    list: st.lists(JSON, max_size=4),
    Plan: st.sampled_from(Plan),
}
each_type = pytest.mark.parametrize("python_type", VALUES, ids=lambda each: each.__name__)


def spelt(value: Any) -> str:
    """What must come back: repr tells 1 from True and 1.0, -0 from 0, order of members, zones."""
    return f"{type(value)} {value!r}"


@each_type
@given(data=st.data())
def test_round_trip(python_type: type, data: st.DataObject) -> None:
    """Every value of every type comes back as it was, of its own type."""
    codec = codec_for(python_type)
    value = data.draw(VALUES[python_type])
    back = codec.decode(codec.encode(value))

    assert spelt(back) == spelt(value)


@each_type
@given(data=st.data())
def test_encodings_are_unique(python_type: type, data: st.DataObject) -> None:
    """Bytes that decode at all are those that encode makes of the result."""
    codec = codec_for(python_type)
    good = codec.encode(data.draw(VALUES[python_type]))
    at = data.draw(st.integers(0, len(good)))
    change = data.draw(st.binary(max_size=2))
    altered = good[:at] + change + good[at + data.draw(st.integers(0, 2)) :]
    try:
        value = codec.decode(altered)
    except Tampered:
        return

    if python_type is not Plan:  # an alias is read and not written, by design
        assert codec.encode(value) == altered


@each_type
@given(noise=st.binary(max_size=40) | st.text("0123456789-+.eE_ ").map(str.encode))
@example(noise=b"")
@example(noise=b"-0")
@example(noise=b"1E+99999999999999999999")
def test_noise_is_read_or_tampered(python_type: type, noise: bytes) -> None:
    """No bytes make a codec raise anything but the one refusal."""
    codec = codec_for(python_type)
    try:
        value = codec.decode(noise)
    except Tampered:
        return

    assert python_type is Plan or codec.encode(value) == noise


@pytest.mark.parametrize("value", ["", 0, False, b"", Decimal(0), {}, []], ids=repr)
def test_values_that_are_false_survive(value: Any) -> None:
    """Empty, zero and False are values like any other, each of its own type."""
    codec = codec_for(type(value))

    assert spelt(codec.decode(codec.encode(value))) == spelt(value)


def test_unicode_is_not_normalised() -> None:
    """NFC and NFD stay two texts."""
    codec = codec_for(str)
    composed, decomposed = "Jos\u00e9", "Jose\u0301"

    assert codec.encode(composed) != codec.encode(decomposed)
    assert codec.decode(codec.encode(decomposed)) == decomposed


@pytest.mark.parametrize("capitals", [0, 1])
@pytest.mark.parametrize("precision", [1, 28])
def test_a_decimal_does_not_depend_on_the_context(capitals: int, precision: int) -> None:
    """The thread's decimal context changes neither spelling nor digits."""
    value = Decimal("1.2345E+30")
    codec = codec_for(Decimal)
    with decimal.localcontext() as context:
        context.capitals, context.prec = capitals, precision
        encoding = codec.encode(value)
        back = codec.decode(b"1.2345E+30")

    assert encoding == b"1.2345E+30"
    assert back == value


def test_an_int_is_read_by_every_process() -> None:
    """The longest int is encoded and decoded under the smallest digit limit CPython can be given."""
    program = (
        "from lacre.fields.codecs import codec_for as c; "
        "assert c(int).decode(c(int).encode(10**640 - 1)) == 10**640 - 1; "
        "assert c(dict).decode(c(dict).encode({'a': -10**639})) == {'a': -10**639}"
    )
    done = subprocess.run(
        [sys.executable, "-X", "int_max_str_digits=640", "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_limits_are_exact() -> None:
    """The greatest values go in, and one more is the caller's error."""
    refused: list[tuple[type, Any]] = [
        (int, 10**640),
        (int, -(10**640)),
        (int, 1 << 100_000),
        (Decimal, Decimal("1E+4096")),
        (Decimal, Decimal("1E-4096")),
        (Decimal, Decimal("9" * 4097)),
        (dict, {"a": 10**640}),
        (list, json.loads("[" * 66 + "]" * 66)),
    ]
    accepted: list[tuple[type, Any]] = [
        (int, 10**640 - 1),
        (int, 1 - 10**640),
        (Decimal, Decimal("1E+4095")),
        (Decimal, Decimal("-1E-4095")),
        (Decimal, Decimal("9" * 4096)),
        (list, json.loads("[" * 65 + "]" * 65)),
    ]

    for python_type, value in refused:
        with pytest.raises(InvalidValue):
            codec_for(python_type).encode(value)
    for python_type, value in accepted:
        codec = codec_for(python_type)
        assert codec.decode(codec.encode(value)) == value


class Text(str):
    """A str subclass."""

    __slots__ = ()


class Raw(bytes):
    """A bytes subclass."""


WRONG: dict[type, list[Any]] = {
    str: [None, 1, b"x", True, Text("x"), "\ud800", ["x"]],
    int: [None, True, 1.0, "1", Decimal(1), Level.LOW, b"1"],
    Decimal: [None, 1, 1.0, "1", Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity")],
    dt.date: [None, dt.datetime(2026, 1, 1), "2026-01-01", 1, dt.time(1)],
    dt.datetime: [None, dt.date(2026, 1, 1), "2026-01-01T00:00:00", 1.0],
    bytes: [None, "x", 1, [1], Raw(b"x")],
    bool: [None, 1, 0, "True", b"\x01"],
    uuid.UUID: [None, str(uuid.UUID(int=1)), bytes(16), 1],
    dict: [{1: "a"}, {"a": (1,)}, {"a": math.nan}, {"a": -math.inf}, {"a": {1}}, {"a": "\ud800"}, {"\ud800": 1}, {"a": Decimal(1)}, {"a": b"x"}, {"a": Text("x")}, {"a": Level.LOW}, {Text("a"): 1}, (1,)],
    list: [[dt.timedelta(1)], [(1,)], [math.inf]],
    Plan: [None, "free", "FREE", Level.LOW, 1],
    Rights: [Rights.READ | Rights.WRITE, Rights(0), 3],
}  # fmt: skip


@pytest.mark.parametrize(
    ("python_type", "value"),
    [(each, value) for each, values in WRONG.items() for value in values],
    ids=repr,
)
def test_nothing_is_coerced(python_type: type, value: Any) -> None:
    """A value of another type, or one without an exact encoding, is refused, and not quoted."""

    with pytest.raises(InvalidValue) as caught:
        codec_for(python_type).encode(value)

    assert repr(value) not in str(caught.value) or isinstance(value, bool | int | type(None))


@pytest.mark.parametrize("given_as", [bytearray, memoryview, bytes])
def test_a_binary_field_takes_what_drivers_hand_over(given_as: type) -> None:
    """bytearray and memoryview are copied, so that changing them later changes nothing."""
    source = bytearray(b"abc")
    encoded = codec_for(bytes).encode(given_as(source))
    source[0] = 0

    assert encoded == b"abc"
    assert type(encoded) is bytes


def test_a_memoryview_of_wider_items_is_its_bytes() -> None:
    """A view of 16-bit items is encrypted by bytes, and its length counted in them."""
    view = memoryview(b"abcdef").cast("H")

    assert codec_for(bytes).encode(view) == b"abcdef"


def test_an_enum_alias_is_read() -> None:
    """A renamed member whose old name is kept as an alias still reads its old values."""

    assert codec_for(Plan).decode(b"GRATIS") is Plan.FREE
    assert codec_for(Plan).encode(Plan.GRATIS) == b"FREE"


def test_a_zone_is_kept_as_its_offset() -> None:
    """The clock's own time and its offset come back; None and UTC are two things."""
    codec = codec_for(dt.datetime)
    local = dt.datetime(2026, 11, 22, 10, tzinfo=dt.timezone(dt.timedelta(hours=-3)))

    assert codec.decode(codec.encode(local)).utcoffset() == dt.timedelta(hours=-3)
    assert codec.encode(local.replace(tzinfo=None)) != codec.encode(local.replace(tzinfo=dt.UTC))


def test_a_fold_is_kept_as_its_offset_or_not_at_all() -> None:
    """With a zone, the second of two equal clock times keeps its offset; without one, as in SQL, it is lost."""
    codec = codec_for(dt.datetime)
    first = dt.datetime(2026, 10, 25, 1, 30, tzinfo=AutumnNight())
    second = first.replace(fold=1)

    assert codec.decode(codec.encode(first)).utcoffset() == dt.timedelta(hours=1)
    assert codec.decode(codec.encode(second)).utcoffset() == dt.timedelta(0)
    assert codec.decode(codec.encode(second.replace(tzinfo=None))).fold == 0


def test_padding_is_on_where_length_tells() -> None:
    """Exactly the codecs of fixed length are not padded."""
    padded = {each.__name__ for each in VALUES if codec_for(each).padded}

    assert padded == {"str", "int", "Decimal", "bytes", "dict", "list", "Plan"}


@pytest.mark.parametrize(
    "python_type", [float, tuple, object, type(None), complex, str | None, "str"]
)
def test_other_types_have_no_codec(python_type: Any) -> None:
    """What has no exact encoding is refused when the field is declared."""

    with pytest.raises(ConfigurationError) as caught:
        codec_for(python_type)

    assert caught.value.hint


SAMPLES: dict[type, Any] = {
    str: "1",
    int: 1,
    Decimal: Decimal(1),
    dt.date: dt.date(1, 1, 1),
    dt.datetime: dt.datetime(1, 1, 1),
    bytes: b"1",
    bool: True,
    uuid.UUID: uuid.UUID(int=1),
    dict: {"a": 1},
    Plan: Plan.FREE,
}


@pytest.mark.parametrize("written", SAMPLES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("read", SAMPLES, ids=lambda each: each.__name__)
def test_no_type_reads_as_another(written: type, read: type) -> None:
    """A value written as one type opens only as that type, though other codecs would take its bytes."""
    key, places = bytes(32), {}
    for each in (written, read):
        places[each] = canonical({"column": "c", "row": "1", "store": "s", "table": "t", "tenant": "n", "type": codec_for(each).name})  # fmt: skip
    codec = codec_for(written)
    value = field.encrypt(
        key,
        bytes(16),
        places[written],
        codec.encode(SAMPLES[written]),
        salt=bytes(24),
        padded=codec.padded,
    )

    if written is read:
        assert codec_for(read).decode(field.decrypt(key, value, places[read])) == SAMPLES[read]
    else:
        with pytest.raises(Tampered):
            field.decrypt(key, value, places[read])


class _DriverUUID(uuid.UUID):
    """What a driver returns: a UUID of a type of its own."""


class _OtherUUID(uuid.UUID):
    @property
    def bytes(self) -> bytes:
        return bytes(16)


def test_a_uuid_of_a_subclass_is_its_bits() -> None:
    """A driver's own UUID is encoded like the UUID it equals; one whose bytes are another's is refused."""
    codec = codec_for(uuid.UUID)
    value = uuid.uuid4()

    assert codec.encode(_DriverUUID(int=value.int)) == codec.encode(value)
    assert type(codec.decode(codec.encode(_DriverUUID(int=value.int)))) is uuid.UUID
    with pytest.raises(InvalidValue):
        codec.encode(_OtherUUID(int=value.int))
