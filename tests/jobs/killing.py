# SPDX-License-Identifier: Apache-2.0
"""Children that are killed: at a statement, within a COMMIT, or whenever. They are forked from a process that has imported all it needs."""

import gc
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import sqlalchemy as sa

__all__ = ["DYING", "Child", "comes", "dying", "forked", "nursery", "places", "survived"]

DYING = "dying"  # by this name the server knows whoever is to be killed


def forked(work: Callable[[], None]) -> int:
    """Run *work* in a child; return its id. It exits 0 once it is done, 1 where it raises."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    gc.freeze()  # a collection would copy every page of a process that has run thousands of tests
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def dying(work: Callable[[], None], *, at: int, commits: bool = False) -> Callable[[], None]:
    """Return *work*, killed right before its statement or commit number *at*; or within its commit number *at*."""

    def run() -> None:
        left = [at]

        def count(*_: Any) -> None:
            left[0] -= 1
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def committing(connection: sa.Connection) -> None:
            left[0] -= 1
            if left[0] <= 0:
                die_within(connection)

        os.environ["PGAPPNAME"] = DYING
        if commits:
            sa.event.listen(sa.Engine, "commit", committing)
        else:
            sa.event.listen(sa.Engine, "before_cursor_execute", count)
            sa.event.listen(sa.Engine, "commit", count)
        work()

    return run


def die_within(connection: sa.Connection) -> None:
    """Be killed in the middle of this connection's COMMIT: it is sent, or being written, and no answer is read."""
    if connection.dialect.name == "postgresql":
        server = connection.connection.driver_connection.pgconn  # type: ignore[union-attr]
        server.send_query(b"COMMIT")
        server.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    committing, pause = os.getpid(), random.random() * 0.002
    if not os.fork():
        time.sleep(pause)
        os.kill(committing, signal.SIGKILL)
        os._exit(0)


def places(work: Callable[[], None]) -> tuple[int, int]:
    """Run *work* to its end; return how many statements and commits it has, and how many commits."""
    counted = {"before_cursor_execute": 0, "commit": 0}

    def counting(name: str) -> Callable[..., None]:
        def count(*_: Any) -> None:
            counted[name] += 1

        return count

    listening = {name: counting(name) for name in counted}
    for name, count in listening.items():
        sa.event.listen(sa.Engine, name, count)
    try:
        work()
    finally:
        for name, count in listening.items():
            sa.event.remove(sa.Engine, name, count)
    return sum(counted.values()), counted["commit"]


def survived(child: int) -> bool:
    """Wait for a child; return whether it ended well, and not killed."""
    return _well(os.waitpid(child, 0)[1])


def comes(true: Callable[[], bool]) -> bool:
    """Wait until *true* is, a minute at most; return whether it came: how fast a machine is decides nothing."""
    until = time.monotonic() + 60
    while not (came := true()) and time.monotonic() < until:
        time.sleep(0.005)
    return came


class Child:
    """A child of a `nursery`."""

    def __init__(self, messages: Any) -> None:
        self._messages = messages
        self._id = int(messages.readline())

    def kill(self) -> None:
        with suppress(ProcessLookupError):  # it came to its end
            os.kill(self._id, signal.SIGKILL)

    def survived(self) -> bool:
        """Wait for it; return whether it ended well, and not killed."""
        return _well(int(self._messages.readline()))


@contextmanager
def nursery(work: Callable[[str], None]) -> Iterator[Callable[[str], Child]]:
    """
    Fork a process that forks children; yield what has one do *work*, given a word, one at a time.

    Made before there are threads, whose locks a fork would copy, it goes on where there are some.
    """
    ours, theirs = socket.socketpair()

    def serve() -> None:
        ours.close()
        with theirs.makefile("rw", buffering=1, encoding="ascii") as messages:
            while word := messages.readline().strip():
                child = forked(partial(work, word))
                messages.write(f"{child}\n")
                messages.flush()
                messages.write(f"{os.waitpid(child, 0)[1]}\n")
                messages.flush()

    server = forked(serve)
    theirs.close()
    try:
        with ours, ours.makefile("rw", buffering=1, encoding="ascii") as messages:

            def born(word: str) -> Child:
                messages.write(f"{word}\n")
                messages.flush()
                return Child(messages)

            yield born
    finally:
        ended = survived(server)
    assert ended


def _well(status: int) -> bool:
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True
