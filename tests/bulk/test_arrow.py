# SPDX-License-Identifier: Apache-2.0
"""Python values as Arrow columns: exactly, or refused without a word of the value."""

import datetime as dt
import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy import insert, select
from sqlalchemy.dialects import postgresql

from lacre import ConfigurationError, InvalidValue
from lacre.bulk import BulkReader
from lacre.bulk.arrow import arrow_column, batch_of, python_type_of
from lacre.errors import MisuseError
from tests.bulk.conftest import Acting, Sessions
from tests.sqlalchemy.conftest import on_sqlite
from tests.sqlalchemy.models import Colour, Typed

ZONE = dt.timezone(dt.timedelta(hours=-3))
VALUES: dict[str, Any] = {
    "text": "Conceição\x00",
    "number": -(2**63),
    "amount": Decimal("-12345.678"),
    "born": dt.date(1, 1, 1),
    "seen": dt.datetime(2026, 3, 1, 23, 59, 59, 999999, tzinfo=ZONE),
    "blob": b"\xc1\x00",
    "flag": False,
    "data": {"a": [1, None]},
    "token": UUID(int=7),
    "colour": Colour.BLUE,
}


@pytest.mark.usefixtures("analyst")
def test_every_type_comes_out(sessions: Sessions, acting: Acting, reader: BulkReader) -> None:
    """With its Arrow type, from what the model declares; NULL is null in every one."""
    ids = [UUID(int=1), UUID(int=2)]
    with acting("app"), sessions.begin() as session:
        session.execute(insert(Typed), [{"id": ids[0], **VALUES}, {"id": ids[1]}])
    table = reader.to_arrow(select(Typed).order_by(Typed.id), rows=2)
    first, second = table.to_pylist()

    assert {field.name: field.type for field in table.schema} == {
        "id": pa.string(),
        "text": pa.string(),
        "number": pa.int64(),
        "amount": pa.decimal128(38, 9),
        "born": pa.date32(),
        "seen": pa.timestamp("us", tz="UTC"),
        "blob": pa.binary(),
        "flag": pa.bool_(),
        "data": pa.string(),
        "token": pa.string(),
        "colour": pa.string(),
    }
    assert json.loads(first.pop("data")) == VALUES["data"]
    assert first == {"id": str(ids[0]), "token": str(UUID(int=7)), "colour": "BLUE"} | {
        name: VALUES[name] for name in ("text", "number", "amount", "born", "seen", "blob", "flag")
    }
    assert second == {"id": str(ids[1])} | dict.fromkeys(VALUES)


@on_sqlite
@pytest.mark.usefixtures("analyst")
def test_what_does_not_fit_is_refused_or_given_another_type(
    sessions: Sessions, acting: Acting, reader: BulkReader
) -> None:
    """A number of 30 digits is an error that does not show it, or text, or a decimal."""
    number = 123456789012345678901234567890
    with acting("app"), sessions.begin() as session:
        session.execute(insert(Typed), [{"id": UUID(int=1), "number": number}])
    statement = select(Typed.number)
    with pytest.raises(InvalidValue, match=r"value of number does not fit int64") as caught:
        reader.to_arrow(statement, rows=2)
    read = [
        reader.to_arrow(statement, rows=2, types={"number": wanted}).column("number")[0].as_py()
        for wanted in (pa.string(), pa.decimal128(38, 0))
    ]

    assert read == [str(number), Decimal(number)]
    assert "1234567890" not in repr(caught.value) + str(caught.value) + caught.value.hint
    with pytest.raises(MisuseError, match="nothing"):
        reader.to_arrow(statement, rows=2, types={"nothing": pa.string()})


NAIVE = dt.datetime(2026, 3, 1, 12, 0, 0, 1)


