# SPDX-License-Identifier: Apache-2.0
"""
A Parquet file that is there whole, or not at all: written beside its place, for its owner only.

Killed together with whoever asked, the process leaves ``.NAME.RANDOM.part`` behind, readable by its
owner only; killed alone, whoever asked removes it. Needs pyarrow.
"""

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import pyarrow.parquet as pq

from lacre.errors import ConfigurationError

__all__ = ["ParquetFile", "part_of"]


def part_of(path: Path, name: UUID) -> Path:
    """Return where what is to be *path* stands until it is whole; *name* is its own."""
    return path.with_name(f".{path.name}.{name.hex}.part")


class ParquetFile:
    """Write batches; `finish` puts the file in its place, leaving without it removes what was written."""

    def __init__(self, path: Path, schema: Any, *, name: UUID) -> None:
        self._path = path
        self._schema = schema
        self._part = part_of(path, name)

    def __enter__(self) -> Self:
        try:
            descriptor = os.open(
                self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise ConfigurationError(
                f"no file can be made in {self._path.parent} ({error.strerror})"
            ) from None
        self._file = os.fdopen(descriptor, "wb")
        self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
        return self

    def write(self, batch: Any) -> None:
        """Append *batch*, as a row group."""
        self._writer.write_batch(batch)

    def finish(self) -> None:
        """Put the file in its place, of another that may be there."""
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._part.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # In this order: closing the writer writes the footer, which is what makes a file whole, and
        # killed before it was removed it would pass for all of the rows.
        with suppress(OSError):
            self._file.close()
        self.remove()
        with suppress(Exception):  # there is nothing to write to any more
            self._writer.close()

    def remove(self) -> None:
        """Remove what was written and not finished."""
        with suppress(OSError):
            self._part.unlink()
