"""The demonstration, whole: its acts check their own claims and stop where one does not hold."""

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_the_demonstration_runs_twice(cli: Run, tmp_path: Path) -> None:
    """Every act is performed, in a directory that is remade, and the file is clean at the end."""
    first = cli("demo", "--people", "300", cwd=tmp_path)
    second = cli("demo", "--people", "300", cwd=tmp_path)

    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    assert [f"{number}. " in second.stdout for number in range(1, 10)] == [True] * 9
    assert "no plaintext of any protected value is left" in second.stdout
    with closing(sqlite3.connect(tmp_path / "demo" / "shop.db")) as connection:
        assert connection.execute(
            "SELECT count(*) FROM customers WHERE typeof(email) != 'blob'"
        ).fetchone() == (0,)


def test_the_demonstration_leaves_other_directories_alone(cli: Run, tmp_path: Path) -> None:
    """A directory it did not make is refused, whatever is in it."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("keep me")

    refused = cli("demo", "--directory", "mine", cwd=tmp_path)

    assert refused.returncode == 3
    assert (tmp_path / "mine" / "letter").read_text() == "keep me"
