"""The key store keeps what it is given, races safely, and is upgraded while others read it."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from operator import attrgetter
from typing import Any

import pytest

from lacre.errors import ConfigurationError, KeyNotFound, LacreError, MisuseError, Tampered
from lacre.fields.column_state import ColumnState
from lacre.keys.hierarchy import KeyState
from lacre.keys.seen import SeenSerial
from lacre.stores.schema import VERSION
from lacre.stores.sql import SQLKeyStore
from tests.components.key_stores import KeptInPostgreSQL, KeptInSQLite, KeyStorePlace
from tests.keys.parts import scope
from tests.stores.rows import COLUMN, ROW, uses


@pytest.fixture
def store(place: KeyStorePlace) -> Iterator[SQLKeyStore]:
    """An empty key store."""
    made = place.open()
    made.upgrade()
    yield made
    made.close()


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
import sys
import sqlalchemy as sa
url, schema, last = sys.argv[1:]
engine = sa.create_engine(url)
def read(statement):
    with engine.connect() as connection:
        return connection.exec_driver_sql(statement.replace("lacre_", schema + "lacre_")).scalar()
assert read("SELECT count(*) FROM lacre_key") == 1
print("ready", flush=True)
reads = 0
while True:
    assert read("SELECT count(*) FROM lacre_key") == 1
    reads += 1
    if read("SELECT value FROM lacre_meta WHERE name = 'schema'") == last:
        break
print(reads)
"""


@pytest.mark.parametrize("version", range(1, VERSION))
def test_an_upgrade_keeps_what_is_there_while_others_read(
    place: KeyStorePlace, version: int
) -> None:
    """A store of every version before becomes one of this, with its rows and id, under a reader's eyes."""
    old = place.open()
    assert old.upgrade(to=version) == (0, version)
    identity = place.sql("SELECT value FROM lacre_meta WHERE name = 'keystore'")
    place.sql(
        "INSERT INTO lacre_key (key_id, kind, app, env, service, tenant, class, subject, version, parent, suite, created, keystore, wrapped, state, revision, changed, mac) VALUES (?, 'data', 'a', 'e', 's', 't', 'c', '', 1, 'p', 1, 'now', 'k', ?, 'active', 1, 'now', ?)",
        b"\x01" * 16,
        b"w",
        b"m",
    )
    schema = "" if isinstance(place, KeptInSQLite) else place.schema + "."
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, place.url, schema, str(VERSION)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        assert old.upgrade() == (version, VERSION)
        assert int(reader.stdout.readline()) > 0
    assert reader.returncode == 0

    assert place.sql("SELECT value FROM lacre_meta WHERE name = 'keystore'") == identity
    assert len(place.sql("SELECT * FROM lacre_key")) == 1
    old.put(COLUMN)
    assert old.upgrade() == (VERSION, VERSION)
    old.close()


def test_two_upgrades_at_once_are_one(place: KeyStorePlace) -> None:
    """Processes that start together make one store with one id."""

    def upgrade(_: int) -> str:
        store = place.open()
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
    store: SQLKeyStore, place: KeyStorePlace, value: str, said: str
) -> None:
    """Newer, older or unreadable: nothing is read, and the error says what to do."""
    place.sql(f"UPDATE lacre_meta SET value = '{value}' WHERE name = 'schema'")
    other = place.open()
    for use in uses(other):
        with pytest.raises(ConfigurationError) as caught:
            use()
        assert said in caught.value.hint
    other.close()


