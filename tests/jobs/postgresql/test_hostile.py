# SPDX-License-Identifier: Apache-2.0
"""Programs, administrators and neighbours that a job on PostgreSQL must stand: found by attacking it."""

import statistics
import threading
import time
import traceback

import psycopg
import pytest

from lacre.errors import ConfigurationError, InvalidValue, MisuseError
from lacre.fields.column_state import ColumnState
from lacre.jobs import databases
from lacre.jobs.columns import FORM
from lacre.jobs.pace import Pace
from lacre.jobs.postgresql import indexes
from lacre.jobs.postgresql.connection import connected
from tests.components.postgresql import Database
from tests.jobs.double import authority
from tests.jobs.postgresql.tables import protect, readable, rows, unprotect

COPIES = {
    "another row": (
        'INSERT INTO t SELECT (jsonb_populate_record(NULL::t, to_jsonb(t) || \'{"id": 99, "v": "new"}\')).* FROM t WHERE id = 3',
        {"99": "new", "3": "value 3"},
    ),
    "the same row": (
        (
            "CREATE TEMP TABLE x AS SELECT * FROM t WHERE id = 3; UPDATE x SET v = 'new'; "
            "DELETE FROM t WHERE id = 3; INSERT INTO t SELECT * FROM x; DROP TABLE x"
        ),
        {"3": "new"},
    ),
}


def meanwhile(phase: str, act) -> Pace:
    """A pace at which *act* is done once, after the first batch of *phase*."""
    done = []

    def progress(position) -> None:
        if position.phase == phase and not done:
            done.append(phase)
            act()

    return Pace(batch=100, progress=progress)


def recording(asked: list[str]) -> type[psycopg.Cursor]:
    class Recording(psycopg.Cursor):
        def execute(self, query, *args, **kwargs):
            asked.append(query)
            return super().execute(query, *args, **kwargs)

    return Recording


def people(connection, *, rows: int = 20) -> None:
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, v text, note text)")
    connection.execute(
        "INSERT INTO t SELECT i, 'value ' || i, 'canary' FROM generate_series(1, %s) i", (rows,)
    )


def partitioned(connection) -> None:
    connection.execute(
        "CREATE TABLE p (part int, id int, v text, note text, PRIMARY KEY (part, id)) PARTITION BY LIST (part);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);"
        "CREATE INDEX p_v ON p (v); INSERT INTO p SELECT i % 2 + 1, i, 'value ' || i FROM generate_series(1, 20) i"
    )


@pytest.mark.parametrize("kind", COPIES)
def test_a_row_copied_with_its_companions_is_encrypted_anew(database, tmp_path, kind):
    """A whole row put back with another id or value brings marker and ciphertext along; the value written last counts."""
    sql, expected = COPIES[kind]
    with database.connect() as connection:
        people(connection)
        protect(
            database,
            tmp_path,
            "t",
            "v:pii",
            pace=meanwhile("verify", lambda: connection.execute(sql)),
        )
    found = dict(readable(database, tmp_path, "t", ["id", "v"]))

    assert expected.items() <= found.items()


def test_a_neighbours_table_of_jobs_is_not_written_to(database, tmp_path):
    """A superuser's job does not touch a lacre_job of a role that may only create tables: it could get a trigger."""
    name = f"neighbour_{database.name}"
    with database.connect() as connection:
        people(connection)
        connection.execute(
            f"CREATE ROLE {name}; GRANT CREATE, USAGE ON SCHEMA public TO {name}; SET ROLE {name};"
            'CREATE TABLE public.lacre_job (id int8 NOT NULL PRIMARY KEY, "table" text NOT NULL, direction text NOT NULL, '
            "phase text NOT NULL, record text NOT NULL, signer text NOT NULL, signature bytea NOT NULL, done int8 NOT NULL);"
            "RESET ROLE"
        )
        try:
            with pytest.raises(ConfigurationError, match="lacre_job that lacre did not make"):
                protect(database, tmp_path, "t", "v:pii")
            assert FORM not in {
                row[0]
                for row in connection.execute(
                    "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass"
                )
            }
            connection.execute(f"ALTER TABLE t OWNER TO {name}")
            assert protect(database, tmp_path, "t", "v:pii").rows == 20
        finally:
            connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_table_of_jobs_with_an_expression_index_is_not_written_to(database, tmp_path):
    """Whatever could compute in lacre_job makes it somebody else's, an index in its key's place too."""
    with database.connect() as connection:
        people(connection)
        connection.execute(
            'CREATE TABLE lacre_job (id int8 NOT NULL, "table" text NOT NULL, direction text NOT NULL, phase text NOT NULL, '
            "record text NOT NULL, signer text NOT NULL, signature bytea NOT NULL, done int8 NOT NULL);"
            "CREATE INDEX ON lacre_job (lower(record))"
        )
        with pytest.raises(ConfigurationError, match="lacre_job that lacre did not make"):
            protect(database, tmp_path, "t", "v:pii")


