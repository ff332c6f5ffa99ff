# SPDX-License-Identifier: Apache-2.0
"""Mode strict in sessions: the opening is recorded where keys are fetched, and never by a look on an event loop."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from lacre import EvidenceUnavailable, Lacre
from tests.sqlalchemy.conftest import on_sqlite
from tests.sqlalchemy.models import CPF, EMAIL, Customer

Recorded = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def home(home: Path) -> Path:
    """`home`, in mode strict: openings are for six looks."""
    config = home / "lacre.toml"
    text = config.read_text(encoding="utf-8")
    strict = '[audit]\nmode = "strict"\nlooks = 6\n'
    config.write_text(text.replace("[audit]\n", strict), encoding="utf-8")
    return home


def test_loading_opens_for_every_column_of_the_class_at_once(
    session: Session, lacre: Lacre, recorded: Recorded
) -> None:
    """One opening for a unit of work, which its looks at several columns draw on."""
    session.add(Customer(email=EMAIL, cpf=CPF))
    session.commit()
    session.expire_all()
    customer = session.scalars(select(Customer)).one()
    [opening] = recorded("opening")
    looked = (customer.email, customer.cpf)

    assert looked == (EMAIL, CPF)
    assert {"main.customers.email", "main.customers.cpf"} <= set(opening["columns"])
    assert recorded("opening") == [opening]


def test_a_rollback_leaves_the_opening(session: Session, recorded: Recorded) -> None:
    """It is on audit's own connection: what a transaction takes back is not that somebody could look."""
    session.add(Customer(email=EMAIL))
    session.commit()
    assert session.scalars(select(Customer)).one().email == EMAIL
    session.rollback()

    assert len(recorded("opening")) == 1
    assert sum(each["count"] for each in recorded("look")) == 1


@on_sqlite
def test_on_an_event_loop_a_look_opens_nothing(
    lacre: Lacre, engine: Engine, recorded: Recorded
) -> None:
    """Loading opens; when that is spent the look says how to go on, and `prepare` does it."""

    async def run() -> str:
        loop_engine = create_async_engine(engine.url.set(drivername="sqlite+aiosqlite"))
        sessions = lacre.sqlalchemy(async_sessionmaker(loop_engine, expire_on_commit=False))
        with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
            async with sessions() as session:
                session.add(Customer(email=EMAIL))
                await session.commit()
            async with sessions() as session:
                customer = (await session.scalars(select(Customer))).one()
                for _ in range(6):
                    assert customer.email == EMAIL
                with pytest.raises(EvidenceUnavailable) as caught:
                    _ = customer.email
                assert "customers.email" in str(caught.value)
                await lacre.prepare(customer)
                assert customer.email == EMAIL
        await loop_engine.dispose()
        return caught.value.hint or ""

    hint = asyncio.run(run())

    assert "await lacre.prepare(obj)" in hint
    assert len(recorded("opening")) == 2
    assert sum(each["count"] for each in recorded("look")) == 7


@on_sqlite
def test_prepare_says_that_nothing_can_be_recorded(lacre: Lacre, engine: Engine) -> None:
    """The explicit way out does not fail silently."""

    class Down:
        def append(self, events: Any) -> None:
            raise OSError(28, "No space left on device")

    async def run() -> None:
        loop_engine = create_async_engine(engine.url.set(drivername="sqlite+aiosqlite"))
        sessions = lacre.sqlalchemy(async_sessionmaker(loop_engine, expire_on_commit=False))
        with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
            async with sessions() as session:
                customer = Customer(email=EMAIL)
                session.add(customer)
                await session.commit()
                sink, lacre.recorder._sink = lacre.recorder._sink, Down()
                try:
                    with pytest.raises(EvidenceUnavailable):
                        await lacre.prepare(customer)
                finally:
                    lacre.recorder._sink = sink
        await loop_engine.dispose()

    asyncio.run(run())