def test_a_newer_store_is_not_downgraded(store: SQLKeyStore, place: KeyStorePlace) -> None:
    """An upgrade by an older release leaves it as it is."""
    place.sql(f"UPDATE lacre_meta SET value = '{VERSION + 1}' WHERE name = 'schema'")

    assert store.upgrade() == (VERSION + 1, VERSION + 1)
    assert store.version() == VERSION + 1


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "postgresql://u:CANARY@h/d",
        "postgresql+asyncpg://u:CANARY@h/d",
        "mysql://u:CANARY@h/d",
        "CANARY",
    ],
)
def test_a_url_that_cannot_keep_keys_is_refused(url: str) -> None:
    """In memory, another database, or no URL; a password in it is not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        SQLKeyStore(url)

    assert "CANARY" not in str(caught.value) + caught.value.hint


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


STRANGE = ("NULL", "", 'quote" and back\\slash', "{brace}, comma", "line\nbreak", "çã🦊")


@pytest.mark.parametrize(
    "changed",
    [
        {"parent": "cd" * 16, "wrapped": b"\x00\xff" * 60},
        {"wrapped": b"anew", "mac": None, "revision": 2, "changed": "later"},
        {"state": KeyState.DECRYPT_ONLY, "revision": 2},
    ],
)
def test_many_are_replaced_or_none(store: SQLKeyStore, changed: dict[str, Any]) -> None:
    """Forty at once, whatever is in them, each with its own values; where one is stale, none."""
    before = [
        replace(
            ROW,
            key_id=bytes([number]) * 16,
            scope=scope(tenant=f"t{number}"),
            parent=STRANGE[number % len(STRANGE)],
            wrapped=None if number % 5 == 0 else bytes([number]) * 99,
        )
        for number in range(40)
    ]
    after = [replace(row, **changed) for row in before]
    for number, row in enumerate(after):
        after[number] = replace(row, changed=f"{number} {STRANGE[number % len(STRANGE)]}")
    store.change(add=before)
    for stale in ({"revision": 7}, {"wrapped": b"other"}, {"state": KeyState.DISABLED}):
        pairs = list(zip(before, after, strict=True))
        pairs[17] = (replace(before[17], **stale), replace(after[17], **stale))  # type: ignore[arg-type]
        with pytest.raises(MisuseError):
            store.change(replace=pairs)
        assert sorted(store.rows(), key=attrgetter("key_id")) == before
    store.change(replace=list(zip(before, after, strict=True)))

    assert sorted(store.rows(), key=attrgetter("key_id")) == after


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


REFUSING: dict[type, list[str]] = {
    KeptInSQLite: [
        "CREATE TRIGGER nope BEFORE INSERT ON lacre_key BEGIN SELECT RAISE(ABORT, 'nope'); END"
    ],
    KeptInPostgreSQL: [
        "CREATE FUNCTION nope() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'nope'; END $$",
        "CREATE TRIGGER nope BEFORE INSERT ON lacre_key FOR EACH ROW EXECUTE FUNCTION nope()",
    ],
}


def test_errors_and_logs_carry_no_parameters(
    store: SQLKeyStore, place: KeyStorePlace, caplog: pytest.LogCaptureFixture
) -> None:
    """What is in a row is in no message, even with SQLAlchemy's own log turned up."""
    caplog.set_level(logging.DEBUG, "sqlalchemy")
    store.change(add=[ROW])
    errors = []
    for statement in REFUSING[type(place)]:
        place.sql(statement)
    for use in (
        lambda: store.change(add=[ROW]),
        lambda: store.change(add=[replace(ROW, key_id=b"\x09" * 16, version=9)]),
        lambda: store.row(b"CANARY-no-such-i"),
    ):
        with pytest.raises(LacreError) as caught:
            use()
        errors.append(caught.value)
    place.sql("DROP TABLE lacre_key")
    with pytest.raises(ConfigurationError) as failed:
        store.versions(scope())

    for error in (*errors, failed.value):
        assert "CANARY" not in str(error) + error.hint + repr(error)
    assert "CANARY" not in caplog.text


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
    store.put(COLUMN)
    assert store.get("main", "t", "c") == COLUMN
    for revision in (1, 3):
        with pytest.raises(MisuseError):
            store.put(replace(COLUMN, revision=revision))
    store.put(replace(COLUMN, revision=2, state=ColumnState.ENCRYPTED))

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


def test_a_removed_memory_is_noticed(store: SQLKeyStore, place: KeyStorePlace) -> None:
    """Where keys are wrapped under a KMS key, "never seen" is a lie that somebody wrote."""
    seen = SeenSerial(
        kms_key="local://pii-fields", serial=7, hash="ab" * 32, version_id="cd" * 16, mac=b"m" * 32
    )
    store.remember(seen)
    store.change(add=[replace(ROW, parent="local://pii-fields", scope=scope("branch"))])
    place.sql("DELETE FROM lacre_keystore_seen")

    assert store.recall("local://never-used") is None
    with pytest.raises(Tampered):
        store.recall("local://pii-fields")
