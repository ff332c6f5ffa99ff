# SPDX-License-Identifier: Apache-2.0
"""
The command line as a user runs it: `cli` within this process, `process` in one of its own.

Starting Python takes longer than most commands do, so `cli` is for what a command does, and
`process` for what depends on a process: its end, its environment, several of them at once.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.calling import call

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(home: Path) -> Run:
    """Run `lacre ARGS` in `home`; nobody is there to be asked."""

    def run(*args: str, cwd: Path = home, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return call(*args, cwd=cwd, stdin=stdin)

    return run


@pytest.fixture
def process(home: Path) -> Run:
    """Run `lacre ARGS` in `home`, in a process of its own; nobody is there to be asked."""

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
