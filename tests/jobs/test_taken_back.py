# SPDX-License-Identifier: Apache-2.0
"""A protect that was stopped while it filled is taken back: in `dual` the plaintext is still there."""

import shutil
import sqlite3

import pytest

from lacre.errors import MisuseError
from lacre.fields.column_state import ColumnState
from lacre.jobs.pace import Pace
from lacre.jobs.sqlite.protect import protect
from lacre.jobs.sqlite.unprotect import to_undo, unprotect
from tests.jobs.double import FileStates, authority, fields, plain, requests, schema
from tests.jobs.test_killed import COLUMNS, killed
from tests.jobs.test_killed import people as whole_table
from tests.jobs.test_protect import SHAPES, Stops, half_done, people, run, storage

ASKED = "v:pii:exact"


def state(tmp_path, column="v"):
    return FileStates(tmp_path / "states").get("main", "t", column).state


@pytest.mark.parametrize("phase", ["fill", "verify"])
def test_the_table_is_what_it_was(tmp_path, phase):
    """Stopped while it filled or verified: every row, definition and page is as before, the state `plaintext`."""
    definition = "CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT UNIQUE, other INT)"
    path = people(tmp_path, definition)
    before, defined = storage(path, "t"), schema(path)
    half_done(tmp_path, path, phase=phase)

    assert state(tmp_path) is ColumnState.DUAL
    report = run(unprotect, tmp_path, path, "t", ASKED)

    assert report.rows == 7
    assert (storage(path, "t"), schema(path)) == (before, defined)
    assert state(tmp_path) is ColumnState.PLAINTEXT
    assert b"\xc1\x01" not in path.read_bytes()


def test_what_legacy_writers_wrote_meanwhile_stays(tmp_path):
    """Rows that were changed, added and deleted in `dual` are as their writers left them."""
    path = people(tmp_path)
    half_done(tmp_path, path, phase="verify")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE t SET v = 'changed' WHERE id = '0'")
        connection.execute("DELETE FROM t WHERE id = '1'")
        connection.execute("INSERT INTO t (id, v) VALUES ('9', NULL)")
        clear = connection.execute("SELECT id, v, other FROM t ORDER BY id").fetchall()
    connection.close()
    run(unprotect, tmp_path, path, "t", ASKED)
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT * FROM t ORDER BY id").fetchall()
    connection.close()

    assert found == clear


def test_it_can_be_protected_again(tmp_path):
    """After the way back the same command begins anew and comes to its end."""
    path = people(tmp_path)
    half_done(tmp_path, path)
    run(unprotect, tmp_path, path, "t", ASKED)
    report = run(protect, tmp_path, path, "t", ASKED)

    assert (report.resumed, report.rows) == (False, 7)
    assert state(tmp_path) is ColumnState.ENCRYPTED


@pytest.mark.parametrize("shape", ["reusable number", "without rowid", "strict", "weird names"])
def test_tables_of_other_shapes_come_back(tmp_path, shape):
    """Row ids that the job added go with it; the definition is what it was, to the letter."""
    table, definition, names, columns, order = SHAPES[shape]
    path = tmp_path / "data.db"
    with sqlite3.connect(path) as connection:
        connection.execute(definition)
        quoted = '"' + table.replace('"', '""') + '"'
        for number in range(5):
            connection.execute(
                f"INSERT INTO {quoted} ({names}) VALUES (?, ?)", (number, f"v{number}")
            )
    connection.close()
    before, defined = storage(path, table, order), schema(path)

    def stop(progress):
        raise Stops

    with pytest.raises(Stops):
        run(protect, tmp_path, path, table, columns, pace=Pace(batch=2, progress=stop))
    run(unprotect, tmp_path, path, table, columns)

    assert (storage(path, table, order), schema(path)) == (before, defined)


def test_a_changed_definition_stops_it(tmp_path):
    """An index that somebody made meanwhile would be lost, so the way back says so too."""
    path = people(tmp_path)
    half_done(tmp_path, path)
    connection = sqlite3.connect(path)
    connection.execute("CREATE INDEX mine ON t(other)")
    for attempt in (
        lambda: to_undo(path, "t", requests(ASKED), authority=authority(tmp_path / "states")),
        lambda: run(unprotect, tmp_path, path, "t", ASKED),
    ):
        with pytest.raises(MisuseError):
            attempt()
    connection.execute("DROP INDEX mine")
    connection.close()

    assert run(unprotect, tmp_path, path, "t", ASKED).rows == 7


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_killed_at_any_statement_it_goes_on(tmp_path, journal):
    """Killed before a statement of the way back, the same command brings it to its end."""
    made = tmp_path / "made"
    made.mkdir()
    whole_table(made / "data.db", 30, journal)
    before, defined = plain(made / "data.db", "people"), schema(made / "data.db")
    asked = {"fields": fields("people"), "authority": authority(made / "states")}

    def stop(progress):
        if progress.phase == "verify":
            raise Stops

    with pytest.raises(Stops):
        protect(made / "data.db", "people", requests(COLUMNS), pace=Pace(progress=stop), **asked)
    kills = 0
    for at in range(1, 400, 4):
        copy = tmp_path / str(at)
        shutil.copytree(made, copy)
        again = {"fields": fields("people"), "authority": authority(copy / "states")}
        was_killed = killed("unprotect", copy / "data.db", copy / "states", at)
        if was_killed:
            kills += 1
            try:
                unprotect(copy / "data.db", "people", requests(COLUMNS), **again)
            except MisuseError as error:
                assert "no column of people is protected" in str(error)  # noqa: PT017 - killed after its last
        assert plain(copy / "data.db", "people") == before
        assert schema(copy / "data.db") == defined
        if not was_killed:
            break

    assert 10 < kills < 100
