"""On PostgreSQL the operator's role moves keys, past every trigger, and the run time's does not."""

from collections.abc import Callable, Iterator

import pytest

from lacre.context import acting_as
from lacre.errors import LacreError
from lacre.keys.moving import Rewrap
from lacre.stores.roles import Roles
from lacre.stores.sql import SQLKeyStore
from lacre.testing import MemoryKeyService
from tests.components.key_stores import KeptInPostgreSQL
from tests.components.postgresql import Database
from tests.keys.parts import Parts, kms_keys


@pytest.fixture
def owned(database: Database) -> Iterator[Parts]:
    """A key store with the roles, and keys of one class."""
    place = KeptInPostgreSQL(database=database)
    store = place.open()
    store.upgrade(roles=Roles())
    store.close()
    made = Parts.at(place)
    made.create()
    made.rotate("branch")
    yield made
    made.recorder.close()
    made.store.close()


@pytest.fixture
def login(database: Database) -> Iterator[Callable[[str], SQLKeyStore]]:
    """Opens the key store as a login that has one role."""
    made: list[tuple[str, SQLKeyStore]] = []

    def opened(role: str) -> SQLKeyStore:
        name = f"{role}_{database.name}"
        database.server.administer(f"CREATE ROLE {name} LOGIN PASSWORD 'pw' IN ROLE {role}")
        made.append((name, SQLKeyStore(database.text_url(user=name, password="pw"))))
        return made[-1][1]

    yield opened
    for name, store in made:
        store.close()
        database.server.administer(f"DROP ROLE {name}")


def test_only_the_operators_role_moves_keys(
    owned: Parts, login: Callable[[str], SQLKeyStore]
) -> None:
    """Parent and wrap change, with the state as it was; the run time is refused and changes nothing."""
    service = MemoryKeyService()

    def rewrap(store: SQLKeyStore) -> Rewrap:
        return Rewrap(
            store=store, services={"local": owned.service, "openbao": service},
            kms_keys=lambda scope: (f"openbao://transit/{scope.kind}", *kms_keys(scope)),
            recorder=owned.recorder,
        )  # fmt: skip

    before = owned.store.rows()
    with acting_as("mover", purpose="move"):
        with pytest.raises(LacreError):
            rewrap(login("lacre_runtime")).run()
        untouched = owned.store.rows()
        done = rewrap(login("lacre_operator")).run()

    assert untouched == before
    assert (done.moved, done.left) == (3, [])
    assert [(row.state, row.revision, row.mac) for row in owned.store.rows()] == [
        (row.state, row.revision, row.mac) for row in before
    ]
