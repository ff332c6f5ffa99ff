# SPDX-License-Identifier: Apache-2.0
"""
Blind index tokens: a keyed, truncated hash of a normalised value.

Implements ``spec/field-format.md``, section "Blind index". Does not normalise, and does not
hide equality: two rows with one value have one token, which is the whole use of it.
"""

import hmac

from lacre._core.canonical import canonical
from lacre._core.derive import INDEX, PreparedKey, expand
from lacre.errors import MisuseError

__all__ = ["index_key", "number", "token"]


def index_key(
    root: bytes,
    *,
    store: str,
    table: str,
    column: str,
    index: str,
    kind: str,
    normaliser: str,
    part: str,
    bits: int,
    version: int,
) -> bytes:
    """
    Derive the key of one index from the index root of its tenant and class.

    Everything that would make two indexes differ is in it, `bits` and `kind` included: no
    index is a prefix of another, and two columns never correlate.
    """
    place = canonical(
        {
            "bits": str(bits),
            "column": column,
            "index": index,
            "kind": kind,
            "normaliser": normaliser,
            "part": part,
            "store": store,
            "table": table,
            "version": str(version),
        }
    )
    return expand(root, INDEX, place, 32)


def token(key: bytes | PreparedKey, normalised: bytes, bits: int) -> bytes:
    """Return the leftmost *bits* of HMAC-SHA-512(*key*, *normalised*), spare bits zero."""
    if not (isinstance(key, PreparedKey) or len(key) == 32) or not 1 <= bits <= 512:
        del key, normalised  # a traceback's locals hold neither key nor plaintext
        raise MisuseError("a token takes an index key of 32 bytes and 1 to 512 bits")
    if isinstance(key, PreparedKey):
        keyed = key.keyed.copy()
        keyed.update(normalised)
        digest = keyed.finalize()
    else:
        digest = hmac.digest(key, normalised, "sha512")
    size, spare = (bits + 7) // 8, -bits % 8
    if not spare:
        return digest[:size]
    return digest[: size - 1] + bytes((digest[size - 1] >> spare << spare,))


def number(made: bytes, bits: int) -> int:
    """Return *made*, a token of up to 32 *bits*, as the signed 32-bit integer it is stored as."""
    if not 1 <= bits <= 32:
        raise MisuseError("a token that is stored as a number has 1 to 32 bits")
    unsigned = int.from_bytes(made) >> -bits % 8
    return unsigned - (1 << 32) if unsigned >> 31 else unsigned
