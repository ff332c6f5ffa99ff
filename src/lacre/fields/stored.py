# SPDX-License-Identifier: Apache-2.0
"""
What is stored of a value: its ciphertext and its index tokens, as bytes that do not print.

Does not make them (`lacre.fields.field`).
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple, Self

__all__ = ["IndexToken", "IndexTokens", "Sealed", "Stored"]


class Stored(NamedTuple):
    """
    What is stored of one value: the ciphertext and one entry per index, made together.

    An entry is an `IndexToken`, or `IndexTokens` of an index that has several for a value.

    *columns* are the entries as columns hold them: those of a unique index twice, under the index
    root of an odd and of an even version, None where there is none ([ADR 21]).
    A tuple because one is made for every value that is written.

    [ADR 21]: docs/adr/0021-unique-indexes-rotate-in-two-slots.md
    """

    value: bytes | bytearray
    tokens: tuple[bytes, ...]
    columns: tuple[bytes | None, ...]


class Sealed(bytes):
    """A ciphertext that does not print. Equal to its bytes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<sealed, {len(self)} bytes>"

    __str__ = __repr__


class IndexToken(bytes):
    """A blind-index token that does not print: it would tell equal values apart in a log."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<index token, {len(self)} bytes>"

    __str__ = __repr__


class IndexTokens(bytes):
    """
    The tokens of one value in an index of several, which do not print.

    As bytes four for each: a signed integer, most significant byte first.
    """

    __slots__ = ()

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Self:
        """Return the tokens that are *numbers*."""
        found = tuple(numbers)
        return cls(struct.pack(f">{len(found)}i", *found))

    @property
    def numbers(self) -> tuple[int, ...]:
        """What a column of integers holds."""
        return struct.unpack(f">{len(self) // 4}i", self)

    def __repr__(self) -> str:
        return f"<{len(self) // 4} index tokens>"

    __str__ = __repr__
