# SPDX-License-Identifier: Apache-2.0
"""A row that is written under another id or tenant than its values are bound to is not written."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lacre import Lacre
from lacre.errors import MisuseError
from lacre.sqlalchemy import encrypted, moving_tenants
from tests.sqlalchemy.conftest import Acting, Sessions
from tests.sqlalchemy.raw import only, rows

IDS = {name: UUID(int=number) for number, name in enumerate(("first", "second"), 1)}


class Base(DeclarativeBase):
    pass


class Guest(Base):
    __tablename__ = "guests"
    __lacre_tenant__ = "house"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    house: Mapped[str] = mapped_column(default="default")
    email: Mapped[str | None] = encrypted("pii")
    city: Mapped[str | None]


@pytest.fixture
def listening() -> Iterator[Callable[[str, str, Any], None]]:
    """Adds a listener of the application's that sets an attribute, after lacre's."""
    added: list[tuple[str, Any]] = []

    def add(name: str, key: str, value: Any) -> None:
        def listener(_mapper: Any, _connection: Any, target: Any) -> None:
            setattr(target, key, value)

        event.listen(Guest, name, listener)
        added.append((name, listener))

    yield add
    for name, listener in added:
        event.remove(Guest, name, listener)


@pytest.fixture(autouse=True)
def _tables(engine: Engine, operator: Lacre) -> None:
    Base.metadata.create_all(engine)
    with operator.acting_as("operator", roles={"operator"}, purpose="set up"):
        operator.create_keys("other", "pii")


MOVES = [("id", IDS["second"]), ("house", "other")]


@pytest.mark.parametrize(("key", "value"), MOVES)
def test_a_listener_that_moves_a_new_row_is_refused(
    engine: Engine,
    sessions: Sessions,
    acting: Acting,
    listening: Any,
    recorded: Any,
    key: str,
    value: Any,
) -> None:
    """Its values would open for nobody: the flush is rolled back and says what to do."""
    listening("before_insert", key, value)
    with acting("app"), sessions() as session:
        session.add(Guest(id=IDS["first"], email="CANARY"))
        with pytest.raises(MisuseError, match="row id, tenant or subject of a Guest") as caught:
            session.flush()
        session.rollback()

    assert "before_flush" in caught.value.hint
    assert rows(engine, "SELECT id FROM guests") == []
    assert recorded("encrypt") == []


@pytest.mark.parametrize("changed", ["email", "city"])
@pytest.mark.parametrize(("key", "value"), MOVES)
def test_a_listener_that_moves_a_row_is_refused(
    engine: Engine,
    sessions: Sessions,
    acting: Acting,
    listening: Any,
    changed: str,
    key: str,
    value: Any,
) -> None:
    """Also where nothing was encrypted anew: what the row holds is bound already."""
    with acting("app"), sessions() as session:
        session.add(Guest(id=IDS["first"], email="CANARY"))
        session.commit()
    before = only(engine, "SELECT email FROM guests")
    listening("before_update", key, value)
    with acting("app"), sessions() as session:
        guest = session.get_one(Guest, IDS["first"])
        setattr(guest, changed, "y")
        with pytest.raises(MisuseError, match="row id, tenant or subject of a Guest"):
            session.commit()
        session.rollback()

        assert only(engine, "SELECT email FROM guests") == before
        assert session.get_one(Guest, IDS["first"]).email == "CANARY"


def test_a_listener_that_sets_anything_else_is_none_of_ours(
    sessions: Sessions, acting: Acting, listening: Any
) -> None:
    """Nor one that sets the id the row has, a row without values, or a move before the flush."""
    listening("before_insert", "city", "x")
    listening("before_update", "id", IDS["second"])
    with acting("app"), sessions() as session:
        guest = Guest(id=IDS["first"], email="CANARY")
        session.add(guest)
        session.commit()
        guest.id, guest.house, guest.city = IDS["second"], "other", "y"
        with moving_tenants():
            session.commit()
        assert (guest.email, guest.city) == ("CANARY", "y")
    listening("before_insert", "id", IDS["first"])
    with acting("app"), sessions() as session:
        session.add(Guest(city="z"))
        session.commit()

        assert session.get_one(Guest, IDS["first"]).email is None
