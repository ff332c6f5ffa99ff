"""The key store keeps what it is given, races safely, and is upgraded while others read it."""

import logging
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from lacre.errors import ConfigurationError, KeyNotFound, LacreError, MisuseError, Tampered
from lacre.fields.column_state import ColumnState, ColumnStateRow
from lacre.keys.hierarchy import KeyRow, KeyState
from lacre.keys.seen import SeenSerial
from lacre.stores.schema import VERSION
from lacre.stores.sql import SQLKeyStore
from tests.keys.parts import scope

ROW = KeyRow(
    key_id=b"\x01" * 16,
    scope=scope(),
    version=1,
    parent="ab" * 16,
    suite=1,
    created="2026-11-22T10:00:00Z",
    keystore="00" * 16,
    wrapped=b"CANARY-wrapped" * 9,
    state=KeyState.ACTIVE,
    revision=1,
    changed="2026-11-22T10:00:00Z",
    mac=b"CANARY-mac" * 3,
)
PLACE = ColumnStateRow(
    store="main",
    table="t",
    column="c",
    class_="pii",
    state=ColumnState.DUAL,
    revision=1,
    changed="now",
    keystore="00" * 16,
    signer="ab" * 16,
    signature=b"s" * 64,
)


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


def sql(path: Path, statement: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        with connection:
            return connection.execute(statement).fetchall()
    finally:
        connection.close()


def test_rows_come_back_as_they_were(store: SQLKeyStore) -> None:
    """Every column, NULLs and a subject included; found by scope and id, not by id alone."""
    subject = replace(ROW, key_id=b"\x02" * 16, scope=scope(subject="s1"), state=KeyState.PENDING)
    gone = replace(
        ROW, key_id=b"\x03" * 16, version=2, wrapped=None, mac=None, state=KeyState.DESTROYED
    )
    store.change(add=[ROW, subject, gone])

    assert store.versions(scope()) == [gone, ROW]
    assert store.versions(scope(subject="s1")) == [subject]
    assert store.find(scope(), [ROW.key_id, subject.key_id]) == [ROW]
    assert store.find(scope(tenant="t2"), [ROW.key_id]) == []
    assert store.row(subject.key_id) == subject
    assert store.holds(ROW.key_id)
    assert not store.holds(bytes(16))
    assert len(store.rows()) == 3
    with pytest.raises(KeyNotFound):
        store.row(bytes(16))


def test_more_ids_than_one_statement_takes(store: SQLKeyStore) -> None:
    """A result set may name any number of keys."""
    store.change(add=[ROW])
    ids = [number.to_bytes(16, "big") for number in range(40_000)]

    assert store.find(scope(), [*ids, ROW.key_id]) == [ROW]


# Schema


READER = """
import sqlite3, sys
store = sqlite3.connect(sys.argv[1])
print("ready", flush=True)
reads = 0
while True:
    assert store.execute("SELECT count(*) FROM lacre_key").fetchone() == (1,)
    reads += 1
    if store.execute("SELECT value FROM lacre_meta WHERE name = 'schema'").fetchone() == ("2",):
        break
print(reads)
"""


def test_an_upgrade_keeps_what_is_there_while_others_read(path: Path) -> None:
    """A store of version 1 becomes version 2 with its rows and id, under a reader's eyes."""
    old = SQLKeyStore(f"sqlite:///{path}")
    assert old.upgrade(to=1) == (0, 1)
    identity = sql(path, "SELECT value FROM lacre_meta WHERE name = 'keystore'")
    columns = [row[1] for row in sql(path, "PRAGMA table_info(lacre_key)")]
    values = ["X'01010101010101010101010101010101'"] + ["'x'"] * (len(columns) - 1)
    sql(path, f"INSERT INTO lacre_key VALUES ({','.join(values)})")
    reader = subprocess.Popen(
        [
            sys.executable,
            "-c",
            READER,
            str(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        assert old.upgrade() == (1, VERSION)
        assert int(reader.stdout.readline()) > 0
    assert reader.returncode == 0

    assert sql(path, "SELECT value FROM lacre_meta WHERE name = 'keystore'") == identity
    assert len(sql(path, "SELECT * FROM lacre_key")) == 1
    old.put(PLACE)
    assert old.upgrade() == (VERSION, VERSION)
    old.close()


def test_two_upgrades_at_once_are_one(path: Path) -> None:
    """Processes that start together make one store with one id."""
    path.parent.mkdir()

    def upgrade(_: int) -> str:
        store = SQLKeyStore(f"sqlite:///{path}")
        store.upgrade()
        try:
            return store.keystore_id
        finally:
            store.close()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(upgrade, range(4)))) == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (str(VERSION + 1), "upgrade lacre"),
        ("1", "lacre db upgrade"),
        ("x", "backup"),
        ("", "backup"),
    ],
)
def test_a_store_of_another_schema_is_refused(
    store: SQLKeyStore, path: Path, value: str, said: str
) -> None:
    """Newer, older or unreadable: nothing is read, and the error says what to do."""
    sql(path, f"UPDATE lacre_meta SET value = '{value}' WHERE name = 'schema'")
    for use in _uses(SQLKeyStore(f"sqlite:///{path}")):
        with pytest.raises(ConfigurationError) as caught:
            use()
        assert said in caught.value.hint


