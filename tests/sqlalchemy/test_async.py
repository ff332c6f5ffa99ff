# SPDX-License-Identifier: Apache-2.0
"""`AsyncSession` on three drivers: what works, what is never done on the event loop, what a look may not do."""

import asyncio
import pickle
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, insert, inspect, select, update
from sqlalchemy.ext.asyncio import (
    AsyncAttrs,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    defer,
    joinedload,
    make_transient,
    mapped_column,
    selectinload,
    sessionmaker,
    subqueryload,
)

from lacre import (
    AccessDenied,
    ActingEnded,
    DuplicateValue,
    Lacre,
    Mask,
    NoPrincipal,
    Tampered,
    fields,
)
from lacre.errors import (
    ConfigurationError,
    EvidenceUnavailable,
    KeyDisabled,
    KeyExpired,
    KeyServiceUnreachable,
    MisuseError,
)
from lacre.keys.hierarchy import KeyKind, KeyState
from lacre.sqlalchemy import awaiting, encrypted
from tests.sqlalchemy.conftest import Acting
from tests.sqlalchemy.counting import key_queries
from tests.sqlalchemy.models import CPF, EMAIL, OTHER_EMAIL, Base, Customer, Order

Made = Callable[..., Any]
Work = Callable[["Opened"], Coroutine[Any, Any, None]]


class Opened:
    """An engine with the tables, and sessions on it."""

    def __init__(self, lacre: Lacre, engine: AsyncEngine) -> None:
        self.lacre = lacre
        self.engine = engine
        self.sessions = lacre.sqlalchemy(async_sessionmaker(engine, expire_on_commit=False))

    async def add(self, *objects: Any) -> None:
        async with self.sessions() as session:
            session.add_all(objects)
            await session.commit()


@pytest.fixture(params=["aiosqlite", "asyncpg", "psycopg"])
def run(request: pytest.FixtureRequest, lacre: Lacre, tmp_path: Path) -> Callable[[Work], None]:
    """Run a coroutine with an `Opened`, on each driver, acting in the role `app`."""
    options: dict[str, Any] = {}
    if request.param == "aiosqlite":
        url: Any = f"sqlite+aiosqlite:///{tmp_path / 'async.db'}"
    else:
        database = request.getfixturevalue("database")
        url = database.url(request.param)
        if request.param == "asyncpg":
            options["connect_args"] = database.server.tls()

    @asynccontextmanager
    async def opened() -> AsyncIterator[Opened]:
        engine = create_async_engine(url, **options)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            yield Opened(lacre, engine)
        finally:
            await engine.dispose()

    def go(work: Work) -> None:
        async def main() -> None:
            async with opened() as found:
                with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
                    await work(found)

        asyncio.run(main())

    return go


