# SPDX-License-Identifier: Apache-2.0
"""
Attributes of Rails' Active Record Encryption: AES-256-GCM under a key that PBKDF2 derives, in JSON or not compressed.

Deterministic and not: what differs is the key alone. Keys of before are tried in their order, and each digest that the application may
have used: SHA-1 before Rails 7.1, SHA-256 since, where it was not told otherwise. Envelope encryption (a key in the header `k`) is
read too. Messages in MessagePack are not.

Only the payload is authenticated: whoever wrote to that database could swap values between rows and columns, and change the headers
that say whether a value is compressed and in which encoding. Never read from the value: the algorithm, the length of the tag.
"""

import codecs
import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from lacre.errors import ConfigurationError, Tampered
from lacre.legacy.reader import Found, Reader, base64_of, gcm, json_of
from lacre.legacy.values import text_type

__all__ = ["Digest", "RailsReader"]

Digest = Literal["sha1", "sha256"]

_ITERATIONS = 1 << 16  # of ActiveSupport::KeyGenerator
_LARGEST = 16 * 1024 * 1024
# Encodings that both languages read alike; what is no text at all stays refused.
_ENCODINGS = {
    "UTF-8": "utf-8",
    "US-ASCII": "ascii",
    "ASCII-8BIT": "utf-8",
    "ISO-8859-1": "latin-1",
    "ISO-8859-15": "iso8859-15",
    "Windows-1252": "cp1252",
    "UTF-16LE": "utf-16-le",
    "UTF-16BE": "utf-16-be",
}


class RailsReader(Reader):
    """
    Args:
        name: what evidence calls this reader.
        keys: `primary_key`, or `deterministic_key` for attributes that are; several where they were rotated.
        salt: `key_derivation_salt`.
        digests: of `hash_digest_class`, each tried.
        value_type: of the attribute.
    """

    __slots__ = ("_keys", "_type", "python_type")

    calls = 0

    def __init__(
        self,
        *,
        name: str,
        keys: Sequence[str],
        salt: str,
        digests: Sequence[Digest] = ("sha256", "sha1"),
        value_type: str = "str",
    ) -> None:
        super().__init__(name)
        if not keys or not all(keys) or not salt:
            raise ConfigurationError(f"the legacy reader {name} needs a key and a salt")
        if not digests or not set(digests) <= {"sha1", "sha256"}:
            raise ConfigurationError("digests are sha1, sha256, or both")
        self._keys = [
            hashlib.pbkdf2_hmac(digest, key.encode(), salt.encode(), _ITERATIONS, 32)
            for key in keys
            for digest in digests
        ]
        self._type = text_type(value_type)
        self.python_type = self._type.python_type

    def looks_like(self, stored: object) -> bool:
        try:
            message = json_of(stored)
        except Tampered:
            return False
        headers = message.get("h")
        return message.keys() == {"p", "h"} and isinstance(headers, dict) and "iv" in headers

    def _found(self, stored: object) -> Found:
        payload, headers = _parts(json_of(stored))
        plain = self._opened(payload, headers)
        if headers.get("c") is True:
            plain = _inflated(plain)
        return Found(self._type.value(_recoded(plain, headers.get("e"))))

    def _opened(self, payload: bytes, headers: Mapping[str, Any]) -> bytes:
        iv, tag = base64_of(headers.get("iv"), exactly=12), base64_of(headers.get("at"), exactly=16)
        for key in self._candidates(headers):
            try:
                return gcm(key, iv, payload, tag)
            except Tampered:
                continue
        raise Tampered

    def _candidates(self, headers: Mapping[str, Any]) -> Iterator[bytes]:
        if "k" not in headers:
            yield from self._keys
            return
        payload, inner = _parts(headers["k"])
        if "k" in inner:
            raise Tampered
        key = self._opened(payload, inner)
        if len(key) != 32:
            raise Tampered
        yield key


def _parts(message: object) -> tuple[bytes, dict[str, Any]]:
    if not isinstance(message, dict) or message.keys() != {"p", "h"}:
        raise Tampered
    headers = message["h"]
    if not isinstance(headers, dict) or len(headers) > 16:
        raise Tampered
    return base64_of(message["p"]), headers


def _inflated(data: bytes) -> bytes:
    # Bounded: a few bytes may say that they are gigabytes, and the header that says so is not authenticated.
    inflater = zlib.decompressobj()
    try:
        made = inflater.decompress(data, _LARGEST)
    except zlib.error:
        raise Tampered from None
    if not inflater.eof or inflater.unused_data:
        raise Tampered
    return made


def _recoded(plain: bytes, encoding: object) -> bytes:
    if encoding is None:
        return plain
    found = _ENCODINGS.get(base64_of(encoding).decode("latin-1"))
    if found is None:
        raise Tampered
    try:
        return codecs.decode(plain, found).encode()
    except UnicodeError:
        raise Tampered from None
