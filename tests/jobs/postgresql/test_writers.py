# SPDX-License-Identifier: Apache-2.0
"""What other programs write while a job is under way, and several processes of the job itself."""

import itertools
import threading
import time
from contextlib import contextmanager

import psycopg
import pytest

from lacre.context import acting_as
from lacre.errors import ConfigurationError, DuplicateValue, InvalidValue, MisuseError
from lacre.jobs.columns import FORM
from lacre.jobs.pace import Pace
from lacre.jobs.postgresql.connection import connected
from lacre.jobs.postgresql.lag import Replicas, lag_of
from lacre.jobs.postgresql.ledger import jobs_of
from lacre.jobs.postgresql.protect import protect as protect_job
from tests.components.postgresql import Database, standby_of
from tests.jobs.double import authority, fields_as_planned, requests
from tests.jobs.postgresql.tables import protect, readable, rows, unprotect


class Stopped(Exception):
    """The job was stopped here."""


def stopping(phase: str, at: int = 1) -> Pace:
    """A pace at which the job stops after its *at*th batch of *phase*."""
    seen = 0

    def progress(position) -> None:
        nonlocal seen
        seen += position.phase == phase
        if seen == at:
            raise Stopped

    return Pace(batch=100, progress=progress)


@pytest.fixture
def dual(database, tmp_path):
    """A table in the middle of its protection: every row is marked, and the fill was stopped."""
    with database.connect() as connection:
        connection.execute(
            "CREATE TABLE t (id int PRIMARY KEY, v text UNIQUE, n numeric, note text);"
            "INSERT INTO t SELECT i, 'value ' || i, 1.5, 'x' FROM generate_series(1, 20) i"
        )
        with pytest.raises(Stopped):
            protect(database, tmp_path, "t", "v:pii:exact n:pii", pace=stopping("verify"))
        assert connection.execute("SELECT count(lacre_form) FROM t").fetchone() == (20,)
    return database


LEGACY = {
    "update": "UPDATE t SET v = 'new' WHERE id = 3",
    "update to NULL": "UPDATE t SET v = NULL WHERE id = 3",
    "update of what is equal but not the same": "UPDATE t SET n = 1.50 WHERE id = 3",
    "upsert": "INSERT INTO t (id, v) VALUES (3, 'new') ON CONFLICT (id) DO UPDATE SET v = excluded.v",
    "insert": "INSERT INTO t (id, v) VALUES (99, 'new')",
    "another primary key": "UPDATE t SET id = 77 WHERE id = 3",
    "a replica's session": "SET session_replication_role = replica; UPDATE t SET v = 'new' WHERE id = 3",
    "merge": "MERGE INTO t USING (VALUES (3, 'new')) s (id, v) ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = s.v",
    "two values that change places": "UPDATE t SET v = CASE id WHEN 3 THEN 'value 4 ' ELSE 'value 3 ' END WHERE id IN (3, 4)",
}


@pytest.mark.parametrize("kind", LEGACY)
def test_a_write_of_plaintext_takes_the_marker_off(dual, tmp_path, kind):
    """However it comes, plaintext that changed is the row's value from then on, and is encrypted in the end."""
    with dual.connect() as connection:
        connection.execute(LEGACY[kind])
        unmarked = connection.execute(f"SELECT count(*) FROM t WHERE {FORM} IS NULL").fetchone()[0]
        stale = connection.execute(
            f"SELECT count(*) FROM t WHERE {FORM} IS NULL AND (v_lacre IS NOT NULL OR v_bidx IS NOT NULL OR n_lacre IS NOT NULL)"
        ).fetchone()
    expected = [(str(row), v) for row, v in rows(dual, "t", "id, v")]

    assert unmarked == (2 if "two values" in kind else 1)
    assert stale == (0,)
    protect(dual, tmp_path, "t", "v:pii:exact n:pii")
    assert sorted(readable(dual, tmp_path, "t", ["id", "v"])) == sorted(expected)


