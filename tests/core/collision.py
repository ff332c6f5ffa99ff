# SPDX-License-Identifier: Apache-2.0
"""
Makes an "invisible salamander": one AES-GCM ciphertext and tag that open under two keys.

Solves for one block so that both GHASHes give the same tag (Dodis, Grubbs, Ristenpart, Woodage:
"Fast Message Franking", 2018). Only the tests need it: it shows what the commitment is for.
"""

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

ONE = 1 << 127  # GCM counts bits from the left


def multiply(a: int, b: int) -> int:
    """Return a * b in GCM's GF(2^128) (SP 800-38D, section 6.3)."""
    product = 0
    for shift in range(127, -1, -1):
        if a >> shift & 1:
            product ^= b
        b = b >> 1 ^ (0xE1 << 120 if b & 1 else 0)
    return product


def power(a: int, exponent: int) -> int:
    result = ONE
    while exponent:
        if exponent & 1:
            result = multiply(result, a)
        a, exponent = multiply(a, a), exponent >> 1
    return result


def block(key: bytes, plain: bytes) -> int:
    return int.from_bytes(Cipher(AES(key), ECB()).encryptor().update(plain), "big")


def collide(one: bytes, other: bytes, first: bytes) -> bytes:
    """Return a ciphertext of two blocks, the first of them *first*, and its tag under both keys."""
    nonce_block = bytes(12) + (1).to_bytes(4, "big")
    lengths = 2 * 128  # no associated data, 256 bits of ciphertext
    head = int.from_bytes(first, "big")
    h1, h2 = block(one, bytes(16)), block(other, bytes(16))
    # tag = E(J0) + C1 H^3 + C2 H^2 + L H, the same for both keys: solve for C2.
    rest1 = block(one, nonce_block) ^ multiply(head, power(h1, 3)) ^ multiply(lengths, h1)
    rest2 = block(other, nonce_block) ^ multiply(head, power(h2, 3)) ^ multiply(lengths, h2)
    factor = power(h1, 2) ^ power(h2, 2)
    second = multiply(rest1 ^ rest2, power(factor, (1 << 128) - 2))
    tag = rest1 ^ multiply(second, power(h1, 2))
    return first + second.to_bytes(16, "big") + tag.to_bytes(16, "big")
