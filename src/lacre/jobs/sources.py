# SPDX-License-Identifier: Apache-2.0
"""
Columns whose present content is another library's ciphertext: the form that their values are read by, and never written.

Knows no such library: whoever runs a job hands over what reads, one for each column. Does not record: what reads does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from lacre.errors import ConfigurationError, InvalidValue, Tampered
from lacre.fields.foreign import ForeignReader
from lacre.jobs.columns import PlannedColumn
from lacre.jobs.forms import Form, Stored

__all__ = [
    "NO_SOURCES",
    "ForeignForm",
    "Source",
    "SourceReader",
    "Sources",
    "foreign_form",
    "form_from",
]


class SourceReader(ForeignReader, Protocol):
    """Reads a stored value: it, and what is to be told of how it was stored."""

    def found(self, stored: object, /) -> tuple[Any, str]: ...


class Source(NamedTuple):
    """A column, as it is about to be read: by which reader, for which class."""

    table: str
    column: str
    class_: str
    reader: str


Sources = Callable[[Source], SourceReader]


def NO_SOURCES(source: Source) -> SourceReader:  # noqa: N802 - a constant that is called
    """Raise: nothing reads another library's values here."""
    raise ConfigurationError(
        f"{source.table}.{source.column} is read by the legacy reader {source.reader!r}, and none was given",
        hint="run the command with the --from it began with",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignForm(Form):
    """Of values that are read and never written: what is written back is the value itself, to be compared."""

    reader: SourceReader

    def load(self, stored: Stored) -> Any:
        return self.found(stored)[0]

    def found(self, stored: Stored) -> tuple[Any, str]:
        """
        Return the value, and a remark about how it was stored.

        Raises:
            InvalidValue: it does not open, or is of another type.
        """
        try:
            return self.reader.found(stored)
        except (Tampered, InvalidValue):
            raise InvalidValue(
                f"the legacy reader {self.reader.name} does not open the stored value"
            ) from None


def foreign_form(sources: Sources, source: Source) -> ForeignForm:
    """Return the form of a column that another library wrote."""
    reader = sources(source)

    def same(written: Any, stored: Stored) -> bool:
        try:
            value, _ = reader.found(stored)
        except (Tampered, InvalidValue):
            return False
        return type(value) is type(written) and bool(value == written)

    return ForeignForm(
        python_type=reader.python_type,
        name="legacy",
        read=lambda stored: reader.found(stored)[0],
        write=lambda value: value,
        same=same,
        reader=reader,
    )


def form_from(
    sources: Sources, own: Callable[[PlannedColumn], Form]
) -> Callable[[PlannedColumn], Form]:
    """Return what gives a planned column's form: *own*, or of what reads another library's values."""

    def form(column: PlannedColumn) -> Form:
        if not column.reader:
            return own(column)
        return foreign_form(
            sources, Source(column.table, column.name, column.class_, column.reader)
        )

    return form
