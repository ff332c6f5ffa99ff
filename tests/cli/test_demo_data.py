# SPDX-License-Identifier: Apache-2.0
"""The demonstration's database is what legacy customer databases are like, and always the same."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lacre.cli.demo_data import DEPARTED_NAME, KNOWN_CPF, KNOWN_EMAIL, KNOWN_NAME, build
from lacre.errors import ConfigurationError, InvalidValue
from lacre.fields.normalisers import normaliser

PEOPLE = 5000


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "legacy.db"
    build(path, PEOPLE)
    return path


@pytest.fixture
def database(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file)) as connection:
        yield connection


def _column(database: sqlite3.Connection, name: str) -> list[str]:
    return [
        value for (value,) in database.execute(f"SELECT {name} FROM customers WHERE {name} <> ''")
    ]


def _normalised(name: str, values: list[str]) -> list[str]:
    rule = normaliser(name)
    accepted = []
    for value in values:
        try:
            accepted.append(rule.normalise(value))
        except InvalidValue:
            continue
    return accepted


def _dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def test_same_seed_same_file(tmp_path: Path) -> None:
    """Two builds of one seed are equal byte for byte, freed pages included; another seed is not."""
    one, two, three = (tmp_path / name for name in ("1.db", "2.db", "3.db"))
    build(one, 300)
    build(two, 300)
    build(three, 300, seed=7)

    assert one.read_bytes() == two.read_bytes()
    assert _dump(one) != _dump(three)


@pytest.mark.parametrize("people", [1, 2, 40, 300, PEOPLE])
def test_exactly_as_many_people_as_asked(tmp_path: Path, people: int) -> None:
    """Those deleted are not counted, and the known customer is never among them."""
    build(tmp_path / "some.db", people)

    with closing(sqlite3.connect(tmp_path / "some.db")) as connection:
        assert connection.execute("SELECT count(*) FROM customers").fetchone() == (people,)
        assert connection.execute(
            "SELECT id, name, cpf FROM customers WHERE email = ?", [KNOWN_EMAIL]
        ).fetchone() == (1, KNOWN_NAME, KNOWN_CPF)


def test_the_file_is_sound(database: sqlite3.Connection) -> None:
    """SQLite finds nothing wrong, orders belong to customers, the view and the trigger work."""
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    assert database.execute("SELECT count(*) FROM orders").fetchone()[0] > PEOPLE
    assert (
        database.execute("SELECT sum(orders) FROM sales_by_city").fetchone()
        == database.execute("SELECT count(*) FROM orders").fetchone()
    )
    assert database.execute("SELECT sum(customers) FROM arrivals").fetchone()[0] > PEOPLE
    assert database.execute("PRAGMA foreign_key_list(orders)").fetchone()[2] == "customers"


def test_ids_have_gaps(database: sqlite3.Connection) -> None:
    """Deleted customers left gaps between the ids."""
    highest, count = database.execute("SELECT max(id), count(*) FROM customers").fetchone()

    assert highest > count


def test_every_email_can_be_indexed_and_is_unique(database: sqlite3.Connection) -> None:
    """Each address has a normal form, and no two have the same."""
    emails = _column(database, "email")
    normal = _normalised("email", emails)

    assert len(normal) == len(set(normal)) == PEOPLE
    assert normal != emails
    assert any(not email.isascii() for email in emails)


def test_every_cpf_is_valid_and_unique(database: sqlite3.Connection) -> None:
    """Each CPF is valid, none is there twice in two spellings, and spellings differ."""
    cpfs = _column(database, "cpf")
    normal = _normalised("cpf", cpfs)

    assert len(normal) == len(set(normal)) == len(cpfs) > PEOPLE // 3
    assert {re.sub(r"[0-9]", "9", cpf) for cpf in cpfs} == {
        "999.999.999-99",
        "99999999999",
        "999 999 999 99",
        "999999999-99",
    }


def test_every_card_is_valid(database: sqlite3.Connection) -> None:
    """Each card number has its right check digit; some are written with spaces."""
    cards = _column(database, "card")

    assert len(_normalised("card_pan", cards)) == len(cards) > PEOPLE // 2
    assert {" " in card for card in cards} == {True, False}


def test_most_phones_are_international(database: sqlite3.Connection) -> None:
    """Most numbers have a normal form without guessing a country, and some have not."""
    phones = _column(database, "phone")

    assert 0.85 < len(_normalised("phone", phones)) / len(phones) < 1


@pytest.mark.parametrize("column", ["cpf", "phone", "address", "card", "born", "notes", "city"])
def test_nulls(database: sqlite3.Connection, column: str) -> None:
    """Each column that may be NULL is, somewhere."""
    assert (
        database.execute(f"SELECT count(*) FROM customers WHERE {column} IS NULL").fetchone()[0]
        > 20
    )


@pytest.mark.parametrize("column", ["phone", "address", "card", "notes", "city"])
def test_empty_texts(database: sqlite3.Connection, column: str) -> None:
    """Columns without a format of their own are also empty, which is not NULL."""
    assert database.execute(f"SELECT count(*) FROM customers WHERE {column} = ''").fetchone()[0] > 5


def test_names_of_the_world(database: sqlite3.Connection) -> None:
    """Names repeat, have accents, other scripts and characters outside the basic plane."""
    names = _column(database, "name")

    assert len(set(names)) < len(names)
    assert all(
        any(part in name for name in names) for part in ("ã", "ß", "Ł", "शर्मा", "佐藤", "𠮷", "'")
    )
    assert any("🥇" in note for note in _column(database, "notes"))


def test_born_is_a_date(database: sqlite3.Connection) -> None:
    """Dates of birth are ISO text, as SQLite has it."""
    assert all(
        re.fullmatch(r"(19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}", born)
        for born in _column(database, "born")
    )


def _free_pages(data: bytes) -> Iterator[bytes]:
    """The pages of the free list: its trunks and their leaves (SQLite file format, section 1.5)."""
    size = int.from_bytes(data[16:18], "big")
    trunk = int.from_bytes(data[32:36], "big")
    while trunk:
        page = data[(trunk - 1) * size : trunk * size]
        yield page
        trunk, count = int.from_bytes(page[:4], "big"), int.from_bytes(page[4:8], "big")
        for i in range(count):
            leaf = int.from_bytes(page[8 + 4 * i : 12 + 4 * i], "big")
            yield data[(leaf - 1) * size : leaf * size]


@pytest.mark.parametrize("people", [300, PEOPLE])
def test_the_deleted_are_still_in_the_file(tmp_path: Path, people: int) -> None:
    """No query finds the deleted person; the bytes of a freed page hold the name."""
    path = tmp_path / "some.db"
    build(path, people)
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT count(*) FROM customers WHERE name = ?", [DEPARTED_NAME]
        ).fetchone()

    assert found == (0,)
    assert any(DEPARTED_NAME.encode() in page for page in _free_pages(path.read_bytes()))


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    """Building over a file is refused, and the file stays as it is."""
    path = tmp_path / "mine.db"
    path.write_bytes(b"mine")

    with pytest.raises(ConfigurationError, match="exists already"):
        build(path)
    assert path.read_bytes() == b"mine"


def test_nobody_is_refused(tmp_path: Path) -> None:
    """A database of no people is refused before a file is made."""
    with pytest.raises(ConfigurationError):
        build(tmp_path / "none.db", 0)
    assert not (tmp_path / "none.db").exists()
