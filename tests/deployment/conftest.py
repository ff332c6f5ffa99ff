# SPDX-License-Identifier: Apache-2.0
"""One deployment for all tests: files, keys, and databases of customers and of keys in PostgreSQL."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lacre.stores.roles import Roles
from lacre.stores.sql import SQLKeyStore
from tests.components.postgresql import Database, Server
from tests.deployment.serving import Deployed


@pytest.fixture(scope="session")
def deployed(
    _made_once: Path, tmp_path_factory: pytest.TempPathFactory, postgresql: Server
) -> Iterator[Deployed]:
    """
    The page's modules, `lacre init`, and customers.

    The key store is moved to a PostgreSQL of its own, which processes may only read.
    """
    directory = tmp_path_factory.mktemp("deployed") / "app"
    shutil.copytree(_made_once, directory)
    with postgresql.database() as customers, postgresql.database() as keys:
        user = _moved(directory / "lacre" / "keys.db", keys)
        try:
            yield Deployed.into(
                directory,
                customers.text_url(),
                LACRE_KEY_STORE__URL=keys.text_url(user=user, password="pw"),
            )
        finally:
            postgresql.administer(f"DROP ROLE {user}")


def _moved(file: Path, keys: Database) -> str:
    # Copies the key store; returns a login of the role that applications have.
    roles = Roles()
    old, new = SQLKeyStore(f"sqlite:///{file}"), SQLKeyStore(keys.text_url())
    new.upgrade(roles=roles)
    new.restore(old.contents(), allow=lambda _: None)
    old.close()
    new.close()
    user = f"deployed_{keys.name}"
    keys.server.administer(f"CREATE ROLE {user} LOGIN PASSWORD 'pw' IN ROLE {roles.runtime}")
    return user
