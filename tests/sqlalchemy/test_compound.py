# SPDX-License-Identifier: Apache-2.0
"""Compound indexes: several attributes asked together, and one token that follows them all."""

import datetime as dt
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lacre import ConfigurationError, DuplicateValue, UnsupportedQuery
from lacre.sqlalchemy import compound, encrypted
from tests.sqlalchemy.conftest import Acting, Sessions, on_postgresql
from tests.sqlalchemy.models import Citizen

BORN, LATER = dt.date(1990, 1, 1), dt.date(1991, 2, 2)


def found(session: Session, *asked: Any) -> list[str]:
    condition = Citizen.name_and_birth.in_(asked) if asked else Citizen.name_and_birth.is_(None)
    return sorted(str(row.name) for row in session.scalars(select(Citizen).where(condition)))


def test_equality_of_both(session: Session) -> None:
    """Both have to be equal, each after its own normaliser; a row where one is NULL has no token."""
    session.add_all(
        [
            Citizen(name="Ana Souza", born=BORN),
            Citizen(name="Ana Souza", born=LATER),
            Citizen(name="Bia", born=BORN),
            Citizen(name="Cid"),
        ]
    )
    session.commit()

    asked = select(Citizen).where(Citizen.name_and_birth == ("ANA  SOUZA", BORN))
    assert session.scalars(asked).one().born == BORN
    assert found(session, ("Bia", BORN), ("ana souza", LATER)) == ["Ana Souza", "Bia"]
    assert found(session, ("Bia", LATER)) == []
    assert found(session) == ["Cid"]
    others = select(Citizen).where(Citizen.name_and_birth != ("Bia", BORN))
    assert len(session.scalars(others).all()) == 2


def test_the_token_follows_its_parts(session: Session) -> None:
    """Written by flush or in bulk, one part or both, given or left alone: the token is that of the row."""
    known = uuid4()
    session.execute(insert(Citizen), [{"id": known, "name": "Ana", "born": BORN}])
    assert found(session, ("ana", BORN)) == ["Ana"]
    session.execute(update(Citizen), [{"id": known, "born": LATER}])
    assert found(session, ("ana", BORN)) == []
    assert found(session, ("ana", LATER)) == ["Ana"]
    session.expire_all()
    citizen = session.get_one(Citizen, known)
    citizen.name = "Eva"
    session.commit()
    assert found(session, ("eva", LATER)) == ["Eva"]
    session.expire_all()
    citizen.born = None
    session.commit()
    assert found(session) == ["Eva"]
    citizen.born = BORN
    session.commit()
    assert found(session, ("eva", BORN)) == ["Eva"]
    session.execute(update(Citizen), [{"id": known, "name": None}])
    assert found(session, ("eva", BORN)) == []


def test_it_may_be_unique(session: Session) -> None:
    """The database refuses the second row with the same values, and the error quotes none."""
    session.add_all([Citizen(name="Ana", born=BORN), Citizen(name="Ana", born=LATER)])
    session.commit()
    session.add(Citizen(name="ana", born=BORN))
    with pytest.raises(DuplicateValue) as refused:
        session.flush()

    assert "1990" not in str(refused.value)


@on_postgresql
@pytest.mark.parametrize("in_bulk", [False, True])
def test_it_follows_who_writes_the_other_part(
    session: Session, sessions: Sessions, *, in_bulk: bool
) -> None:
    """The part that is left alone is the row's, whatever the object holds, and stays until the token is there."""
    session.add(Citizen(name="Ana", born=BORN))
    session.commit()
    citizen = session.scalars(select(Citizen)).one()
    assert (citizen.name, citizen.born) == ("Ana", BORN)
    with sessions() as other:
        other.scalars(select(Citizen)).one().born = LATER
        other.commit()
    if in_bulk:
        session.execute(update(Citizen), [{"id": citizen.id, "name": "Eva"}])
    else:
        citizen.name = "Eva"
        session.flush()
    with sessions() as other:
        other.execute(text("SET lock_timeout = 50"))
        theirs = other.scalars(select(Citizen)).one()
        theirs.born = BORN
        with pytest.raises(OperationalError):
            other.flush()
    session.commit()

    assert found(session, ("eva", LATER)) == ["Eva"]


def test_copies_get_a_token_of_their_own(session: Session, sessions: Sessions) -> None:
    """Merging what was loaded before into a row that has changed, or is gone, is like assigning its values."""
    session.add(Citizen(name="Ana", born=BORN))
    session.commit()
    citizen = session.scalars(select(Citizen)).one()
    session.expunge(citizen)
    session.rollback()
    for gone in (False, True):
        with sessions() as other:
            theirs = other.scalars(select(Citizen)).one()
            if gone:
                other.delete(theirs)
            else:
                theirs.name = "Eva"
            other.commit()
        session.merge(citizen)
        session.commit()

        assert found(session, ("ana", BORN)) == ["Ana"]
        assert found(session, ("eva", BORN)) == []
        session.commit()


def test_search_alone_is_enough(session: Session, sessions: Sessions, acting: Acting) -> None:
    """Its answers are exact: nothing is re-checked, so nobody has to decrypt."""
    session.add(Citizen(name="Ana", born=BORN))
    session.commit()
    with acting("searcher"), sessions() as other:
        asked = select(Citizen.id).where(Citizen.name_and_birth == ("ana", BORN))

        assert isinstance(other.scalars(asked).one(), UUID)


def test_what_it_does_not_answer(session: Session) -> None:
    """Other operators, tuples of another length and tuples with None are refused where they are written."""
    for refused in (
        lambda: Citizen.name_and_birth == "Ana",
        lambda: Citizen.name_and_birth == ("Ana",),
        lambda: Citizen.name_and_birth == ("Ana", None),
        lambda: Citizen.name_and_birth > ("Ana", BORN),
        lambda: Citizen.name_and_birth.like("%"),
    ):
        with pytest.raises(UnsupportedQuery):
            refused()


def test_the_token_is_not_assigned(session: Session) -> None:
    """Neither on an object nor in bulk: it is made of its parts."""
    session.add(Citizen(name="Ana", born=BORN, name_and_birth=b"x"))
    with pytest.raises(UnsupportedQuery):
        session.flush()
    session.rollback()
    with pytest.raises(UnsupportedQuery):
        session.execute(insert(Citizen), [{"name": "Ana", "name_and_birth": b"x"}])


def test_a_wrong_declaration_is_refused() -> None:
    """One attribute, an attribute of another class or one that is not encrypted: no such index."""

    class Other(DeclarativeBase):
        pass

    class Wrong(Other):
        __tablename__ = "wrong"

        id: Mapped[UUID] = mapped_column(primary_key=True)
        name: Mapped[str] = encrypted("pii")
        account: Mapped[str] = encrypted("banking")
        city: Mapped[str]
        of_two_classes = compound("name", "account")
        of_plaintext = compound("name", "city")

    for attribute in (Wrong.of_two_classes, Wrong.of_plaintext):
        with pytest.raises(ConfigurationError):
            _ = attribute.property.scheme  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError):
        compound("name")
    with pytest.raises(ConfigurationError):
        compound("name", "city", normalisers={"other": "name"})
