# SPDX-License-Identifier: Apache-2.0
"""Keys that are about to expire are fetched before `AsyncSession` hands rows out: no look meets the gap."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from lacre import Lacre
from lacre.errors import KeyServiceUnreachable
from lacre.keys.resolver import ScopeHandle
from lacre.testing import CapturedEvents, FrozenClock, MemoryKeyService
from tests.sqlalchemy.models import Base, Customer

AGE = 300.0
Work = Callable[[Any], Coroutine[Any, Any, None]]


class _Steady(random.Random):
    """No jitter: every key expires at its full age."""

    def random(self) -> float:
        return 0.0


class Ageing:
    """An application whose clock and key service the test moves; its rows are under three data keys."""

    def __init__(self, application: Lacre, service: MemoryKeyService, clock: FrozenClock) -> None:
        self.application = application
        self.service = service
        self.clock = clock
        self.handle = ScopeHandle(application.scope("acme", "pii"))

    def left(self, seconds: float) -> None:
        """Move the clock to where the keys have so many seconds left."""
        self.clock.advance(self.application.resolver.held_for(self.handle) - seconds)


@pytest.fixture
def ageing(lacre: Lacre) -> Iterator[Ageing]:
    """With keys for the tenant `acme`."""
    service, clock = MemoryKeyService(), FrozenClock()
    with Lacre(
        lacre.policy,
        store=lacre.store,
        services={"local": service},
        sink=CapturedEvents(),
        clock=clock,
    ) as application:
        application.resolver._cache.jitter = _Steady()
        with application.acting_as("operator", purpose="test", across_yield=True):
            application.create_keys("acme", "pii")
        yield Ageing(application, service, clock)


@pytest.fixture
def run(ageing: Ageing, tmp_path: Path) -> Callable[[Work], None]:
    """Run a coroutine with a session, over three rows whose keys the process holds."""
    application = ageing.application

    async def main(work: Work) -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'ageing.db'}")
        sessions = application.sqlalchemy(async_sessionmaker(engine, expire_on_commit=False))
        try:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            with application.acting_as("svc:x", roles={"app"}, purpose="test", tenant="acme"):
                for n in range(3):
                    async with sessions() as session:
                        session.add(Customer(email=f"{n}@example.org"))
                        await session.commit()
                    application.provisioner.rotate(application.scope("acme", "pii"))
                    application.resolver.forget()
                async with sessions() as session:
                    for customer in await session.scalars(select(Customer)):
                        assert customer.email
                application.warm_up(tenants=["acme"], classes=["pii"])
                ageing.service.unwrapped.clear()
                async with sessions() as session:
                    await work(session)
        finally:
            await engine.dispose()

    return lambda work: asyncio.run(main(work))


def test_a_look_does_not_meet_the_end_of_its_key(
    ageing: Ageing, run: Callable[[Work], None]
) -> None:
    """Rows are handed out half a second before their keys expire, and looked at half a second after."""

    async def work(session: Any) -> None:
        ageing.left(0.5)
        found = (await session.scalars(select(Customer))).all()
        ageing.clock.advance(1)

        assert sorted(customer.email for customer in found) == [
            f"{n}@example.org" for n in range(3)
        ]

    run(work)
    # Three data keys and one branch key above them: the key service was asked once.
    assert ageing.service.unwrapped == ["local://pii-fields"]


def test_nobody_waits_for_a_key_that_has_time_left(
    ageing: Ageing, run: Callable[[Work], None]
) -> None:
    """In the last tenth it is renewed behind the request, whose looks need no answer."""

    async def work(session: Any) -> None:
        ageing.left(20)
        ageing.service.delay = 0.5
        found = (await session.scalars(select(Customer))).all()

        assert all(customer.email for customer in found)
        assert len(ageing.service.unwrapped) <= 1
        renewed = partial(
            ageing.application.resolver.cached, ageing.handle, _key(found[0]), spare=AGE / 2
        )
        async with asyncio.timeout(30):
            while renewed() is None:  # noqa: ASYNC110 - a thread that nobody waits for ends it
                await asyncio.sleep(0.05)

    run(work)
    assert ageing.service.unwrapped == ["local://pii-fields"]


def test_a_dead_key_service_takes_no_time_from_a_key(
    ageing: Ageing, run: Callable[[Work], None]
) -> None:
    """What cannot be renewed is used until it expires, and not a moment longer."""

    async def work(session: Any) -> None:
        ageing.left(0.5)
        ageing.service.everything = KeyServiceUnreachable
        found = (await session.scalars(select(Customer))).all()
        assert all(customer.email for customer in found)
        ageing.clock.advance(1)

        with pytest.raises(KeyServiceUnreachable):
            [customer.email for customer in await session.scalars(select(Customer))]

    run(work)


def _key(customer: Customer) -> bytes:
    held: Any = customer.__dict__["email"]
    return bytes(held[3:19])