@pytest.mark.parametrize("change", ["DROP TABLE p1", "ALTER TABLE p DETACH PARTITION p1"])
def test_a_partition_that_goes_does_not_stop_the_job(database, tmp_path, change):
    """A partition dropped or detached while the job runs is no longer the job's; the others are protected."""
    with database.connect() as connection:
        partitioned(connection)
        pace = meanwhile("verify", lambda: connection.execute(change))
        protect(database, tmp_path, "p", "v:pii:exact", pace=pace)
        expected = sorted((str(i), f"value {i}") for i in range(1, 21, 2))

        assert sorted(readable(database, tmp_path, "p", ["id", "v"])) == expected
        found = connection.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'p_v'")
        assert "v_bidx" in found.fetchone()[0]


@pytest.mark.parametrize(
    ("where", "held"),
    [("ON ONLY", "UPDATE p SET note = 'x' WHERE id = 4"), ("ATTACH", "SELECT count(*) FROM p")],
)
def test_no_lock_is_waited_for_without_limit(database, tmp_path, monkeypatch, where, held):
    """Beside a transaction that stays open, making a partitioned index gives way and asks again: nobody queues behind it."""
    queued: list[str] = []
    real = indexes.Locks.bounded

    with database.connect() as connection, database.connect(autocommit=False) as idle:
        partitioned(connection)

        def bounded(locks, step, mode, statement) -> None:
            if where in statement and not queued:
                queued.append(step)
                idle.execute(held)
                # Given back only once the job was seen to give way.
                threading.Thread(target=release).start()
            real(locks, step, mode, statement)

        def release() -> None:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not connection.execute(waiting).fetchone()[0]:
                time.sleep(0.01)
            while connection.execute(waiting).fetchone()[0]:
                time.sleep(0.01)
            idle.rollback()

        monkeypatch.setattr(indexes.Locks, "bounded", bounded)
        report = protect(database, tmp_path, "p", "v:pii:exact", lock_timeout=0.2)

    assert queued
    assert any("at try" in lock for lock in report.locks if lock.startswith(queued[0]))


def test_prepare_reads_no_rows_under_its_lock(database, tmp_path):
    """Whether a key is empty is looked up by the plan alone, once, and not again while everybody waits."""
    with database.connect() as connection:
        connection.execute(
            "CREATE TABLE t (a int, b text, v text, PRIMARY KEY (a, b)); INSERT INTO t SELECT i, 'k' || i, 'v' FROM generate_series(1, 20) i;"
            "CREATE TABLE u (a int, b text, v text, PRIMARY KEY (a, b)); INSERT INTO u VALUES (1, '', 'v'), (2, 'k', 'v')"
        )
    asked: list[str] = []

    def watched(dsn: str):
        connection = connected(dsn)
        connection.cursor_factory = recording(asked)
        return connection

    protect(database, tmp_path, "t", "v:pii", connect=watched)
    under = asked[asked.index('LOCK TABLE "public"."t" IN ACCESS EXCLUSIVE MODE') :]
    under = under[: next(at for at, sql in enumerate(under) if "INSERT INTO" in sql)]
    protect(database, tmp_path, "u", "v:pii")

    assert any("= ''" in sql for sql in asked)
    assert not any("= ''" in sql for sql in under)
    assert ("1", "v") in [(row[0], row[1]) for row in readable(database, tmp_path, "t", ["a", "v"])]
    assert rows(database, "u", "count(lacre_rid)") == [(2,)]


