# SPDX-License-Identifier: Apache-2.0
"""
`PrefixIndex`: what a value begins with.

One token for each declared length, each under a key of its own, so that tokens of two lengths are
never equal by more than chance. Implements ``spec/field-format.md``, section "Blind index". Answers
no prefix that is shorter than the shortest length, and stores nothing (`lacre.fields.stored`).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from lacre._core.blind import number, token
from lacre._core.derive import PreparedKey
from lacre.errors import ConfigurationError, UnsupportedQuery
from lacre.fields.codecs import Codec
from lacre.fields.index import Question, check_in_parts, normal_form
from lacre.fields.normalisers import normaliser
from lacre.fields.stored import IndexTokens

__all__ = ["PrefixIndex"]

_LENGTHS = (3, 4, 5, 6, 8)
_MOST = 16  # lengths: each is a token in every row


@dataclass(frozen=True, slots=True)
class PrefixIndex:
    """
    Make an encrypted text searchable by its beginning: ``Model.name.startswith("Mar")``.

    Hits are always re-checked on the plaintext, so whoever asks needs `decrypt` as well as
    `search`. Whoever reads the table sees which rows begin alike, in each of the lengths.

    Args:
        normaliser: ``name``, ``digits`` or ``exact``: one that takes the beginning of a value.
        lengths: in characters of the normalised text. A query uses the longest that it has.
        bits: of each token, 16 to 32.
        name: of the index, bound in every token.
    """

    normaliser: str
    lengths: tuple[int, ...] = field(default=_LENGTHS, kw_only=True)
    bits: int = field(default=32, kw_only=True)
    name: str = field(default="prefix", kw_only=True)

    kind: ClassVar[str] = "prefix"
    several: ClassVar[bool] = True
    questions: ClassVar[frozenset[Question]] = frozenset(("startswith",))

    def __post_init__(self) -> None:
        check_in_parts(self.normaliser, takes=("name", "digits", "exact"))
        object.__setattr__(self, "lengths", tuple(self.lengths))
        if (
            not 1 <= len(self.lengths) <= _MOST
            or list(self.lengths) != sorted(set(self.lengths))
            or self.lengths[0] < 1
        ):
            raise ConfigurationError(
                f"a prefix index has 1 to {_MOST} lengths, each greater than the one before",
                hint=f"lengths={_LENGTHS}",
            )
        if not 16 <= self.bits <= 32:
            raise ConfigurationError("a prefix index has 16 to 32 bits", hint="leave bits out: 32")

    @property
    def version(self) -> int:
        return normaliser(self.normaliser).version

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(str(length) for length in self.lengths)

    @property
    def unique(self) -> bool:
        return False

    @property
    def exact(self) -> bool:
        return False

    @property
    def always(self) -> bytes | None:
        return None

    def least(self, question: Question) -> int:
        return self.lengths[0]

    def check(self, codec: Codec) -> None:
        if codec.name != "str":
            raise ConfigurationError(f"a prefix index takes text, the field holds {codec.name}")

    def tokens(self, value: object, codec: Codec, keys: Sequence[PreparedKey]) -> IndexTokens:
        found = self._found(value, codec, keys)
        # Of a short value too there are as many tokens as lengths. Random ones mean nothing; that
        # one of them finds the row by chance is what the re-check is there for.
        missing = len(self.lengths) - len(found)
        found += [number(os.urandom((self.bits + 7) // 8), self.bits) for _ in range(missing)]
        # In the order of the tokens: it tells nothing of the order of the lengths.
        return IndexTokens.of(sorted(found))

    def known(self, value: object, codec: Codec, keys: Sequence[PreparedKey]) -> IndexTokens:
        return IndexTokens.of(self._found(value, codec, keys))

    def asked(
        self, question: Question, value: object, codec: Codec, keys: Sequence[PreparedKey]
    ) -> IndexTokens:
        text = normal_form(self.normaliser, value, codec).decode()
        for length, key in zip(reversed(self.lengths), reversed(keys), strict=True):
            if length <= len(text):
                return IndexTokens.of((self._token(key, text[:length]),))
        raise UnsupportedQuery(
            f"{question} takes {self.lengths[0]} characters at least, after normalising",
            hint=f"ask for a longer beginning: the index has the lengths {', '.join(map(str, self.lengths))}; a shorter one, declared besides, tells more to whoever reads the table",
        )

    def normalised(self, value: object, codec: Codec) -> bytes:
        return normal_form(self.normaliser, value, codec)

    def answers(self, question: Question, held: object, wanted: bytes, codec: Codec) -> bool:
        return normal_form(self.normaliser, held, codec).startswith(wanted)

    def _found(self, value: object, codec: Codec, keys: Sequence[PreparedKey]) -> list[int]:
        text = normal_form(self.normaliser, value, codec).decode()
        return [
            self._token(key, text[:length])
            for length, key in zip(self.lengths, keys, strict=True)
            if length <= len(text)
        ]

    def _token(self, key: PreparedKey, text: str) -> int:
        return number(token(key, text.encode(), self.bits), self.bits)
