# SPDX-License-Identifier: Apache-2.0
"""
The two other spellings of a value: text and JSON, each one to one with the binary form.

Implements ``spec/field-format.md``, sections "Text form" and "JSON form". Opens nothing and
authenticates nothing: what it accepts is a value's spelling, `field.decrypt` decides the rest.
Both readers are strict, because base64 decoders forgive and a forgiven change is a change: unused
bits, padding, white space and the other alphabet are refused by encoding again and comparing.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Any

from lacre._core.field import looks_encrypted, parse
from lacre.errors import Tampered

__all__ = ["from_json", "from_json_text", "from_text", "to_json", "to_json_text", "to_text"]

# `algorithm` is the suite and the flags, nothing else; each text stands for bytes 0 to 2.
_ALGORITHMS = {
    b"\xc1\x01\x00": "lacre-1-AES-256-GCM-HKDF-SHA512-COMMIT",
    b"\xc1\x01\x01": "lacre-1-AES-256-GCM-HKDF-SHA512-COMMIT-PADDED",
}
_HEADS = {algorithm: head for head, algorithm in _ALGORITHMS.items()}

_MEMBERS = frozenset(
    {"algorithm", "authTag", "context", "encryptedData", "encryptedKey", "iv", "keyId"}
)
_LONGEST_JSON_TEXT = 32 * 1024 * 1024  # above the longest value's, white space included
_TAG = 16


def to_text(value: bytes | bytearray | memoryview) -> str:
    """
    Return the text form of *value*: base64url without padding.

    Raises:
        Tampered: not a value of field format 1.
    """
    if not looks_encrypted(value):
        raise Tampered
    return _base64(value)


def from_text(text: object) -> bytes:
    """
    Return the value whose text form is exactly *text*.

    Raises:
        Tampered: it is no value's.
    """
    value = _unbase64(text)
    if not looks_encrypted(value):
        raise Tampered
    return value


def to_json(value: bytes | bytearray | memoryview) -> dict[str, Any]:
    """
    Return the JSON form of *value*: seven members, all of them text but `context`, which is empty.

    Raises:
        Tampered: not a value of field format 1.
    """
    header = parse(value)
    return {
        "encryptedData": _base64(header.body[:-_TAG]),
        # The wrapped data key is in the key store, and the place is known to whoever reads: in
        # the value both would be an attacker's to choose.
        "encryptedKey": "",
        "iv": _base64(header.salt),
        "authTag": _base64(header.commitment + header.body[-_TAG:]),
        "algorithm": _ALGORITHMS[bytes(value[:3])],
        "keyId": header.key_id.hex(),
        "context": {},
    }


def from_json(form: object) -> bytes:
    """
    Return the value whose JSON form, parsed, is *form*.

    Raises:
        Tampered: a member too many, too few or not as `to_json` writes it.
    """
    if not isinstance(form, Mapping) or form.keys() != _MEMBERS:
        raise Tampered
    algorithm, key_id, context = form["algorithm"], form["keyId"], form["context"]
    head = _HEADS.get(algorithm) if isinstance(algorithm, str) else None
    if head is None or form["encryptedKey"] != "" or not isinstance(context, Mapping) or context:
        raise Tampered
    salt, auth_tag = _unbase64(form["iv"]), _unbase64(form["authTag"])
    value = b"".join(
        (
            head,
            _unhex(key_id),
            salt,
            auth_tag[:-_TAG],
            _unbase64(form["encryptedData"]),
            auth_tag[-_TAG:],
        )
    )
    if len(salt) != 24 or len(auth_tag) != 32 + _TAG or not looks_encrypted(value):
        raise Tampered
    return value


def to_json_text(value: bytes | bytearray | memoryview) -> str:
    """
    Return the JSON form of *value* as text.

    Raises:
        Tampered: not a value of field format 1.
    """
    return json.dumps(to_json(value), separators=(",", ":"))


def from_json_text(text: object) -> bytes:
    """
    Return the value whose JSON form is *text*, in any order of members and with any white space.

    Raises:
        Tampered: not JSON, a member twice, or not what `from_json` takes.
    """
    if not isinstance(text, str) or len(text) > _LONGEST_JSON_TEXT:
        raise Tampered
    try:
        form = json.loads(text, object_pairs_hook=_members)
    except (ValueError, RecursionError):
        raise Tampered from None
    return from_json(form)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Tampered
    return members


def _base64(data: bytes | bytearray | memoryview) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64(text: object) -> bytes:
    if not isinstance(text, str):
        raise Tampered
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (Base64Error, ValueError):
        raise Tampered from None
    if _base64(data) != text:
        raise Tampered
    return data


def _unhex(text: object) -> bytes:
    try:
        key_id = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        raise Tampered from None
    if len(key_id) != 16 or key_id.hex() != text:
        raise Tampered
    return key_id
