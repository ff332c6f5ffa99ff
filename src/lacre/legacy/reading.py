# SPDX-License-Identifier: Apache-2.0
"""
Read a column while it is being moved in: lacre's values, and for the time that lacre.toml gives those of the library before.

Every reading is decided and recorded as any look is; evidence of one by the legacy reader has an action of its own and names the
reader, so that one after the cut-over shows. What has the form of a lacre value is opened by lacre alone: one that does not open
never falls back. Does not write: whoever saves, saves with lacre.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from lacre._core.field import looks_encrypted
from lacre.errors import ConfigurationError, PlaintextFound
from lacre.fields.field import Field
from lacre.fields.rows import RowId
from lacre.legacy.opening import ended
from lacre.legacy.reader import LegacyReader

__all__ = ["Reading", "RecordedReader"]


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


class Reading:
    """
    One column, in two formats. `Lacre.legacy` makes it as lacre.toml says.

    Args:
        field: the column's, as `Lacre.field` makes it.
        reader: of the other format.
        until: the last day, in UTC, on which the other format is read.
        moved: whether the column is known to hold lacre's values only: then nothing else is read.
        day: tells what day it is; this machine's clock by default.

    Raises:
        ConfigurationError: the reader's format authenticates nothing, or its values are of another type.
    """

    def __init__(
        self,
        field: Field,
        reader: LegacyReader,
        *,
        until: dt.date,
        moved: bool = False,
        day: Callable[[], dt.date] = _today,
    ) -> None:
        if not reader.authenticated:
            # Whoever may write to that database and sees whether this process could read it would be told, value by value, what
            # any old value says (a padding oracle). One face for all errors does not help: that there was one is the answer.
            raise ConfigurationError(
                f"the legacy reader {reader.name!r} authenticates nothing, and an application that reads with it answers whoever asks",
                hint="move the column at once: lacre protect --from",
            )
        if reader.python_type is not field.scheme.python_type:
            raise ConfigurationError(
                f"{field.scheme} holds {field.scheme.python_type.__name__}, and the legacy reader {reader.name!r} reads {reader.python_type.__name__}",
                hint="give [legacy.NAME] the field's type",
            )
        self._field = field
        self._reader = reader
        self._until = until
        self._moved = moved
        self._day = day

    def __repr__(self) -> str:
        return f"<Reading {self._field.scheme}, else {self._reader.name} until {self._until}>"

    def decrypt(self, stored: Any, *, row: RowId, tenant: str | None = None) -> Any:
        """
        Look at a value in either format. None stays None.

        Raises:
            Tampered: it does not open.
            PlaintextFound: it is of neither format, or of the other in a column that was moved.
            ConfigurationError: it is of the other format, whose last day is over.
            AccessDenied, EvidenceUnavailable, KeyUnavailable: as `Field.decrypt`.
        """
        if stored is None:
            return None
        if _is_lacre(stored) or not self._reader.looks_like(stored):
            return self._field.decrypt(stored, row=row, tenant=tenant)
        return self._field.look_elsewhere(
            lambda: self._read(stored), by=self._reader.name, row=row, tenant=tenant
        )

    def _read(self, stored: Any) -> Any:
        if self._day() > self._until:
            raise ended(self._reader.name, self._until)
        if self._moved:
            raise PlaintextFound(
                f"{self._field.scheme} was moved in, and holds a value of the format before",
                hint="somebody wrote it since: find out who; nothing was decrypted",
            )
        return self._reader.found(stored).value


class RecordedReader:
    """
    A legacy reader as a job reads a column with it: each value a look, recorded before it is handed on.

    Args:
        field: the column's.
    """

    def __init__(self, field: Field, reader: LegacyReader) -> None:
        self._field = field
        self._reader = reader
        self.name = reader.name
        self.python_type = reader.python_type
        self.calls = reader.calls
        self.authenticated = reader.authenticated

    def found(self, stored: object) -> tuple[Any, str]:
        """`LegacyReader.found`, for whoever may decrypt the column's class."""
        return self._field.take_elsewhere(lambda: self._reader.found(stored), by=self.name)


def _is_lacre(stored: Any) -> bool:
    if isinstance(stored, bytes | bytearray | memoryview):
        return looks_encrypted(stored)
    if isinstance(stored, Mapping):
        return str(stored.get("algorithm")).startswith("lacre-")
    # The text form of magic byte, suite and either flag. Base64 of another format begins so once in eight million values, and
    # fails then.
    return isinstance(stored, str) and stored.startswith(("wQEA", "wQEB"))