@pytest.fixture
def run_one(request: pytest.FixtureRequest, lacre: Lacre, tmp_path: Path) -> Callable[[Work], None]:
    """`run` on SQLite alone: for what does not depend on a driver."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'async.db'}"

    def go(work: Work) -> None:
        async def main() -> None:
            engine = create_async_engine(url)
            try:
                async with engine.begin() as connection:
                    await connection.run_sync(Base.metadata.create_all)
                with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
                    await work(Opened(lacre, engine))
            finally:
                await engine.dispose()

        asyncio.run(main())

    return go


def test_writing_and_reading(run: Callable[[Work], None], recorded: Any) -> None:
    """Added, committed, searched, looked at, changed and deleted, as with a synchronous session."""

    async def work(opened: Opened) -> None:
        customer = Customer(email=EMAIL, cpf=CPF, name="Ana", account="1", city="x")
        async with opened.sessions.begin() as session:
            session.add(customer)
            assert customer.email == EMAIL
        assert (customer.email, customer.account) == (EMAIL, "1")
        async with opened.sessions() as session:
            found = (await session.scalars(select(Customer).where(Customer.cpf == CPF))).one()
            assert (found.email, found.cpf) == (EMAIL, CPF)
            by_name = (await session.scalars(select(Customer).where(Customer.name == "Ana"))).one()
            assert by_name is found
            found.email = OTHER_EMAIL
            await session.commit()
            session.add(Customer(cpf=CPF))
            with pytest.raises(DuplicateValue):
                await session.flush()
            await session.rollback()
        async with opened.sessions() as session:
            again = await session.get_one(Customer, customer.id)
            assert again.email == OTHER_EMAIL
            await session.delete(again)
            await session.commit()
            assert (await session.scalars(select(Customer))).all() == []

    run(work)
    assert len(recorded("search")) == 2
    assert sum(found["count"] for found in recorded("encrypt", column="email")) == 2


def test_one_key_query_for_each_way_to_load(run: Callable[[Work], None]) -> None:
    """Executed, streamed, eager and refreshed results need one query, and attributes need none."""

    async def work(opened: Opened) -> None:
        await opened.add(
            *(Customer(email=f"{n}@x.org", orders=[Order(note="n")]) for n in range(9))
        )
        async with opened.sessions() as session:
            for options in ((), (joinedload,), (selectinload,), (subqueryload,)):
                query = select(Customer).options(*(load(Customer.orders) for load in options))
                query = query.execution_options(populate_existing=True)
                with key_queries(opened.lacre) as asked:
                    found = (await session.scalars(query)).unique().all()
                    assert [len(found), len(asked)] == [9, 1]
                    assert all(customer.email for customer in found)
                    assert not options or all(c.orders[0].note == "n" for c in found)
                    assert len(asked) == 1
                session.expunge_all()
            with key_queries(opened.lacre) as asked:
                async for customer in await session.stream_scalars(
                    select(Customer).execution_options(yield_per=2)
                ):
                    assert customer.email
                assert len(asked) == 1
            with key_queries(opened.lacre) as asked:
                async for (customer,) in await session.stream(select(Customer)):
                    assert customer.email
                assert len(asked) == 1
            with key_queries(opened.lacre) as asked:
                await session.refresh(customer, ["email"])
                assert customer.email
                assert len(asked) == 1
            key = customer.id
            session.expunge_all()
            with key_queries(opened.lacre) as asked:
                assert (await session.get_one(Customer, key)).email
                assert len(asked) == 1

    run(work)


def test_an_attribute_does_no_io(run: Callable[[Work], None]) -> None:
    """With an empty cache a look is `KeyExpired`, and says the way out, which asks once for many objects."""

    async def work(opened: Opened) -> None:
        await opened.add(*(Customer(email=f"{n}@x.org", account="1") for n in range(5)))
        async with opened.sessions() as session:
            found = (await session.scalars(select(Customer))).all()
            with key_queries(opened.lacre) as asked:
                with pytest.raises(KeyExpired) as raised:
                    found[0].email
                assert "await lacre.prepare(obj)" in raised.value.hint
                assert asked == []
                await opened.lacre.prepare(found)
                assert len(asked) == 2  # one for each class
                assert [customer.account for customer in found] == ["1"] * 5
                assert all(customer.email for customer in found)
                assert len(asked) == 2
            opened.lacre.resolver.forget()
        assert inspect(found[0]).detached
        await opened.lacre.prepare(found[0])
        assert found[0].email

    run(work)


class Ticker:
    """Counts how often the event loop came round."""

    def __init__(self) -> None:
        self.ticks = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.005)
            self.ticks += 1


def test_the_loop_is_never_blocked(
    run_one: Callable[[Work], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While key service, key store and sink take their time, other tasks run: reading, searching and writing."""

    def slow(method: Callable[..., Any]) -> Callable[..., Any]:
        def slowly(*args: Any, **kw: Any) -> Any:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()  # not on the event loop's thread
            time.sleep(0.1)
            return method(*args, **kw)

        return slowly

    async def work(opened: Opened) -> None:
        await opened.add(Customer(email=EMAIL, cpf=CPF))
        lacre: Any = opened.lacre
        monkeypatch.setattr(lacre.services["local"], "unwrap", slow(lacre.services["local"].unwrap))
        for name in ("find", "versions"):
            monkeypatch.setattr(lacre.store, name, slow(getattr(lacre.store, name)))
        monkeypatch.setattr(lacre.store, "get", slow(lacre.store.get))
        monkeypatch.setattr(lacre.recorder._sink, "append", slow(lacre.recorder._sink.append))
        # Sessions that have read no column state yet either.
        sessions = lacre.sqlalchemy(async_sessionmaker(opened.engine, expire_on_commit=False))

        async def reading() -> None:
            async with sessions() as session:
                assert (await session.scalars(select(Customer))).one().email == EMAIL

        async def searching() -> None:
            async with sessions() as session:
                query = select(Customer).where(Customer.cpf == CPF)
                assert (await session.scalars(query)).one().email == EMAIL

        async def writing() -> None:
            async with sessions() as session:
                session.add(Customer(email=OTHER_EMAIL))
                await session.commit()

        for do in (reading, searching, writing):
            lacre.resolver.forget()
            async with Ticker() as ticker:
                await do()
            # Each waits several times 100 ms: if one wait blocked, ticks would still be few.
            assert ticker.ticks > 10, do.__name__

    run_one(work)