def test_a_label_added_meanwhile_is_a_refusal_by_row(database, tmp_path):
    """A value of an enum that got a new label during the job is named by its row, and taken by the next run."""
    with database.connect() as connection:
        connection.execute(
            "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t (id int PRIMARY KEY, v mood);"
            "INSERT INTO t SELECT i, 'ok' FROM generate_series(1, 20) i"
        )

        def add() -> None:
            connection.execute("ALTER TYPE mood ADD VALUE 'canary'")
            connection.execute("UPDATE t SET v = 'canary' WHERE id = 3")

        with pytest.raises(InvalidValue, match="row 3") as refused:
            protect(database, tmp_path, "t", "v:pii", pace=meanwhile("fill", add))
        assert "canary" not in "".join(traceback.format_exception(refused.value))
        protect(database, tmp_path, "t", "v:pii")
    unprotect(database, tmp_path, "t", "v:pii")

    assert rows(database, "t", "id, v")[2:4] == [(3, "canary"), (4, "ok")]


@pytest.mark.parametrize(
    "trap",
    [
        "UPDATE t SET v = 'x' WHERE id = 5; ALTER TABLE t ADD CHECK (note <> 'canary') NOT VALID",
        (
            "CREATE FUNCTION f(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'; CREATE INDEX ON t (f(note));"
            "UPDATE t SET v = 'x' WHERE id = 5;"
            "CREATE OR REPLACE FUNCTION f(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$BEGIN RAISE 'no %', $1; END$$"
        ),
    ],
    ids=["check", "raise"],
)
def test_no_traceback_quotes_a_row(database, tmp_path, trap):
    """What the server or a function says of a row is neither in the error nor in what a traceback prints before it."""
    with database.connect() as connection:
        people(connection)
        with pytest.raises(ConfigurationError) as refused:
            protect(
                database,
                tmp_path,
                "t",
                "v:pii",
                pace=meanwhile("verify", lambda: connection.execute(trap)),
            )

    # The frames show this file's own source, which names the canary.
    printed = traceback.TracebackException.from_exception(refused.value)
    assert printed.__suppress_context__
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("query", ["password=hunter2", "sslpassword=hunter2", "a=b&password=x"])
def test_a_password_among_parameters_is_one(query):
    """libpq takes passwords as parameters of a URL too, and whoever lists the processes sees them there."""
    assert databases.has_password(f"postgresql://host/database?{query}")
    assert not databases.has_password("postgresql://host/database?sslmode=require")


def test_an_index_made_meanwhile_is_not_dropped_in_silence(database, tmp_path):
    """Whatever its expression or predicate mentions, an index that would go with the old column stops the switch-over by name."""
    with database.connect() as connection:
        people(connection)
        made = "CREATE INDEX low ON t (lower(v)); CREATE UNIQUE INDEX mine ON t (id) WHERE v IS NOT NULL"
        pace = meanwhile("verify", lambda: connection.execute(made))
        with pytest.raises(MisuseError, match="index low, index mine"):
            protect(database, tmp_path, "t", "v:pii", pace=pace)
        connection.execute("DROP INDEX low, mine")

    assert protect(database, tmp_path, "t", "v:pii").resumed


def test_a_switch_over_is_durable_before_the_key_store_hears_of_it(database):
    """Where the database's own commits are asynchronous, the job's are not."""
    with database.connect() as connection:
        connection.execute(f"ALTER DATABASE {database.name} SET synchronous_commit = off")
    with connected(database.dsn()) as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_the_job_flushes_its_own_batches(database, tmp_path):
    """What a batch wrote to the log is flushed when it is committed, and waits for nobody else's commit."""
    waiting = []
    pending = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn())"
    with database.connect() as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
        connection.execute("INSERT INTO t SELECT i, 'v ' || i FROM generate_series(1, 5000) i")

        def progress(position):
            if position.phase == "fill":
                waiting.extend(connection.execute(pending).fetchone())

        protect(database, tmp_path, "t", "v:pii", pace=Pace(batch=200, progress=progress))

    assert len(waiting) > 10
    # The server's own processes write a little now and then.
    assert statistics.median(waiting) == 0


