# SPDX-License-Identifier: Apache-2.0
"""Sessions keep nothing in a database session, so any server connection will do for any transaction."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool, StaticPool

from lacre import BlindIndex, DuplicateValue, Lacre
from lacre.sqlalchemy import encrypted
from tests.components.postgresql import Database

_STATE = {
    "settings": "SELECT name, setting FROM pg_settings WHERE source = 'session' ORDER BY name",
    "prepared": "SELECT statement FROM pg_prepared_statements",
    "listening": "SELECT pg_listening_channels()",
    "advisory": "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    "temporary": "SELECT relname FROM pg_class WHERE relpersistence = 't'",
    "cursors": "SELECT name FROM pg_cursors WHERE NOT name = ''",
}


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "pooled_accounts"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[str] = encrypted("pii", index=BlindIndex("email", unique=True))
    short: Mapped[str] = encrypted("pii", index=BlindIndex("exact", bits=16))


@pytest.fixture(params=[NullPool, StaticPool], ids=["another connection each", "one connection"])
def engine(request: pytest.FixtureRequest, database: Database) -> Iterator[sa.Engine]:
    """As behind a pooler in transaction mode: nothing is prepared."""
    engine = sa.create_engine(
        database.url(), poolclass=request.param, connect_args={"prepare_threshold": None}
    )
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def test_transactions_need_no_connection_of_their_own(lacre: Lacre, engine: sa.Engine) -> None:
    """Writing, reading, searching, re-checking and refusing leave the database session as it was."""
    session = lacre.sqlalchemy(sessionmaker(engine))()

    def state() -> dict[str, list[tuple[object, ...]]]:
        with engine.connect() as connection:
            return {
                name: [tuple(row) for row in connection.exec_driver_sql(query)]
                for name, query in _STATE.items()
            }

    before = state()
    with lacre.acting_as("svc:x", roles={"app"}, purpose="test"), session:
        session.add_all(Account(email=f"{n}@example.org", short=str(n)) for n in range(20))
        session.commit()
        found = session.scalars(sa.select(Account).where(Account.short == "7")).one()
        session.commit()
        assert found.email == "7@example.org"
        session.commit()
        found.email = "seven@example.org"
        session.commit()
        again = session.scalars(sa.select(Account).where(Account.email == "seven@example.org"))
        assert again.one().id == found.id
        session.rollback()
        session.add(Account(email="seven@example.org", short="x"))
        with pytest.raises(DuplicateValue):
            session.commit()

    assert state() == before
