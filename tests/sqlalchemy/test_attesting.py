# SPDX-License-Identifier: Apache-2.0
"""An attestation finds the tokens that somebody changed, in every kind of index."""

import datetime as dt
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from lacre import Lacre
from lacre.sqlalchemy.attesting import attested_columns
from lacre.sqlalchemy.mapped import mappers_of
from tests.sqlalchemy.conftest import Sessions
from tests.sqlalchemy.models import Citizen, Customer, Person, Shop
from tests.sqlalchemy.raw import execute

LONG = " ".join(f"{a}{b}{c}" for a in "abcde" for b in "fghij" for c in "klmno")


def indexes(lacre: Lacre, sessions: Sessions, model: Any) -> dict[str, tuple[int, int, int]]:
    found = attested_columns(lacre, sessions, mappers_of(model), sample=100)
    return {
        f"{column.column}:{index.kind}": (index.missing, index.compared, index.different)
        for column in found
        for index in column.indexes
    }


@pytest.fixture
def citizens(session: Session) -> Session:
    """Four citizens: with a usual, a short and a very long name, and with none."""
    session.add_all(Citizen(name=name) for name in ("Ana Souza", "Li", LONG, None))
    session.commit()
    return session


def test_what_was_written_fits(citizens: Session, lacre: Lacre, sessions: Sessions) -> None:
    """Exact, prefix and contains tokens are those of their values: random ones among them are no difference."""
    assert indexes(lacre, sessions, Citizen) == {
        "name:exact": (0, 3, 0),
        "name:prefix": (0, 3, 0),
        "name:contains": (0, 3, 0),
        "nick:contains": (0, 0, 0),
        "name:compound": (0, 0, 0),
    }


@pytest.mark.parametrize(
    ("column", "kind"),
    [("name_bidx", "exact"), ("name_prefix_bidx", "prefix"), ("name_contains_bidx", "contains")],
)
def test_tokens_of_another_row_are_found(
    session: Session, lacre: Lacre, sessions: Sessions, engine: Engine, column: str, kind: str
) -> None:
    """Who gives all rows the tokens of one hides them from a search: the comparison counts them."""
    session.add_all(Citizen(name=name) for name in ("Ana Souza", "Bruno Lima", "Carla Dias"))
    session.commit()
    execute(
        engine,
        f"UPDATE citizens SET {column} = (SELECT {column} FROM citizens ORDER BY id LIMIT 1)",
    )

    assert indexes(lacre, sessions, Citizen)[f"name:{kind}"] == (0, 3, 2)


def test_joined_and_single_inheritance(session: Session, lacre: Lacre, sessions: Sessions) -> None:
    """A column of the parent is opened for every kind of party, one of a child for its own rows."""
    session.add_all([Person(phone="1", cpf="529.982.247-25"), Shop(phone="2", taxid="x"), Customer(email="a@b.org")])  # fmt: skip
    session.commit()

    assert indexes(lacre, sessions, Person) == {"phone:exact": (0, 2, 0), "cpf:exact": (0, 1, 0)}
    assert indexes(lacre, sessions, Customer)["email:exact"] == (0, 1, 0)


def test_combinations_are_compared(
    session: Session, lacre: Lacre, sessions: Sessions, engine: Engine
) -> None:
    """A compound token that is missing, or another combination's, is counted."""
    session.add_all(Citizen(name=name, born=dt.date(2000, 1, 1)) for name in ("Ana", "Bia", "Caio"))
    session.commit()
    assert indexes(lacre, sessions, Citizen)["name:compound"] == (0, 3, 0)
    one = "(SELECT id FROM citizens ORDER BY id LIMIT 1)"
    execute(engine, f"UPDATE citizens SET name_and_birth_bidx = NULL WHERE id = {one}")

    missing, compared, different = indexes(lacre, sessions, Citizen)["name:compound"]
    assert (missing, compared, different) == (1, 3, 1)
