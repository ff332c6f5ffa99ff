# SPDX-License-Identifier: Apache-2.0
"""
An anchor in a file: one line of JSON for each checkpoint, appended and flushed to disk.

As good as the place is out of reach: a mount of another machine, a file that is append-only
(``chattr +a``), a disk that is carried away. Prevents nobody from changing the file.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import final

from lacre.audit.notes import Checkpoint
from lacre.errors import EvidenceUnavailable

__all__ = ["FileAnchor"]


@final
class FileAnchor:
    """Keeps checkpoints in the file at *path*, whose folder is there."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path

    def put(self, checkpoint: Checkpoint, note: str) -> None:
        """See `Anchor.put`."""
        line = {"origin": checkpoint.origin, "size": checkpoint.size, "note": note}
        data = json.dumps(line, ensure_ascii=True).encode() + b"\n"
        try:
            descriptor = os.open(
                self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.write(descriptor, data) != len(data):
                    raise OSError
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._unavailable(error) from None

    def read(self) -> list[str]:
        """See `Anchor.read`. A line that was cut or changed is given as it is: it verifies as nothing."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unavailable(error) from None
        return [_note(line) for line in lines]

    def __repr__(self) -> str:
        return f"<FileAnchor {self.name}>"

    def _unavailable(self, error: OSError) -> EvidenceUnavailable:
        return EvidenceUnavailable(
            f"the anchor {self.name} cannot be reached: {error.strerror or type(error).__name__}",
            hint=f"its file is {self._path}",
        )


def _note(line: bytes) -> str:
    try:
        found = json.loads(line)["note"]
    except (ValueError, KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""
