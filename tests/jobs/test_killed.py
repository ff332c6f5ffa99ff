# SPDX-License-Identifier: Apache-2.0
"""Jobs that are killed at any moment and run again."""

import importlib.util
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lacre.context import acting_as
from lacre.errors import MisuseError
from lacre.jobs.pace import Pace
from lacre.jobs.sqlite.database import opened
from lacre.jobs.sqlite.protect import protect
from lacre.jobs.sqlite.residue import find_plaintext
from lacre.jobs.sqlite.unprotect import unprotect
from tests.jobs.double import authority, fields, plain, readable, requests, schema
from tests.jobs.killing import Child, comes, forked, nursery, survived

COLUMNS = "email:pii:email name:pii born:pii"


def people(path: Path, rows: int, journal: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={journal}")
    connection.executescript(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, email TEXT UNIQUE, name VARCHAR(80), born DATE, note TEXT);"
        "CREATE INDEX people_note ON people(note);"
        "CREATE TABLE log (entry TEXT);"
        "CREATE TRIGGER people_logged AFTER UPDATE ON people BEGIN INSERT INTO log VALUES (OLD.id || NEW.note); END;"
    )
    connection.executemany(
        "INSERT INTO people VALUES (?, ?, ?, ?, ?)",
        [
            (
                number,
                None if number % 11 == 0 else f"person.{number}@example.org",
                "" if number % 7 == 0 else f"Zoë Nguyễn 🦊 {number}",
                f"19{number % 90 + 10}-01-02",
                f"note {number}",
            )
            for number in range(rows)
        ],
    )
    connection.commit()
    connection.close()


