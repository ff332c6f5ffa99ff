# SPDX-License-Identifier: Apache-2.0
"""
Columns of SQLAlchemy-Utils: `StringEncryptedType` and `EncryptedType` (the same text as bytes), with each of its three engines.

* `AesGcmEngine`: authenticated.
* `FernetEngine`: authenticated.
* `AesEngine`: AES-CBC, its IV the first half of the key, always; **not authenticated**. Whoever wrote to that database could change
  what a value says, and no reader can tell. Padding and text that cannot be are refused, with the same words as everything else.
  With the padding `naive` (asterisks) a value that ended in asterisks lost them when it was written.

None binds a value to its row or column.
"""

import hashlib
from typing import Literal

from cryptography.fernet import MultiFernet
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from lacre.errors import ConfigurationError, Tampered
from lacre.legacy.fernet import fernet_of, is_token, opened
from lacre.legacy.reader import Found, Reader, base64_of, gcm, text_of
from lacre.legacy.values import text_type

__all__ = ["Engine", "Padding", "SqlalchemyUtilsReader"]

Engine = Literal["aes", "aes-gcm", "fernet"]
Padding = Literal["naive", "pkcs5", "oneandzeroes", "zeroes"]

_BLOCK = 16
_IV, _TAG = 12, 16


class SqlalchemyUtilsReader(Reader):
    """
    Args:
        name: what evidence calls this reader.
        key: what the column was declared with.
        engine: of `AesEngine`, `AesGcmEngine` and `FernetEngine`.
        padding: of `AesEngine`; its own default is `naive`.
        value_type: of the underlying type.
    """

    __slots__ = ("_engine", "_fernet", "_key", "_padding", "_type", "python_type")

    calls = 0

    def __init__(
        self,
        *,
        name: str,
        key: str | bytes,
        engine: Engine,
        padding: Padding = "naive",
        value_type: str = "str",
    ) -> None:
        super().__init__(name, authenticated=engine != "aes")
        if not key:
            raise ConfigurationError(f"the legacy reader {name} has an empty key")
        if engine not in ("aes", "aes-gcm", "fernet") or padding not in _UNPADDED:
            raise ConfigurationError(
                f"the legacy reader {name} names no engine or padding that there is",
                hint="engines: aes, aes-gcm, fernet; paddings: " + ", ".join(_UNPADDED),
            )
        # As the library does: a key of any length, hashed once. A guessable one stays guessable.
        self._key = hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()
        self._engine = engine
        self._padding = padding
        self._fernet: MultiFernet | None = None
        if engine == "fernet":
            from base64 import urlsafe_b64encode

            self._fernet = fernet_of(name, [urlsafe_b64encode(self._key)])
        self._type = text_type(value_type)
        self.python_type = self._type.python_type

    def looks_like(self, stored: object) -> bool:
        if self._fernet is not None:
            return is_token(stored)
        try:
            data = base64_of(text_of(stored))
        except Tampered:
            return False
        if self._engine == "aes-gcm":
            return len(data) >= _IV + _TAG
        return bool(data) and len(data) % _BLOCK == 0

    def _found(self, stored: object) -> Found:
        return Found(self._type.value(self._plain(stored)))

    def _plain(self, stored: object) -> bytes:
        if self._fernet is not None:
            return opened(self._fernet, stored)
        data = base64_of(text_of(stored))
        if self._engine == "aes-gcm":
            iv, tag = data[:_IV], data[_IV : _IV + _TAG]
            return gcm(self._key, iv, data[_IV + _TAG :], tag)
        if not data or len(data) % _BLOCK:
            raise Tampered
        # A constant IV under one key: equal beginnings show as equal blocks. Read, never written.
        cipher = Cipher(algorithms.AES(self._key), modes.CBC(self._key[:_BLOCK])).decryptor()
        return _UNPADDED[self._padding](cipher.update(data) + cipher.finalize())


def _pkcs5(data: bytes) -> bytes:
    count = data[-1]
    if not 1 <= count <= _BLOCK or data[-count:] != bytes([count]) * count:
        raise Tampered
    return data[:-count]


def _zeroes(data: bytes) -> bytes:
    count = data[-1]
    if not 1 <= count <= _BLOCK or data[-count:-1] != bytes(count - 1):
        raise Tampered
    return data[:-count]


def _one_and_zeroes(data: bytes) -> bytes:
    # Exactly one 0x80: the library strips all of them, and with them the end of "À", which is C3 80.
    body = data.rstrip(b"\0")
    if not body.endswith(b"\x80") or len(data) - len(body) >= _BLOCK:
        raise Tampered
    return body[:-1]


def _naive(data: bytes) -> bytes:
    body = data.rstrip(b"*")
    if body == data:
        raise Tampered
    return body


_UNPADDED = {"naive": _naive, "pkcs5": _pkcs5, "oneandzeroes": _one_and_zeroes, "zeroes": _zeroes}
