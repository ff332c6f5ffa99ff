# SPDX-License-Identifier: Apache-2.0
"""
What is stored of a value: its ciphertext and its index tokens, as bytes that do not print.

Does not make them (`lacre.fields.field`).
"""

from typing import NamedTuple

__all__ = ["IndexToken", "Sealed", "Stored"]


class Stored(NamedTuple):
    """
    What is stored of one value: the ciphertext and one token per index, made together.

    A tuple because one is made for every value that is written.
    """

    value: bytes | bytearray
    tokens: tuple[bytes, ...]


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
