# SPDX-License-Identifier: Apache-2.0
"""What a search refuses: it names the attribute, what was asked and the way out, and never the value."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, delete, exists, func, not_, or_, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lacre import LacreError, UnsupportedQuery
from lacre.sqlalchemy import BlindIndex, ContainsIndex, PrefixIndex, encrypted
from tests.sqlalchemy.conftest import on_sqlite
from tests.sqlalchemy.models import Citizen, Customer

SECRET = "quaresma"
NAME, NICK, BOTH = Citizen.name, Citizen.nick, Citizen.name_and_birth
ROWS = "Model.id"


def found(condition: Any) -> Any:
    return select(Citizen.id).where(condition)


# What is asked, what is said of it, and what of the way out.
REFUSED: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: NAME.contains(5), "contains() of a value of type int", "str(number)"),
    (lambda: NAME.startswith(None), "startswith() of None", "is_(None)"),
    (lambda: NAME.endswith(Citizen.city), "another column", "text itself"),
    (lambda: NAME.like([SECRET]), "LIKE of a value of type list", "one text"),
    (lambda: NAME.like(f"{SECRET}_"), "LIKE of this pattern", '"%text%"'),
    (lambda: NAME.like(SECRET), "LIKE of this pattern", "=="),
    (lambda: NAME.contains(f"{SECRET}%", escape="/"), "per cent sign", "leave escape out"),
    (lambda: NAME.not_like(f"%{SECRET}%"), "not_like", ROWS),
    (lambda: NICK.icontains(SECRET), "capital letters", '"name"'),
    (lambda: NAME < SECRET, "<", "no order"),
    (lambda: NAME.between(SECRET, SECRET), "BETWEEN", "no order"),
    (lambda: select(NAME).order_by(NAME.desc()), "ORDER BY", "each.name"),
    (lambda: NAME.regexp_match(SECRET), "regexp_match", "load the objects"),
    (lambda: NAME.op("~")(SECRET), "an operator of its own", "load the objects"),
    (lambda: Citizen.born.contains(SECRET), "a date has no index in parts", "BlindIndex"),
    (
        lambda: Customer.cpf.startswith(SECRET),
        "what cpf makes has no index in parts",
        "whole value",
    ),
    (lambda: Customer.name.like(f"%{SECRET}"), "LIKE", 'ContainsIndex("exact")'),
    (lambda: Customer.name != SECRET, "inequality", "bits=96"),
    (lambda: Customer.account == SECRET, "without an index", "BlindIndex"),
    (lambda: Customer.cpf.in_(SECRET), "a list of values", "in_([...])"),
    (lambda: Customer.cpf.in_([SECRET, None]), "None in a list", "is_(None)"),
    (lambda: Customer.cpf == Customer.city, "another column", "value itself"),
    (lambda: Customer.cpf == func.lower(SECRET), "an expression", "value itself"),
    (lambda: Customer.cpf.is_(SECRET), "is_", "=="),
    (lambda: BOTH == SECRET, "(name, born)", "tuple"),
    (lambda: BOTH.in_((SECRET, SECRET)), "(name, born)", "list of such tuples"),
    (lambda: BOTH == (SECRET, None), "2 values", "is_(None)"),
    (lambda: BOTH.contains(SECRET), "contains", "tuple"),
    (lambda: BOTH < (SECRET, SECRET), "<", "tuple"),
    (lambda: found(NAME.contains("qu")), "contains takes 3 characters", "three characters"),
    (lambda: found(NAME.endswith("q")), "endswith takes 2 characters", "end of the text"),
    (lambda: found(NICK.startswith("q")), "startswith takes 2 characters", "more of the text"),
    (lambda: found(or_(NAME.contains(SECRET), Citizen.city == "x")), "OR", ROWS),
    (lambda: found(or_(NAME.startswith(SECRET), NAME == SECRET)), "OR", ROWS),
    (lambda: found(not_(NAME.contains(SECRET))), "NOT", ROWS),
    (lambda: select(exists().where(NAME.contains(SECRET))), "subquery", ROWS),
    (lambda: delete(Citizen).where(NAME.contains(SECRET)), "DELETE", ROWS),
    (lambda: select(Customer.id).where(Customer.cpf == SECRET), "Customer.cpf", ""),
    (lambda: found(NICK.contains("quar\udcff")), "Citizen.nick: the text", ""),
    (lambda: found(BOTH == (SECRET, SECRET)), "type str", ""),
    (lambda: select(func.lower(NAME)), "compute by it", "application"),
]


@on_sqlite
def test_each_says_what_was_asked_and_what_to_do(session: Session) -> None:
    """In a class of errors, words and a hint; the value is in neither."""
    for ask, said, way in REFUSED:
        with pytest.raises(LacreError) as refused:
            session.execute(ask())
        error = refused.value
        session.rollback()

        assert said in str(error)
        assert way in error.hint
        assert "Citizen." in str(error) or "Customer." in str(error)
        assert not any(part in f"{error} {error.hint} {error.args}" for part in (SECRET, "quar"))


class Base(DeclarativeBase):
    pass


class Street(Base):
    """Two indexes that answer a beginning, the first of them long ones only; and one of them alone."""

    __tablename__ = "streets"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = encrypted(
        "pii", index=[PrefixIndex("name", lengths=(5, 7)), ContainsIndex("name")]
    )
    town: Mapped[str] = encrypted(
        "pii", index=[PrefixIndex("name", lengths=(4, 6)), BlindIndex("name")]
    )


def test_a_beginning_is_asked_of_the_index_that_it_is_long_enough_for(
    session: Session, engine: Engine, recorded: Callable[..., list[dict[str, Any]]]
) -> None:
    """A short one by trigrams, re-checked like all; where nothing answers it the error says what would."""
    Base.metadata.create_all(engine)
    names = ["Maria Street", "Mário Road", "San Marco", "Ma"]
    session.add_all([Street(name=name, town="Lisboa") for name in names])
    session.commit()

    def of(text: str) -> list[str]:
        query = select(Street).where(Street.name.startswith(text))
        return sorted(str(street.name) for street in session.scalars(query))

    assert of("Mar") == ["Maria Street", "Mário Road"]
    assert of("ma") == ["Ma", "Maria Street", "Mário Road"]
    assert of("maria") == ["Maria Street"]
    assert of(" Mári") == ["Maria Street", "Mário Road"]
    assert [event["index"] for event in recorded("search")] == [
        "contains",
        "contains",
        "prefix",
        "contains",
    ]
    with pytest.raises(UnsupportedQuery, match="2 characters"):
        of("m")
    with pytest.raises(UnsupportedQuery, match=r"Street\.town: .*4 characters") as refused:
        session.scalars(select(Street).where(Street.town.startswith("lis"))).all()

    assert "the lengths 4, 6" in refused.value.hint
