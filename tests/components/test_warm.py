# SPDX-License-Identifier: Apache-2.0
"""A command that is forked is what a command that is started is."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.components import warm


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LACRE_")}
    return kept | more


@pytest.mark.parametrize(
    ("args", "more", "stdin", "code"),
    [
        (("keys", "list", "--json"), {}, "", 0),
        (("keys", "list"), {"LACRE_NONE": "1"}, "", 3),
        (("inspect", "-"), {}, "c101 and more", 3),
        (("keyz",), {}, "", 2),
    ],
)
def test_it_says_and_ends_as_a_started_one(
    home: Path, args: tuple[str, ...], more: dict[str, str], stdin: str, code: int
) -> None:
    """Its exit code, what it prints and what it says are the same, whatever it was given."""
    environ = environment(**more)
    forked = warm.run(*args, cwd=home, environ=environ, stdin=stdin)
    script = Path(sys.executable).with_name("lacre")
    started = subprocess.run(
        [script, *args], cwd=home, env=environ, input=stdin, capture_output=True, text=True, check=False
    )  # fmt: skip

    assert forked.returncode == started.returncode == code, forked.stderr
    assert (forked.stdout, forked.stderr) == (started.stdout, started.stderr)


def test_it_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    """Two begin in a directory each, and what they make is their owner's only; ours is as it was."""
    ours = Path.cwd(), dict(os.environ), sorted(sys.modules)
    made = []
    for name in ("one", "two"):
        place = tmp_path / name
        place.mkdir()
        done = warm.run("init", cwd=place, environ=environment())
        assert done.returncode == 0, done.stderr
        made.append(place / "lacre" / "identities" / "operator.key")

    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o600, 0o600]
    assert made[0].read_bytes() != made[1].read_bytes()
    assert (Path.cwd(), dict(os.environ), sorted(sys.modules)) == ours
