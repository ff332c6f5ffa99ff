# SPDX-License-Identifier: Apache-2.0
"""
Everything that is derived from a stored key: one function, one label per use.

Implements ``spec/field-format.md``, section "Derivation" (HKDF-Expand of RFC 5869 with SHA-512,
at most one block). Does not extract: a stored key is 32 uniformly random bytes already.

Rule 1: a stored key is used only as the PRK of `expand`, never as an AES or HMAC key.
Rule 2: every label is exactly 16 bytes, so no label is a prefix of another, and what is derived
        for one use cannot be what is derived for another.
"""

import hmac
from typing import Never, final

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.hmac import HMAC

from lacre.errors import MisuseError

__all__ = ["CHECK", "FIELD", "INDEX", "LABELS", "NAME", "STATE", "WRAP", "PreparedKey", "expand"]


def _label(text: bytes) -> bytes:
    return text.ljust(16, b"\0")


FIELD = _label(b"lacre/1/field")
WRAP = _label(b"lacre/1/wrap")
INDEX = _label(b"lacre/1/index")
STATE = _label(b"lacre/1/state")
CHECK = _label(b"lacre/1/check")
NAME = _label(b"lacre/1/name")

LABELS = (FIELD, WRAP, INDEX, STATE, CHECK, NAME)


@final
class PreparedKey:
    """
    A stored key, or an index key, whose use as an HMAC key is set up once, for many messages.

    HMAC hashes its key into two inner states before it sees a message; these are kept and copied
    for each derivation. They are as secret as the key, so it neither prints nor pickles.
    """

    __slots__ = ("keyed",)

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            del key
            raise MisuseError("a key is exactly 32 bytes")
        self.keyed = HMAC(key, SHA512())

    def __repr__(self) -> str:
        return "PreparedKey(32 bytes)"

    def __reduce__(self) -> Never:
        raise MisuseError("key material does not pickle, copy or leave the process")


def expand(key: bytes | PreparedKey, label: bytes, info: bytes, length: int) -> bytes:
    """
    Return *length* bytes of HKDF-Expand-SHA-512(PRK = *key*, info = *label* || *info*).

    With at most 64 bytes HKDF-Expand is exactly one HMAC of ``info || 0x01`` (RFC 5869, 2.3),
    so it is written as that; the vectors and a test against `HKDFExpand` hold it to the RFC.
    """
    message = label + info + b"\x01"
    if len(label) == 16 and 0 < length <= 64:
        if isinstance(key, PreparedKey):
            keyed = key.keyed.copy()
            keyed.update(message)
            return keyed.finalize()[:length]
        # Any other key length is refused: HMAC pads a short key with zeros, so `K` and `K || 00`
        # would be one key.
        if len(key) == 32:
            return hmac.digest(key, message, "sha512")[:length]
    del key  # whoever logs the locals of a traceback must not log a key
    raise MisuseError("expand takes a key of 32 bytes, a label of 16 and a length of 1 to 64")
