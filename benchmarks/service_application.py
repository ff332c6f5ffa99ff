# SPDX-License-Identifier: Apache-2.0
"""
The service that `service.py` measures: FastAPI, asyncpg, one customer a request.

Run by uvicorn in a process of its own. The database and the settings come in environment
variables. Two routes answer the same from a plaintext and from a protected table; the others
are for whoever measures.
"""

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from fastapi import FastAPI
from models import Customer, Plain
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from lacre import Lacre

TICK = 0.005  # seconds between two looks at the loop

lacre = Lacre.load(os.environ["BENCH_LACRE"], environ={})
engine = create_async_engine(
    os.environ["BENCH_DATABASE"],
    pool_size=50,
    connect_args={"ssl": ssl.create_default_context(cafile=os.environ["BENCH_CERTIFICATE"])},
)
plain_sessions = async_sessionmaker(engine)
lacre_sessions = lacre.sqlalchemy(async_sessionmaker(engine))
delays: list[float] = []


async def _watch() -> None:
    # How much later than asked the loop comes back: what every other request waits as well.
    while True:
        before = time.perf_counter()
        await asyncio.sleep(TICK)
        delays.append(time.perf_counter() - before - TICK)


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    watching = asyncio.create_task(_watch())
    yield
    watching.cancel()
    await engine.dispose()
    lacre.close()


app = FastAPI(lifespan=_lifespan)


def _answer(found: Any) -> dict[str, str]:
    return {"email": found.email, "phone": found.phone, "address": found.address}


@app.get("/plain/{key}")
async def plain(key: UUID) -> dict[str, str]:
    async with plain_sessions() as session:
        return _answer(await session.get_one(Plain, key))


@app.get("/lacre/{key}")
async def protected(key: UUID) -> dict[str, str]:
    with lacre.acting_as("svc:bench", roles={"app"}, purpose="bench"):
        async with lacre_sessions() as session:
            return _answer(await session.get_one(Customer, key))


@app.post("/forget")
async def forget() -> None:
    """Empty the cache of keys."""
    lacre.resolver.forget()


@app.post("/delays")
async def take_delays() -> list[float]:
    """Return the loop's delays since the last time, in seconds."""
    taken = delays.copy()
    delays.clear()
    return taken
