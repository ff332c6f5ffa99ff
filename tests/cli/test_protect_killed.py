"""`lacre protect` itself, killed on a database of strangers, with a plain-SQL writer at work."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from lacre import BlindIndex, Lacre, acting_as
from tests.components.processes import wait_until
from tests.jobs.test_killed import Writer, sample

COLUMNS = ("half_life_unit:pii:exact", "spin:pii", "discovery_year:pii")


def started(home: Path, path: Path, throttle: int) -> subprocess.Popen[bytes]:
    arguments = [
        "--database",
        f"sqlite:///{path}",
        "--table",
        "isotopes",
        "--yes",
        "--batch",
        "20",
        "--throttle",
        str(throttle),
    ]
    for column in COLUMNS:
        arguments += ["--column", column]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LACRE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "lacre.cli", "protect", *arguments],
        cwd=home,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def clear(home: Path, path: Path) -> list[tuple[object, ...]]:
    """Every row as its owner knows it: protected columns decrypted, what lacre added left out."""
    with (
        Lacre.load(home / "lacre.toml", environ={}) as lacre,
        acting_as("test", roles={"app"}, purpose="compare"),
        closing(sqlite3.connect(path)) as connection,
    ):
        fields = {
            "half_life_unit": lacre.field(
                "pii",
                table="isotopes",
                column="half_life_unit",
                type=str,
                index=BlindIndex("exact"),
            ),
            "spin": lacre.field("pii", table="isotopes", column="spin", type=str),
            "discovery_year": lacre.field(
                "pii", table="isotopes", column="discovery_year", type=int
            ),
        }
        found = connection.execute("SELECT * FROM isotopes ORDER BY id")
        names = [column[0] for column in found.description]
        rows = []
        for row in found.fetchall():
            held = dict(zip(names, row, strict=True))
            rid, token = held.pop("lacre_rid"), held.pop("half_life_unit_bidx")
            for name, field in fields.items():
                held[name] = field.decrypt(held[name], row=rid)
            expected = (
                None
                if held["half_life_unit"] is None
                else fields["half_life_unit"].search_tokens(held["half_life_unit"])[0]
            )
            assert token == expected
            rows.append(tuple(held.values()))
        return rows


def begun(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT 1 FROM pragma_table_info('isotopes') WHERE name = 'spin_lacre'"
        )
        return found.fetchone() is not None


def survive(home: Path, tmp_path: Path, *, kills: int, seed: int) -> None:
    path = sample(tmp_path)
    chance = random.Random(seed)
    # Rows a second. A run lives two seconds at most and may begin with a whole batch, so all runs
    # to be killed together reach fewer rows than there are: the job outlives every kill.
    throttle = 1000 // kills
    writer = Writer(path, "isotopes", ("spin", "half_life_unit"), "parity", seed)
    before = len(writer.rows)
    writer.start()
    try:
        survived = 0
        while survived < kills:
            process = started(home, path, throttle)
            if not survived:
                wait_until(lambda: begun(path), process, "the job", tmp_path / "nothing")
            time.sleep(chance.uniform(0.3, 2.0))
            process.kill()
            _, errors = process.communicate()
            assert process.returncode == -signal.SIGKILL, errors.decode()
            survived += 1
        done = started(home, path, 100_000)
        output, errors = done.communicate(timeout=300)
    finally:
        writer.stop()

    assert done.returncode == 0, errors.decode()
    assert b"protected: half_life_unit, spin, discovery_year of isotopes" in output
    assert b"going on where it had stopped" in output
    assert writer.commits > kills
    assert clear(home, path) == writer.expected()
    assert before > 3000
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert (
            connection.execute(
                "SELECT name FROM sqlite_master WHERE sql LIKE '%lacre_form%'"
            ).fetchall()
            == []
        )


def test_a_killed_protect_goes_on(home: Path, tmp_path: Path) -> None:
    """Killed three times at random moments, the command finishes, and every row is the original or the writer's."""
    survive(home, tmp_path, kills=3, seed=2)


@pytest.mark.long
def test_a_protect_killed_fifty_times_loses_nothing(home: Path, tmp_path: Path) -> None:
    """Fifty kills at random moments beside a writer that knows nothing of lacre: no row lost, doubled or left behind."""
    survive(home, tmp_path, kills=50, seed=50)
