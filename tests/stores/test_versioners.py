"""Processes that change the key store at once, are killed, or lose their connection in the middle."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from lacre import Lacre
from lacre.context import acting_as
from lacre.errors import KeyStoreUnreachable
from lacre.keys.hierarchy import KeyState
from lacre.stores.roles import Roles
from lacre.stores.schema import VERSION
from lacre.stores.sql import SQLKeyStore
from tests.components.key_stores import KeptInPostgreSQL, KeyStorePlace
from tests.components.postgresql import Database
from tests.keys.parts import Parts, handle, scope

pytestmark = pytest.mark.any_sqlalchemy
RUNNER = Path(__file__).with_name("versioner.py")
Start = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def kept(home: Path, place: KeyStorePlace) -> Iterator[SQLKeyStore]:
    """The key store of `home`, moved to where this test keeps it."""
    old = SQLKeyStore(f"sqlite:///{home}/lacre/keys.db")
    store = place.open()
    store.upgrade()
    store.restore(old.contents(), allow=lambda _: None)
    old.close()
    config = home / "lacre.toml"
    text = config.read_text()
    config.write_text(text.replace('url = "sqlite:///lacre/keys.db"', place.toml()))
    yield store
    store.close()


@pytest.fixture
def start(home: Path, kept: SQLKeyStore) -> Iterator[Start]:
    """Starts processes that wait for commands, and ends them."""
    with ExitStack() as stack:

        def run() -> "subprocess.Popen[str]":
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, RUNNER, home],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    bufsize=1,
                )
            )
            stack.callback(process.kill)
            assert _heard(process) == "ready"
            return process

        yield run


def _heard(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _tell(process: "subprocess.Popen[str]", command: str) -> None:
    assert process.stdin is not None
    process.stdin.write(command + "\n")


def _at_once(processes: "list[subprocess.Popen[str]]", command: str) -> list[str]:
    for process in processes:
        _tell(process, command)
    return [_heard(process) for process in processes]


def _one_active_row_each(store: SQLKeyStore) -> None:
    rows = store.rows()
    active = Counter(row.scope for row in rows if row.state is KeyState.ACTIVE)

    assert set(active.values()) == {1}
    for found in {row.scope for row in rows}:
        versions = store.versions(found)
        assert [row.version for row in versions] == list(range(len(versions), 0, -1))


@pytest.mark.parametrize("kind", ["data", "branch"])
def test_of_two_rotations_at_once_each_is_made_or_says_so(
    kept: SQLKeyStore, start: Start, kind: str
) -> None:
    """Whatever the order, versions have no gap, one row is active, and a loser says that nothing was done."""
    two = [start(), start()]
    answers = [answer for _ in range(8) for answer in _at_once(two, f"rotate {kind}")]
    made = [answer for answer in answers if answer.startswith("version ")]
    lost = [answer for answer in answers if not answer.startswith("version ")]

    assert len(made) >= 8  # in each round one of the two at least
    assert len(set(made)) == len(made)
    assert all(a.startswith("MisuseError: another process changed these keys") for a in lost), lost
    _one_active_row_each(kept)


def test_two_that_provision_a_tenant_make_it_once(kept: SQLKeyStore, start: Start) -> None:
    """Three keys in all, whoever made which; the one who was late says so or finds nothing to do."""
    two = [start(), start()]
    for number in range(5):
        answers = _at_once(two, f"create t{number}")
        again = _at_once(two, f"create t{number}")

        assert all(
            answer.startswith(("made ", "MisuseError: another process")) for answer in answers
        )
        assert any(answer.startswith("made ") for answer in (*answers, *again))
        assert _at_once(two, f"create t{number}") == ["made 0", "made 0"]
        assert len([row for row in kept.rows() if row.scope.tenant == f"t{number}"]) == 3
    _one_active_row_each(kept)


def test_two_that_upgrade_make_one_store(
    place: KeyStorePlace, start: Start, tmp_path: Path
) -> None:
    """Both end with the same id."""
    two = [start(), start()]
    for number in range(5):
        url = (
            place.url
            if isinstance(place, KeptInPostgreSQL)
            else f"sqlite:///{tmp_path}/u{number}.db"
        )
        schema = f"{place.schema}_{number}" if isinstance(place, KeptInPostgreSQL) else "lacre"
        one, other = _at_once(two, f"upgrade {url} {schema}")

        assert one == other
        assert len(one) == 32


@pytest.mark.parametrize("kind", ["data", "branch"])
def test_a_rotation_killed_anywhere_leaves_a_usable_store(
    home: Path, kept: SQLKeyStore, start: Start, kind: str
) -> None:
    """SIGKILL at a random moment: one active row of each scope, values open, the next rotation works."""
    with (
        Lacre.load(home / "lacre.toml", environ={}) as lacre,
        acting_as("t", roles={"app"}, purpose="p"),
    ):
        sealed = lacre.field("pii", table="t", column="c").encrypt("x", row="1")
    for _ in range(3):
        process = start()
        _tell(process, f"forever {kind}")
        _heard(process)
        time.sleep(random.random() / 10)
        process.send_signal(signal.SIGKILL)
        process.wait()

        _one_active_row_each(kept)
    after = start()
    _tell(after, f"rotate {kind}")
    assert _heard(after).startswith("version ")
    with (
        Lacre.load(home / "lacre.toml", environ={}) as lacre,
        acting_as("t", roles={"app"}, purpose="p"),
    ):
        box = lacre.field("pii", table="t", column="c")
        assert box.decrypt(sealed, row="1") == "x"
        assert box.decrypt(box.encrypt("y", row="1"), row="1") == "y"


def test_an_upgrade_killed_anywhere_is_made_or_not(
    place: KeyStorePlace, start: Start, tmp_path: Path
) -> None:
    """SIGKILL while it makes one store after the other: each is whole or not there, and can be made."""
    postgresql = isinstance(place, KeptInPostgreSQL)
    base = f"{place.schema}_k" if isinstance(place, KeptInPostgreSQL) else "x"
    url = place.url if postgresql else f"sqlite:///{tmp_path}/kNUMBER.db"
    process = start()
    _tell(process, f"upgrades {url} {base}")
    _heard(process)
    time.sleep(random.random() / 5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    whole = 1 + len(process.stdout.read().split())

    for number in range(whole + 2):
        store = SQLKeyStore(url.replace("NUMBER", str(number)), schema=f"{base}_{number}")
        assert store.version() == VERSION if number < whole else store.version() in (0, VERSION)
        store.upgrade()
        assert store.rows() == []
        store.close()


# The server ends the connection before the n-th statement, for every n.


def _dropped_at(store: SQLKeyStore, database: Database, at: int, work: Callable[[], object]) -> int:
    """Do *work* with the connection ended before statement *at*; return how many there were."""
    seen = 0

    def drop(*_: object) -> None:
        nonlocal seen
        if seen == at:
            with database.connect() as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                    [database.name],
                )
        seen += 1

    engine = store._database.engine
    for event in ("before_cursor_execute", "commit"):
        sa.event.listen(engine, event, drop)
    try:
        work()
    finally:
        for event in ("before_cursor_execute", "commit"):
            sa.event.remove(engine, event, drop)
    return seen


@pytest.mark.parametrize("kind", ["data", "branch", "index"])
def test_a_rotation_whose_connection_drops_is_made_or_not(database: Database, kind: str) -> None:
    """Before each of its statements: retryable, one active row, and the next try works."""
    parts = Parts.at(KeptInPostgreSQL(database=database))
    parts.create()
    at = 0

    def make_room() -> None:
        # A third index root is refused while two live.
        for row in parts.store.versions(scope("index")):
            if row.state is KeyState.DECRYPT_ONLY:
                parts.step(row, KeyState.DESTROYED)

    while True:
        make_room()
        try:
            if _dropped_at(parts.store, database, at, lambda: parts.rotate(kind)) <= at:
                break
        except KeyStoreUnreachable:
            pass  # any other error fails the test
        versions = parts.store.versions(scope(kind))
        assert [row.state for row in versions if row.state is KeyState.ACTIVE] == [KeyState.ACTIVE]
        parts.resolver().to_encrypt(handle(kind))
        make_room()
        parts.rotate(kind)
        at += 1

    assert at >= 4
    parts.recorder.close()
    parts.store.close()


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.long)])
def test_an_upgrade_whose_connection_drops_is_made_or_not(database: Database, step: int) -> None:
    """Before its statements, each fourth or each, roles included: nothing is there, and the next try works."""
    place = KeptInPostgreSQL(database=database)
    at = 0
    while True:
        store = place.open()
        try:
            if _dropped_at(store, database, at, lambda: store.upgrade(roles=Roles())) <= at:  # noqa: B023
                break
        except KeyStoreUnreachable:
            assert store.version() == 0
        store.upgrade(roles=Roles())
        assert store.rows() == []
        store.close()
        with database.connect() as connection:
            connection.execute("DROP SCHEMA lacre CASCADE")
        at += step

    assert at > 15
    store.close()
