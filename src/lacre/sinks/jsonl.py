# SPDX-License-Identifier: Apache-2.0
"""
Events as JSON lines in a file.

One line per event, ASCII only (so no line can be broken by what a value holds), appended with
one `write` and flushed to disk. A line that was cut off (a full disk, a kill) stands alone and is
not JSON. Several processes may append to one file. A pipe will do too (``/dev/stdout``): what was
written there is its reader's. Does not sign, chain or rotate: a write event is on disk just before its transaction commits,
and stays there if the commit fails.
"""

import datetime as dt
import errno
import fcntl
import json
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lacre.audit.entries import Stamp, written
from lacre.audit.event import Event
from lacre.audit.governing import KnownPolicy

__all__ = ["JsonLinesSink"]

_MEMORY = 4 * 1024 * 1024  # bytes of the file's end in which the last policy is looked for
_ROOM = 64 * 1024  # bytes free on the disk below which a sink that is only touched says it is full


class JsonLinesSink:
    """Append events to the file at *path*, which is made readable for its owner only."""

    def __init__(self, path: Path, stamp: Stamp) -> None:
        self._path = path
        self._stamp = stamp

    def append(self, events: Sequence[Event]) -> None:
        """
        Append *events* and flush them to disk. Raises OSError where that fails.

        Without events it raises where events could not be written: a full disk included.
        """
        data = b"".join(written(event, self._stamp) + b"\n" for event in events)
        # O_APPEND: the kernel places each write at the end, so lines of two processes do not mix.
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not data:
                # Writing nothing succeeds on a full disk.
                disk = os.fstatvfs(descriptor)
                if disk.f_blocks and disk.f_bavail * disk.f_frsize < _ROOM:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            # Locked, so that a line another process is in the middle of is not taken for torn.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                if data and _torn(descriptor):
                    data = b"\n" + data
                while data:
                    data = data[os.write(descriptor, data) :]
            finally:
                # Closing would not do: a child forked meanwhile holds the descriptor as well.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Do nothing: the file is open while it is appended to, and no longer."""

    def known_policy(self) -> KnownPolicy | None:
        """Return the policy of this service that was met last, as far as the file's end says; else None."""
        for line in reversed(self._tail(_MEMORY)):
            if b'"action":"policy"' in line:
                with suppress(ValueError, TypeError, KeyError):
                    found = KnownPolicy.of(json.loads(line), self._stamp.service)
                    if found is not None:
                        return found
        return None

    def _tail(self, size: int) -> list[bytes]:
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - size))
            return file.read().split(b"\n")

    def newest(self) -> float | None:
        """Return the time of the last whole line, in seconds; None without one, and of a pipe."""
        for line in reversed(self._tail(_ROOM)):
            try:
                when = json.loads(line)["time"]
                return dt.datetime.fromisoformat(when).timestamp()
            except (ValueError, TypeError, KeyError):
                continue
        return None


def _torn(descriptor: int) -> bool:
    # A disk that filled up, or a process killed while it wrote, leaves half a line: the next
    # event must not become part of it.
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return False
    return os.pread(descriptor, 1, status.st_size - 1) != b"\n"
