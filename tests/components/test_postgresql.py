# SPDX-License-Identifier: Apache-2.0
"""The server the tests run on is what they take it for."""

import asyncio

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from tests.components.postgresql import Database


def test_psycopg_speaks_tls_with_a_server_it_checked(database: Database) -> None:
    """The connection is encrypted with TLS 1.3, and a client without TLS is turned away."""
    query = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    with database.connect() as connection:
        assert connection.execute(query).fetchone() == ("TLSv1.3",)

    plain = sa.create_engine(database.url().set(query={"sslmode": "disable"}))
    with pytest.raises(sa.exc.OperationalError, match="no encryption"), plain.connect():
        pass


def test_asyncpg_connects_too(database: Database) -> None:
    """The same database answers an async engine."""

    async def asked() -> object:
        engine = create_async_engine(database.url("asyncpg"), connect_args=database.server.tls())
        try:
            async with engine.connect() as connection:
                return await connection.scalar(sa.text("SELECT current_database()"))
        finally:
            await engine.dispose()

    assert asyncio.run(asked()) == database.name
