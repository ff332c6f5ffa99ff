# SPDX-License-Identifier: Apache-2.0
"""The key service is away, or denies, while an application is under load."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.util import greenlet_spawn

from lacre import Lacre
from lacre.errors import KeyServiceDenied, KeyServiceUnreachable, KeyUnavailable, LacreError
from lacre.keys.resolver import ScopeHandle
from lacre.policy.decisions import Policy
from lacre.policy.loading import load_policy
from lacre.sqlalchemy.awaiting import AwaitingApplication
from lacre.testing import CapturedEvents, FrozenClock, MemoryKeyService
from tests.sqlalchemy.models import Base, Customer

AGE = 300.0
KMS_KEYS = ["local://pii-fields", "local://pii-index"]


class Running:
    """An application with a table, a clock and a key service that the test moves."""

    def __init__(self, home: Path, lacre: Lacre, *, stale_for: float) -> None:
        config = home / "lacre.toml"
        config.write_text(config.read_text("utf-8") + f"\n[cache]\nstale_for = {stale_for}\n")
        self.service, self.clock = MemoryKeyService(), FrozenClock()
        self.application = Lacre(
            Policy(load_policy(config, {"LACRE_DEFAULT_TENANT": "acme"})),
            store=lacre.store,
            services={"local": self.service},
            sink=CapturedEvents(),
            clock=self.clock,
        )
        self.file = home / "data.db"
        self.engine = create_engine(f"sqlite:///{self.file}")
        Base.metadata.create_all(self.engine)
        self.sessions: Any = self.application.sqlalchemy(sessionmaker(self.engine, class_=Session))
        with self.acting():
            for class_ in ("pii", "banking"):
                self.application.create_keys("acme", class_)
        self.application.resolver.forget()
        self.service.unwrapped.clear()

    def acting(self) -> Any:
        return self.application.acting_as("svc:x", roles={"app"}, purpose="test")

    def write(self, number: int) -> None:
        with self.acting(), self.sessions.begin() as session:
            session.add(Customer(email=f"{number}@example.org", name="x", city="x"))

    def read(self) -> None:
        with self.acting(), self.sessions() as session:
            found = session.scalars(select(Customer).limit(1)).one()
            assert str(found.email).endswith("@example.org")

    def outcome(self, use: Any) -> type[LacreError] | None:
        """The error that *use* ends with; None where it works."""
        try:
            use()
        except KeyUnavailable as error:
            return type(error)
        return None

    def settle(self) -> None:
        assert self.application.resolver._cache.background.settle(30)

    def close(self) -> None:
        self.application.resolver.close()
        self.application.recorder.close()
        self.engine.dispose()


@pytest.fixture(params=[0.0, 120.0])
def running(request: pytest.FixtureRequest, home: Path, lacre: Lacre) -> Iterator[Running]:
    """By default, and with two minutes of stale use."""
    made = Running(home, lacre, stale_for=request.param)
    yield made
    made.close()


def test_ten_minutes_without_the_key_service_under_load(running: Running) -> None:
    """Cached keys serve until they expire, then nothing but what was opted into; all is refused, nothing written plain, and back it is one call each."""
    stale_for = running.application.policy.file.cache.stale_for
    running.write(0)
    running.read()
    begun = running.clock()
    running.service.everything = KeyServiceUnreachable
    wrote = read = 0.0
    written = 1
    for second in range(0, 600, 10):
        running.clock.now = begun + second
        found = running.outcome(lambda second=second: running.write(second + 1))
        assert found in (None, KeyServiceUnreachable)
        wrote, written = (second, written + 1) if found is None else (wrote, written)
        found = running.outcome(running.read)
        assert found in (None, KeyServiceUnreachable)
        read = second if found is None else read
        running.settle()
    asked = len(running.service.unwrapped)
    with sqlite3.connect(running.file) as connection:
        rows = connection.execute("SELECT email FROM customers").fetchall()
    connection.close()

    assert 0.9 * AGE - 10 <= wrote < AGE
    assert 0.9 * AGE + stale_for - 10 <= read < AGE + stale_for
    assert [row[0][:1] for row in rows] == [b"\xc1"] * written
    assert asked < 300  # each use that cannot be served asks, and a few in advance
    # Back: fifty threads that waited for it cause one call for each KMS key.
    running.service.everything = None
    running.service.unwrapped.clear()
    with ThreadPoolExecutor(50) as pool:
        uses = [
            pool.submit(running.write, 1000 + n) if n % 2 else pool.submit(running.read)
            for n in range(50)
        ]
        assert [use.exception() for use in uses] == [None] * 50
    running.settle()
    assert sorted(running.service.unwrapped) == KMS_KEYS


@pytest.mark.parametrize("used_until", [0, 100, 250, 299])
@pytest.mark.parametrize("blackholed", [None, 0, 200, 290])
def test_after_a_revocation_the_last_success_is_in_time(
    running: Running, used_until: int, blackholed: int | None
) -> None:
    """Revoked at 0, used in the seconds before, the key service cut off or not: the last read is within age + stale_for; within the age where it could say no."""
    stale_for = running.application.policy.file.cache.stale_for
    running.write(0)
    for _ in range(0, used_until, 50):
        running.clock.advance(50)
        running.read()
        running.settle()
    revoked = running.clock()
    running.service.everything = KeyServiceDenied
    last = 0.0
    for second in range(0, 600, 10):
        if second == blackholed:
            running.service.everything = KeyServiceUnreachable
        running.clock.now = revoked + second
        if running.outcome(running.read) is None:
            last = second
        running.settle()

    if blackholed is None:
        assert last <= AGE
    else:
        assert last <= AGE + stale_for == running.application.revocation_latency
    assert running.outcome(running.read) is not None


def test_a_denial_after_a_revocation_is_never_answered_from_the_past(running: Running) -> None:
    """Once it is heard, reading is over at once and stays over, whatever the network does then."""
    running.write(0)
    running.read()
    running.service.everything = KeyServiceDenied
    while running.outcome(running.read) is None:
        running.settle()
        running.clock.advance(5)
    for everything in (KeyServiceDenied, KeyServiceUnreachable, KeyServiceDenied):
        running.service.everything = everything
        running.clock.advance(3)

        assert running.outcome(running.read) is everything


def test_a_thousand_tasks_that_need_one_expired_key_make_one_call(running: Running) -> None:
    """By the way an `AsyncSession` goes, all waiting for one answer; a failure is everybody's, and the next asks anew."""
    application = running.application
    handle = ScopeHandle(application.scope("acme", "pii"))
    resolver = AwaitingApplication(application).guard.resolver  # type: ignore[arg-type]
    entered, gate, unwrap = threading.Event(), threading.Event(), running.service.unwrap

    def held_up(*given: Any) -> Any:
        entered.set()
        assert gate.wait(60)
        return unwrap(*given)

    async def thousand() -> list[Any]:
        entered.clear()
        gate.clear()
        tasks = [
            asyncio.create_task(greenlet_spawn(resolver.to_encrypt, handle)) for _ in range(1000)
        ]
        assert await asyncio.to_thread(entered.wait, 60)
        await asyncio.sleep(0)  # each ran up to where it waits
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    application.resolver.to_encrypt(handle)
    running.clock.advance(AGE)
    running.service.unwrapped.clear()
    running.service.unwrap = held_up  # type: ignore[method-assign]
    running.service.everything = KeyServiceUnreachable
    failed = asyncio.run(thousand())
    assert {type(error) for error in failed} == {KeyServiceUnreachable}
    assert len(running.service.unwrapped) == 1
    running.service.everything = None
    found = asyncio.run(thousand())

    assert len({id(key) for key in found}) == 1
    assert len(running.service.unwrapped) == 2


def test_a_thousand_looks_in_threads_of_a_loop_make_one_call(running: Running) -> None:
    """`asyncio.to_thread` of synchronous code: as many at once as the loop has threads, one call."""
    box = running.application.field("pii", table="t", column="c")
    with running.acting():
        sealed = box.encrypt("ana", row=1)
    running.clock.advance(AGE)
    running.service.unwrapped.clear()

    async def main() -> set[Any]:
        with running.acting():
            looks = (asyncio.to_thread(box.decrypt, sealed, row=1) for _ in range(1000))
            return set(await asyncio.gather(*looks))

    assert asyncio.run(main()) == {"ana"}
    assert running.service.unwrapped == ["local://pii-fields"]
