# SPDX-License-Identifier: Apache-2.0
"""After its deadline a column that is mapped as plaintext is refused, until it is encrypted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from lacre import Lacre, PlaintextFound
from lacre.fields.column_state import ColumnState, move
from lacre.kms.local import Identity


class Base(DeclarativeBase):
    pass


class Legacy(Base):
    """A model from before lacre."""

    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True)
    cpf: Mapped[str | None]


class Other(Base):
    __tablename__ = "others"

    id: Mapped[int] = mapped_column(primary_key=True)
    cpf: Mapped[str | None]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'legacy.db'}")
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(Legacy).values(id=1, cpf="52998224725"))
    yield engine
    engine.dispose()


def application(home: Path, deadline: str) -> Lacre:
    config = home / "lacre.toml"
    table = f'\n[columns."customers.cpf"]\nclass = "pii"\ndeadline = {deadline}\n'
    config.write_text(config.read_text() + table)
    return Lacre.load(config, environ={})


def encrypted(lacre: Lacre, home: Path) -> None:
    move(
        lacre.store,
        Identity.load(home / "lacre/identities/operator.key"),
        keystore=lacre.store.keystore_id,
        store="main", table="customers", column="cpf", class_="pii",
        to=ColumnState.ENCRYPTED, changed="2026-01-02T03:04:05Z",
    )  # fmt: skip


def test_reading_and_writing_plaintext_fails_closed(home: Path, engine: Engine) -> None:
    """After the deadline nothing of the class is read, added, changed or updated in bulk; other classes are."""
    with application(home, "2020-01-31") as lacre:
        sessions = lacre.sqlalchemy(sessionmaker(engine))
        for use in (
            lambda session: session.scalars(select(Legacy)).all(),
            lambda session: session.get(Legacy, 1),
            lambda session: (session.add(Legacy(id=2, cpf="x")), session.flush()),
            lambda session: session.execute(sa.update(Legacy).values(cpf="x")),
            lambda session: session.execute(sa.insert(Legacy), [{"id": 3, "cpf": "x"}]),
            lambda session: session.bulk_insert_mappings(Legacy, [{"id": 4, "cpf": "x"}]),
            lambda session: session.bulk_update_mappings(Legacy, [{"id": 1, "cpf": "x"}]),
            lambda session: session.bulk_save_objects([Legacy(id=5, cpf="x")]),
        ):
            with sessions() as session, pytest.raises(PlaintextFound, match="2020-01-31"):
                use(session)
        with sessions() as session:
            session.add(Other(id=1, cpf="x"))
            session.flush()

            assert session.scalars(select(Other)).one().cpf == "x"
            assert session.execute(sa.text("SELECT count(*) FROM customers")).scalar() == 1


def test_before_the_deadline_and_without_one_nothing_is_refused(home: Path, engine: Engine) -> None:
    """The day has not come."""
    with application(home, "2999-12-31") as lacre:
        sessions = lacre.sqlalchemy(sessionmaker(engine))
        with sessions() as session:
            assert session.scalars(select(Legacy)).one().cpf == "52998224725"


def test_an_encrypted_column_is_read_by_an_old_model(home: Path, engine: Engine) -> None:
    """Once it is encrypted, what an old model sees of it is ciphertext: that is not refused."""
    with application(home, "2020-01-31") as lacre:
        encrypted(lacre, home)
        sessions = lacre.sqlalchemy(sessionmaker(engine))
        with sessions() as session:
            assert session.scalars(select(Legacy)).one().id == 1


def test_an_async_session_refuses_it_too(home: Path, engine: Engine) -> None:
    """An AsyncSession reads the state and the time in a thread, and refuses alike."""
    import asyncio

    async def use() -> None:
        loop_engine = create_async_engine(
            str(engine.url).replace("sqlite://", "sqlite+aiosqlite://")
        )
        try:
            sessions = lacre.sqlalchemy(async_sessionmaker(loop_engine))
            async with sessions() as session:
                with pytest.raises(PlaintextFound):
                    await session.scalars(select(Legacy))
                session.add(Legacy(id=2))
                with pytest.raises(PlaintextFound):
                    await session.flush()
        finally:
            await loop_engine.dispose()

    with application(home, "2020-01-31") as lacre:
        asyncio.run(use())


def test_the_key_store_and_the_evidence_know_what_day_it_is(home: Path, engine: Engine) -> None:
    """A process whose clock stands in 2019 is told by records that were made since."""
    with application(home, "2020-01-31") as lacre:
        made = Lacre(
            lacre.policy,
            store=lacre.store,
            services=lacre.services,
            sink=lacre.recorder._sink,
            signers=lacre.signers,
            clock=lambda: 1_550_000_000.0,
        )
        sessions = made.sqlalchemy(sessionmaker(engine))
        with sessions() as session, pytest.raises(PlaintextFound, match="by the "):
            session.scalars(select(Legacy)).all()


def test_a_probe_says_so_before(home: Path) -> None:
    """`ready` fails after the deadline, and passes long before it; the report names the column."""
    with application(home, "2020-01-31") as lacre:
        overdue = lacre.ready()
        encrypted(lacre, home)
        done = lacre.ready()

    assert not overdue
    assert [(c.subject, c.code) for c in overdue.checks if c.status == "fail"] == [
        ("customers.cpf", "plaintext-found")
    ]
    assert done