def test_copied_rows_are_found(dual, tmp_path):
    """COPY of plaintext is filled like any other row."""
    with (
        dual.connect() as connection,
        connection.cursor() as cursor,
        cursor.copy("COPY t (id, v) FROM STDIN") as copy,
    ):
        copy.write_row((50, "copied"))
    protect(dual, tmp_path, "t", "v:pii:exact n:pii")

    assert ("50", "copied") in readable(dual, tmp_path, "t", ["id", "v"])


def test_a_write_beside_the_value_keeps_the_marker(dual):
    """What does not change a protected value leaves the row as it is."""
    with dual.connect() as connection:
        connection.execute("UPDATE t SET note = 'y'; UPDATE t SET v = v, n = 1.5")

        assert connection.execute("SELECT count(lacre_form) FROM t").fetchone() == (20,)


def test_a_value_that_became_a_duplicate_is_named_by_its_row(dual, tmp_path):
    """What only the normaliser takes for equal stops the job, which names the rows and goes on once they differ."""
    with dual.connect() as connection:
        connection.execute(
            "CREATE TABLE u (id int PRIMARY KEY, v text UNIQUE); INSERT INTO u VALUES (1, 'a@x.org')"
        )
        with pytest.raises(Stopped):
            protect(dual, tmp_path, "u", "v:pii:email", pace=stopping("verify"))
        connection.execute("INSERT INTO u VALUES (2, 'A@x.org')")

        with pytest.raises(DuplicateValue, match="rows 1, 2") as refused:
            protect(dual, tmp_path, "u", "v:pii:email")
        assert "x.org" not in str(refused.value).lower()
        connection.execute("UPDATE u SET v = 'b@x.org' WHERE id = 2")
    assert protect(dual, tmp_path, "u", "v:pii:email").resumed


def test_a_value_that_no_longer_fits_is_named_by_its_row(database, tmp_path):
    """On the way back, a value that the column's own type would cut is a refusal, not a loss."""
    with database.connect() as connection:
        connection.execute(
            "CREATE TABLE t (id int PRIMARY KEY, v varchar(3)); INSERT INTO t VALUES (7, 'abc')"
        )
        protect(database, tmp_path, "t", "v:pii")
        with connected(database.dsn()) as other:
            job = jobs_of(other, "public", "t", authority(tmp_path / "states"))[0]
        longer = fields_as_planned(job.columns[0]).prepare_many([("7", "a secret")])[0]
        connection.execute("UPDATE t SET v = %s", (bytes(longer.value),))

        with pytest.raises(InvalidValue, match="row 7") as refused:
            unprotect(database, tmp_path, "t", "v:pii")
        assert "secret" not in str(refused.value)


def test_no_error_quotes_a_value(dual, tmp_path):
    """What the server says about a row that it refuses is not repeated."""
    with dual.connect() as connection:
        connection.execute(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE check_violation USING MESSAGE = 'canary ' || OLD.note; END$$;"
            "UPDATE t SET v = 'z' WHERE id = 1;"
            "CREATE TRIGGER no BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION no()"
        )
        with pytest.raises(MisuseError, match="trigger no"):
            protect(dual, tmp_path, "t", "v:pii:exact n:pii")


@contextmanager
def in_thread(work):
    failures = []

    def run() -> None:
        try:
            with acting_as("operator", roles={"operator"}, purpose="protect"):
                work()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield failures
    thread.join()


def test_one_process_works_and_the_other_says_so_or_joins(database, tmp_path):
    """A second process with the same command is refused by name; with --join it fills beside the first."""
    with database.connect() as connection:
        connection.execute(
            "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'value ' || i FROM generate_series(1, 3000) i"
        )
    under_way, joined = threading.Event(), threading.Event()

    def progress(position) -> None:
        under_way.set()
        joined.wait(60)

    with in_thread(
        lambda: protect(database, tmp_path, "t", "v:pii", pace=Pace(batch=50, progress=progress))
    ) as failures:
        assert under_way.wait(60)
        try:
            for job in (protect, unprotect):
                with pytest.raises(MisuseError, match="another process is at work on t"):
                    job(database, tmp_path, "t", "v:pii")
            beside = protect(database, tmp_path, "t", "v:pii", join=True, pace=Pace(batch=50))
        finally:
            joined.set()

    assert failures == []
    assert beside.joined
    assert 0 < beside.rows < 3000
    found = readable(database, tmp_path, "t", ["id", "v"])
    assert sorted(found) == sorted((str(i), f"value {i}") for i in range(1, 3001))
    with pytest.raises(MisuseError, match="no fill to join"):
        protect(database, tmp_path, "t", "v:pii", join=True)


