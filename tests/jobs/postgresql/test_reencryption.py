# SPDX-License-Identifier: Apache-2.0
"""Re-encryption on PostgreSQL: workers beside each other, killed between statements, beside a writer."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa

from lacre import Lacre
from lacre.context import acting_as
from lacre.errors import ConfigurationError, LacreError
from lacre.jobs import sweeps
from lacre.jobs.pace import Pace, Progress
from lacre.jobs.postgresql.connection import connected
from tests.components.postgresql import Database
from tests.jobs.killing import forked, nursery, survived
from tests.jobs.sealed_models import Person
from tests.jobs.sweeping import Shop, key_ids

_COUNTING = """
CREATE TABLE touched (id uuid, xid bigint);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.touched VALUES (NEW.id, txid_current()); RETURN NULL; END$$;
CREATE TRIGGER touches AFTER UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();
"""


@pytest.fixture
def shop(operator: Lacre, database: Database) -> Iterator[Shop]:
    """The models' tables, empty; every update of a person is counted."""
    made = Shop(operator, database.url(), database.dsn())
    with database.connect() as connection:
        connection.execute(_COUNTING)
    yield made
    made.engine.dispose()


def people(shop: Shop, count: int) -> None:
    with shop.sessions() as session:
        session.add_all(
            Person(id=UUID(int=n + 1), email=f"p{n}@example.org", born=None) for n in range(count)
        )
        session.commit()


def emails(shop: Shop) -> dict[UUID, str | None]:
    with shop.sessions() as session:
        return {person.id: person.email for person in session.scalars(sa.select(Person))}


def touched(database: Database) -> list[Any]:
    with database.connect() as connection:
        return connection.execute("SELECT id, count(*) FROM touched GROUP BY id").fetchall()


def test_two_workers_touch_each_row_once(shop: Shop, database: Database) -> None:
    """Two processes of two threads each, given the same command, write every row once and leave none."""
    people(shop, 400)
    before, fresh = emails(shop), shop.rotate()

    def work() -> None:
        with acting_as("operator", roles={"operator"}, purpose="reencrypt"):
            shop.reencrypt("people", pace=Pace(batch=8, workers=2))

    ended = [survived(child) for child in [forked(work), forked(work)]]

    assert ended == [True, True]
    counts = touched(database)
    assert len(counts) == 400
    assert {count for _, count in counts} == {1}
    assert key_ids(shop, "people", "email") == {fresh.key_id}
    assert emails(shop) == before


def test_a_batch_is_moved_while_the_one_before_is_written(shop: Shop) -> None:
    """One worker has two batches under way: neither's UPDATE begins before the other's is ready."""
    people(shop, 60)
    fresh = shop.rotate()
    both = threading.Barrier(2, timeout=30)

    def connect(dsn: str) -> Any:
        connection, first = connected(dsn), [True]

        class Cursor(psycopg.Cursor[Any]):
            def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
                if query.startswith("UPDATE ONLY") and first:
                    first.clear()
                    both.wait()
                return super().execute(query, *args, **kwargs)

        connection.cursor_factory = Cursor
        return connection

    [outcome] = shop.reencrypt("people", connect=connect)

    assert (outcome.rows, outcome.coverage[0].share) == (60, 1.0)
    assert key_ids(shop, "people", "email") == {fresh.key_id}


