# SPDX-License-Identifier: Apache-2.0
"""
`lacre ARGS`, each in a process of its own, forked from one that has imported the command line and run nothing.

Starting Python and importing takes most of a command's time. What is forked begins where a started
one does after its imports: it calls `lacre.cli.main`, in its own directory, environment, umask and
files, and ends as an interpreter ends. What is read before that, by Python or by a module as it is
imported, is that of the process forked from: where it differs, one more is started. One command at
a time. Does not show that a command imports what it needs: `tests/cli` starts whole processes too.
"""

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module, invalidate_caches
from pathlib import Path
from pkgutil import walk_packages

from tests.components.processes import dies_with_us

__all__ = ["become", "run"]

_SECONDS = 300
# What an interpreter, or a module as it is imported, reads once.
_READ_ONCE = ("PYTHON", "LANG", "LC_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM")


def _read_once(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(_READ_ONCE)}


class _Warm:
    """The process that is forked from, and the line to it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*dies_with_us(), sys.executable, "-c", f"from {__name__} import become; become()", str(theirs.fileno())],
                cwd=Path(__file__).parents[2], env=environ, pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        ours.settimeout(_SECONDS)
        self._line, self._answers = ours, ours.makefile("r", encoding="ascii")
        atexit.register(self.end)

    def run(self, files: list[int], **asked: object) -> int:
        """Have a child do what is asked, with these as its standard files; return how it ended."""
        try:
            socket.send_fds(self._line, [b"\n"], files)
            self._line.sendall(json.dumps(asked).encode() + b"\n")
            return os.waitstatus_to_exitcode(int(self._answers.readline()))
        except TimeoutError:
            self.end()  # and the child that does not
            raise

    def end(self) -> None:
        atexit.unregister(self.end)
        self._answers.close()
        self._line.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


_WARM: dict[frozenset[tuple[str, str]], _Warm] = {}


def run(
    *args: str, cwd: Path, environ: Mapping[str, str], stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `lacre ARGS` there, with all of *environ*; nobody is there to be asked."""
    read_once = frozenset(_read_once(environ).items())
    warm = _WARM.get(read_once) or _WARM.setdefault(read_once, _Warm(environ))
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write(stdin.encode())
        given.seek(0)
        umask = os.umask(0)
        os.umask(umask)
        code = warm.run(
            [given.fileno(), out.fileno(), err.fileno()],
            args=args, cwd=str(cwd), environ=dict(environ), umask=umask,
        )  # fmt: skip
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(
            ["lacre", *args], code, out.read().decode(), err.read().decode()
        )


def _serve(line: socket.socket) -> bool:
    """Fork whenever asked; return in each child, which has become what was asked for, and at the end."""
    with line.makefile("r", encoding="ascii") as asked:
        while True:
            received, files, _, _ = socket.recv_fds(line, 1, 3)
            if not received:
                return False
            wanted = json.loads(asked.readline())
            child = os.fork()
            if not child:
                break
            for file in files:
                os.close(file)
            line.sendall(b"%d\n" % os.waitpid(child, 0)[1])
    line.close()
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    os.chdir(wanted["cwd"])
    os.umask(wanted["umask"])
    os.environ.clear()
    os.environ.update(wanted["environ"])
    sys.argv = ["lacre", *wanted["args"]]
    invalidate_caches()
    return True


def become() -> None:
    """Import the command line, and be what is forked from; each child is a command."""
    from lacre import cli

    for module in walk_packages(cli.__path__, "lacre.cli."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    gc.freeze()  # or collecting at its end, each child would copy every page
    if _serve(socket.socket(fileno=int(sys.argv[1]))):
        cli.main()
