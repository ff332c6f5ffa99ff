# SPDX-License-Identifier: Apache-2.0
"""
What every legacy reader is, and how each takes stored text apart: bounded, exact, and without a word about why not.

Does not know any format; does not encrypt, and nothing in this package does.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Never, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lacre.errors import InvalidValue, LacreError, MisuseError, Tampered
from lacre.fields.foreign import ForeignReader

__all__ = [
    "Found",
    "LegacyReader",
    "Reader",
    "base64_of",
    "gcm",
    "json_of",
    "members_of",
    "text_of",
]

# The largest value of lacre is 16 MiB encoded; in base64, encrypted a second time, that is less than 32.
LONGEST = 32 * 1024 * 1024
TAG = 16


class Found(NamedTuple):
    """A value, and what is to be told of how it was stored, in fixed words: mostly nothing."""

    value: Any
    remark: str = ""


class LegacyReader(ForeignReader, Protocol):
    """
    Reads what another library encrypted, and never writes it.

    A reader holds keys: it neither prints nor pickles them.
    """

    def looks_like(self, stored: object) -> bool:
        """Whether *stored* has the outward form of what this reader reads. No key is used."""
        ...

    def found(self, stored: object) -> Found:
        """
        Decrypt.

        Raises:
            Tampered: it does not open, for whatever reason.
            InvalidValue: it opens, and is no value of *python_type*.
            KeyUnavailable: the key service denies, or does not answer.
        """
        ...


class Reader:
    """What readers share: a name, and that nothing of them is printed, pickled or copied."""

    __slots__ = ("authenticated", "name")

    def __init__(self, name: str, *, authenticated: bool = True) -> None:
        self.name = name
        self.authenticated = authenticated

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def __reduce__(self) -> Never:
        raise MisuseError("a legacy reader holds keys; it does not pickle or copy")

    def read(self, stored: object) -> Any:
        """Return the value that `found` finds."""
        return self.found(stored).value

    def found(self, stored: object) -> Found:
        """`LegacyReader.found`, with no frame of it in the traceback of what did not open."""
        failed: LacreError
        try:
            return self._found(stored)
        except Tampered:
            failed = Tampered()
        except InvalidValue as error:
            failed = InvalidValue(str(error))
        # Anew and outside the handlers: the frames below hold keys and plaintext, and a crash reporter reads variables.
        raise failed

    def _found(self, stored: object) -> Found:
        raise NotImplementedError


def text_of(stored: object) -> str:
    """Return *stored*, text or its bytes, as text of bounded length."""
    if isinstance(stored, bytearray | memoryview):
        stored = bytes(stored)
    if isinstance(stored, bytes) and len(stored) <= LONGEST:
        try:
            return stored.decode("ascii")
        except UnicodeDecodeError:
            raise Tampered from None
    if not isinstance(stored, str) or len(stored) > LONGEST:
        raise Tampered
    return stored


def base64_of(text: object, *, exactly: int | None = None, urlsafe: bool = False) -> bytes:
    """Return the bytes of canonical, padded base64, *exactly* so many where that is fixed."""
    if not isinstance(text, str) or len(text) > LONGEST:
        raise Tampered
    try:
        data = base64.b64decode(text, altchars=b"-_" if urlsafe else None, validate=True)
    except (binascii.Error, ValueError):
        raise Tampered from None
    if exactly is not None and len(data) != exactly:
        raise Tampered
    return data


def json_of(stored: object) -> dict[str, Any]:
    """Return the object that *stored*, JSON text or what a driver made of it, is."""
    if isinstance(stored, Mapping):
        return dict(stored)
    if isinstance(stored, bytes | bytearray | memoryview):
        try:
            stored = bytes(stored).decode()
        except UnicodeDecodeError:
            raise Tampered from None
    if not isinstance(stored, str) or len(stored) > LONGEST:
        raise Tampered
    try:
        found = json.loads(stored, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise Tampered from None
    if not isinstance(found, dict):
        raise Tampered
    return found


def members_of(stored: object, members: frozenset[str]) -> dict[str, Any]:
    """`json_of`, with exactly these members."""
    found = json_of(stored)
    if found.keys() != members:
        raise Tampered
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):  # which of two counts is where two parsers differ
        raise ValueError("a member stands twice")
    return found


def gcm(key: bytes, iv: bytes, ciphertext: bytes, tag: bytes, associated: bytes = b"") -> bytes:
    """
    Return what AES-GCM opens.

    Raises:
        Tampered: also for a tag that is not 16 bytes, which Node and Ruby take as short as 4: 32 bits are forged by trying.
    """
    if len(tag) != TAG or not 8 <= len(iv) <= 128:
        raise Tampered
    try:
        return AESGCM(key).decrypt(iv, ciphertext + tag, associated)
    except (InvalidTag, ValueError, OverflowError):
        raise Tampered from None
