# SPDX-License-Identifier: Apache-2.0
"""The jobs' row in somebody else's database: what of it is believed, and by whose word."""

import json
import sqlite3
from dataclasses import replace

import pytest

from lacre.errors import ConfigurationError, MisuseError, Tampered
from lacre.jobs.sqlite.database import opened
from lacre.jobs.sqlite.ledger import jobs_of, write
from lacre.jobs.sqlite.protect import protect, under_way
from lacre.jobs.sqlite.unprotect import unprotect
from tests.jobs.double import FixedSigner, authority, plain, requests, schema
from tests.jobs.test_protect import half_done, people, run


def altered(path, sql, *values):
    connection = sqlite3.connect(path)
    assert connection.execute(sql, values).rowcount == 1
    connection.commit()
    connection.close()


def changed_record(path, change):
    (text,) = plain(path, "lacre_job", "record")[0]
    record = json.loads(text)
    change(record)
    altered(path, "UPDATE lacre_job SET record = ?", json.dumps(record))


ALTERATIONS = {
    "new_sql": lambda path: changed_record(
        path, lambda record: record.update(new_sql="ATTACH 'stolen.db' AS k")
    ),
    "indexes": lambda path: changed_record(
        path, lambda record: record.update(indexes=["ATTACH 'stolen.db' AS k"])
    ),
    "programs": lambda path: changed_record(
        path, lambda record: record["original"].append(["trigger", "g", "DELETE FROM other"])
    ),
    "columns": lambda path: changed_record(
        path, lambda record: record["columns"][0].update(class_="banking")
    ),
    "no json": lambda path: altered(path, "UPDATE lacre_job SET record = '['"),
    "not ascii": lambda path: altered(path, "UPDATE lacre_job SET record = 'é'"),
    "blob": lambda path: altered(path, "UPDATE lacre_job SET record = x'00'"),
    "phase": lambda path: altered(path, "UPDATE lacre_job SET phase = 'clean'"),
    "direction": lambda path: altered(path, "UPDATE lacre_job SET direction = 'unprotect'"),
    "job id": lambda path: altered(path, "UPDATE lacre_job SET id = 2"),
    "table": lambda path: altered(path, "UPDATE lacre_job SET \"table\" = 'T'"),
    "signer": lambda path: altered(path, "UPDATE lacre_job SET signer = 'nobody'"),
    "no signature": lambda path: altered(path, "UPDATE lacre_job SET signature = x''"),
    "text signature": lambda path: altered(path, "UPDATE lacre_job SET signature = 'signed'"),
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_a_row_that_no_operator_signed_is_refused_before_it_is_used(tmp_path, alteration):
    """Whatever is altered, both ways, the row is named, and no statement of a job is run."""
    path = people(tmp_path)
    half_done(tmp_path, path)
    ALTERATIONS[alteration](path)
    content, states = path.read_bytes(), (tmp_path / "states").read_bytes()

    for attempt in (
        lambda: run(protect, tmp_path, path, "t", "v:pii:exact"),
        lambda: run(unprotect, tmp_path, path, "t", "v:pii:exact"),
        lambda: under_way(
            path, "t", requests("v:pii:exact"), authority=authority(tmp_path / "states")
        ),
    ):
        with pytest.raises(Tampered) as refused:
            attempt()
        assert "lacre_job" in refused.value.__notes__[0]
        assert "backup" in refused.value.hint
    assert path.read_bytes() == content
    assert (tmp_path / "states").read_bytes() == states


def test_a_job_is_believed_on_the_word_of_a_trusted_operator_only(tmp_path):
    """Signed by another identity, or for another key store, a row is refused."""
    path = people(tmp_path)
    half_done(tmp_path, path)
    mine = authority(tmp_path / "states")
    connection = opened(path)

    assert [job.table for job in jobs_of(connection, "t", mine)] == ["t"]
    for other in (
        replace(mine, signers=[FixedSigner(b"x" * 32)]),
        replace(mine, signers=[]),
        replace(mine, keystore="store-2"),
    ):
        with pytest.raises(Tampered):
            jobs_of(connection, "t", other)
    connection.close()


def test_the_count_of_done_rows_may_say_anything(tmp_path):
    """What every batch changes is not signed, and nothing follows from it."""
    path = people(tmp_path)
    half_done(tmp_path, path)
    altered(path, "UPDATE lacre_job SET done = 'many', position = '[99]'")
    found = under_way(path, "t", requests("v:pii:exact"), authority=authority(tmp_path / "states"))

    assert found is not None
    assert found.done == 0
    assert run(protect, tmp_path, path, "t", "v:pii:exact").rows == 7


def test_a_job_that_was_moved_on_is_not_written_over(tmp_path):
    """Who holds an old view of a job's phase learns that it was overtaken."""
    path = people(tmp_path)
    half_done(tmp_path, path)
    mine = authority(tmp_path / "states")
    connection = opened(path)
    (job,) = jobs_of(connection, "t", mine)
    write(connection, job.stepped(phase="clean"), mine, was=("protect", "fill"))

    with pytest.raises(MisuseError, match="moved the job on"):
        write(connection, job.stepped(phase="done"), mine, was=("protect", "fill"))
    assert [found.phase for found in jobs_of(connection, "t", mine)] == ["clean"]
    connection.close()


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE lacre_job (id INTEGER PRIMARY KEY, v TEXT)",
        "CREATE TABLE LACRE_JOB (id INTEGER PRIMARY KEY, v TEXT)",
        "CREATE VIEW lacre_job AS SELECT 1 AS id",
    ],
)
def test_somebody_elses_lacre_job_is_named_as_what_it_is(tmp_path, made):
    """A table or view that happens to have the name is neither read nor written."""
    path = people(tmp_path)
    connection = sqlite3.connect(path)
    connection.execute(made)
    connection.close()
    before = schema(path)

    for job in (protect, unprotect):
        with pytest.raises(ConfigurationError, match="that lacre did not make"):
            run(job, tmp_path, path, "t", "v:pii:exact")
    assert schema(path) == before
