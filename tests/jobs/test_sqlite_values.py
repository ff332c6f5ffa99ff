# SPDX-License-Identifier: Apache-2.0
"""Stored values, as Python values and exactly back."""

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacre._core import field
from lacre.errors import ConfigurationError, InvalidValue
from lacre.fields.codecs import codec_for
from lacre.jobs.forms import encrypted_size
from lacre.jobs.sqlite.values import forms_for, type_for


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("TEXT", str), ("varchar(20)", str), ("NVARCHAR (9)", str), ("CLOB", str), ("CHARACTER VARYING(3)", str),
        ("INTEGER", int), ("bigint", int), ("UNSIGNED BIG INT", int), ("INT", int),
        ("BOOLEAN", bool), ("bool", bool), ("DATE", dt.date), ("DATETIME", dt.datetime), ("TIMESTAMP", dt.datetime), ("timestamp(6)", dt.datetime),
        ("DECIMAL(10,2)", Decimal), ("NUMERIC", Decimal), ("JSON", dict), ("BLOB", bytes),
    ],
)  # fmt: skip
def test_declared_types_choose_a_python_type(declared, expected):
    """A declared SQL type says what its values should be."""
    assert type_for(declared) is expected


@pytest.mark.parametrize(
    "declared", ["", "REAL", "FLOAT", "DOUBLE PRECISION", "ANY", "TIME", "UUID", "POINT"]
)
def test_types_without_an_exact_form_are_refused_with_advice(declared):
    """A type that promises nothing, or no exact text, is refused with a hint."""
    with pytest.raises(ConfigurationError) as refusal:
        type_for(declared)

    assert refusal.value.hint


@pytest.mark.parametrize(
    ("python_type", "stored"),
    [
        (str, b"text"), (str, 5), (str, "\udcff"),
        (int, "5"), (int, 5.0), (int, b"5"),
        (bool, 2), (bool, "1"), (bool, 1.0),
        (dt.date, "2001-2-3"), (dt.date, "20010203"), (dt.date, "2001-02-03 00:00:00"), (dt.date, 0), (dt.date, ""),
        (Decimal, "abc"), (Decimal, float("inf")), (Decimal, b"1"), (Decimal, "NaN"),
        (bytes, "text"), (bytes, b"\xc1\x01" + bytes(89)),
        (dict, '{"a":1, "b":2}'), (dict, '{"a": 1.10}'), (dict, '{"a": 1, "a": 2}'), (dict, "null"), (dict, "{"), (dict, 5),
        (dt.datetime, "2001-02-03"), (dt.datetime, "2001-02-03 04:05"), (dt.datetime, 981173106), (dt.datetime, "later"),
    ],
)  # fmt: skip
def test_a_value_that_would_not_come_back_exactly_is_refused(python_type, stored):
    """Another storage class, or another text of the same value, fits no form."""
    for form in forms_for(python_type):
        with pytest.raises(InvalidValue):
            form.load(stored)


@pytest.mark.parametrize(
    ("python_type", "stored"),
    [
        (str, ""), (str, "e\u0301"), (str, "\u00e9"), (str, "🦊\0x"), (int, 0), (int, -(2**63)), (bool, 0), (bytes, b""),
        (dt.date, "0001-01-01"), (Decimal, 0), (Decimal, 12.5), (Decimal, -0.0), (Decimal, 1e300), (Decimal, 2**62), (Decimal, 0.1 + 0.2),
        (dt.datetime, "2001-02-03 04:05:06"), (dt.datetime, "2001-02-03 04:05:06.000000"), (dt.datetime, "2001-02-03T04:05:06.120Z"),
        (dt.datetime, "2001-02-03 04:05:06.5+02:00".replace(".5", ".500000")), (dict, '{"a": [1, null, "\\u00e9"]}'), (dict, '{"a":"é"}'), (dict, "[]"),
    ],
)  # fmt: skip
def test_what_fits_a_form_comes_back_with_its_storage_class(python_type, stored):
    """Some form of the type gives the same value of the same class back."""
    fitting = []
    for form in forms_for(python_type):
        try:
            fitting.append(form.write(form.load(stored)))
        except InvalidValue:
            continue

    assert fitting
    assert all(type(again) is type(stored) and repr(again) == repr(stored) for again in fitting)


@given(st.datetimes(timezones=st.none() | st.just(dt.UTC)))
def test_every_form_of_a_time_can_write_every_time(value):
    """What is written while a column is encrypted has a text in whatever form the column uses."""
    for form in forms_for(dt.datetime):
        assert form.read(form.write(value)) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4))
def test_every_decimal_can_be_written(value):
    """A Decimal written while the column is encrypted comes back as the same number."""
    (form,) = forms_for(Decimal)

    assert form.read(form.write(value)) == value


@pytest.mark.parametrize("value", ["", "a" * 31, "a" * 32, "é" * 400])
def test_the_estimate_is_the_length_of_the_ciphertext(value):
    """The plan's size of one value is exactly what encryption makes of it."""
    codec = codec_for(str)
    sealed = field.encrypt(
        bytes(32), bytes(16), b"place", codec.encode(value), salt=bytes(24), padded=codec.padded
    )

    assert encrypted_size(codec, value) == len(sealed)
