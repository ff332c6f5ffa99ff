# SPDX-License-Identifier: Apache-2.0
"""Searches of classes that inherit: re-checked under the joins of the class that was asked."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, ForeignKey, func, select
from sqlalchemy.orm import (
    Bundle,
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    mapped_column,
    relationship,
    with_polymorphic,
)

from lacre.sqlalchemy import BlindIndex, ContainsIndex, PrefixIndex, encrypted, row_id


class Base(DeclarativeBase):
    pass


class Firm(Base):
    """What owns assets. Each encrypted value has a plaintext twin, which answers for it."""

    __tablename__ = "firms"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    assets: Mapped[list["Asset"]] = relationship(back_populates="firm")


def parts(name: str) -> Any:
    return encrypted(
        "pii", index=[BlindIndex(name, bits=8), PrefixIndex(name), ContainsIndex(name, bits=12)]
    )


class Asset(Base):
    """The base of a joined inheritance."""

    __tablename__ = "assets"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    kind: Mapped[str]
    firm_id: Mapped[UUID | None] = mapped_column(ForeignKey("firms.id"))
    title: Mapped[str | None] = parts("name")
    title_twin: Mapped[str | None]
    firm: Mapped[Firm | None] = relationship(back_populates="assets")

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "asset"}  # noqa: RUF012


class House(Asset):
    """Joined: its column is in a table of its own."""

    __tablename__ = "houses"

    # Of another name than the base's.
    house_id: Mapped[UUID] = mapped_column(ForeignKey("assets.id"), primary_key=True)
    street: Mapped[str | None] = parts("name")
    street_twin: Mapped[str | None]

    __mapper_args__ = {"polymorphic_identity": "house"}  # noqa: RUF012


class Villa(House):
    """Single-table inheritance below joined inheritance."""

    view: Mapped[str | None] = parts("name")
    view_twin: Mapped[str | None]

    __mapper_args__ = {"polymorphic_identity": "villa"}  # noqa: RUF012


class Car(Asset):
    """Single-table inheritance: its column is in its parent's table."""

    plate: Mapped[str | None] = parts("exact")
    plate_twin: Mapped[str | None]

    __mapper_args__ = {"polymorphic_identity": "car"}  # noqa: RUF012


class Animal(Base):
    """Joined, and what values are bound to is in the base: a row id, the tenant and the subject."""

    __tablename__ = "animals"
    __lacre_tenant__ = "tenant"

    id: Mapped[int] = mapped_column(primary_key=True)
    lacre_rid: Mapped[UUID] = row_id()
    kind: Mapped[str]
    tenant: Mapped[str]
    owner: Mapped[str]

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012


class Dog(Animal):
    __tablename__ = "dogs"

    id: Mapped[int] = mapped_column(ForeignKey("animals.id"), primary_key=True)
    name: Mapped[str] = encrypted("pii", index=ContainsIndex("name", bits=12), subject="owner")
    name_twin: Mapped[str]

    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012


TITLES = ["maria one", "maria two", "mario", "elsewhere", None]


@pytest.fixture
def assets(session: Session, engine: Engine) -> Session:
    """Of each class some, which share titles."""
    Base.metadata.create_all(engine)
    firms = [Firm(), Firm()]
    for n in range(20):
        title, street, firm = TITLES[n % 5], f"street {n % 7} north", firms[n % 2]
        same: dict[str, Any] = {"title": title, "title_twin": title, "firm": firm}
        road: dict[str, Any] = {"street": street, "street_twin": street}
        session.add_all(
            [
                Asset(**same),
                House(**same, **road),
                Villa(**same, **road, view=f"sea {n % 3}", view_twin=f"sea {n % 3}"),
                Car(**same, plate=f"AB{n % 3}CD", plate_twin=f"AB{n % 3}CD"),
            ]
        )
    session.commit()
    return session


def title(of: Any, *, twin: bool) -> Any:
    held = of.title_twin if twin else of.title
    return held.startswith("maria")


def street(of: Any, *, twin: bool) -> Any:
    return (of.street_twin if twin else of.street).contains("t 3 n")


def view(of: Any, *, twin: bool) -> Any:
    return (of.view_twin if twin else of.view).contains("sea 1")


def plate(of: Any, *, twin: bool) -> Any:
    return (of.plate_twin if twin else of.plate).contains("B2C")


def equal(of: Any, *, twin: bool) -> Any:
    return (of.title_twin if twin else of.title) == "mario"


Asked = Callable[[bool], Any]


