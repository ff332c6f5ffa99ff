# SPDX-License-Identifier: Apache-2.0
"""
What a sequencer signed last, in a file outside the database: the checkpoint itself, as a note.

A sequencer that is started anew otherwise knows only what the database says. The newest checkpoint
is enough: the first leaf of a month names the end of the month before. Implements
``spec/evidence-log.md``, section 5. A file that is missing, cannot be read or cannot be written
stops nothing and is said; it decides nothing (`lacre.stores.log.head`).
"""

import logging
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import final

from lacre.audit.notes import Verifier, read_checkpoint
from lacre.errors import Tampered

__all__ = ["Remembered", "remembered_beside"]

_LONGEST = 16 * 1024
_log = logging.getLogger("lacre.audit")


def remembered_beside(identity: Path, app: str, env: str) -> Path:
    """Return the file of the log of *app* and *env* whose checkpoints *identity*, a file, signs."""
    return identity.with_name(f"{identity.stem}.{app}.{env}.signed")


@final
class Remembered:
    """The file at *path*, of the log whose checkpoints' origins begin with *origin*."""

    def __init__(self, path: Path, origin: str) -> None:
        self._path = path
        self._origin = origin
        self._written = ""
        self._told = False

    def read(self, verifiers: Collection[Verifier]) -> tuple[int, int, bytes] | None:
        """Return month, size and root of what was signed last; None where that is not known."""
        try:
            with self._path.open("rb") as file:
                note = file.read(_LONGEST + 1).decode()
            checkpoint = read_checkpoint(note, verifiers)
            if not checkpoint.origin.startswith(self._origin):
                raise Tampered
            shard = int(checkpoint.origin.removeprefix(self._origin).replace("-", ""))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, Tampered):
            self._tell("cannot be read")
            return None
        return shard, checkpoint.size, checkpoint.root

    def write(self, note: str) -> None:
        """Remember *note*: all of it, or what was there before."""
        if note == self._written:
            return
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            opened = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(opened, "wb") as file:
                file.write(note.encode())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            self._tell("cannot be written")
        else:
            self._written, self._told = note, False

    def _tell(self, what: str) -> None:
        if not self._told:
            self._told = True
            _log.warning(
                "%s %s: a sequencer that starts does not know what was signed last, and only an anchor or an auditor's file does",
                self._path,
                what,
            )
