# SPDX-License-Identifier: Apache-2.0
"""Schemas and roles have names that need no quotes, and no other name reaches a statement."""

import pytest

from lacre.errors import ConfigurationError
from lacre.stores.identifiers import is_plain
from lacre.stores.roles import Roles
from lacre.stores.sql import SQLKeyStore
from tests.components.postgresql import Database


def test_what_the_server_reserves_is_refused(database: Database) -> None:
    """Every word of its list that is no name without quotes."""
    with database.connect() as connection:
        words = connection.execute(
            "SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T')"
        ).fetchall()

    assert len(words) > 90
    assert [word for (word,) in words if is_plain(word)] == []


@pytest.mark.parametrize("name", ["pg_lacre", "user", "order", "public", "none", "A", "a-b", ""])
def test_names_that_are_none_are_refused(name: str) -> None:
    """Of a role and of a schema alike, before anything is connected to."""
    with pytest.raises(ConfigurationError, match="roles have"):
        Roles(runtime=name)
    with pytest.raises(ConfigurationError, match="a schema of its own"):
        SQLKeyStore("postgresql+psycopg://nobody@localhost/none", schema=name)


def test_plain_names_are_taken(database: Database) -> None:
    """A schema and roles by any other name work."""
    store = SQLKeyStore(database.text_url(), schema="keys_1")
    roles = Roles(runtime=f"r{database.name}", operator=f"o{database.name}", auditor=f"a{database.name}")  # fmt: skip
    store.upgrade(roles=roles)

    assert store.rows() == []
    store.close()
    with database.connect() as connection:
        connection.execute("DROP SCHEMA keys_1 CASCADE")
        for role in (roles.runtime, roles.operator, roles.auditor):
            connection.execute(f"DROP ROLE {role}")
