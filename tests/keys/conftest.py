"""Fixtures of the key tests."""

from collections.abc import Iterator

import pytest

from lacre.stores.contents import KeyStoreContents
from tests.components.key_stores import KeptInPostgreSQL, KeptInSQLite, KeyStorePlace
from tests.components.postgresql import Database
from tests.keys.parts import Parts


@pytest.fixture(scope="session")
def _provisioned_once(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    made = Parts.at(KeptInSQLite(path=tmp_path_factory.mktemp("keys") / "keys.db"))
    made.create()
    made.recorder.close()
    return made


@pytest.fixture(scope="session")
def _schema_of_keys(_database_of_key_stores: Database) -> KeyStorePlace:
    # One for all: making a schema takes longer than most tests.
    place = KeptInPostgreSQL(database=_database_of_key_stores, schema="keys")
    store = place.open()
    store.upgrade()
    store.close()
    return place


@pytest.fixture
def parts(place: KeyStorePlace) -> Iterator[Parts]:
    """An empty key store and what works on it."""
    made = Parts.at(place)
    yield made
    made.close()


@pytest.fixture
def keys(
    _provisioned_once: Parts, place: KeyStorePlace, request: pytest.FixtureRequest
) -> Iterator[Parts]:
    """The same, with one class of one tenant provisioned."""
    if isinstance(place, KeptInPostgreSQL):
        place = request.getfixturevalue("_schema_of_keys")
        place.sql("DELETE FROM lacre_key")
    made = _provisioned_once.copied(place)
    yield made
    made.close()


@pytest.fixture
def dump(keys: Parts) -> KeyStoreContents:
    """The key store as it is before the test does anything."""
    return keys.store.contents()