def test_a_newer_store_is_not_downgraded(store: SQLKeyStore, path: Path) -> None:
    """An upgrade by an older release leaves it as it is."""
    sql(path, f"UPDATE lacre_meta SET value = '{VERSION + 1}' WHERE name = 'schema'")

    assert store.upgrade() == (VERSION + 1, VERSION + 1)
    assert store.version() == VERSION + 1


def _uses(store: SQLKeyStore) -> list[Callable[[], object]]:
    return [
        lambda: store.versions(scope()),
        lambda: store.find(scope(), [bytes(16)]),
        lambda: store.holds(bytes(16)),
        lambda: store.row(bytes(16)),
        lambda: store.rows(),
        lambda: store.keystore_id,
        lambda: store.change(add=[ROW]),
        lambda: store.get("main", "t", "c"),
        lambda: store.put(PLACE),
        lambda: store.recall("local://x"),
    ]


def test_a_store_that_is_not_there_is_not_made_by_reading(tmp_path: Path) -> None:
    """Only an upgrade makes a file."""
    store = SQLKeyStore(f"sqlite:///{tmp_path}/none.db")
    for use in _uses(store):
        with pytest.raises(ConfigurationError, match="no key store"):
            use()

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_an_error_of_ours(tmp_path: Path) -> None:
    """Not SQLAlchemy's."""
    (tmp_path / "keys.db").write_bytes(b"CANARY " * 1000)
    store = SQLKeyStore(f"sqlite:///{tmp_path}/keys.db")
    for use in (*_uses(store), store.version, store.upgrade):
        with pytest.raises(ConfigurationError) as caught:
            use()
        assert "CANARY" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "postgresql://u:CANARY@h/d", "CANARY"]
)
def test_a_url_that_cannot_keep_keys_is_refused(url: str) -> None:
    """In memory, another database, or no URL; a password in it is not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        SQLKeyStore(url)

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


# Changing


def test_one_active_row_in_a_scope(store: SQLKeyStore) -> None:
    """A second one is refused by the database, and nothing of that change is kept."""
    store.change(add=[ROW])
    pending = replace(ROW, key_id=b"\x03" * 16, version=3, state=KeyState.PENDING)
    with pytest.raises(MisuseError, match="nothing was done"):
        store.change(add=[pending, replace(ROW, key_id=b"\x02" * 16, version=2)])

    assert store.rows() == [ROW]


def test_one_row_for_a_version(store: SQLKeyStore) -> None:
    """Two processes do not both make version 2."""
    store.change(add=[ROW])
    with pytest.raises(MisuseError):
        store.change(add=[replace(ROW, key_id=b"\x02" * 16, state=KeyState.PENDING)])


@pytest.mark.parametrize(
    "stale",
    [{"state": KeyState.DISABLED}, {"revision": 7}, {"wrapped": b"other"}, {"wrapped": None}],
)
def test_a_replacement_compares_first(store: SQLKeyStore, stale: dict[str, object]) -> None:
    """State, revision and wrapped key as they were read, or nothing at all."""
    store.change(add=[ROW])
    new = replace(ROW, state=KeyState.DISABLED, revision=2)
    added = replace(ROW, key_id=b"\x02" * 16, version=2)
    with pytest.raises(MisuseError):
        store.change(add=[added], replace=[(replace(ROW, **stale), new)])  # type: ignore[arg-type]
    assert store.rows() == [ROW]
    store.change(add=[added], replace=[(ROW, new)])

    assert store.rows() == [new, added]


def test_of_many_writers_one_wins(store: SQLKeyStore) -> None:
    """Eight threads replace one row: one does, seven are told."""
    store.change(add=[ROW])
    start = threading.Barrier(8)

    def step(number: int) -> bool:
        start.wait()
        try:
            store.change(replace=[(ROW, replace(ROW, revision=2, changed=str(number)))])
        except MisuseError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(step, range(8))) == 1


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


def test_errors_and_logs_carry_no_parameters(
    store: SQLKeyStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is in a row is in no message, even with SQLAlchemy's own log turned up."""
    caplog.set_level(logging.DEBUG, "sqlalchemy")
    store.change(add=[ROW])
    errors = []
    sql(path, "CREATE TRIGGER no BEFORE DELETE ON lacre_key BEGIN SELECT RAISE(ABORT, 'no'); END")
    sql(
        path,
        "CREATE TRIGGER nope BEFORE INSERT ON lacre_key BEGIN SELECT RAISE(ABORT, 'nope'); END",
    )
    for use in (
        lambda: store.change(add=[ROW]),
        lambda: store.change(add=[replace(ROW, key_id=b"\x09" * 16, version=9)]),
        lambda: store.row(b"CANARY-no-such-i"),
    ):
        with pytest.raises(LacreError) as caught:
            use()
        errors.append(caught.value)
    sql(path, "DROP TABLE lacre_key")
    with pytest.raises(ConfigurationError) as failed:
        store.versions(scope())

    for error in (*errors, failed.value):
        assert "CANARY" not in str(error) + error.hint + repr(error)
    assert "CANARY" not in caplog.text