def test_a_prepared_transaction_that_holds_the_table_is_named(database, tmp_path):
    """Who looks for what holds the table finds no process: it is said where to look."""
    with database.connect() as connection:
        people(connection)
        connection.execute("BEGIN; UPDATE t SET v = 'two' WHERE id = 3; PREPARE TRANSACTION 'two'")
        with pytest.raises(MisuseError, match="pg_prepared_xacts"):
            protect(database, tmp_path, "t", "v:pii", lock_timeout=0.05, lock_tries=2)
        connection.execute("COMMIT PREPARED 'two'")
    protect(database, tmp_path, "t", "v:pii")

    assert ("3", "two") in readable(database, tmp_path, "t", ["id", "v"])


def test_a_key_store_restored_from_an_older_backup_is_brought_up_to_date(database, tmp_path):
    """Where the table is protected and its states are of the job's middle, the same command moves them on."""
    states = tmp_path / "states"
    with database.connect() as connection:
        people(connection)
    protect(database, tmp_path, "t", "v:pii")
    rows_then = states.read_text().splitlines(keepends=True)
    states.write_text(rows_then[0])
    assert authority(states).states.get("main", "t", "v").state is ColumnState.DUAL

    protect(database, tmp_path, "t", "v:pii")
    assert authority(states).states.get("main", "t", "v").state is ColumnState.ENCRYPTED


def test_a_row_that_a_trigger_keeps_as_it_was_is_not_lost(database, tmp_path):
    """Where a partition got a trigger that suppresses updates, the switch-over stops: the row's value would go with the column."""
    with database.connect() as connection:
        partitioned(connection)
        pace = meanwhile(
            "verify",
            lambda: connection.execute(
                "UPDATE p SET v = 'late' WHERE id = 3;"
                "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
                "CREATE TRIGGER no BEFORE UPDATE ON p2 FOR EACH ROW EXECUTE FUNCTION no()"
            ),
        )
        with pytest.raises(MisuseError, match="trigger of p2"):
            protect(database, tmp_path, "p", "v:pii", pace=pace)
        connection.execute("DROP TRIGGER no ON p2")
    protect(database, tmp_path, "p", "v:pii")

    assert ("3", "late") in readable(database, tmp_path, "p", ["id", "v"])


def test_primary_keys_that_change_places_take_their_values_along(database, tmp_path):
    """Two marked rows that swap their keys are encrypted for the keys they have in the end."""
    with database.connect() as connection:
        connection.execute(
            "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, v text); INSERT INTO t SELECT i, 'value ' || i FROM generate_series(1, 20) i"
        )
        swap = "UPDATE t SET id = 7 - id WHERE id IN (3, 4)"
        pace = meanwhile("verify", lambda: connection.execute(swap))
        protect(database, tmp_path, "t", "v:pii", pace=pace)
    found = dict(readable(database, tmp_path, "t", ["id", "v"]))

    assert (found["3"], found["4"]) == ("value 4", "value 3")


def test_a_database_without_encoding_is_refused_before_anything_changes(postgresql, tmp_path):
    """Bytes that may be no text are found out by the plan, not in the middle of the job."""
    with postgresql.database() as database:
        name = f"{database.name}_ascii"
        postgresql.administer(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
        unknown = Database(server=postgresql, name=name)
        try:
            with unknown.connect() as connection:
                connection.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
            with pytest.raises(ConfigurationError, match="SQL_ASCII"):
                protect(unknown, tmp_path, "t", "v:pii")
        finally:
            postgresql.administer(f"DROP DATABASE {name} WITH (FORCE)")
