"""Fixtures of the key tests."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.keys.parts import Parts


@pytest.fixture(scope="session")
def _provisioned_once(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    made = Parts.at(tmp_path_factory.mktemp("keys") / "keys.db")
    made.create()
    made.recorder.close()
    return made


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """An empty key store and what works on it."""
    made = Parts.at(tmp_path / "keys.db")
    yield made
    made.recorder.close()
    made.store.close()


@pytest.fixture
def keys(_provisioned_once: Parts, tmp_path: Path) -> Iterator[Parts]:
    """The same, with one class of one tenant provisioned."""
    made = _provisioned_once.copied(tmp_path / "keys.db")
    yield made
    made.recorder.close()
    made.store.close()


@pytest.fixture
def dump(keys: Parts, tmp_path: Path) -> Path:
    """A copy of the key store as it is before the test does anything."""
    return Path(shutil.copy(keys.path, tmp_path / "dump.db"))
