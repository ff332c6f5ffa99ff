# SPDX-License-Identifier: Apache-2.0
"""
Fernet tokens, of cryptography and of what is built on it: one key or several, each tried.

A token binds its value to nothing: that it opens does not say that it was not moved before the move. Its age is not looked at.
"""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from lacre.errors import ConfigurationError, Tampered
from lacre.legacy.reader import Found, Reader, text_of
from lacre.legacy.values import text_type

__all__ = ["FernetReader"]

_SHORTEST = 100  # 1 + 8 + 16 + 16 + 32 bytes in base64


class FernetReader(Reader):
    """
    Args:
        name: what evidence calls this reader.
        keys: as `Fernet.generate_key` gives them.
        value_type: of what was encrypted: its text is read as that.
    """

    __slots__ = ("_fernet", "_type", "python_type")

    calls = 0

    def __init__(self, *, name: str, keys: Sequence[str | bytes], value_type: str = "str") -> None:
        super().__init__(name)
        self._fernet = fernet_of(name, keys)
        self._type = text_type(value_type)
        self.python_type = self._type.python_type

    def looks_like(self, stored: object) -> bool:
        return is_token(stored)

    def _found(self, stored: object) -> Found:
        return Found(self._type.value(opened(self._fernet, stored)))


def fernet_of(name: str, keys: Sequence[str | bytes]) -> MultiFernet:
    """Return what opens tokens of any of *keys*."""
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:  # quotes nothing, and is not shown: the text is cryptography's
        raise ConfigurationError(
            f"the keys of the legacy reader {name} are no Fernet keys",
            hint="a key is 32 bytes in base64url, one a line, at least one",
        ) from None


def is_token(stored: object) -> bool:
    """Whether *stored* begins and is as long as a token."""
    try:
        text = text_of(stored)
    except Tampered:
        return False
    return len(text) >= _SHORTEST and text.startswith("gAAAA")


def opened(fernet: MultiFernet, stored: object) -> bytes:
    """Return what a token holds, or raise `Tampered`."""
    text = text_of(stored)
    try:
        return fernet.decrypt(text.encode("ascii"))
    except (InvalidToken, UnicodeEncodeError):
        raise Tampered from None
