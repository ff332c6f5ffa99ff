# SPDX-License-Identifier: Apache-2.0
"""
Fields of django-fernet-encrypted-fields: Fernet under keys that PBKDF2 derives of SECRET_KEY, its fallbacks and SALT_KEY.

That package hands out what does not open as it is, plaintext or not; here it is refused. It stores what is falsy (the empty text, 0,
False) as NULL, so those values are gone before anything is moved. Its `EncryptedJSONField` encrypts each leaf of a document, as
text: a number comes back as text.

A token binds its value to nothing: that it opens does not say that it was not moved before the move.
"""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Any

from cryptography.fernet import MultiFernet

from lacre.errors import ConfigurationError, InvalidValue, Tampered
from lacre.legacy.fernet import fernet_of, is_token, opened
from lacre.legacy.reader import Found, Reader, json_of
from lacre.legacy.values import text_type

__all__ = ["DjangoFernetReader"]

_ITERATIONS = 100_000
_DEEPEST = 64


class DjangoFernetReader(Reader):
    """
    Args:
        name: what evidence calls this reader.
        secret_keys: Django's SECRET_KEY, then SECRET_KEY_FALLBACKS.
        salts: SALT_KEY, one or several.
        value_type: of the field; `json` is `EncryptedJSONField`.
    """

    __slots__ = ("_fernet", "_type", "python_type")

    calls = 0

    def __init__(
        self,
        *,
        name: str,
        secret_keys: Sequence[str],
        salts: Sequence[str],
        value_type: str = "str",
    ) -> None:
        super().__init__(name)
        if not secret_keys or not salts:
            raise ConfigurationError(f"the legacy reader {name} needs a secret key and a salt")
        self._fernet: MultiFernet = fernet_of(
            name, [_derived(secret, salt) for secret in secret_keys for salt in salts]
        )
        self._type = text_type(value_type)
        self.python_type = self._type.python_type

    def looks_like(self, stored: object) -> bool:
        if self.python_type is not dict:
            return is_token(stored)
        try:
            leaves = list(_leaves(json_of(stored)))
        except (Tampered, RecursionError):
            return False
        return all(is_token(leaf) for leaf in leaves)

    def _found(self, stored: object) -> Found:
        if self.python_type is not dict:
            return Found(self._type.value(opened(self._fernet, stored)))
        return Found(self._document(json_of(stored), 0))

    def _document(self, node: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            raise Tampered
        if isinstance(node, dict):
            return {name: self._document(held, depth + 1) for name, held in node.items()}
        if isinstance(node, list):
            return [self._document(held, depth + 1) for held in node]
        try:
            return opened(self._fernet, node).decode()
        except UnicodeDecodeError:
            raise InvalidValue("what was encrypted is no text") from None


def _leaves(node: Any) -> Any:
    if isinstance(node, dict | list):
        for held in node.values() if isinstance(node, dict) else node:
            yield from _leaves(held)
    else:
        yield node


def _derived(secret_key: str, salt: str) -> bytes:
    made = hashlib.pbkdf2_hmac("sha256", secret_key.encode(), salt.encode(), _ITERATIONS, 32)
    return urlsafe_b64encode(made)