def _shapes() -> dict[str, Asked]:
    house, villa, car = aliased(House), aliased(Villa), aliased(Car)
    flat, every = aliased(House, flat=True), with_polymorphic(Asset, "*")
    few = with_polymorphic(Asset, [House], aliased=True)
    count, table = select(func.count()), House.__table__
    return {
        "base": lambda t: select(Asset).where(title(Asset, twin=t)),
        "child by the base": lambda t: select(House).where(title(House, twin=t)),
        "child by the base, equal": lambda t: select(House).where(equal(House, twin=t)),
        "child by its own": lambda t: select(House).where(street(House, twin=t)),
        "child by both": lambda t: select(House).where(street(House, twin=t), title(House, twin=t)),
        "child by the base's own attribute": lambda t: select(House).where(title(Asset, twin=t)),
        "grandchild": lambda t: select(Villa).where(view(Villa, twin=t), title(Villa, twin=t)),
        "grandchild by the child's": lambda t: select(Villa).where(street(Villa, twin=t)),
        "single table": lambda t: select(Car).where(plate(Car, twin=t)),
        "single table by the base": lambda t: select(Car).where(title(Car, twin=t)),
        "single table by the base's own": lambda t: select(Car).where(title(Asset, twin=t)),
        "alias": lambda t: select(house).where(street(house, twin=t), title(house, twin=t)),
        "alias, equal": lambda t: select(house).where(equal(house, twin=t)),
        "alias of a grandchild": lambda t: select(villa).where(view(villa, twin=t)),
        "flat alias": lambda t: select(flat).where(street(flat, twin=t), title(flat, twin=t)),
        "polymorphic by the base": lambda t: select(every).where(title(every, twin=t)),
        "polymorphic by a child's": lambda t: select(every).where(street(every.House, twin=t)),
        "polymorphic by two": lambda t: select(every).where(
            street(every.House, twin=t), title(every, twin=t)
        ),
        "polymorphic by a single table's": lambda t: select(every).where(plate(every.Car, twin=t)),
        "polymorphic alias": lambda t: select(few).where(
            street(few.House, twin=t), title(few, twin=t)
        ),
        "of type": lambda t: (
            select(Firm, House)
            .join(Firm.assets.of_type(House))
            .where(street(House, twin=t), title(House, twin=t))
        ),
        "of type, alias": lambda t: (
            select(Firm.id, house.id).join(Firm.assets.of_type(house)).where(street(house, twin=t))
        ),
        "of type, polymorphic": lambda t: (
            select(Firm.id, few.id).join(Firm.assets.of_type(few)).where(street(few.House, twin=t))
        ),
        "keys": lambda t: select(House.id).where(street(House, twin=t)),
        "count": lambda t: count.select_from(House).where(street(House, twin=t)),
        "count of the base": lambda t: count.select_from(House).where(title(House, twin=t)),
        "count of what is asked": lambda t: count.where(title(House, twin=t)),
        "count by key": lambda t: select(func.count(House.id)).where(title(House, twin=t)),
        "joined by hand": lambda t: (
            select(Asset.id)
            .join(house, house.id == Asset.id)
            .where(street(house, twin=t), title(Asset, twin=t))
        ),
        "page": lambda t: (
            select(House).where(title(House, twin=t)).order_by(House.id).limit(3).offset(2)
        ),
        "count of the child's": lambda t: count.where(street(House, twin=t)),
        "count of a single table's": lambda t: count.where(title(Car, twin=t)),
        "count of an alias": lambda t: count.where(street(house, twin=t)),
        "in a function": lambda t: (
            select(func.max(House.street_twin), Firm.id)
            .join(House.firm)
            .where(title(House, twin=t))
            .group_by(Firm.id)
        ),
        "in a bundle": lambda t: select(Bundle("b", House.house_id, House.kind)).where(
            title(House, twin=t)
        ),
        "table": lambda t: select(table.c.street_twin).where(street(House, twin=t)),
        "a class from its table": lambda t: (
            select(House.house_id).select_from(table).where(street(House, twin=t))
        ),
        "from a join": lambda t: (
            select(table.c.house_id)
            .select_from(table.join(Asset, Asset.id == table.c.house_id))
            .where(title(Asset, twin=t), street(House, twin=t))
        ),
        "two classes": lambda t: select(House.id, car.id).where(
            street(House, twin=t), plate(car, twin=t), House.firm_id == car.firm_id
        ),
    }


def told(row: Any) -> str:
    return ",".join(str(getattr(each, "id", each)) for each in row)


def test_as_the_plaintext_twin_answers(assets: Session) -> None:
    """Whole objects, columns, counts and pages are those that the twin's condition has."""
    differ = {}
    for shape, asked in _shapes().items():
        found = sorted(told(row) for row in assets.execute(asked(False)).unique())
        twins = sorted(told(row) for row in assets.execute(asked(True)).unique())
        if found != twins or not found:
            differ[shape] = (found, twins)

    assert differ == {}


@pytest.mark.filterwarnings("ignore:SELECT statement has a cartesian product")
def test_classes_that_are_not_joined(assets: Session) -> None:
    """A query of two tables that nothing joins has the rows of the twin's, and opens each value in its row."""
    shapes: list[Asked] = [
        lambda t: select(Asset.id).where(street(House, twin=t)),
        lambda t: select(House.__table__.c.street_twin).where(title(House, twin=t)),
    ]
    for shape in shapes:
        found = assets.scalars(shape(False)).all()
        assert sorted(map(str, found)) == sorted(map(str, assets.scalars(shape(True))))


def test_what_values_are_bound_to_is_in_another_table(session: Session, engine: Engine) -> None:
    """The row id, the tenant and the subject are read by key, wherever the class is not joined."""
    Base.metadata.create_all(engine)
    names = ["rex", "rexona", "bello"]
    session.add_all(
        [
            Dog(name=name, name_twin=name, owner=str(n), tenant="default")
            for n, name in enumerate(names)
        ]
    )
    session.commit()
    other, count = aliased(Dog), select(func.count())
    for asked in (Dog.name.contains("rex"), Dog.name_twin.contains("rex")):
        assert session.scalar(count.where(asked)) == 2
        assert session.scalar(count.select_from(Dog.__table__).where(asked)) == 2
        assert [dog.name for dog in session.scalars(select(Dog).where(asked))] == names[:2]
    assert session.scalar(count.where(other.name.contains("rex"))) == 2