def test_an_interrupted_job_ends_with_its_batches(shop: Shop) -> None:
    """Whoever interrupts the job waits for the batches under way, and the rest is left to the next run."""
    people(shop, 400)
    shop.rotate()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    told = iter([True])

    def progress(_: Progress) -> None:
        if next(told, False):
            signal.pthread_kill(main, signal.SIGUSR1)
        time.sleep(0.1)

    main, before = threading.get_ident(), signal.signal(signal.SIGUSR1, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            shop.reencrypt("people", pace=Pace(batch=5, progress=progress))
    finally:
        signal.signal(signal.SIGUSR1, before)
    [left] = [covered.left for covered in shop.sweeper().survey(shop.tables()["people"]) if covered.column == "email"]  # fmt: skip
    [outcome] = shop.reencrypt("people")

    assert 0 < left < 400
    assert (outcome.rows, outcome.coverage[0].share) == (left, 1.0)


def test_a_row_that_somebody_holds_is_waited_for(shop: Shop, database: Database) -> None:
    """A row another transaction has locked is left out at first, keeps what that writes, and is moved after it."""
    people(shop, 20)
    fresh = shop.rotate()
    naps: list[float] = []
    with shop.sessions() as session:
        person = session.get(Person, UUID(int=7))
        assert person is not None
        person.email = "held@example.org"
        session.flush()

        def sleep(seconds: float) -> None:
            naps.append(seconds)
            session.commit()

        [outcome] = shop.reencrypt("people", pace=Pace(batch=5, sleep=sleep))

    assert naps == [1.0]
    assert outcome.coverage[0].share == 1.0
    assert key_ids(shop, "people", "email") == {fresh.key_id}
    assert emails(shop)[UUID(int=7)] == "held@example.org"


def test_what_is_held_too_long_is_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody holds a row for longer than the job waits, the outcome says that it is left."""
    monkeypatch.setattr(sweeps, "_PATIENCE", 2.0)
    people(shop, 20)
    shop.rotate()
    with shop.engine.connect() as connection:
        connection.execute(sa.text("SELECT 1 FROM people WHERE id = :id FOR UPDATE"), {"id": UUID(int=3)})  # fmt: skip
        [outcome] = shop.reencrypt("people", pace=Pace(sleep=lambda _: None))
        connection.rollback()

    assert (outcome.rows, outcome.coverage[0].left, outcome.failures) == (19, 1, ())


def test_a_table_of_chunks_that_somebody_else_made_is_not_touched(
    shop: Shop, database: Database
) -> None:
    """A table of lacre's name that could run somebody's code is refused before anything is written."""
    people(shop, 3)
    shop.rotate()
    with database.connect() as connection:
        connection.execute("CREATE TABLE lacre_chunk (task text, leaf bigint, first bigint DEFAULT random(), last bigint)")  # fmt: skip
    with pytest.raises(ConfigurationError, match="lacre_chunk that lacre did not make"):
        shop.reencrypt("people")

    assert touched(database) == []


def test_a_partitioned_table_is_moved(operator: Lacre, database: Database) -> None:
    """Rows of every partition are moved."""
    with database.connect() as connection:
        connection.execute(
            "CREATE TABLE readings (meter varchar, day varchar, value bytea NOT NULL, PRIMARY KEY (meter, day)) PARTITION BY HASH (meter);"
            "CREATE TABLE readings_0 PARTITION OF readings FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
            "CREATE TABLE readings_1 PARTITION OF readings FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
        )
    shop = Shop(operator, database.url(), database.dsn())
    shop.fill()
    before = shop.clear()
    fresh = shop.rotate()
    [outcome] = shop.reencrypt("readings")

    assert (outcome.rows, outcome.coverage[0].share) == (12, 1.0)
    assert key_ids(shop, "readings", "value") == {fresh.key_id}
    assert shop.clear() == before


# Killed


class Killing:
    """Connects like the job does, and ends the process before its statement number *at*."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, dsn: str) -> Any:
        connection = connected(dsn)
        killing = self

        class Cursor(psycopg.Cursor[Any]):
            def execute(self, *args: Any, **kwargs: Any) -> Any:
                killing._left -= 1
                if killing._left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().execute(*args, **kwargs)

        connection.cursor_factory = Cursor
        return connection


class Writer(threading.Thread):
    """Gives people new addresses, and remembers each that was committed."""

    def __init__(self, shop: Shop, rows: int) -> None:
        super().__init__()
        self._shop, self._rows = shop, rows
        self._over = threading.Event()
        self.written: dict[UUID, str] = {}
        self.failure: BaseException | None = None

    def run(self) -> None:
        chance = random.Random(7)
        try:
            with acting_as("svc:app", roles={"app"}, purpose="writing"):
                number = 0
                while not self._over.wait(0.01):
                    row, number = UUID(int=chance.randrange(self._rows) + 1), number + 1
                    with self._shop.sessions() as session:
                        person = session.get(Person, row)
                        assert person is not None
                        person.email = f"new{number}@example.org"
                        session.commit()
                    self.written[row] = f"new{number}@example.org"
        except BaseException as error:
            self.failure = error

    def stop(self) -> None:
        self._over.set()
        self.join()
        if self.failure is not None:
            raise self.failure


def survive(shop: Shop, database: Database, *, kills: int) -> None:
    """Kill the job before its nth statement, n growing, until it was killed often enough; then let it finish."""
    rows = 60
    people(shop, rows)
    expected: dict[UUID, str | None] = emails(shop)
    writer = Writer(shop, rows)

    def work(place: str) -> None:
        with acting_as("operator", roles={"operator"}, purpose="reencrypt"):
            shop.reencrypt("people", pace=Pace(batch=7), connect=Killing(int(place)))

    killed, at = 0, 3
    with nursery(work) as started:
        writer.start()
        try:
            while killed < kills:
                shop.rotate()
                for _ in range(4):
                    died = not started(str(at)).survived()
                    killed += died
                    at = at + 1 if died else 3
        finally:
            writer.stop()
    fresh = shop.rotate()
    [outcome] = shop.reencrypt("people")

    assert outcome.failures == ()
    assert outcome.coverage[0].share == 1.0
    assert key_ids(shop, "people", "email") == {fresh.key_id}
    assert len(writer.written) > 5
    assert emails(shop) == expected | writer.written
    with database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM lacre_chunk").fetchone() == (0,)


def test_a_killed_job_goes_on(shop: Shop, database: Database) -> None:
    """Killed ten times between two statements beside a writer: nothing lost, doubled or left, and every write kept."""
    survive(shop, database, kills=10)


@pytest.mark.long
def test_a_job_killed_three_hundred_times_loses_nothing(shop: Shop, database: Database) -> None:
    """The same, three hundred times."""
    survive(shop, database, kills=300)


def test_a_lost_connection_is_an_error_of_lacre(shop: Shop, database: Database) -> None:
    """A job whose connection is cut says so without quoting a row, and goes on when it is run again."""
    people(shop, 30)
    shop.rotate()
    left = [9]

    def connect(dsn: str) -> Any:
        connection = connected(dsn)

        class Cursor(psycopg.Cursor[Any]):
            def execute(self, *args: Any, **kwargs: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    with database.connect() as other:
                        other.execute("SELECT pg_terminate_backend(%s)", (self.connection.info.backend_pid,))  # fmt: skip
                return super().execute(*args, **kwargs)

        connection.cursor_factory = Cursor
        return connection

    with pytest.raises(LacreError, match="PostgreSQL refused"):
        shop.reencrypt("people", connect=connect)
    [outcome] = shop.reencrypt("people")

    assert outcome.coverage[0].share == 1.0