def test_workers_never_have_one_row_twice(database, tmp_path):
    """Four workers encrypt each row once: as many values are made as there are rows."""
    made = []

    class Counting:
        def __init__(self, column) -> None:
            self._field = fields_as_planned(column)

        def prepare_many(self, items, /, *, recorded=True):
            made.extend(row for row, _ in items)
            return self._field.prepare_many(items, recorded=recorded)

        def written(self, rows, /):
            return self._field.written(rows)

        def decrypt_many(self, items, /):
            return self._field.decrypt_many(items)

    with database.connect() as connection:
        connection.execute(
            "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'value ' || i FROM generate_series(1, 5000) i"
        )
    report = protect(
        database, tmp_path, "t", "v:pii", pace=Pace(batch=64, workers=4), fields=Counting
    )

    assert sorted(made) == sorted(str(i) for i in range(1, 5001))
    assert report.lost_races == 0


def test_a_job_waits_for_a_replica_that_is_behind(postgresql, database, tmp_path):
    """While a real replica does not replay, the job pauses; it goes on when the replica does."""
    with database.connect() as connection:
        connection.execute(
            "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'value ' || i FROM generate_series(1, 500) i"
        )
    slept = []
    with standby_of(postgresql) as replica:
        there = Database(server=replica, name=database.name)
        with there.connect() as reading:
            until(lambda: reading.execute("SELECT count(*) FROM t").fetchone() == (500,))
            reading.execute("SELECT pg_wal_replay_pause()")

            def sleep(seconds: float) -> None:
                slept.append(seconds)
                if len(slept) == 2:
                    reading.execute("SELECT pg_wal_replay_resume()")
                time.sleep(0.1)

            # A clock that makes each question the next one: ten seconds pass between two of them.
            ticks = itertools.count(0.0, 10.0)
            pace = Pace(batch=50, max_lag=5.0, clock=lambda: next(ticks), sleep=sleep)
            protect(database, tmp_path, "t", "v:pii", pace=pace)

            assert len(slept) >= 2
            typed = "SELECT pg_typeof(v)::text, count(*) FROM t GROUP BY 1"
            until(lambda: reading.execute(typed).fetchone() == ("bytea", 500))


def test_a_job_without_replicas_waits_for_none(database):
    """Nothing is behind where nothing follows."""
    slept = []
    with connected(database.dsn()) as connection:
        assert lag_of(connection) is None
        Replicas(Pace(max_lag=0.0, sleep=slept.append)).wait(connection)

    assert not slept


def test_who_may_not_see_replicas_is_told(database):
    """Waiting for replicas is refused to a role that would never see one."""
    name = f"blind_{database.name}"
    with database.connect() as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p'")
    try:
        with connected(database.dsn(user=name, password="p")) as connection:
            with pytest.raises(ConfigurationError, match="may not see replicas"):
                Replicas(Pace(max_lag=1.0)).wait(connection)
            Replicas(Pace()).wait(connection)
    finally:
        database.server.administer(f"DROP ROLE {name}")


def until(holds) -> None:
    """Wait for what a replica does in its own time."""
    for _ in range(600):
        try:
            if holds():
                return
        except psycopg.errors.UndefinedTable:
            pass
        time.sleep(0.05)
    pytest.fail("the replica did not follow")