class KilledAt:
    """Connects like the job does, and kills the process before its statement number *at*."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, path: Path) -> sqlite3.Connection:
        connection = opened(path)
        connection.set_trace_callback(self._before)
        return connection

    def _before(self, _statement: str) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


JOBS = {"protect": protect, "unprotect": unprotect}


def run(direction: str, path: Path, states: Path, table: str, columns: str, **how) -> None:
    """A job, as the operator."""
    with acting_as("operator", roles={"operator"}, purpose="protect"):
        JOBS[direction](
            path, table, requests(columns), fields=fields(table), authority=authority(states), **how
        )


def killed(direction: str, path: Path, states: Path, at: int) -> bool:
    """Run a job in a child that dies before statement *at*; False if it came to its end."""
    how = {"pace": Pace(batch=7), "connect": KilledAt(at)}
    return not survived(forked(lambda: run(direction, path, states, "people", COLUMNS, **how)))


@pytest.mark.parametrize(("journal", "first"), [("delete", 1), ("wal", 2)])
def test_every_statement_is_a_safe_place_to_die(volatile, journal, first):
    """Killed before any one of its statements, every fourth in each journal mode, a job run again ends as if nothing had happened."""
    assert killed_at_statements(volatile, journal, range(first, 1000, 4)) > 45


@pytest.mark.long
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_every_statement_is_a_safe_place_to_die_in_both_modes(volatile, journal):
    """The same before each statement."""
    assert killed_at_statements(volatile, journal, range(1, 1000)) > 200


def killed_at_statements(volatile: Path, journal: str, places: range) -> int:
    """Kill protect, then unprotect, before each of these statements, and run it again; return how often it died."""
    before = volatile / "before.db"
    people(before, 18, journal)
    rows, definitions = plain(before, "people"), schema(before)
    secrets = [value for row in rows for value in row[1:4] if value]
    path, states = volatile / "people.db", volatile / "states"
    deaths = 0
    for direction, job in JOBS.items():
        for at in places:
            for old in volatile.glob("people.db*"):
                old.unlink()
            states.unlink(missing_ok=True)
            shutil.copy(before, path)
            if job is unprotect:
                shutil.copy(volatile / "protected.db", path)
                shutil.copy(volatile / "protected.states", states)
            if not killed(direction, path, states, at):
                break
            deaths += 1
            if job is unprotect and schema(path) == definitions:
                break  # everything is back, and the job's own row gone: nothing to resume
            report = job(
                path,
                "people",
                requests(COLUMNS),
                fields=fields("people"),
                authority=authority(states),
                pace=Pace(batch=7),
            )

            assert report.rows == 18
            if job is protect:
                assert readable(path, "people") == rows
                assert find_plaintext(path, secrets).clean
                assert plain(path, "log") == []
            else:
                assert plain(path, "people") == rows
                assert schema(path) == definitions
        if job is protect:
            shutil.copy(path, volatile / "protected.db")
            shutil.copy(states, volatile / "protected.states")
    return deaths


class Writer(threading.Thread):
    """
    A program that knows nothing of lacre, and remembers every write that was committed.

    It writes the first two *protected* columns, text both, and *free*, under whole-number keys.
    """

    def __init__(
        self, path: Path, table: str, protected: tuple[str, str], free: str, seed: int
    ) -> None:
        super().__init__()
        connection = sqlite3.connect(path)
        found = connection.execute(f"SELECT * FROM {table}")
        self.names = [column[0] for column in found.description]
        self.rows = {row[0]: dict(zip(self.names, row, strict=True)) for row in found}
        connection.close()
        self.commits = self.refused = 0
        self.failure: Exception | None = None
        self._path = path
        self._table = table
        self._protected = protected
        self._free = free
        self._random = random.Random(seed)
        self._over = threading.Event()

    def run(self) -> None:
        connection = sqlite3.connect(self._path, timeout=60, isolation_level=None)
        try:
            while not self._over.is_set():
                self._write(connection)
                time.sleep(0.004)
        except Exception as error:
            self.failure = error
        finally:
            connection.close()

    def stop(self) -> None:
        self._over.set()
        self.join()
        if self.failure is not None:
            raise self.failure

    def expected(self) -> list[tuple]:
        return [tuple(self.rows[key].values()) for key in sorted(self.rows)]

    def secrets(self) -> list[str]:
        return [row[name] for row in self.rows.values() for name in self._protected if row[name]]

    def _write(self, connection: sqlite3.Connection) -> None:
        chance = self._random
        key = self.names[0]
        row = self.rows[chance.choice(list(self.rows))]
        mark = f"{chance.getrandbits(60):015x}"
        first, second = self._protected
        kind = chance.choice(
            ["insert", "first", "second", "null", "free", "free", "delete", "replace"]
        )
        # An inserted row often gets the number of one that was just deleted.
        change = {
            "insert": {
                key: max(self.rows) + 1,
                first: f"new.{mark}@example.org",
                second: f"new {mark}",
            },
            "replace": {
                key: row[key],
                first: row[first],
                second: f"replaced {mark}",
                self._free: mark,
            },
            "first": {first: f"mail.{mark}@example.org"},
            "second": {second: f"name {mark}"},
            "null": {second: None},
            "free": {self._free: mark},
            "delete": {},
        }[kind]
        columns, values = ", ".join(change), list(change.values())
        try:
            if kind in ("insert", "replace"):
                marks = ", ".join("?" for _ in values)
                connection.execute(
                    f"INSERT OR REPLACE INTO {self._table} ({columns}) VALUES ({marks})", values
                )
            elif kind == "delete":
                connection.execute(f"DELETE FROM {self._table} WHERE {key} = ?", (row[key],))
            else:
                connection.execute(
                    f"UPDATE {self._table} SET {columns} = ? WHERE {key} = ?", (*values, row[key])
                )
        except sqlite3.IntegrityError:
            # Plaintext for a column that is encrypted by now: the database itself says no.
            self.refused += 1
            return
        self.commits += 1
        if kind == "delete":
            del self.rows[row[key]]
        elif kind in ("insert", "replace"):
            self.rows[change[key]] = dict.fromkeys(self.names) | change
        else:
            row.update(change)


def jobs_on(path: Path, states: Path, table: str, columns: str):
    """Fork children that protect and unprotect, before there are threads; see `nursery`."""

    def work(direction: str) -> None:
        try:
            run(direction, path, states, table, columns, pace=Pace(batch=40))
        except MisuseError as error:
            # Killed after its last commit, an unprotect has nothing left to undo.
            if "is protected" not in str(error):
                raise

    return nursery(work)


def survive(
    started: Callable[[str], Child], *, kills: int, seed: int, longest: float, check: Callable
) -> int:
    """Protect and unprotect by turns, killing each run at a random moment, until *kills* were survived."""
    chance = random.Random(seed)
    count = ended = 0
    direction = "protect"
    protected = False
    while count < kills or not protected:
        protected = False
        child = started(direction)
        if count < kills:
            time.sleep(chance.uniform(0, longest))
            child.kill()
        if not child.survived():
            count += 1
            continue
        ended += 1
        protected = direction == "protect"
        check(direction)
        direction = "unprotect" if direction == "protect" else "protect"
    return ended


def killed_beside_a_writer(
    path: Path,
    states: Path,
    table: str,
    columns: str,
    writer: Writer,
    kills: int,
    longest: float = 0.7,
) -> None:
    with jobs_on(path, states, table, columns) as started:
        writer.start()
        try:
            survive(started, kills=kills, seed=kills, longest=longest, check=lambda _: None)
            assert comes(
                lambda: not writer.is_alive() or min(writer.commits - 100, writer.refused) > 0
            )
        finally:
            writer.stop()

    assert readable(path, table) == writer.expected()


def people_killed_beside_a_writer(
    volatile: Path, journal: str, kills: int, rows: int, longest: float = 0.7
) -> None:
    path = volatile / "people.db"
    people(path, rows, journal)
    writer = Writer(path, "people", ("email", "name"), "note", kills)
    killed_beside_a_writer(path, volatile / "states", "people", COLUMNS, writer, kills, longest)

    assert find_plaintext(path, writer.secrets()).clean


def test_no_committed_write_is_lost_beside_a_job_that_is_killed(volatile):
    """Killed six times beside a plain-SQL writer, protect ends with every committed write in place."""
    people_killed_beside_a_writer(volatile, "wal", 6, 800, longest=0.3)


@pytest.mark.long
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_no_committed_write_is_lost_in_sixty_kills(volatile, journal):
    """The same, 60 times, in both journal modes."""
    people_killed_beside_a_writer(volatile, journal, 60, 6000)


def sample(volatile: Path) -> Path:
    """A public database that this project did not make."""
    spec = importlib.util.find_spec("mendeleev")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    copy = volatile / "elements.db"
    shutil.copy(Path(spec.submodule_search_locations[0]) / "elements.db", copy)
    return copy


def sample_survives(volatile: Path, table: str, columns: str, kills: int) -> None:
    path = sample(volatile)
    rows, definitions = plain(path, table), schema(path)
    ended = []

    def check(direction: str) -> None:
        ended.append(direction)
        if direction == "protect":
            assert readable(path, table) == rows
        else:
            assert plain(path, table) == rows
            assert schema(path) == definitions

    with jobs_on(path, volatile / "states", table, columns) as started:
        survive(started, kills=kills, seed=kills, longest=0.5, check=check)

    assert ended[-1] == "protect"


def test_a_public_database_survives_its_jobs_being_killed(volatile):
    """A table with a foreign key, in a database of strangers, is the same row by row after kills."""
    sample_survives(
        volatile, "isotopes", "half_life_unit:pii:exact spin:pii parity:pii discovery_year:pii", 4
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("table", "columns"),
    [
        (
            "isotopes",
            "half_life_unit:pii:exact spin:pii parity:pii discovery_year:pii is_radioactive:pii",
        ),
        (
            "elements",
            "name:pii:name symbol:pii:exact cas:pii:exact description:pii discovery_year:pii uses:pii is_monoisotopic:pii",
        ),
        ("ionicradii", "econf:pii:exact coordination:pii spin:pii origin:pii"),
    ],
)
def test_public_tables_survive_sixty_kills(volatile, table, columns):
    """Three tables, sixty kills each."""
    sample_survives(volatile, table, columns, 60)


@pytest.mark.long
def test_a_public_table_loses_no_write_in_sixty_kills(volatile):
    """A table of strangers, a plain-SQL writer on it, sixty kills: every row is the original or the writer's."""
    path = sample(volatile)
    writer = Writer(path, "isotopes", ("spin", "half_life_unit"), "parity", 60)
    killed_beside_a_writer(
        path,
        volatile / "states",
        "isotopes",
        "half_life_unit:pii:exact spin:pii discovery_year:pii",
        writer,
        60,
    )
