# SPDX-License-Identifier: Apache-2.0
"""Old rows of jobs, rightly signed and put back: the table has the last word."""

import sqlite3
from dataclasses import replace

import pytest

from lacre.errors import (
    ConfigurationError,
    EvidenceUnavailable,
    MisuseError,
    PlaintextFound,
    Tampered,
)
from lacre.fields.column_state import ColumnState
from lacre.jobs.sqlite.database import opened
from lacre.jobs.sqlite.ledger import jobs_of
from lacre.jobs.sqlite.protect import protect
from lacre.jobs.sqlite.unprotect import unprotect
from tests.jobs.double import FileStates, authority, fields, plain, requests, schema
from tests.jobs.test_protect import database, half_done, people, run


def job_row(path):
    return plain(path, "lacre_job")[0]


def put_back(path, row):
    """Replace the job's row by *row*, made before."""
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM lacre_job")
    connection.execute(f"INSERT INTO lacre_job VALUES ({', '.join('?' for _ in row)})", row)
    connection.commit()
    connection.close()


def state(tmp_path):
    return FileStates(tmp_path / "states").get("main", "t", "v").state


def unchecked(path, sql):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA ignore_check_constraints=ON")
    connection.execute(sql)
    connection.commit()
    connection.close()


def stopped_before(step, job, tmp_path, path):
    """Run *job* up to the moment after its switch-over and before the state moves."""

    def refuse(events):
        if any(event.step == step for event in events):
            raise EvidenceUnavailable("the disk is full")

    with pytest.raises(EvidenceUnavailable):
        job(
            path,
            "t",
            requests("v:pii:exact"),
            fields=fields("t"),
            authority=replace(authority(tmp_path / "states"), record=refuse),
        )


def test_a_job_is_not_at_its_end_because_its_row_says_so(tmp_path):
    """With the row of an earlier job that did end, plaintext is not reported as protected."""
    path = people(tmp_path)
    run(protect, tmp_path, path, "t", "v:pii:exact")
    done = job_row(path)
    run(unprotect, tmp_path, path, "t", "v:pii:exact")
    half_done(tmp_path, path)
    put_back(path, done)

    with pytest.raises(MisuseError, match=r"t\.v is no longer defined as protect left it"):
        run(protect, tmp_path, path, "t", "v:pii:exact")
    assert state(tmp_path) is ColumnState.DUAL


def test_the_state_does_not_move_over_a_table_that_is_not_switched_over(tmp_path):
    """Nor does an earlier row of the phase in between make it `encrypted`."""
    path = people(tmp_path)
    stopped_before("encrypted", protect, tmp_path, path)
    clean = job_row(path)
    run(protect, tmp_path, path, "t", "v:pii:exact")
    run(unprotect, tmp_path, path, "t", "v:pii:exact")
    half_done(tmp_path, path)
    put_back(path, clean)

    with pytest.raises(MisuseError, match=r"no longer what protect made: .*table t"):
        run(protect, tmp_path, path, "t", "v:pii:exact")
    assert state(tmp_path) is ColumnState.DUAL


def test_a_protected_column_is_not_declared_dual_again(tmp_path):
    """A row from the middle of the job that protected it moves no state over the finished table."""
    path = people(tmp_path)
    half_done(tmp_path, path)
    filling = job_row(path)
    run(protect, tmp_path, path, "t", "v:pii:exact")
    put_back(path, filling)

    with pytest.raises(MisuseError, match="changed the definition"):
        run(protect, tmp_path, path, "t", "v:pii:exact")
    assert state(tmp_path) is ColumnState.ENCRYPTED


def test_an_old_copy_from_the_middle_of_a_job_is_not_taken_up(tmp_path):
    """The whole file put back, half done, does not undo what the key store knows."""
    path = people(tmp_path)
    half_done(tmp_path, path)
    old = path.read_bytes()
    run(protect, tmp_path, path, "t", "v:pii:exact")
    path.write_bytes(old)

    with pytest.raises(ConfigurationError, match="holds it in the clear"):
        run(protect, tmp_path, path, "t", "v:pii:exact")
    assert state(tmp_path) is ColumnState.ENCRYPTED


