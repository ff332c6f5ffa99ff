# SPDX-License-Identifier: Apache-2.0
"""
`ContainsIndex`: what a value contains anywhere, by the tokens of its trigrams.

Implements ``spec/field-format.md``, section "Blind index". Answers nothing shorter than a trigram,
and stores nothing (`lacre.fields.stored`).
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

__all__ = ["ContainsIndex"]

_MOST = 64  # tokens of a value
_BUCKET = 16  # the number of tokens is a multiple of it
# The one token of a value with more trigrams than that: no token of a trigram, which are not
# negative. Such a value is a candidate for every question.
_ANY = -1


@dataclass(frozen=True, slots=True)
class ContainsIndex:
    """
    Make an encrypted text searchable by what it contains: ``Model.name.contains("silv")``.

    For names and other short lines; it answers ``startswith`` and ``endswith`` too. Hits are
    always re-checked on the plaintext, so whoever asks needs `decrypt` as well as `search`.

    It reveals the most of all indexes: which rows share which trigrams. With the table and a list
    of names as they are common, much of a column of names can be recovered. So it is declared
    where it is needed, and refused for whatever is made of digits.

    Args:
        normaliser: ``name`` or ``exact``.
        bits: of each token, 12 to 16. With more, the random tokens that hide how many trigrams a
            value has would be told from true ones by being the only ones of their kind.
        name: of the index, bound in every token.
    """

    normaliser: str
    bits: int = field(default=16, kw_only=True)
    name: str = field(default="contains", kw_only=True)

    kind: ClassVar[str] = "contains"
    several: ClassVar[bool] = True
    questions: ClassVar[frozenset[Question]] = frozenset(("contains", "startswith", "endswith"))

    def __post_init__(self) -> None:
        check_in_parts(self.normaliser, takes=("name", "exact"))
        if not 12 <= self.bits <= 16:
            raise ConfigurationError(
                "a contains index has 12 to 16 bits", hint="leave bits out: 16"
            )

    @property
    def unique(self) -> bool:
        return False

    @property
    def exact(self) -> bool:
        return False

    @property
    def parts(self) -> tuple[str, ...]:
        return ("",)

    def least(self, question: Question) -> int:
        return 3 if question == "contains" else 2

    def check(self, codec: Codec) -> None:
        if codec.name != "str":
            raise ConfigurationError(f"a contains index takes text, the field holds {codec.name}")

    def tokens(self, value: object, codec: Codec, keys: Sequence[PreparedKey]) -> IndexTokens:
        text = normal_form(self.normaliser, value, codec).decode()
        trigrams = _trigrams(f" {text} ")
        if len(trigrams) > _MOST:
            return IndexTokens.of((_ANY,))
        found = self._numbers(trigrams, keys)
        # Random tokens up to the next multiple: how many there are tells a range of lengths. They
        # are drawn from the same numbers as true ones, and are few in any one value.
        wanted = max(-(-len(found) // _BUCKET) * _BUCKET, _BUCKET)
        while len(found) < wanted:
            found.add(number(os.urandom((self.bits + 7) // 8), self.bits))
        # In the order of the tokens: it tells nothing of the order of the trigrams.
        return IndexTokens.of(sorted(found))

    def known(self, value: object, codec: Codec, keys: Sequence[PreparedKey]) -> IndexTokens:
        text = normal_form(self.normaliser, value, codec).decode()
        trigrams = _trigrams(f" {text} ")
        return IndexTokens.of((_ANY,) if len(trigrams) > _MOST else self._numbers(trigrams, keys))

    def asked(
        self, question: Question, value: object, codec: Codec, keys: Sequence[PreparedKey]
    ) -> IndexTokens:
        text = normal_form(self.normaliser, value, codec).decode()
        before = " " if text and question == "startswith" else ""
        after = " " if text and question == "endswith" else ""
        trigrams = _trigrams(f"{before}{text}{after}")
        if not trigrams:
            raise UnsupportedQuery(
                f"{question} takes {self.least(question)} characters at least, after normalising",
                hint="ask for more of the text: the index is of three characters together, an end of the text being one",
            )
        return IndexTokens.of(sorted(self._numbers(trigrams, keys)))

    @property
    def version(self) -> int:
        return normaliser(self.normaliser).version

    @property
    def always(self) -> IndexTokens:
        """What a value has that is a candidate for every question."""
        return IndexTokens.of((_ANY,))

    def normalised(self, value: object, codec: Codec) -> bytes:
        return normal_form(self.normaliser, value, codec)

    def answers(self, question: Question, held: object, wanted: bytes, codec: Codec) -> bool:
        text = normal_form(self.normaliser, held, codec)
        if question == "startswith":
            return text.startswith(wanted)
        # UTF-8: bytes are inside bytes where, and only where, text is inside text.
        return text.endswith(wanted) if question == "endswith" else wanted in text

    def _numbers(self, trigrams: set[str], keys: Sequence[PreparedKey]) -> set[int]:
        return {
            number(token(keys[0], trigram.encode(), self.bits), self.bits) for trigram in trigrams
        }


def _trigrams(text: str) -> set[str]:
    return {text[start : start + 3] for start in range(len(text) - 2)}
