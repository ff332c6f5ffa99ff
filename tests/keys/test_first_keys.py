# SPDX-License-Identifier: Apache-2.0
"""Processes that write for the same new subjects at one moment."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lacre import Lacre
from lacre.cli.operator import as_operator
from tests.components.postgresql import Database
from tests.jobs.test_erasure_killed import forked, survived
from tests.jobs.test_sealing_services import on_postgresql

SUBJECTS = [f"s{number}" for number in range(25)]


@pytest.fixture(params=["sqlite", "postgresql"])
def config(home: Path, request: pytest.FixtureRequest) -> Path:
    """An application whose key store is in a file, or in PostgreSQL."""
    if request.param == "postgresql":
        database: Database = request.getfixturevalue("database")
        on_postgresql(home, database)
    return home / "lacre.toml"


def writing(config: Path, to: Path, start: int) -> Callable[[], None]:
    """One process: once *start* is closed, it writes for each subject, in an order of its own, one by one and then at once."""

    def write() -> None:
        with Lacre.load(config, environ={}) as lacre, lacre.acting_as("svc", roles={"app"}, purpose="t"):  # fmt: skip
            box = lacre.field("pii", table="t", column="c", subject=True)
            mine = SUBJECTS if to.name == "0" else SUBJECTS[::-1]
            os.read(start, 1)
            first = [(each, box.encrypt(each, row="1", subject=each)) for each in mine[:10]]
            rest = box.encrypt_many([("1", each) for each in mine[10:]], subjects=mine[10:])
            made = first + list(zip(mine[10:], rest, strict=True))
        to.write_text(json.dumps([[each, bytes(sealed).hex()] for each, sealed in made]))

    return write


def test_two_processes_make_one_first_key(config: Path, tmp_path: Path) -> None:
    """Of each subject exactly one key row is there, and what both wrote opens."""
    start, held = os.pipe()
    written = [tmp_path / "0", tmp_path / "1"]

    def waiting(to: Path) -> Callable[[], None]:
        def run() -> None:
            os.close(held)
            writing(config, to, start)()

        return run

    children = [forked(waiting(to)) for to in written]
    os.close(held)
    assert [survived(child) for child in children] == [True, True]
    os.close(start)

    with Lacre.load(config, environ={}) as lacre, lacre.acting_as("svc", roles={"app"}, purpose="t"):  # fmt: skip
        box = lacre.field("pii", table="t", column="c", subject=True)
        values = [each for to in written for each in json.loads(to.read_text())]
        assert len(values) == 2 * len(SUBJECTS)
        for subject, sealed in values:
            assert box.decrypt(bytes.fromhex(sealed), row="1", subject=subject) == subject
    with as_operator(config, None, purpose="test") as operator:
        rows = operator.store.subject_keys_by_id(after=b"", limit=1000)
    assert len(rows) == len({row.digest for row in rows}) == len(SUBJECTS)
    assert {bytes.fromhex(sealed)[3:19] for _, sealed in values} == {row.key_id for row in rows}
