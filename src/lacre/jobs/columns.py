# SPDX-License-Identifier: Apache-2.0
"""
The columns of a job: as they were asked for, as they were found, and what names their rows.

Knows no database: what a name is compared by, and how a value is written, its own package says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from lacre.errors import ConfigurationError
from lacre.fields.index import BlindIndex
from lacre.fields.rows import row_text

__all__ = [
    "BIDX",
    "BIDX2",
    "COMPANION",
    "FORM",
    "JOB",
    "RID",
    "ColumnRequest",
    "PlannedColumn",
    "Refusal",
    "RowKey",
    "is_unicode",
    "length_notices",
    "targets_of",
]

COMPANION = "_lacre"  # the column beside a protected one that holds the other form
BIDX = "_bidx"  # the column of its blind index
BIDX2 = "_bidx2"  # of a unique one the second, for tokens under index roots of even versions
FORM = "lacre_form"  # the row marker: NULL, the column itself counts; 1, the companions count
RID = "lacre_rid"  # the row id of tables whose primary key can be reused
JOB = "lacre_job"  # the table that remembers jobs under way


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRequest:
    """
    A column to protect, as asked for. *bits* are those of its blind index, 0 for as many as are usual;
    *reader* names what reads its present content, where lacre does not.
    """

    name: str
    class_: str
    normaliser: str | None = None
    reader: str = ""
    bits: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read ``NAME:CLASS[:NORMALISER[:BITS]]``.

        Raises:
            ConfigurationError: it is not of that form.
        """
        name, _, rest = text.partition(":")
        class_, _, rule = rest.partition(":")
        # A normaliser may have a colon of its own: phone:BR.
        normaliser, _, bits = rule.rpartition(":")
        if not (bits.isascii() and bits.isdigit()):
            normaliser, bits = rule, ""
        if not name or not class_ or (bits and not normaliser):
            raise ConfigurationError(
                "a column is given as NAME:CLASS, NAME:CLASS:NORMALISER or NAME:CLASS:NORMALISER:BITS",
                hint="for example email:pii:email, or name:pii:name:12",
            )
        return cls(name=name, class_=class_, normaliser=normaliser or None, bits=int(bits or 0))

    def index(self, *, unique: bool) -> BlindIndex | None:
        """
        Return the blind index that it is to have.

        Raises:
            ConfigurationError: there is no such normaliser, or the bits are too few or too many.
        """
        return _index(self.normaliser, unique=unique, bits=self.bits)


def _index(rule: str | None, *, unique: bool, bits: int) -> BlindIndex | None:
    return None if rule is None else BlindIndex(rule, unique=unique, bits=bits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One reason why the job will not start, and what to do about it."""

    reason: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedColumn:
    """
    One column, as found: *table* and *name* as the database spells them, which is what values are
    bound to, however they were typed. *unique* asks for a unique blind index; *form* names how its
    values are written, so that `unprotect` writes them the same way. *reader* names what reads them,
    where another library wrote them: then there is no way back.
    """

    table: str
    name: str
    class_: str
    normaliser: str | None
    declared: str
    python_type: type
    form: str
    not_null: bool
    unique: bool
    values: int
    nulls: int
    reader: str = ""
    bits: int = 0  # as asked for

    @property
    def index(self) -> BlindIndex | None:
        """Its blind index."""
        return _index(self.normaliser, unique=self.unique, bits=self.bits)

    @property
    def companion(self) -> str:
        return self.name + COMPANION

    @property
    def bidx(self) -> str:
        return self.name + BIDX

    @property
    def token_names(self) -> tuple[str, ...]:
        """The columns of its blind index: none, one, or two of a unique one."""
        if not self.normaliser:
            return ()
        return (self.bidx, self.name + BIDX2) if self.unique else (self.bidx,)


def length_notices(columns: Sequence[PlannedColumn]) -> list[str]:
    """Return, in sentences, which indexes get a length that nobody chose."""
    return [
        f"{column.name}: nobody said how long the tokens of its index are; those of {column.index.bits} bits show whoever has the table which rows hold equal values, and `lacre index plan` counts how many bits hide that"
        for column in columns
        if column.index is not None and not column.index.exact and not column.bits
    ]


def targets_of(columns: Sequence[PlannedColumn]) -> list[str]:
    """Return the columns that encrypting *columns* fills, in the order of `Encrypting`."""
    return [name for column in columns for name in (column.companion, *column.token_names)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowKey:
    """The columns that name a row for good. *added*: the job adds `lacre_rid`, and *why*."""

    columns: tuple[str, ...]
    added: bool
    why: str = ""

    def text(self, values: Sequence[Any]) -> str:
        """
        Return the row id's text.

        Raises:
            ConfigurationError: a value that is no row id, such as NULL or a blob.
        """
        if not all(
            type(value) in (int, str, UUID) and value != "" and is_unicode(value)
            for value in values
        ):
            raise ConfigurationError(
                f"a row's primary key ({', '.join(self.columns)}) is neither text nor a whole number",
                hint="correct that row, then run the same command again",
            )
        return row_text(values[0] if len(values) == 1 else list(values))


def is_unicode(value: object) -> bool:
    """Whether *value* is no text, or text that was valid UTF-8 in the file."""
    return not isinstance(value, str) or not any("\ud800" <= char <= "\udfff" for char in value)
