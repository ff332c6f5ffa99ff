# SPDX-License-Identifier: Apache-2.0
"""
A field's scheme: everything that is declared about one encrypted column. Names only, no keys.

Validated when made; safe to print, to hash, and to appear in a SQL cache key or a migration.
"""

from dataclasses import dataclass

from lacre.audit.event import Place
from lacre.errors import ConfigurationError
from lacre.fields.codecs import Codec, codec_for
from lacre.fields.index import Index
from lacre.fields.masks import mask as mask_named

__all__ = ["Scheme"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """
    One encrypted column.

    *mask* overrides the class's; *padded* overrides the codec's (on where the length would
    tell something). *class_*, *store*, *table* and *column* are logical names: they are bound
    in every value, so renaming one means keeping its old name here. *subject* says that every
    value is under the key of its own subject, whom the caller names; *moving*, that values from
    before that, under the class's key, are read too until all of them are moved.
    """

    class_: str
    store: str
    table: str
    column: str
    python_type: type
    indexes: tuple[Index, ...] = ()
    mask: str | None = None
    padded: bool | None = None
    subject: bool = False
    moving: bool = False

    def __post_init__(self) -> None:
        for word, text in (
            ("class", self.class_),
            ("store", self.store),
            ("table", self.table),
            ("column", self.column),
        ):
            if not text:
                raise ConfigurationError(f"a field names its {word}")
        codec = self.codec
        for index in self.indexes:
            index.check(codec)
        if len({index.name for index in self.indexes}) != len(self.indexes):
            raise ConfigurationError(
                f"two indexes of {self.table}.{self.column} have one name",
                hint="name one of them: name=...",
            )
        if self.mask is not None:
            mask_named(self.mask)
        if self.moving and not self.subject:
            raise ConfigurationError(
                f"{self} is moved to the keys of subjects, and has none",
                hint="declare subject= too, or leave out moving=",
            )

    @property
    def codec(self) -> Codec:
        return codec_for(self.python_type)

    @property
    def place(self) -> Place:
        return Place(self.store, self.table, self.column, self.class_)

    @property
    def name(self) -> str:
        """``store.table.column``, as evidence names a column."""
        return f"{self.store}.{self.table}.{self.column}"

    def __str__(self) -> str:
        return f"{self.table}.{self.column}"
