# SPDX-License-Identifier: Apache-2.0
"""
Reading processes that are forked from one that has imported all they need: starting one is importing it, mostly.

The command connects, hands over its input and output, and ends when the process does that has them. What depends on how a
reading process is started is tested with one that is.
"""

import os
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lacre.bulk.parquet
import lacre.bulk.reading
from lacre.bulk.process import serve

__all__ = ["forking"]

_NEEDED = (lacre.bulk.parquet, lacre.bulk.reading)  # imported before the fork
_CONNECT = """
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect(sys.argv[1])
socket.send_fds(server, [b"x"], [0, 1, 2])
os._exit(0 if server.recv(1) else 1)
"""


@contextmanager
def forking() -> Iterator[Sequence[str]]:
    """Yield the command that starts a reading process."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = str(Path(directory, "socket"))
        listener.bind(path)
        listener.listen()
        server = os.fork()
        if not server:
            _accept(listener)
        try:
            # Isolated and without site-packages: it imports nothing of ours.
            yield [sys.executable, "-I", "-S", "-c", _CONNECT, path]
        finally:
            os.kill(server, signal.SIGKILL)
            os.waitpid(server, 0)


def _accept(listener: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while True:
        connection, _ = listener.accept()
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _read(connection)
        connection.close()


def _read(connection: socket.socket) -> None:
    try:
        _, given, _, _ = socket.recv_fds(connection, 1, 3)
        for number, descriptor in enumerate(given):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        serve()
        connection.send(b"x")
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)