def test_the_tables_owner_is_enough(database, tmp_path):
    """A role that owns the table and may create in its schema protects it, with nothing more."""
    name = f"owner_{database.name}"
    with database.connect() as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p'")
        connection.execute(f"GRANT CREATE ON SCHEMA public TO {name}")
        connection.execute(
            f"CREATE TABLE t (id int PRIMARY KEY, v text UNIQUE); ALTER TABLE t OWNER TO {name}"
        )
        connection.execute("INSERT INTO t VALUES (1, 'a'); ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    dsn = database.dsn(user=name, password="p")
    options = {"fields": fields_as_planned, "authority": authority(tmp_path / "states")}
    try:
        assert protect_job(dsn, "t", requests("v:pii:exact"), **options).rows == 1
        assert readable(database, tmp_path, "t", ["id", "v"]) == [("1", "a")]
    finally:
        with database.connect() as connection:
            connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_functions_of_other_schemas_are_never_called(database, tmp_path):
    """Whatever operators and functions a schema in front of pg_catalog has, the job and its trigger use the server's."""
    with database.connect() as connection:
        connection.execute(
            "CREATE TABLE t (id int PRIMARY KEY, v text UNIQUE); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 9) i;"
            "CREATE SCHEMA evil; CREATE TABLE evil.hit (what text);"
            "CREATE FUNCTION evil.record_image_ne(record, record) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN INSERT INTO evil.hit VALUES ('ne'); RETURN false; END$$;"
            "CREATE FUNCTION evil.octet_length(bytea) RETURNS int LANGUAGE plpgsql AS $$BEGIN INSERT INTO evil.hit VALUES ('length'); RETURN 1000; END$$;"
            "CREATE FUNCTION evil.same(text, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN INSERT INTO evil.hit VALUES ('='); RETURN true; END$$;"
            "CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.same)"
        )
        connection.execute(
            f"ALTER DATABASE {database.name} SET search_path = evil, pg_catalog, public"
        )
    with pytest.raises(Stopped):
        protect(database, tmp_path, "t", "v:pii:exact", pace=stopping("verify"))
    with psycopg.connect(database.dsn(), autocommit=True) as writer:
        writer.execute("UPDATE public.t SET v = 'changed' WHERE id OPERATOR(pg_catalog.=) 3")
        assert writer.execute(
            "SELECT count(*) FROM public.t WHERE lacre_form IS NULL"
        ).fetchone() == (1,)
    protect(database, tmp_path, "t", "v:pii:exact")

    assert rows(database, "evil.hit", "count(*)") == [(0,)]
    assert ("3", "changed") in readable(database, tmp_path, "t", ["id", "v"])


@pytest.mark.parametrize(
    "write",
    [
        "UPDATE p SET v = 'new' WHERE id = 3",
        "UPDATE p SET part = 2 WHERE id = 3",
        "UPDATE p SET part = 2, v = 'new' WHERE id = 3",
        "SET session_replication_role = replica; UPDATE p SET v = 'new' WHERE id = 3",
        "UPDATE p1 SET v = 'new' WHERE id = 3",
        "CREATE TABLE p3 PARTITION OF p FOR VALUES IN (3); INSERT INTO p (part, id, v) VALUES (3, 99, 'new')",
    ],
)
def test_partitions_are_watched_like_their_table(database, tmp_path, write):
    """A value that changes in a partition, or a row that moves to another, is encrypted for where it is in the end."""
    with database.connect() as connection:
        connection.execute(
            "CREATE TABLE p (part int, id int, v text, PRIMARY KEY (part, id)) PARTITION BY LIST (part);"
            "CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);"
            "INSERT INTO p SELECT 1, i, 'value ' || i FROM generate_series(1, 9) i"
        )
        with pytest.raises(Stopped):
            protect(database, tmp_path, "p", "v:pii:exact", pace=stopping("verify"))
        connection.execute(write)
        unmarked = connection.execute(f"SELECT count(*) FROM p WHERE {FORM} IS NULL").fetchone()
    expected = sorted((str(row), v) for row, v in rows(database, "p", "id, v"))
    protect(database, tmp_path, "p", "v:pii:exact")

    assert unmarked == (1,)
    assert sorted(readable(database, tmp_path, "p", ["id", "v"])) == expected
