# SPDX-License-Identifier: Apache-2.0
"""
Values that do not print.

`KeyMaterial` holds 32 secret bytes; `Mask` is what a denied reader sees. Neither shows its
content by accident, and neither pickles. This module does not wipe memory: Python cannot
promise that, and the threat model says so.
"""

from typing import Never, final

from lacre.errors import MisuseError

__all__ = ["KeyMaterial", "Mask"]


@final
class KeyMaterial:
    """32 uniformly random bytes of a key. `reveal()` is the only way to them, and greppable."""

    __slots__ = ("__bytes",)

    def __init__(self, material: bytes) -> None:
        # HMAC would pad a shorter key with zeros, so that `K` and `K || 00` were one key.
        if type(material) is not bytes or len(material) != 32:
            raise MisuseError("a key is exactly 32 bytes")
        self.__bytes = material

    def reveal(self) -> bytes:
        return self.__bytes

    def __repr__(self) -> str:
        return "KeyMaterial(32 bytes)"

    def __reduce__(self) -> Never:
        raise MisuseError("key material does not pickle, copy or leave the process")


@final
class Mask:
    """
    What a reader without the right to decrypt gets instead of the value.

    A type of its own and not a `str`: it cannot be taken for the value, and assigning one to an
    encrypted field raises `MaskWritten`. ``str(mask)`` is the text to show.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<Mask {self._text}>"

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Mask) else NotImplemented

    def __hash__(self) -> int:
        return hash((Mask, self._text))

    def __reduce__(self) -> Never:
        raise MisuseError("a mask is for showing; it does not pickle or copy")
