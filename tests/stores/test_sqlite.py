"""What is particular to a key store in an SQLite file."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lacre.errors import ConfigurationError, KeyStoreUnreachable
from lacre.keys.hierarchy import KeyState
from lacre.stores.sql import SQLKeyStore
from tests.stores.rows import ROW, uses


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the key store is."""
    return tmp_path / "store" / "keys.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLKeyStore]:
    """An empty key store."""
    made = SQLKeyStore(f"sqlite:///{path}")
    made.upgrade()
    yield made
    made.close()


def test_a_store_that_is_not_there_is_not_made_by_reading(tmp_path: Path) -> None:
    """Only an upgrade makes a file."""
    store = SQLKeyStore(f"sqlite:///{tmp_path}/none.db")
    for use in uses(store):
        with pytest.raises(ConfigurationError, match="no key store"):
            use()

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_an_error_of_ours(tmp_path: Path) -> None:
    """Not SQLAlchemy's."""
    (tmp_path / "keys.db").write_bytes(b"CANARY " * 1000)
    store = SQLKeyStore(f"sqlite:///{tmp_path}/keys.db")
    for use in (*uses(store), store.version, store.upgrade):
        with pytest.raises(ConfigurationError) as caught:
            use()
        assert "CANARY" not in str(caught.value) + caught.value.hint


def test_the_file_is_its_owners_only(path: Path) -> None:
    """0600 in a folder of 0700, whatever the umask."""
    before = os.umask(0)
    try:
        SQLKeyStore(f"sqlite:///{path}").upgrade()
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_destroyed_keys_bytes_are_not_left_in_the_file(store: SQLKeyStore, path: Path) -> None:
    """Freed space is overwritten, after an update and after many."""
    rows = [replace(ROW, key_id=bytes([n]) * 16, version=n, state=KeyState.PENDING, wrapped=os.urandom(123)) for n in range(1, 60)]  # fmt: skip
    store.change(add=rows)
    assert rows[7].wrapped is not None
    assert rows[7].wrapped in path.read_bytes()
    for row in rows:
        store.change(replace=[(row, row.stepped(KeyState.DESTROYED, changed="now"))])
    store.close()

    left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert not [row for row in rows if row.wrapped and row.wrapped[10:50] in left]


def test_every_connection_overwrites_what_it_frees(store: SQLKeyStore) -> None:
    """secure_delete is asked for on each connection, whatever SQLite was built with."""
    with store._reading() as connection:
        connection.exec_driver_sql("PRAGMA secure_delete = OFF")
    store._database.engine.dispose()
    with store._reading() as connection:
        assert connection.exec_driver_sql("PRAGMA secure_delete").scalar() == 1
        raw = sqlite3.connect(":memory:")
        raw.execute("PRAGMA secure_delete = OFF")
        assert raw.execute("PRAGMA secure_delete").fetchone() == (0,)
        raw.close()


def test_a_locked_store_is_an_error_of_ours(store: SQLKeyStore, path: Path) -> None:
    """Somebody holds the write lock: the operator is told to try again, and nothing is half done."""
    store.change(add=[ROW])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    pooled = store._database.engine.raw_connection()
    pooled.cursor().execute("PRAGMA busy_timeout = 20")
    pooled.close()
    for use in (
        lambda: store.change(add=[replace(ROW, key_id=b"\x02" * 16, version=2)]),
        store.rows,
    ):
        with pytest.raises(KeyStoreUnreachable, match="does not answer") as caught:
            use()
        assert caught.value.retryable
    other.execute("ROLLBACK")
    other.close()

    assert store.rows() == [ROW]