def test_a_locked_store_is_an_error_of_ours(store: SQLKeyStore, path: Path) -> None:
    """Somebody holds the write lock: the operator is told, and nothing is half done."""
    store.change(add=[ROW])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    pooled = store._engine.raw_connection()
    pooled.cursor().execute("PRAGMA busy_timeout = 20")
    pooled.close()
    for use in (
        lambda: store.change(add=[replace(ROW, key_id=b"\x02" * 16, version=2)]),
        store.rows,
    ):
        with pytest.raises(ConfigurationError, match="does not answer"):
            use()
    other.execute("ROLLBACK")
    other.close()

    assert store.rows() == [ROW]


def test_a_child_of_fork_opens_its_own_connection(store: SQLKeyStore) -> None:
    """Parent and child both go on reading and writing."""
    store.change(add=[ROW])
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            store.change(add=[replace(ROW, key_id=b"\x02" * 16, version=2, state=KeyState.PENDING)])
            code = 0 if store.row(ROW.key_id) == ROW else 2
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(store.rows()) == 2


# What else it keeps


def test_column_states_move_one_revision_at_a_time(store: SQLKeyStore) -> None:
    """The first is revision 1, each next one exactly one on; anything else is a race lost."""
    assert store.get("main", "t", "c") is None
    store.put(PLACE)
    assert store.get("main", "t", "c") == PLACE
    for revision in (1, 3):
        with pytest.raises(MisuseError):
            store.put(replace(PLACE, revision=revision))
    store.put(replace(PLACE, revision=2, state=ColumnState.ENCRYPTED))

    found = store.get("main", "t", "c")
    assert found is not None
    assert (found.revision, found.state) == (2, ColumnState.ENCRYPTED)


def test_the_highest_serial_is_kept(store: SQLKeyStore) -> None:
    """A lower or equal one changes nothing."""
    seen = SeenSerial(kms_key="local://x", serial=5, hash="aa", version_id="bb", mac=b"m" * 32)
    assert store.recall("local://x") is None
    store.remember(seen)
    store.remember(replace(seen, serial=4, hash="cc"))
    store.remember(replace(seen, hash="dd"))
    assert store.recall("local://x") == seen
    higher = replace(seen, serial=6, hash="ee")
    store.remember(higher)

    assert store.recall("local://x") == higher


def test_every_connection_overwrites_what_it_frees(store: SQLKeyStore) -> None:
    """secure_delete is asked for on each connection, whatever SQLite was built with."""
    with store._reading() as connection:
        connection.exec_driver_sql("PRAGMA secure_delete = OFF")
    store._engine.dispose()
    with store._reading() as connection:
        assert connection.exec_driver_sql("PRAGMA secure_delete").scalar() == 1
        raw = sqlite3.connect(":memory:")
        raw.execute("PRAGMA secure_delete = OFF")
        assert raw.execute("PRAGMA secure_delete").fetchone() == (0,)
        raw.close()


def test_a_removed_memory_is_noticed(store: SQLKeyStore, path: Path) -> None:
    """Where keys are wrapped under a KMS key, "never seen" is a lie that somebody wrote."""
    seen = SeenSerial(
        kms_key="local://pii-fields", serial=7, hash="ab" * 32, version_id="cd" * 16, mac=b"m" * 32
    )
    store.remember(seen)
    store.change(add=[replace(ROW, parent="local://pii-fields", scope=scope("branch"))])
    sql(path, "DELETE FROM lacre_keystore_seen")

    assert store.recall("local://never-used") is None
    with pytest.raises(Tampered):
        store.recall("local://pii-fields")
