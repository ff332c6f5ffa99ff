# SPDX-License-Identifier: Apache-2.0
"""
Field format 1: one value, encrypted under one stored key, bound to one place.

Implements ``spec/field-format.md``, sections "Layout" and "Encryption". Does not choose keys or
salts, does not know what a context means, and does not encode values: bytes in, bytes out.

::

     0   1  0xC1         never begins valid UTF-8
     1   1  suite        0x01 = AES-256-GCM, HKDF-Expand-SHA-512, 32-byte commitment
     2   1  flags        bit 0: padded. All others are zero
     3  16  key id       of the key below which the value is encrypted
    19  24  salt
    43  32  commitment
    75   n  ciphertext, then the 16-byte tag
"""

import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lacre._core.derive import FIELD, PreparedKey, expand
from lacre._core.padding import pad, padded_length, unpad
from lacre.errors import InvalidValue, MisuseError, Tampered

__all__ = [
    "MAX_ENCODED",
    "OVERHEAD",
    "Header",
    "decrypt",
    "encrypt",
    "key_id_of",
    "looks_encrypted",
    "parse",
]

MAGIC_AND_SUITE = b"\xc1\x01"
PADDED = 0x01
_HEADS = (b"\xc1\x01\x00", b"\xc1\x01\x01")  # magic, suite and every combination of flags
OVERHEAD = 91
MAX_ENCODED = 16 * 1024 * 1024
_LONGEST = OVERHEAD + padded_length(MAX_ENCODED)

# From this size on the ciphertext is written straight into the result, so that the peak is
# plaintext plus result; below it, joining small pieces is faster.
_IN_PLACE = 64 * 1024

# The nonce is constant because the key is not: it is derived from a fresh 24-byte salt, the
# stored key, the header and the context, and encrypts exactly one value. Everything that
# associated data would hold is in the derivation, hence in the key *and* in the commitment.
# Unsafe only if a salt repeats under the same stored key for the same cell: two plaintexts
# would share a key stream. So a salt is os.urandom(24), drawn once per value, never an argument
# of a public function and never taken from a pool that a fork or a snapshot could copy.
_NONCE = bytes(12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The parts of a value that anyone can read. Nothing in it is authenticated by reading it."""

    suite: int
    padded: bool
    key_id: bytes
    salt: bytes
    commitment: bytes
    body: bytes


def encrypt(
    key: bytes | PreparedKey,
    key_id: bytes,
    context: bytes,
    plaintext: bytes,
    *,
    salt: bytes,
    padded: bool,
    label: bytes = FIELD,
) -> bytes | bytearray:
    """
    Encrypt *plaintext* for the place that *context* names.

    Args:
        key: the stored key, 32 bytes; used as the PRK of one derivation only.
        key_id: 16 bytes, written into the header.
        context: the canonical bytes of the place; never empty.
        salt: 24 fresh random bytes. Never used for a second value.
        padded: hide the exact length.
        label: `derive.FIELD` for values, `derive.WRAP` for keys.

    Returns:
        The value: bytes, or for large ones a bytearray (no second copy is made).
    """
    # Where this raises, the key leaves the frame first: error reporters log a traceback's locals.
    if len(salt) != 24 or len(key_id) != 16 or not context:
        del key, plaintext
        raise MisuseError("a value takes a salt of 24 bytes, a key id of 16 and a context")
    if len(plaintext) > MAX_ENCODED:
        del key, plaintext
        raise InvalidValue(
            "the encoded value is longer than 16 MiB", hint="keep it as an object, not in a column"
        )
    if padded:
        plaintext = pad(plaintext)
        head = b"\xc1\x01\x01" + key_id
    else:
        head = b"\xc1\x01\x00" + key_id
    derived = expand(key, label, head + salt + context, 64)
    cipher = AESGCM(derived[:32])
    if len(plaintext) < _IN_PLACE:
        return b"".join((head, salt, derived[32:], cipher.encrypt(_NONCE, plaintext, None)))
    value = bytearray(OVERHEAD + len(plaintext))
    value[:75] = head + salt + derived[32:]
    cipher.encrypt_into(_NONCE, plaintext, None, memoryview(value)[75:])
    return value


def decrypt(
    key: bytes | PreparedKey,
    value: bytes | bytearray | memoryview,
    context: bytes,
    *,
    label: bytes = FIELD,
) -> bytes:
    """
    Return the plaintext of *value*, found in the place that *context* names.

    The commitment is compared first and in constant time: a value under another key, with an
    altered header, or moved to another place fails there, before AES-GCM (which would accept a
    ciphertext crafted to open under two keys) sees anything.

    Raises:
        Tampered: whatever is wrong with the bytes or their place.
    """
    if not OVERHEAD <= len(value) <= _LONGEST:
        del key
        raise Tampered
    head = bytes(value[:75])
    flags = head[2]
    if head[:2] != MAGIC_AND_SUITE or flags & ~PADDED:
        del key
        raise Tampered
    derived = expand(key, label, head[:43] + context, 64)
    plaintext: bytes | None = None
    if hmac.compare_digest(derived[32:], head[43:]):
        try:
            # A view for large values, so that there is no second copy; of a small one the copy
            # is cheaper.
            body = memoryview(value)[75:] if len(value) >= _IN_PLACE else value[75:]
            plaintext = AESGCM(derived[:32]).decrypt(_NONCE, body, None)
            if flags:
                plaintext = unpad(plaintext)
        except InvalidTag:
            plaintext = None
    # One exit for every refusal below the header: one error, no cause, and neither key nor
    # plaintext left in a frame of the traceback.
    if plaintext is None or len(plaintext) > MAX_ENCODED:
        del key, derived, plaintext
        raise Tampered
    return plaintext


def parse(value: bytes | bytearray | memoryview) -> Header:
    """
    Read the header of *value*. Opens nothing and proves nothing.

    Raises:
        Tampered: not a value of field format 1.
    """
    if not looks_encrypted(value):
        raise Tampered
    raw = bytes(value)
    return Header(
        suite=raw[1],
        padded=bool(raw[2]),
        key_id=raw[3:19],
        salt=raw[19:43],
        commitment=raw[43:75],
        body=raw[75:],
    )


def looks_encrypted(value: bytes | bytearray | memoryview) -> bool:
    """Whether magic byte, suite, flags and length are those of field format 1."""
    return value[:3] in _HEADS and OVERHEAD <= len(value) <= _LONGEST


def key_id_of(value: bytes | bytearray | memoryview) -> bytes:
    """
    Return the key id that *value* names.

    Raises:
        Tampered: not a value of field format 1.
    """
    if not looks_encrypted(value):
        raise Tampered
    return bytes(value[3:19])