def test_a_protected_column_is_not_declared_plaintext(tmp_path):
    """The last row of an earlier unprotect, over a table protected again, ends nothing."""
    path = people(tmp_path)
    run(protect, tmp_path, path, "t", "v:pii:exact")
    stopped_before("plaintext", unprotect, tmp_path, path)
    over = job_row(path)
    run(unprotect, tmp_path, path, "t", "v:pii:exact")
    run(protect, tmp_path, path, "t", "v:pii:exact")
    put_back(path, over)

    with pytest.raises(MisuseError, match=r"no longer what unprotect made: .*table t"):
        run(unprotect, tmp_path, path, "t", "v:pii:exact")
    assert state(tmp_path) is ColumnState.ENCRYPTED


def test_ciphertext_left_behind_is_not_reported_as_plaintext(tmp_path):
    """Values planted in a table on its way back keep the state where it was."""
    path = people(tmp_path)
    run(protect, tmp_path, path, "t", "v:pii:exact")
    (sealed,) = plain(path, "t", "v")[0]
    stopped_before("plaintext", unprotect, tmp_path, path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE t SET v = ? WHERE id = '3'", (sealed,))
    connection.commit()
    connection.close()

    with pytest.raises(Tampered) as refused:
        run(unprotect, tmp_path, path, "t", "v:pii:exact")
    assert refused.value.__notes__ == ["t.v still holds ciphertext in 1 row"]
    assert state(tmp_path) is ColumnState.ENCRYPTED


def test_a_later_job_and_a_migration_do_not_undo_an_earlier_one(tmp_path):
    """Only the protected column's own definition has to be what protect left."""
    path = people(tmp_path)
    run(protect, tmp_path, path, "t", "v:pii:exact")
    run(protect, tmp_path, path, "t", "other:pii")
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE t ADD COLUMN more TEXT")
    connection.close()
    before = schema(path)

    assert run(protect, tmp_path, path, "t", "v:pii:exact").resumed
    assert schema(path) == before


@pytest.mark.parametrize(
    "planted",
    [
        "UPDATE t SET v = 'plaintext' WHERE id = '3'",
        "UPDATE t SET v = x'C101' WHERE id = '3'",
        "UPDATE t SET v_bidx = NULL WHERE id = '3'",
        "UPDATE t SET v = NULL WHERE id = '3'",
    ],
)
@pytest.mark.parametrize("phase", ["clean", "done"])
def test_a_column_that_holds_something_else_is_not_reported_protected(tmp_path, planted, phase):
    """What was planted behind the CHECK is counted, before the state moves and after."""
    path = people(tmp_path)
    if phase == "clean":
        stopped_before("encrypted", protect, tmp_path, path)
    else:
        run(protect, tmp_path, path, "t", "v:pii:exact")
    before = state(tmp_path)
    unchecked(path, planted)

    with pytest.raises(PlaintextFound, match=r"t\.v .* in 1 row"):
        run(protect, tmp_path, path, "t", "v:pii:exact")
    assert state(tmp_path) is before


def test_bytes_that_look_like_ciphertext_come_back(tmp_path):
    """A column of bytes may hold anything, also what begins like a value and is none."""
    lookalike = b"\xc1\x01" + bytes(120)
    path = database(
        tmp_path,
        "CREATE TABLE t (id TEXT PRIMARY KEY, v BLOB)",
        "INSERT INTO t VALUES ('a', x'00')",
    )
    run(protect, tmp_path, path, "t", "v:pii")
    connection = opened(path)
    (job,) = jobs_of(connection, "t", authority(tmp_path / "states"))
    (made,) = fields("t")(job.columns[0]).prepare_many([("a", lookalike)])
    connection.execute("UPDATE t SET v = ?", (made.value,))
    connection.close()
    run(unprotect, tmp_path, path, "t", "v:pii")

    assert plain(path, "t") == [("a", lookalike)]
