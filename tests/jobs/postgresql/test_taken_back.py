# SPDX-License-Identifier: Apache-2.0
"""A protect that was stopped while it filled is taken back on PostgreSQL."""

import psycopg
import pytest

from lacre.errors import MisuseError
from lacre.fields.column_state import ColumnState
from lacre.jobs.pace import Pace
from tests.jobs.double import FileStates
from tests.jobs.postgresql.tables import definitions, protect, rows, unprotect
from tests.jobs.postgresql.test_killed import COLUMNS, Interrupting, people
from tests.jobs.postgresql.test_protect import SHAPES


class Stops(Exception):
    """Raised from a progress callback, to leave a job half done."""


def half_done(database, tmp_path, table, columns, phase):
    def stop(progress):
        if progress.phase == phase:
            raise Stops

    with pytest.raises(Stops):
        protect(database, tmp_path, table, columns, pace=Pace(batch=7, progress=stop))


@pytest.mark.parametrize("phase", ["fill", "verify"])
def test_the_table_is_what_it_was(database, tmp_path, phase):
    """Stopped while it filled or verified: rows, definitions and triggers are as before, the state `plaintext`."""
    people(database, 50)
    before, defined = rows(database, "people", "*"), definitions(database)
    half_done(database, tmp_path, "people", COLUMNS, phase)
    states = FileStates(tmp_path / "states")

    assert states.get("main", "people", "email").state is ColumnState.DUAL
    with database.connect() as connection:
        connection.execute("UPDATE people SET email = 'late@example.org', note = 'x' WHERE id = 3")
    report = unprotect(database, tmp_path, "people", COLUMNS)
    found = rows(database, "people", "*")

    assert report.rows == 50
    assert [row for row in found if row[0] != 3] == [row for row in before if row[0] != 3]
    assert found[2][1] == "late@example.org"
    assert definitions(database) == defined
    assert states.get("main", "people", "email").state is ColumnState.PLAINTEXT
    assert protect(database, tmp_path, "people", COLUMNS).rows == 50


@pytest.mark.parametrize("shape", ["no key", "partitioned", "another schema", "text key"])
def test_tables_of_other_shapes_come_back(database, tmp_path, shape):
    """Row ids that the job added go with it; every definition is what it was."""
    table, definition, columns = SHAPES[shape]
    name = ".".join(f'"{part}"' for part in table.split("."))
    with database.connect() as connection:
        connection.execute(definition)
        for number in range(20):
            connection.execute(f"INSERT INTO {name} (v) VALUES (%s)", (f"v{number}",))
    before, defined = rows(database, name, "id, v"), definitions(database)
    half_done(database, tmp_path, table, columns, "fill")
    unprotect(database, tmp_path, table, columns)

    assert rows(database, name, "id, v") == before
    assert definitions(database) == defined


def test_a_changed_definition_stops_it(database, tmp_path):
    """A trigger that somebody disabled meanwhile would be lost, so it is named and nothing is done."""
    people(database, 20)
    half_done(database, tmp_path, "people", COLUMNS, "fill")
    with database.connect() as connection:
        connection.execute("ALTER TABLE people DISABLE TRIGGER logs")
        with pytest.raises(MisuseError):
            unprotect(database, tmp_path, "people", COLUMNS)
        connection.execute("ALTER TABLE people ENABLE TRIGGER logs")

    assert unprotect(database, tmp_path, "people", COLUMNS).rows == 20


def test_killed_at_any_statement_it_goes_on(database, tmp_path):
    """A connection lost before any statement of the way back leaves a job that the same command ends."""
    people(database, 20)
    before, defined = rows(database, "people", "*"), definitions(database)

    def lost(_connection):
        raise psycopg.OperationalError

    interrupted = 0
    for at in range(1, 400, 5):
        half_done(database, tmp_path, "people", COLUMNS, "fill")
        interrupting = Interrupting(at, lost)
        try:
            unprotect(database, tmp_path, "people", COLUMNS, connect=interrupting)
        except Exception:
            interrupted += 1
            try:
                unprotect(database, tmp_path, "people", COLUMNS)
            except MisuseError as error:
                assert "no column of people is protected" in str(error)  # noqa: PT017 - after its last
        assert rows(database, "people", "*") == before
        assert definitions(database) == defined
        if not interrupting.done:
            break

    assert interrupted > 5
