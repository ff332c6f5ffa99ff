# SPDX-License-Identifier: Apache-2.0
"""
The command line as a user runs it: `cli` within this process, `process` in one of its own.

Starting Python takes longer than most commands do, so `cli` is for what a command does, and
`process` for what depends on a process: its end, its environment, several of them at once.
"""

import io
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from lacre.cli import main
from tests.markdown import modules_of

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `lacre ARGS` in `home`; nobody is there to be asked."""

    def run(*args: str, cwd: Path = home, stdin: str = "") -> subprocess.CompletedProcess[str]:
        umask = os.umask(0o077)
        out, err, code = io.StringIO(), io.StringIO(), 0
        try:
            with monkeypatch.context() as patched, modules_of(cwd):
                for name in [name for name in os.environ if name.startswith("LACRE_")]:
                    patched.delenv(name)
                patched.chdir(cwd)
                patched.setattr(sys, "argv", ["lacre", *args])
                patched.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
                with redirect_stdout(out), redirect_stderr(err):
                    try:
                        main()
                    except SystemExit as ended:
                        code = int(ended.code or 0)
                    except Exception:
                        traceback.print_exc()
                        code = 1
        finally:
            os.umask(umask)
        return subprocess.CompletedProcess(args, code, out.getvalue(), err.getvalue())

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
