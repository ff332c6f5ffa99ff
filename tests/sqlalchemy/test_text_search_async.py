# SPDX-License-Identifier: Apache-2.0
"""The same searches in an `AsyncSession`, on three drivers."""

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from lacre import Lacre, UnsupportedQuery
from tests.components.postgresql import Database
from tests.sqlalchemy.models import Citizen


@pytest.mark.parametrize("driver", ["aiosqlite", "asyncpg", "psycopg"])
def test_searches_by_awaiting(
    lacre: Lacre, tmp_path: Path, request: pytest.FixtureRequest, driver: str
) -> None:
    """By a beginning, by any part and by several attributes: found, counted, paged and streamed."""
    options: dict[str, Any] = {}
    if driver == "aiosqlite":
        url: Any = f"sqlite+aiosqlite:///{tmp_path / 'citizens.db'}"
    else:
        database: Database = request.getfixturevalue("database")
        url = database.url(driver)
        options = {"connect_args": database.server.tls()} if driver == "asyncpg" else {}

    async def work(session: AsyncSession) -> None:
        born = dt.date(1990, 1, 1)
        session.add_all([Citizen(name="Maria da Silva", born=born), Citizen(name="Mário")])
        await session.commit()
        for condition in (
            Citizen.name.contains("silv"),
            Citizen.name.startswith("maria"),
            Citizen.name_and_birth == ("maria da silva", born),
        ):
            assert (await session.scalars(select(Citizen).where(condition))).one().born == born
        count = select(func.count()).select_from(Citizen)
        assert await session.scalar(count.where(Citizen.name.startswith("mar"))) == 2
        paged = select(Citizen).where(Citizen.name.contains("mar")).limit(1).offset(1)
        assert len((await session.scalars(paged)).all()) == 1
        found = select(Citizen).where(Citizen.name.contains("mar")).order_by(Citizen.id)
        # Whole objects, and what takes a query for the candidates first; in chunks of one.
        for asked in (found, found.where(Citizen.id == Citizen.id).with_for_update(of=Citizen)):
            streamed = await session.stream_scalars(asked.execution_options(yield_per=1))
            names = [citizen.name async for citizen in streamed]
            assert sorted(map(str, names)) == ["Maria da Silva", "Mário"]
        one = found.where(Citizen.name.startswith("maria")).limit(1)
        streamed = await session.stream_scalars(one)
        assert [citizen.born async for citizen in streamed] == [born]
        with pytest.raises(UnsupportedQuery):
            await session.stream_scalars(select(Citizen).where(~Citizen.name.contains("mar")))

    async def main() -> None:
        engine = create_async_engine(url, **options)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(Citizen.metadata.create_all)
            with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
                async with lacre.sqlalchemy(async_sessionmaker(engine))() as session:
                    await work(session)
        finally:
            await engine.dispose()

    asyncio.run(main())
