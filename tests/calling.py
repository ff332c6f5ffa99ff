# SPDX-License-Identifier: Apache-2.0
"""The command line, called within this process: starting Python takes longer than most commands do."""

import io
import os
import subprocess
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from lacre.cli import main
from tests.markdown import modules_of

__all__ = ["call"]


def call(*args: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``lacre ARGS`` in *cwd*, as a user whose files nobody else reads; nobody is there to be asked."""
    umask = os.umask(0o077)
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        with pytest.MonkeyPatch.context() as patched, modules_of(cwd):
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
