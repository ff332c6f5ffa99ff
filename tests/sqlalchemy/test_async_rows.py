# SPDX-License-Identifier: Apache-2.0
"""Rows that a sequence names and that name their tenant, on PostgreSQL's async drivers."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from sqlalchemy import Identity, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lacre import AccessDenied, BlindIndex, DuplicateValue, Lacre
from lacre.sqlalchemy import encrypted
from tests.components.postgresql import Database
from tests.sqlalchemy.counting import key_queries

NORTH, SOUTH = "north", "south"
Work = Callable[[AsyncSession], Coroutine[Any, Any, None]]


class Base(DeclarativeBase):
    pass


class Case(Base):
    __tablename__ = "cases"
    __lacre_tenant__ = "tenant"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    tenant: Mapped[str]
    email: Mapped[str | None] = encrypted("pii", index=BlindIndex("email", unique=True))
    city: Mapped[str | None] = mapped_column(unique=True)


@pytest.fixture(params=["asyncpg", "psycopg"])
def run(
    request: pytest.FixtureRequest, lacre: Lacre, operator: Lacre, database: Database
) -> Callable[[Work], None]:
    """Run a coroutine with a session, while the role `app` acts and names no tenant."""
    with operator.acting_as("operator", roles={"operator"}, purpose="set up"):
        for tenant in (NORTH, SOUTH):
            operator.create_keys(tenant, "pii")
    options = {"connect_args": database.server.tls()} if request.param == "asyncpg" else {}

    async def main(work: Work) -> None:
        engine = create_async_engine(database.url(request.param), **options)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
                async with lacre.sqlalchemy(async_sessionmaker(engine))() as session:
                    await work(session)
        finally:
            await engine.dispose()

    return lambda work: asyncio.run(main(work))


def test_numbers_come_from_the_sequence_before_the_rows(run: Callable[[Work], None]) -> None:
    """A flush and a bulk insert ask for their numbers once, and every value opens in its row."""

    async def work(session: AsyncSession) -> None:
        session.add_all(Case(tenant=NORTH, email=f"{n}@example.org") for n in range(20))
        await session.flush()
        given = [{"tenant": SOUTH, "email": f"{n}@example.org"} for n in range(20)]
        numbers = (await session.scalars(insert(Case).returning(Case.id), given)).all()
        await session.commit()
        session.expunge_all()
        found = (await session.scalars(select(Case).order_by(Case.id))).all()
        assert [row.id for row in found] == list(range(1, 41))
        assert sorted(numbers) == list(range(21, 41))
        assert [row.email for row in found] == [f"{n}@example.org" for n in range(20)] * 2

    run(work)


def test_one_key_query_for_each_tenant_of_a_result(
    run: Callable[[Work], None], lacre: Lacre
) -> None:
    """Rows of two tenants in one result take two queries, however many rows there are."""

    async def work(session: AsyncSession) -> None:
        rows = [Case(tenant=tenant, email="x@example.org") for tenant in (NORTH, SOUTH)]
        rows += [Case(tenant=tenant) for tenant in (NORTH, SOUTH) for _ in range(10)]
        session.add_all(rows)
        await session.commit()
        session.expunge_all()
        with key_queries(lacre) as queries:
            found = (await session.scalars(select(Case).order_by(Case.id))).all()
            asked = len(queries)
            assert [row.email for row in found][:2] == ["x@example.org"] * 2
        assert asked == len(queries)
        assert asked == 2

    run(work)


def test_whoever_acts_for_another_tenant_is_refused(
    run: Callable[[Work], None], lacre: Lacre
) -> None:
    """On the loop too: neither a look nor a write crosses tenants."""

    async def work(session: AsyncSession) -> None:
        session.add(Case(tenant=NORTH, email="x@example.org"))
        await session.commit()
        with lacre.acting_as("svc:south", roles={"app"}, purpose="test", tenant=SOUTH):
            [row] = (await session.scalars(select(Case))).all()
            with pytest.raises(AccessDenied, match="another tenant"):
                row.email
            session.add(Case(tenant=NORTH, email="y@example.org"))
            with pytest.raises(AccessDenied, match="another tenant"):
                await session.flush()
            await session.rollback()

    run(work)


def test_what_the_server_quotes_of_a_row_goes_no_further(run: Callable[[Work], None]) -> None:
    """A duplicate of a protected value is told as such; of another, without the server's detail."""

    async def work(session: AsyncSession) -> None:
        session.add(Case(tenant=NORTH, email="x@example.org", city="Santos"))
        await session.commit()
        session.add(Case(tenant=NORTH, email="X@example.org"))
        with pytest.raises(DuplicateValue):
            await session.flush()
        await session.rollback()
        session.add(Case(tenant=NORTH, city="Santos"))
        with pytest.raises(IntegrityError) as raised:
            await session.flush()
        assert "Santos" not in str(raised.value.orig)
        assert "DETAIL" not in str(raised.value)
        await session.rollback()
        assert await session.scalar(text("SELECT count(*) FROM cases")) == 1

    run(work)
