# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL's text forms, read exactly and written exactly back; what does not fit is refused."""

import datetime as dt
from decimal import Decimal

import pytest

from lacre.errors import InvalidValue
from lacre.jobs.postgresql.catalogue import Catalogue
from lacre.jobs.postgresql.connection import connected
from lacre.jobs.postgresql.values import forms_for

COLUMNS = {
    "vc": "varchar(3)", "c": "char(3)", "t": "text", "si": "smallint", "n": "numeric(5,2)", "h": "numeric(3,-2)", "free": "numeric",
    "ts": "timestamp(3)", "tz": "timestamptz", "jb": "jsonb",
}  # fmt: skip
UTC = dt.UTC

FITTING = [
    ("vc", "abc", "abc"), ("c", "a ", "a"), ("si", -32768, "-32768"), ("n", Decimal("1.5"), "1.50"), ("n", Decimal("-0"), "0.00"),
    ("n", Decimal("999.99"), "999.99"), ("h", Decimal("1E+2"), "100"), ("h", Decimal(99900), "99900"), ("free", Decimal("1E+3"), "1000"),
    ("ts", dt.datetime(1, 1, 1), "0001-01-01 00:00:00"), ("ts", dt.datetime(2001, 2, 3, 4, 5, 6, 120_000), "2001-02-03 04:05:06.12"),
    ("tz", dt.datetime(2001, 2, 3, 4, tzinfo=dt.timezone(dt.timedelta(hours=5))), "2001-02-02 23:00:00+00"),
]  # fmt: skip
UNFITTING = [
    ("vc", "abcd"), ("c", "abcd"), ("t", "a\0b"), ("si", 32768), ("n", Decimal("1.005")), ("n", Decimal(1000)), ("h", Decimal(50)), ("h", Decimal(100000)),
    ("ts", dt.datetime(2001, 1, 1, microsecond=1)), ("ts", dt.datetime(2001, 1, 1, tzinfo=UTC)), ("tz", dt.datetime(2001, 1, 1)),
]  # fmt: skip


@pytest.fixture
def forms(database):
    with database.connect() as connection:
        defined = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        connection.execute(f"CREATE TABLE t ({defined})")
    with connected(database.dsn()) as connection:
        columns = Catalogue(connection, "t").columns
    return {column.name: forms_for(column)[0] for column in columns}


def test_what_fits_is_written_as_the_server_would(forms, database):
    """The text that is written is the text that the server then gives."""
    with database.connect() as connection:
        for name, value, text in FITTING:
            written = forms[name].write(value)
            stored = connection.execute(f"SELECT %s::{COLUMNS[name]}::text", (written,)).fetchone()

            assert written == text
            assert stored == (text,)


def test_what_does_not_fit_is_refused(forms):
    """What the column's type would cut, round, or not take raises, and says only which type."""
    for name, value in UNFITTING:
        with pytest.raises(InvalidValue) as refused:
            forms[name].write(value)
        assert str(value) not in str(refused.value)


def test_json_is_the_same_value_not_the_same_text(forms):
    """Members in another order and trailing zeros are the same jsonb; a digit that a float loses is not, and 1 is not true."""
    form = forms["jb"]

    assert form.load('{"b": 1.50, "a": [true, null]}') == {"b": 1.5, "a": [True, None]}
    assert form.same('{"a": 1, "b": 2}', '{"b": 2, "a": 1.0}')
    assert not form.same("[1]", "[true]")
    for stored in ("0.1234567890123456789", "[1e400]", "null"):
        with pytest.raises(InvalidValue):
            form.load(stored)
