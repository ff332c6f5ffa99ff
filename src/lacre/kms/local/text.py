# SPDX-License-Identifier: Apache-2.0
"""
Text with one spelling: canonical JSON and canonical base64url.

Implements ``spec/local-keystore.md``, section 2. Raises only `ValueError`, which never quotes the
text; whoever calls knows what a wrong spelling means there.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

__all__ = ["dump", "from_base64url", "from_hex", "load", "members", "to_base64url"]


def to_base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: object, length: int) -> bytes:
    """Return *length* bytes. Refuses padding, other alphabets and stray trailing bits."""
    if type(text) is not str or not text.isascii():
        raise ValueError("not base64url")
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # Re-encoding is the check: base64 has several spellings of the same bytes.
    if len(data) != length or to_base64url(data) != text:
        raise ValueError("not base64url of the right length")
    return data


def from_hex(text: object, length: int) -> bytes:
    """Return *length* bytes of lower-case hex."""
    if type(text) is not str:
        raise ValueError("not hex")
    data = bytes.fromhex(text)
    if len(data) != length or data.hex() != text:
        raise ValueError("not lower-case hex of the right length")
    return data


def dump(value: Any) -> bytes:
    """Serialise: members sorted, no spaces, ASCII."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def load(line: bytes) -> Any:
    """Read what `dump` wrote, and nothing that is spelt in another way."""
    try:
        value = json.loads(line.decode("ascii"))
        # One comparison refuses spaces, order, escapes, number forms and duplicate members.
        same = dump(value) == line
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not same:
        raise ValueError("not canonical JSON")
    return value


def members(value: object, names: frozenset[str]) -> dict[str, Any]:
    """Return *value* if it is an object with exactly these members."""
    if type(value) is not dict or value.keys() != names:
        raise ValueError("not an object with the right members")
    return value
