# SPDX-License-Identifier: Apache-2.0
"""
Values of the Nexus service (`EncryptedField`): AES-256-GCM under a data key of its own, which AWS KMS wrapped without a context.

What that service did, reproduced to read it and for nothing else:

* `createCipher` derives the AES key *and the IV* from the data key with one round of MD5 without salt; the IV it stores was
  never used. `createCipheriv`, its successor, uses the stored IV of 16 bytes.
* The associated data is JSON of user, time and purpose, made of the context it stores beside the ciphertext. Where it stored no
  time it took the clock's, and kept it nowhere: such a value opens for nobody.

Neither binds a value to its row or column: that it opens does not say that it was not moved before the move.
Never read from the value: the algorithm, the KMS key, the length of the tag.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from lacre.errors import ConfigurationError, Tampered
from lacre.legacy.data_keys import Unwrap, unwrapped
from lacre.legacy.reader import Found, Reader, base64_of, gcm, json_of, members_of
from lacre.legacy.values import text_type

__all__ = ["Cipher", "NexusReader"]

Cipher = Literal["createCipher", "createCipheriv"]

_ALGORITHM = "aes-256-gcm"
_MEMBERS = frozenset(
    {"algorithm", "authTag", "context", "encryptedData", "encryptedKey", "iv", "keyId"}
)
_CIPHERS: tuple[Cipher, ...] = ("createCipher", "createCipheriv")
_LONE = re.compile("[\ud800-\udfff]")
_SAFE = 2**53  # past it JavaScript's numbers are not what JSON says


class NexusReader(Reader):
    """
    Args:
        name: what evidence calls this reader.
        unwrap: opens a data key; see `lacre.legacy.data_keys`.
        ciphers: with which of Node's functions rows were written; each is tried.
    """

    calls = 1
    python_type: type = str

    def __init__(self, *, name: str, unwrap: Unwrap, ciphers: Sequence[Cipher] = _CIPHERS) -> None:
        if not ciphers or not set(ciphers) <= set(_CIPHERS):
            raise ConfigurationError("ciphers are createCipher, createCipheriv, or both")
        super().__init__(name)
        self._unwrap = unwrap
        self._ciphers = tuple(ciphers)

    def looks_like(self, stored: object) -> bool:
        try:
            field = json_of(stored)
        except Tampered:
            return False
        # By its algorithm too: the JSON form of lacre has the same members.
        return field.keys() == _MEMBERS and field["algorithm"] == _ALGORITHM

    def _found(self, stored: object) -> Found:
        field = members_of(stored, _MEMBERS)
        if field["algorithm"] != _ALGORITHM or not isinstance(field["context"], dict):
            raise Tampered
        associated = _associated(field["context"])
        iv, tag = base64_of(field["iv"], exactly=16), base64_of(field["authTag"], exactly=16)
        ciphertext = base64_of(field["encryptedData"])
        data_key = unwrapped(self._unwrap, base64_of(field["encryptedKey"]), {})
        for cipher in self._ciphers:
            key, nonce = (data_key, iv) if cipher == "createCipheriv" else _derived(data_key)
            try:
                # Two ways of opening are two keys or nonces for one tag of 128 bits: what opens under either was written so.
                return Found(text_type("str").value(gcm(key, nonce, ciphertext, tag, associated)))
            except Tampered:
                continue
        raise Tampered


def _derived(data_key: bytes) -> tuple[bytes, bytes]:
    # EVP_BytesToKey(MD5, count 1, no salt), as Node's createCipher calls it: 32 bytes of key, 12 of IV. MD5 adds no weakness that
    # is not there: what goes in is 32 random bytes. Unsafe only for writing, where a data key used twice repeats its IV.
    made = block = b""
    while len(made) < 44:
        block = hashlib.md5(block + data_key, usedforsecurity=False).digest()
        made += block
    return made[:32], made[32:44]


def _associated(context: dict[str, Any]) -> bytes:
    # In the order of the service's object literal, as JSON.stringify writes it.
    made = {
        "userId": _or(context.get("userId"), "anonymous"),
        "timestamp": _or(context.get("timestamp"), None),
        "purpose": _or(context.get("purpose"), "data_encryption"),
    }
    text = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    return _LONE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def _or(value: object, default: str | None) -> object:
    # JavaScript's `||`, for what JSON writes alike in both languages.
    if value is None or value == "" or value is False or value == 0:
        if default is None:
            raise Tampered
        return default
    if isinstance(value, str) or (type(value) is int and abs(value) < _SAFE):
        return value
    raise Tampered