@pytest.mark.parametrize(
    ("python_type", "wanted", "value", "read"),
    [
        (Decimal, None, Decimal("1.500"), Decimal("1.500000000")),
        (Decimal, pa.string(), Decimal("1.500"), "1.500"),
        (Decimal, pa.decimal256(76, 30), Decimal("1E-30"), Decimal("1E-30")),
        (int, pa.large_string(), 2**600, str(2**600)),
        (dt.datetime, pa.timestamp("us"), NAIVE, NAIVE),
        (dt.datetime, pa.string(), NAIVE.replace(tzinfo=ZONE), "2026-03-01T12:00:00.000001-03:00"),
        (dt.date, pa.string(), dt.date(9999, 12, 31), "9999-12-31"),
        (dt.time, None, dt.time(23, 59, 59, 999999), dt.time(23, 59, 59, 999999)),
        (dt.timedelta, None, dt.timedelta(days=-1), dt.timedelta(days=-1)),
        (float, None, 0.1, 0.1),
        (bytes, None, memoryview(b"x"), b"x"),
        (list, None, [1], "[1]"),
    ],
)
def test_a_value_is_carried_without_loss(
    python_type: type, wanted: Any, value: Any, read: Any
) -> None:
    """By the usual type, and by another that was asked for."""
    column = arrow_column("x", python_type, wanted)
    batch = batch_of([column], [[value, None]], pa.schema([("x", column.type)]))

    assert batch.to_pylist() == [{"x": read}, {"x": None}]


@pytest.mark.parametrize(
    ("python_type", "wanted", "value"),
    [
        (int, None, 2**63),
        (int, pa.decimal128(38, 0), 10**38),
        (Decimal, None, Decimal("1E-10")),
        (Decimal, None, Decimal("1E+30")),
        (dt.datetime, None, NAIVE),
        (dt.datetime, pa.timestamp("us"), NAIVE.replace(tzinfo=ZONE)),
        (str, None, "\ud800"),
        (str, None, 7),
        (dt.datetime, None, "2026-01-01"),
    ],
)
def test_a_value_that_would_be_changed_is_refused(
    python_type: type, wanted: Any, value: Any
) -> None:
    """Neither rounded, shifted, cut nor taken for another; the error has no other behind it."""
    column = arrow_column("x", python_type, wanted)
    with pytest.raises(InvalidValue, match="value of x does not fit") as caught:
        batch_of([column], [[None, value]], pa.schema([("x", column.type)]))

    assert caught.value.__context__ is None
    assert str(value) not in str(caught.value)


@pytest.mark.parametrize(
    ("python_type", "wanted"),
    [
        (int, pa.int32()),
        (int, pa.float64()),
        (str, pa.binary()),
        (dt.datetime, pa.timestamp("s")),
        (dt.datetime, pa.date32()),
        (bytes, pa.string()),
        (complex, None),
    ],
)
def test_a_type_that_may_lose_something_is_refused(python_type: type, wanted: Any) -> None:
    """Before a row is read."""
    with pytest.raises(ConfigurationError, match="column x"):
        arrow_column("x", python_type, wanted)


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        (sa.Integer(), pa.int64()),
        (sa.Numeric(12, 2), pa.decimal128(12, 2)),
        (sa.Numeric(60, 2), pa.decimal256(60, 2)),
        (sa.Numeric(), pa.decimal128(38, 9)),
        (sa.DateTime(), pa.timestamp("us")),
        (sa.DateTime(timezone=True), pa.timestamp("us", tz="UTC")),
        (sa.Enum(Colour), pa.string()),
        (sa.Enum("a", "b"), pa.string()),
        (sa.JSON(), pa.string()),
        (sa.Uuid(), pa.string()),
        (sa.LargeBinary(), pa.binary()),
        (sa.Float(), pa.float64()),
    ],
)
def test_a_plain_column_has_the_type_it_declares(type_: Any, expected: Any) -> None:
    """Precision and zone are those of the column."""
    python_type, declared = python_type_of(sa.Column("x", type_))

    assert arrow_column("x", python_type, declared).type == expected


def test_a_plain_column_without_a_python_type_is_refused() -> None:
    """Its values could be anything."""
    python_type, declared = python_type_of(sa.Column("x", postgresql.TSVECTOR()))
    with pytest.raises(ConfigurationError, match="no Arrow type"):
        arrow_column("x", python_type, declared)
