# SPDX-License-Identifier: Apache-2.0
"""
Blind indexes, as they are declared: which normaliser, how many bits, unique or not.

Does not compute tokens (`lacre._core.blind`, by way of `lacre.fields.field`). Equality is the
only question this release answers.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from lacre.errors import ConfigurationError, InvalidValue
from lacre.fields.codecs import Codec
from lacre.fields.normalisers import normaliser

__all__ = ["BlindIndex"]


@dataclass(frozen=True, slots=True)
class BlindIndex:
    """
    Make an encrypted field searchable by equality.

    Args:
        normaliser: what makes two spellings one value; see ``docs/reference/normalisers.md``.
        unique: let the database refuse a second row with one value. Needs 96 bits or more,
            and thereby tells anyone who reads the column which rows hold equal values.
        bits: of the token. 96 if unique, else 32: short tokens collide by design, and hits are
            re-checked on the plaintext.
        name: of the index; the normaliser's by default. Bound in every token.
    """

    normaliser: str
    unique: bool = field(default=False, kw_only=True)
    bits: int = field(default=0, kw_only=True)
    name: str = field(default="", kw_only=True)

    kind: ClassVar[str] = "exact"

    def __post_init__(self) -> None:
        normaliser(self.normaliser)
        if not self.bits:
            object.__setattr__(self, "bits", 96 if self.unique else 32)
        if not self.name:
            object.__setattr__(self, "name", self.normaliser)
        if not 8 <= self.bits <= 512:
            raise ConfigurationError(
                "a blind index has 8 to 512 bits", hint="leave bits out: 96 if unique, else 32"
            )
        if self.unique and self.bits < 96:
            raise ConfigurationError(
                f"a unique blind index of {self.bits} bits would refuse values that are not there",
                hint="give it 96 bits or more: bits=96",
            )

    @property
    def exact(self) -> bool:
        """Whether a hit needs no re-check: 96 bits never collide by chance in one table."""
        return self.bits >= 96

    def normalised(self, value: object, codec: Codec) -> bytes:
        """
        Return the bytes whose keyed hash is the token of *value*.

        Raises:
            InvalidValue: the normaliser takes no such value.
        """
        if self.normaliser == "exact":
            return bytes(codec.encode(value))
        if not isinstance(value, str):
            raise InvalidValue(
                f"the normaliser {self.normaliser} takes text, the value is a {type(value).__name__}"
            )
        return normaliser(self.normaliser).normalise(value).encode()

    def check(self, codec: Codec) -> None:
        """
        Raise unless values of *codec* can be indexed this way.

        Raises:
            ConfigurationError
        """
        if self.normaliser != "exact" and codec.name != "str":
            raise ConfigurationError(
                f"the normaliser {self.normaliser} takes text, the field holds {codec.name}",
                hint='BlindIndex("exact") takes any type',
            )
