# SPDX-License-Identifier: Apache-2.0
"""
`CompoundIndex`: equality of several fields of a row together, by one token.

Implements ``spec/field-format.md``, section "Blind index". A value is a tuple, with one entry for
each field. Has 96 bits or more, so that its answers need no re-check. Stores nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lacre._core.blind import token
from lacre._core.derive import PreparedKey
from lacre.errors import ConfigurationError, InvalidValue
from lacre.fields.codecs import Codec, codec_for
from lacre.fields.index import Question, normal_form
from lacre.fields.normalisers import normaliser
from lacre.fields.stored import IndexToken

__all__ = ["CompoundIndex"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompoundIndex:
    """
    Equality of several fields together.

    Args:
        types: of the values, in the order of the fields.
        normalisers: of each of them; ``exact`` takes any type.
        unique: let the database refuse a second row with the same values.
    """

    types: tuple[type, ...]
    normalisers: tuple[str, ...]
    unique: bool = False
    bits: int = 96
    name: str = "compound"

    kind: ClassVar[str] = "compound"
    several: ClassVar[bool] = False
    questions: ClassVar[frozenset[Question]] = frozenset(("equals",))

    def __post_init__(self) -> None:
        if len(self.types) < 2 or len(self.types) != len(self.normalisers):
            raise ConfigurationError("a compound index is of two fields or more")
        if not 96 <= self.bits <= 512:
            raise ConfigurationError(
                "a compound index has 96 to 512 bits: its answers are not re-checked",
                hint="leave bits out: 96",
            )
        for name, type_ in zip(self.normalisers, self.types, strict=True):
            normaliser(name)
            if name != "exact" and codec_for(type_).name != "str":
                raise ConfigurationError(
                    f"the normaliser {name} takes text, the field holds {codec_for(type_).name}",
                    hint='"exact" takes any type',
                )

    @property
    def normaliser(self) -> str:
        """The normalisers and their versions, a JSON array: each is bound in every token."""
        names = [normaliser(name).identity for name in self.normalisers]
        return json.dumps(names, separators=(",", ":"))

    @property
    def exact(self) -> bool:
        return True

    @property
    def always(self) -> bytes | None:
        return None

    @property
    def version(self) -> int:
        return 1

    @property
    def parts(self) -> tuple[str, ...]:
        return ("",)

    def least(self, question: Question) -> int:
        return 0

    def check(self, codec: Codec) -> None:
        """Nothing more: the fields were checked when it was made."""

    def tokens(self, value: object, codec: Codec, keys: Sequence[PreparedKey]) -> IndexToken:
        return IndexToken(token(keys[0], self.normalised(value, codec), self.bits))

    def known(self, value: object, codec: Codec, keys: Sequence[PreparedKey]) -> IndexToken:
        return self.tokens(value, codec, keys)

    def asked(
        self, question: Question, value: object, codec: Codec, keys: Sequence[PreparedKey]
    ) -> IndexToken:
        return self.tokens(value, codec, keys)

    def normalised(self, value: object, codec: Codec) -> bytes:
        if not isinstance(value, tuple) or len(value) != len(self.types):
            raise InvalidValue(f"a compound index takes a tuple of {len(self.types)} values")
        # Each with its length before it: ("ab", "c") is not ("a", "bc").
        made = bytearray()
        for part, type_, name in zip(value, self.types, self.normalisers, strict=True):
            if part is None:
                raise InvalidValue("a compound index takes no None: such a row has no token")
            normal = normal_form(name, part, codec_for(type_))
            made += len(normal).to_bytes(4) + normal
        return bytes(made)

    def answers(self, question: Question, held: object, wanted: bytes, codec: Codec) -> bool:
        return self.normalised(held, codec) == wanted
