# SPDX-License-Identifier: Apache-2.0
"""
Padding that hides the length of short values: ``0x80 00*`` inside the plaintext.

Implements ``spec/field-format.md``, section "Padding". Does not hide that a value is long, and
does not authenticate: it is checked only after the tag was.
"""

__all__ = ["pad", "padded_length", "unpad"]


def padded_length(size: int) -> int:
    """
    Return the padded length of a plaintext of *size* bytes.

    At least one byte longer than *size*; 32, then multiples of 32 up to 256, then Padmé
    (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files", 2019), which adds at
    most 12 % and leaks O(log log size) bits. Padmé alone would leave names and cities their length.
    """
    least = size + 1
    if least <= 256:
        return (least + 31) // 32 * 32
    exponent = least.bit_length() - 1
    kept = exponent.bit_length()
    mask = (1 << (exponent - kept)) - 1
    return (least + mask) & ~mask


def pad(plaintext: bytes) -> bytes:
    return (plaintext + b"\x80").ljust(padded_length(len(plaintext)), b"\0")


def unpad(padded: bytes) -> bytes | None:
    """
    Remove the padding. None if `pad` never makes it (no marker, another length): one value has
    one encoding. It does not raise, because its frame holds the plaintext.
    """
    plaintext, marker, rest = padded.rpartition(b"\x80")
    if not marker or rest.strip(b"\0") or padded_length(len(plaintext)) != len(padded):
        return None
    return plaintext
