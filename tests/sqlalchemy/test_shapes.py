# SPDX-License-Identifier: Apache-2.0
"""A statement of a shape that is known is not walked again, and asks for values of its own."""

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import (
    Engine,
    and_,
    bindparam,
    case,
    event,
    exists,
    func,
    not_,
    or_,
    select,
    text,
)
from sqlalchemy.orm import Session, aliased, joinedload

from lacre import AccessDenied, Lacre
from lacre.keys.hierarchy import KeyKind
from lacre.sqlalchemy import rechecking, shapes
from tests.sqlalchemy.conftest import Acting, Sessions
from tests.sqlalchemy.models import CPF, EMAIL, OTHER_CPF, OTHER_EMAIL, Citizen, Customer
from tests.sqlalchemy.test_lightening import SHAPES, reachable


@pytest.fixture
def two(session: Session) -> Session:
    """A session whose database has two customers."""
    session.add_all(
        [
            Customer(email=EMAIL, cpf=CPF, name="Ana", city="a"),
            Customer(email=OTHER_EMAIL, cpf=OTHER_CPF, name="Bia", city="b"),
        ]
    )
    session.commit()
    return session


def cities(session: Session, statement: Any, **options: Any) -> str:
    return "".join(
        sorted(str(found.city) for found in session.scalars(statement, **options).unique())
    )


def test_each_execution_asks_for_its_own_values(two: Session) -> None:
    """Whatever stands beside what is asked, and however often: the values are the statement's."""

    def by_address(email: str, city: str) -> Any:
        return select(Customer).where(Customer.email == email, Customer.city == city)

    def by_name(name: str, listed: list[str]) -> Any:
        return select(Customer).where(Customer.name == name).where(Customer.city.in_(listed))

    def either(email: str, cpf: str) -> Any:
        return select(Customer).where(or_(Customer.email == email, Customer.cpf == cpf))

    for _ in range(2):
        assert cities(two, by_address(EMAIL, "a")) == "a"
        assert cities(two, by_address(OTHER_EMAIL, "b")) == "b"
        assert cities(two, by_address(OTHER_EMAIL, "a")) == ""
        assert cities(two, by_name("Ana", ["a", "b"])) == "a"
        assert cities(two, by_name("Bia", ["b"])) == "b"
        assert cities(two, by_name("Bia", [])) == ""
        assert cities(two, either(EMAIL, OTHER_CPF)) == "ab"
        assert cities(two, either("x@example.org", OTHER_CPF)) == "b"
        for several in ([], [EMAIL], [EMAIL, OTHER_EMAIL], [EMAIL, OTHER_EMAIL, "x@example.org"]):
            asked = select(Customer).where(Customer.email.in_(several))
            assert cities(two, asked) == "ab"[: len(several)]
            assert (
                cities(two, select(Customer).where(~Customer.email.in_(several)))
                == "ab"[len(several) :]
            )


def test_one_statement_is_executed_again(two: Session) -> None:
    """A statement that was made once, with parameters given each time or with none, finds the same."""
    made = select(Customer).where(Customer.email == EMAIL)
    given = made.where(Customer.city == bindparam("city"))

    assert [cities(two, made) for _ in range(3)] == ["a", "a", "a"]
    assert [cities(two, given, params={"city": city}) for city in "aba"] == ["a", "", "a"]


