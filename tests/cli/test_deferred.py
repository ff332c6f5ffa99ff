# SPDX-License-Identifier: Apache-2.0
"""Commands are imported when they are called, and what is named is there."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from lacre.cli.deferred import deferred
from lacre.cli.program import app


def every(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """Each command below *command*, by its words."""
    for name, below in getattr(command, "commands", {}).items():
        yield (*path, name)
        yield from every(below, *path, name)


COMMANDS = list(every(typer.main.get_command(app)))


def test_every_command_is_where_its_group_says() -> None:
    """Each name leads to a command that explains itself."""
    assert len(COMMANDS) > 60
    for words in COMMANDS:
        result = CliRunner().invoke(app, [*words, "--help"])

        assert result.exit_code == 0, words
        assert f"Usage: root {' '.join(words)}" in result.output, words


@pytest.mark.parametrize("words", [(), ("keys",), ("audit",), ("alerts",), ("tenants",)])
def test_help_names_every_command(words: tuple[str, ...]) -> None:
    """Help of a group lists what is in it, in the order of the group."""
    lines = CliRunner().invoke(app, [*words, "--help"]).output.split("Commands:\n")[1].splitlines()

    named = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    assert named == [one[-1] for one in COMMANDS if one[:-1] == words]


def test_a_wrong_word_is_answered_with_the_right_one() -> None:
    """What was meant is suggested without importing anything."""
    result = CliRunner().invoke(app, ["keyz"])

    assert result.exit_code == 2
    assert "Did you mean 'keys'?" in result.output


def test_a_command_starts_without_the_others() -> None:
    """Listing keys imports neither the dashboard, nor the demonstration, nor what draws a report."""
    script = (
        "import sys; from typer.testing import CliRunner; from lacre.cli.program import app\n"
        "assert CliRunner().invoke(app, ['keys', 'list', '--help']).exit_code == 0\n"
        "print(*(name for name in sys.modules if name.startswith('lacre.')))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()

    assert "lacre.cli.keys.listing" in loaded
    for other in ("demo", "serving", "audit", "protection", "keys.making"):
        assert f"lacre.cli.{other}" not in loaded
    assert not [name for name in loaded if name.startswith(("lacre.dashboard", "lacre.reporting"))]


def test_a_deferred_group_declares_nothing_beside_its_names() -> None:
    """A command that is declared as well would never be found: it is refused at once."""
    group = typer.Typer(cls=deferred({"there": "lacre.cli.demo:demo"}))
    group.command("here")(lambda: None)
    group.callback()(lambda: None)

    with pytest.raises(AssertionError):
        typer.main.get_command(group)