def test_one_flight_for_all_tasks(
    run_one: Callable[[Work], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks that miss one key at the same time cause one query, and one of them cancelled harms none."""

    async def work(opened: Opened) -> None:
        await opened.add(Customer(email=EMAIL, cpf=CPF))
        lacre: Any = opened.lacre
        find, entered, goes_on = lacre.store.find, threading.Event(), threading.Event()

        def held(*args: Any) -> Any:
            entered.set()
            assert goes_on.wait(30)
            return find(*args)

        async def look() -> Any:
            async with opened.sessions() as session:
                return (await session.scalars(select(Customer))).one().email

        monkeypatch.setattr(lacre.store, "find", held)
        with key_queries(lacre) as asked:
            tasks = [asyncio.create_task(look()) for _ in range(6)]
            assert await asyncio.to_thread(entered.wait, 30)
            await asyncio.sleep(0.1)  # all of them wait by now, or will soon
            tasks[0].cancel()
            tasks[3].cancel()
            await asyncio.sleep(0.05)
            goes_on.set()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert len(asked) == 1
        assert [type(entry) for entry in found] == [
            asyncio.CancelledError, str, str, asyncio.CancelledError, str, str,
        ]  # fmt: skip
        assert await look() == EMAIL
        # Also after the only one who waited was cancelled.
        goes_on.clear()
        entered.clear()
        lacre.resolver.forget()
        alone = asyncio.create_task(look())
        assert await asyncio.to_thread(entered.wait, 30)
        alone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await alone
        goes_on.set()
        assert await look() == EMAIL

    run_one(work)


def test_a_cancelled_task_leaves_its_session_sane(
    run: Callable[[Work], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled while it waits for a key in the middle of a load, a session goes on after a rollback."""

    async def work(opened: Opened) -> None:
        await opened.add(Customer(email=EMAIL, cpf=CPF))
        lacre: Any = opened.lacre
        find, entered = lacre.store.find, threading.Event()

        def slowly(*args: Any) -> Any:
            entered.set()
            time.sleep(0.2)
            return find(*args)

        monkeypatch.setattr(lacre.store, "find", slowly)
        lacre.resolver.forget()
        async with opened.sessions() as session:
            task = asyncio.create_task(session.execute(select(Customer)))
            assert await asyncio.to_thread(entered.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await session.rollback()
            assert (await session.scalars(select(Customer))).one().email == EMAIL

    run(work)


def test_what_was_wrong_is_said_at_the_look(
    run_one: Callable[[Work], None], operator: Lacre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look after a load that could not have the key gives the reason, not a request to try the same again."""

    async def work(opened: Opened) -> None:
        await opened.add(Customer(email=EMAIL))
        lacre: Any = opened.lacre

        async def loaded() -> Customer:
            lacre.resolver.forget()
            async with opened.sessions() as session:
                return (await session.scalars(select(Customer))).one()

        def down(*_: Any) -> Any:
            raise KeyServiceUnreachable("the key service did not answer")

        with monkeypatch.context() as patched:
            patched.setattr(lacre.services["local"], "unwrap", down)
            customer = await loaded()
            with pytest.raises(KeyServiceUnreachable):
                customer.email
        await lacre.prepare(customer)
        assert customer.email == EMAIL

        held = inspect(customer).dict
        held["email"] = held["email"][:3] + bytes(16) + held["email"][19:]
        await lacre.prepare(customer)
        with pytest.raises(Tampered):
            customer.email

        with operator.acting_as("operator", roles={"operator"}, purpose="test"):
            scope = operator.scope("default", "pii", KeyKind.DATA)
            [row] = operator.store.versions(scope)
            operator.provisioner.step(row.key_id, KeyState.DISABLED)
        disabled = await loaded()
        with pytest.raises(KeyDisabled):
            disabled.email

    run_one(work)


def test_run_sync_and_awaitable_attributes(run: Callable[[Work], None]) -> None:
    """Inside `run_sync` and `awaitable_attrs` lazy loads and looks await what they need."""

    async def work(opened: Opened) -> None:
        await opened.add(Customer(email=EMAIL, orders=[Order(note="n")]))

        def lazily(session: Any) -> Any:
            opened.lacre.resolver.forget()
            customer = session.scalars(select(Customer).options(defer(Customer.email))).one()
            opened.lacre.resolver.forget()
            first = customer.email
            opened.lacre.resolver.forget()
            return first, customer.email, customer.orders[0].note

        async with opened.sessions() as session:
            assert await session.run_sync(lazily) == (EMAIL, EMAIL, "n")
            customer = (await session.scalars(select(Customer))).one()
            session.expire(customer)
            await session.refresh(customer)
            assert customer.email == EMAIL

    run(work)


def test_async_attrs(lacre: Lacre, tmp_path: Path) -> None:
    """`awaitable_attrs` loads what is expired and looks at it, without another step."""

    class Attributed(AsyncAttrs, DeclarativeBase):
        pass

    class Person(Attributed):
        __tablename__ = "people"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        email: Mapped[str] = encrypted("pii")

    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'attrs.db'}")
        try:
            async with engine.begin() as connection:
                await connection.run_sync(Attributed.metadata.create_all)
            async with lacre.sqlalchemy(async_sessionmaker(engine))() as session:
                person = Person(email=EMAIL)
                session.add(person)
                await session.commit()
                lacre.resolver.forget()
                assert await person.awaitable_attrs.email == EMAIL
                lacre.resolver.forget()
                assert await person.awaitable_attrs.email == EMAIL
        finally:
            await engine.dispose()

    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        asyncio.run(main())


def test_scoped_sessions(run_one: Callable[[Work], None]) -> None:
    """A session for each task, from an `async_scoped_session`."""

    async def work(opened: Opened) -> None:
        scoped: async_scoped_session[AsyncSession] = async_scoped_session(
            opened.sessions, scopefunc=asyncio.current_task
        )

        async def add(email: str) -> None:
            scoped.add(Customer(email=email))
            await scoped.commit()
            await scoped.remove()

        await asyncio.gather(*(add(f"{n}@x.org") for n in range(3)))
        found = (await scoped.scalars(select(Customer))).all()
        assert sorted(str(customer.email) for customer in found) == [f"{n}@x.org" for n in range(3)]
        await scoped.remove()

    run_one(work)


def test_whoever_acts_at_the_look_is_decided_on(
    run_one: Callable[[Work], None], acting: Acting
) -> None:
    """Two tasks look at one object as two principals; a child task acts while the block is open, and not after."""

    async def work(opened: Opened) -> None:
        await opened.add(Customer(email=EMAIL))
        async with opened.sessions() as session:
            customer = (await session.scalars(select(Customer))).one()

        async def look(role: str) -> Any:
            with acting(role):
                await asyncio.sleep(0.01)
                return customer.email

        seen, masked, refused = await asyncio.gather(
            look("app"), look("support"), look("writer"), return_exceptions=True
        )
        assert seen == EMAIL
        assert type(masked) is Mask
        assert type(refused) is AccessDenied

        go = asyncio.Event()

        async def child() -> Any:
            first = customer.email
            await go.wait()
            with pytest.raises(ActingEnded):
                customer.email
            return first

        with acting("app"):
            task = asyncio.create_task(child())
            await asyncio.sleep(0)
        go.set()
        assert await task == EMAIL

    run_one(work)


def test_nobody_loads_and_nobody_looks(lacre: Lacre, run_one: Callable[[Work], None]) -> None:
    """Outside `acting_as` objects load; a look and `prepare` say that nobody acts."""
    import contextvars

    async def work(opened: Opened) -> None:
        await opened.add(Customer(email=EMAIL))

        async def unknown() -> None:
            async with opened.sessions() as session:
                customer = (await session.scalars(select(Customer))).one()
                with pytest.raises(NoPrincipal):
                    customer.email
                with pytest.raises(NoPrincipal):
                    await lacre.prepare(customer)

        await asyncio.create_task(unknown(), context=contextvars.Context())

    run_one(work)


def test_prepare_fetches_for_whoever_may(run_one: Callable[[Work], None], acting: Acting) -> None:
    """`prepare` fetches no key for a reader who gets nothing, records no look, and takes mapped objects only."""

    async def work(opened: Opened) -> None:
        lacre = opened.lacre
        customer = Customer(email=EMAIL)
        await opened.add(customer)
        with key_queries(lacre) as asked, acting("writer"):
            await lacre.prepare([customer])
            with pytest.raises(AccessDenied):
                customer.email
            assert asked == []
        await lacre.prepare([])
        await lacre.prepare([Customer(), Customer(email=OTHER_EMAIL)])
        for wrong in (42, "text", [customer, 42]):
            with pytest.raises(MisuseError, match="mapped objects"):
                await lacre.prepare(wrong)

    run_one(work)


def test_objects_travel(run_one: Callable[[Work], None]) -> None:
    """Pickled, merged without loading, made transient, inspected: as with a synchronous session."""

    async def work(opened: Opened) -> None:
        customer = Customer(email=EMAIL)
        await opened.add(customer)
        travelled = pickle.loads(pickle.dumps(customer))
        await opened.lacre.prepare(travelled)
        with pytest.raises(ConfigurationError, match="belongs to no session"):
            travelled.email
        async with opened.sessions() as session:
            merged = await session.merge(travelled, load=False)
            opened.lacre.resolver.forget()
            with pytest.raises(KeyExpired):
                merged.email
            await opened.lacre.prepare(merged)
            assert merged.email == EMAIL
            assert inspect(merged).attrs.email.value == EMAIL
            loaded = await session.get_one(Customer, customer.id)
            assert loaded is merged
        make_transient(merged)
        assert merged.email == EMAIL

    run_one(work)


def test_a_thread_without_a_loop_fetches(run_one: Callable[[Work], None]) -> None:
    """An object handed to a thread is looked at there, keys or no keys: nothing is blocked."""

    async def work(opened: Opened) -> None:
        customer = Customer(email=EMAIL)
        await opened.add(customer)
        opened.lacre.resolver.forget()
        assert await asyncio.to_thread(lambda: customer.email) == EMAIL

    run_one(work)


def test_a_sync_session_in_async_code(
    run_one: Callable[[Work], None], lacre: Lacre, engine: Any
) -> None:
    """A synchronous session blocks, as everybody knows of it, and works as anywhere."""

    async def work(_: Opened) -> None:
        with lacre.sqlalchemy(sessionmaker(engine))() as session:
            customer = Customer(email=EMAIL)
            session.add(customer)
            session.commit()
            lacre.resolver.forget()
            assert customer.email == EMAIL
            lacre.resolver.forget()
            await lacre.prepare(customer)
            assert customer.email == EMAIL

    run_one(work)


def test_a_model_that_was_never_queried(run_one: Callable[[Work], None]) -> None:
    """A look before any statement read the column's state says what to do; what is only assigned needs none."""

    async def work(opened: Opened) -> None:
        customer = Customer(email=EMAIL)
        await opened.add(customer)
        fresh = opened.lacre.sqlalchemy(async_sessionmaker(opened.engine))
        async with fresh() as session:
            assigned = Customer(email=OTHER_EMAIL)
            session.add(assigned)
            assert assigned.email == OTHER_EMAIL
            session.expunge(assigned)
            merged = await session.merge(customer, load=False)
            with pytest.raises(ConfigurationError, match="present state") as raised:
                merged.email
            assert "prepare" in raised.value.hint
            await opened.lacre.prepare(merged)
            assert merged.email == EMAIL

    run_one(work)


def test_evidence_of_writes(
    run: Callable[[Work], None], recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit waits for its evidence; rolled back there is none, and a sink that fails stops the commit."""

    async def work(opened: Opened) -> None:
        async with opened.sessions() as session:
            session.add(Customer(email=EMAIL))
            await session.flush()
            await session.rollback()
            assert recorded("encrypt") == []
            async with session.begin_nested():
                session.add(Customer(email=EMAIL))
            await session.commit()
            assert len(recorded("encrypt")) == 1

            def full(*_: Any) -> None:
                raise OSError(28, "No space left on device")

            with monkeypatch.context() as patched:
                patched.setattr(opened.lacre.recorder._sink, "append", full)
                session.add(Customer(email=OTHER_EMAIL))
                with pytest.raises(EvidenceUnavailable):
                    await session.commit()
                await session.rollback()
            opened.lacre.recorder.flush()
            assert len((await session.scalars(select(Customer))).all()) == 1

    run(work)


def test_a_custom_session_class(run_one: Callable[[Work], None]) -> None:
    """Classes of sessions that the factory was given are kept, the inner one's methods too."""
    from sqlalchemy.orm import Session

    class Inner(Session):
        mark = "inner"

    class Outer(AsyncSession):
        sync_session_class = Inner

    async def work(opened: Opened) -> None:
        factory = opened.lacre.sqlalchemy(async_sessionmaker(opened.engine, class_=Outer))
        async with factory() as session:
            assert isinstance(session, Outer)
            inner: Any = session.sync_session
            assert inner.mark == "inner"
            session.add(Customer(email=EMAIL))
            await session.commit()

    run_one(work)


def test_an_event_of_the_session_may_look(run_one: Callable[[Work], None]) -> None:
    """An application's own listener looks while rows are loaded; what it needs is awaited there."""
    seen: list[Any] = []

    def loaded(target: Customer, _context: Any) -> None:
        seen.append(target.email)

    async def work(opened: Opened) -> None:
        await opened.add(Customer(email=EMAIL))
        opened.lacre.resolver.forget()
        event.listen(Customer, "load", loaded)
        try:
            async with opened.sessions() as session:
                await session.scalars(select(Customer))
        finally:
            event.remove(Customer, "load", loaded)

    run_one(work)
    assert seen == [EMAIL]


def test_bulk_statements(run: Callable[[Work], None], recorded: Any) -> None:
    """Bulk inserts and updates by key work on every driver; a duplicate there is told."""

    async def work(opened: Opened) -> None:
        async with opened.sessions() as session:
            given = [{"email": f"{n}@example.org"} for n in range(3)]
            await session.execute(insert(Customer), given)
            await session.commit()
            found = (await session.scalars(select(Customer))).all()
            changed = [{"id": row.id, "email": f"new.{row.email}"} for row in found]
            await session.execute(update(Customer), changed)
            await session.commit()
            wanted = select(Customer).where(Customer.email == "new.1@example.org")
            row = (await session.scalars(wanted)).one()
            assert row.email == "new.1@example.org"
            with pytest.raises(DuplicateValue):
                await session.execute(insert(Customer), [{"email": "NEW.1@example.org"}])
            await session.rollback()

    run(work)
    assert sum(found["count"] for found in recorded("encrypt", column="email")) == 6


def test_whatever_fields_ask_of_the_resolver_can_be_asked_on_a_loop() -> None:
    """A method that a field calls is there in the resolver that awaits, too."""
    paths = sorted(Path(fields.__file__).parent.glob("*.py"))
    # Jobs move values in threads of their own.
    text = "".join(path.read_text("utf-8") for path in paths if path.name != "moving.py")
    asked = set(re.findall(r"resolver\.([a-z_]+)\(", text))
    awaits = Path(awaiting.__file__).read_text("utf-8")

    assert {"of_another", "prepare", "to_decrypt"} <= asked
    assert {name for name in asked if not re.search(rf"(def|self\.) ?{name}\b", awaits)} == set()
