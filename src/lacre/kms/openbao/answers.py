# SPDX-License-Identifier: Apache-2.0
"""
What the server said, as our errors; and what it gave, checked before it is believed.

The server's words are compared with those that OpenBao 2.7 is known to use, pinned by tests, and
shown to nobody. Words that are not known are a `ConfigurationError` and never `Tampered`: "restore
the row" would be wrong advice. Asks the server nothing.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, Final

from lacre.errors import (
    ConfigurationError,
    KeyDisabled,
    KeyNotFound,
    KeyServiceDenied,
    LacreError,
    Tampered,
)
from lacre.kms.calling import TryAgain
from lacre.kms.openbao.connection import Answer
from lacre.sensitive import KeyMaterial

__all__ = [
    "check_properties",
    "key_of",
    "lacks_context",
    "refusal",
    "says_retired",
    "version_of",
    "wrapped_of",
]

# A nonce of 12 bytes, a key of 32, a tag of 16: 60 bytes are 80 characters without padding, so one
# wrapped key has one text. Version 0 is not written and would be read as 1.
_WRAPPED: Final = re.compile(rb"vault:v([1-9][0-9]{0,8}):[A-Za-z0-9+/]{80}")

_TAMPERED = ("message authentication failed", "invalid ciphertext")
_RETIRED = "version is disallowed by policy (too old)"
_SOFT_DELETED = "soft-deleted key"
_MISSING = (
    "encryption key not found",
    "key not found",
    "no existing key named",
    "invalid key name",
)


def version_of(wrapped: bytes) -> int:
    """
    Return the version of the KMS key that a wrapped key says it is under.

    Raises:
        Tampered: it is no wrapped key of Transit. Nobody has to be asked.
    """
    found = _WRAPPED.fullmatch(wrapped)
    if found is None:
        raise Tampered
    return int(found[1])


def wrapped_of(answer: Answer) -> bytes:
    """Return the wrapped key of an answer, or raise `TryAgain` where there is none."""
    found = answer.data.get("ciphertext")
    wrapped = found.encode("utf-8", "replace") if isinstance(found, str) else b""
    if not _WRAPPED.fullmatch(wrapped):
        raise TryAgain("does not answer as OpenBao does")
    return wrapped


def key_of(answer: Answer) -> KeyMaterial:
    """Return the key of an answer, or raise `TryAgain` where there is none of 32 bytes."""
    key = _key(answer.data.get("plaintext"))
    if key is None:
        raise TryAgain("does not answer as OpenBao does")
    return key


def _key(text: object) -> KeyMaterial | None:
    # Raises nothing: a traceback would have the text.
    try:
        key = b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return None
    return KeyMaterial(key) if len(key) == 32 and b64encode(key).decode() == text else None


def says_retired(answer: Answer) -> bool:
    """Whether the version of the KMS key may not decrypt any more, or is no more."""
    return answer.status == 400 and _said(answer, _RETIRED)


def lacks_context(answer: Answer) -> bool:
    """Whether the key insists on a context, as derived ones do."""
    return answer.status == 400 and _said(answer, "missing 'context'")


def refusal(answer: Answer, kms_key: str, right: str) -> LacreError:
    """Return what an answer of 4xx means for *kms_key*; *right* is the path that was called."""
    if answer.status == 403:
        return KeyServiceDenied(
            f"OpenBao refuses {right} to this credential",
            hint=f"its policy must allow update of {right}, with this application's context; `lacre policy render --target openbao` has it; a token that was given may have ended",
        )
    if answer.status == 404 and (answer.errors or right.split("/")[-2] != "keys"):
        return ConfigurationError(
            f"OpenBao has nothing at the mount of {kms_key}, or it is no Transit engine",
            hint="look at the URI and at [openbao] namespace; `bao secrets list` shows the mounts",
        )
    if answer.status == 404 or _said(answer, *_MISSING):
        return KeyNotFound(
            f"OpenBao has no key {kms_key}",
            hint="the script of `lacre policy render --target openbao` creates it",
        )
    if _said(answer, *_TAMPERED):
        return Tampered()
    if says_retired(answer):
        return KeyDisabled(
            f"a version of {kms_key} was retired, and this was wrapped under it",
            hint="while it is not trimmed, lowering min_decryption_version brings it back",
        )
    if _said(answer, _SOFT_DELETED):
        return KeyDisabled(f"{kms_key} is soft-deleted", hint="its administrator restores it")
    return ConfigurationError(
        f"OpenBao refuses {right} (status {answer.status})",
        hint="its own log says why; lacre knows no such answer about a key made as the script makes it",
    )


def check_properties(found: Mapping[str, Any], kms_key: str) -> None:
    """
    Raise `ConfigurationError` unless the KMS key is such that what it wraps is bound and stays there.

    A key that is not derived *ignores* the context: everything it wrapped would open in every row.
    """
    wrong = [
        f"{name} is {found.get(name)!r}"
        for name, right in (
            ("type", "aes256-gcm96"),
            ("derived", True),
            ("convergent_encryption", False),
            ("exportable", False),
            ("allow_plaintext_backup", False),
        )
        if found.get(name, right) != right or (name in {"type", "derived"} and name not in found)
    ]
    if wrong:
        raise ConfigurationError(
            f"{kms_key} is no key to wrap under: {', '.join(wrong)}",
            hint="these cannot be taken back; make another key as `lacre policy render --target openbao` does",
        )


def _said(answer: Answer, *words: str) -> bool:
    return any(word in error for error in answer.errors for word in words)
