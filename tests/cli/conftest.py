"""The command line as a user runs it: a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(home: Path) -> Run:
    """Run `lacre ARGS` in `home`; nobody is there to be asked."""

    def run(*args: str, cwd: Path = home, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith("LACRE_")
        }
        return subprocess.run(
            [sys.executable, "-m", "lacre.cli", *args],
            cwd=cwd,
            input=stdin,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
