# SPDX-License-Identifier: Apache-2.0
"""
Files that commands write, dumps and certificates among them: new ones only, readable by their owner.

Does not read them, and does not replace one that is there.
"""

import os
from pathlib import Path

from lacre.errors import ConfigurationError

__all__ = ["write_new"]


def write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet, mode 0600, and sync it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise ConfigurationError(
            f"{path} is there already; nothing was written", hint="name a new file"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