def test_a_known_shape_is_not_walked(two: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the shapes that are asked most each is walked once, whatever the values."""
    walked: list[Any] = []
    real = rechecking._walked
    monkeypatch.setattr(rechecking, "_walked", lambda found: walked.append(1) or real(found))
    asked: list[Callable[[str], Any]] = [
        lambda v: select(Customer).where(Customer.email == v),
        lambda v: select(Customer).where(Customer.name == v),
        lambda v: select(Customer.city).where(Customer.email == v),
        lambda v: select(func.count()).select_from(Customer).where(Customer.name == v),
        lambda v: select(Customer).where(Customer.city == v),
        lambda v: select(Citizen).where(Citizen.name.contains(v)),
    ]
    counts = []
    for shape in asked:
        for n in range(3):
            two.execute(shape(f"name {n}@example.org".replace("name ", "name"))).all()
        counts.append(len(walked))
        walked.clear()

    # Where candidates are read first that is another statement, which is not walked at all.
    assert counts == [1] * len(asked)


@pytest.mark.parametrize(
    "shape", ["where", "in", "short", "prefix", "contains", "compound", "and", "or", "not", "alias"]
)
def test_what_is_remembered_holds_no_value(session: Session, shape: str) -> None:
    """Nothing that is reachable from what is remembered of a statement is what it asked for."""
    canary = f"{uuid4().hex}@example.org"
    fingerprint = hash(canary)
    session.execute(SHAPES[shape](canary)).all()
    del canary
    gc.collect()
    known = session.info["lacre"].shapes
    held = reachable(known)

    assert known
    assert any(isinstance(found, shapes.Shape) for found in held)
    assert [found for found in held if isinstance(found, str) and hash(found) == fingerprint] == []


def test_an_ordinary_parameter_is_not_remembered_either(two: Session) -> None:
    """What stands beside an encrypted attribute is asked for like it."""
    canary = uuid4().hex
    fingerprint = hash(canary)
    cities(two, select(Customer).where(Customer.email == EMAIL, Customer.city == canary))
    del canary
    gc.collect()
    held = reachable(two.info["lacre"].shapes)

    assert [found for found in held if isinstance(found, str) and hash(found) == fingerprint] == []


def test_who_asks_is_decided_and_recorded_each_time(
    two: Session, sessions: Sessions, acting: Acting, recorded: Any
) -> None:
    """A shape that one principal asked is decided anew for another, and every search is evidence."""
    for statement in (
        select(Customer).where(Customer.email == EMAIL),
        select(Customer).where(Customer.name == "Ana"),
    ):
        cities(two, statement)
        before = len(recorded("search"))
        assert cities(two, statement) == "a"
        assert len(recorded("search")) == before + 1
        with acting("nobody"), sessions() as other, pytest.raises(AccessDenied):
            other.scalars(statement).all()


def test_a_shape_is_known_across_a_rotation(
    two: Session, lacre: Lacre, operator: Lacre, recorded: Any
) -> None:
    """While two index roots are in use the same shapes find rows of both."""
    by_cpf = [select(Customer).where(Customer.cpf == cpf) for cpf in (CPF, OTHER_CPF)]
    by_name = [select(Customer).where(Customer.name == name) for name in ("Ana", "Bia", "Caio")]
    assert [cities(two, found) for found in (*by_cpf, *by_name)] == ["a", "b", "a", "b", ""]
    with operator.acting_as("operator", roles={"operator"}, purpose="rotation"):
        provisioner = replace(operator.provisioner, settle=0.0)
        provisioner.rotate(operator.scope("default", "pii", KeyKind.INDEX))
    lacre.resolver.forget()
    two.add(Customer(name="Caio", city="c"))
    two.commit()

    assert [cities(two, found) for found in (*by_cpf, *by_name)] == ["a", "b", "a", "b", "c"]


def test_what_does_not_show_in_a_shape_counts(two: Session) -> None:
    """Options of one execution or statement are not those of the next; and an alias is its own."""
    asked = select(Customer).where(Customer.email == EMAIL)
    held = two.scalars(asked).one()
    two.connection().execute(text("UPDATE customers SET city = 'new'"))
    held.city = "mine"
    with two.no_autoflush:
        assert two.scalars(asked).one().city == "mine"
        assert two.scalars(asked.execution_options(populate_existing=True)).one().city == "new"
        held.city = "mine"
        assert two.scalars(asked).one().city == "mine"
        assert two.query(Customer).filter(Customer.email == EMAIL).one().city == "mine"
    for _ in range(2):
        other = aliased(Customer)
        assert two.scalars(select(other).where(other.email == EMAIL)).one() is held


def test_a_listener_that_comes_later_hears_of_no_false_hit(two: Session) -> None:
    """What was one query becomes two once somebody listens to what is loaded."""
    asked = select(Customer).where(Customer.name == "Ana")
    sent: list[str] = []
    engine: Any = two.get_bind()

    def executed(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.extend([statement] if statement.startswith("SELECT") else [])

    def listener(*_: Any) -> None:
        pass

    event.listen(engine, "before_cursor_execute", executed)
    counts = []
    for listening in (False, False, True):
        if listening:
            event.listen(two, "loaded_as_persistent", listener)
        sent.clear()
        two.scalars(asked).all()
        counts.append(len(sent))
    event.remove(engine, "before_cursor_execute", executed)

    assert counts == [1, 1, 2]


def test_what_is_remembered_is_bounded(two: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many shapes are asked, so many are remembered as SQLAlchemy keeps compiled."""
    from lacre.sqlalchemy import binding

    monkeypatch.setattr(binding, "_SHAPES", 5)
    for n in range(12):
        conditions = [Customer.city != str(m) for m in range(n)]
        assert cities(two, select(Customer).where(Customer.email == EMAIL, *conditions)) == "a"

    assert len(two.info["lacre"].shapes) <= 5


def test_private_parts(engine: Engine) -> None:
    """The shape of a statement is its cache key; options and what compiling adds are not in it."""
    one: Any = select(Customer).where(Customer.city == "a")
    other: Any = select(Customer).where(Customer.city == "b")
    key, same = one._generate_cache_key(), other._generate_cache_key()

    assert key.key == same.key
    assert [found.value for found in (*key.bindparams, *same.bindparams)] == ["a", "b"]
    assert key.bindparams[0] is one.whereclause.right
    assert one._generate_cache_key() is key
    assert shapes.is_usual(one)
    assert not shapes.is_usual(one.execution_options(yield_per=1))
    with Session(engine) as session:
        session.execute(one).all()
    assert not shapes.is_usual(one)
    assert one._generate_cache_key() is key


def test_a_condition_on_two_columns_goes_where_conditions_go(two: Session) -> None:
    """In an outer query, a column, a CASE, an ON, under NOT: the two columns of a unique index are asked there."""
    one: Any = Customer.email == EMAIL
    within = select(Customer).where(one).options(joinedload(Customer.orders)).limit(1)
    other = aliased(Customer)

    assert two.scalars(within).unique().one().city == "a"
    assert sorted(two.scalars(select(one))) == [False, True]
    assert sorted(two.scalars(select(case((one, "x"), else_="y")))) == ["x", "y"]
    joined = select(Customer).join(other, and_(other.email == EMAIL, other.id == Customer.id))
    assert cities(two, joined) == "a"
    assert cities(two, select(Customer).where(not_(or_(one, Customer.city == "c")))) == "b"
    assert cities(two, select(Customer).where(one.is_(False))) == "b"
    assert two.scalar(select(func.count()).where(not_(not_(one)))) == 1
    assert cities(two, select(Customer).where(exists().where(one))) == "ab"
    two.add(Customer(city="c"))
    two.commit()
    asked = select(Customer.city).order_by(Customer.city)
    assert two.scalars(asked.where(one.is_(None))).all() == ["c"]
    assert two.scalars(asked.where(not_(one).is_(True))).all() == ["b"]
