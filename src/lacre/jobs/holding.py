# SPDX-License-Identifier: Apache-2.0
"""
Legal holds: who placed one, when and why, signed, in the one column a subject has for it.

Text of at most 255 characters: ``lacre-hold-1 MOMENT SIGNER SIGNATURE REASON``. A hold that nobody
who is trusted signed holds all the same: whoever writes the key store can hold, and cannot be named
as somebody else. Whether a subject is held decides who shreds (`lacre.jobs.shredding`).
"""

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

from lacre._core.canonical import canonical
from lacre.errors import ConfigurationError, Tampered
from lacre.kms.local import Identity, PublicIdentity, text

__all__ = ["Hold", "read_hold", "sign_hold"]

_FORMAT = "lacre-hold-1"
_LABEL = b"lacre/1/hold".ljust(16, b"\0")
_REASON = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A hold. *signer* is a name, or None where nobody who is trusted signed it."""

    placed: str
    signer: str | None
    reason: str


def sign_hold(digest: bytes, *, keystore: str, reason: str, placed: str, signer: Identity) -> str:
    """
    Return the text of a hold on the subject with *digest*.

    Raises:
        ConfigurationError: the reason is empty, too long, or not one line.
    """
    if not 0 < len(reason) <= _REASON or any(unicodedata.category(each)[0] == "C" for each in reason):  # fmt: skip
        raise ConfigurationError(
            f"a hold has a reason of 1 to {_REASON} characters on one line",
            hint='--reason "case 2026/117"; not a name',
        )
    signature = signer.sign(_signed(digest, keystore, placed, signer.fingerprint, reason))
    return f"{_FORMAT} {placed} {signer.fingerprint} {text.to_base64url(signature)} {reason}"


def read_hold(
    hold: str, digest: bytes, *, keystore: str, signers: Collection[PublicIdentity]
) -> Hold:
    """Return the hold, with the signer's name if one of *signers* signed it."""
    parts = hold.split(" ", 4)
    if len(parts) != 5 or parts[0] != _FORMAT:
        return Hold(placed="", signer=None, reason=hold)
    _, placed, fingerprint, signature, reason = parts
    for signer in signers:
        if signer.fingerprint != fingerprint:
            continue
        try:
            given = text.from_base64url(signature, 64)
            signer.verify(_signed(digest, keystore, placed, fingerprint, reason), given)
        except (ValueError, Tampered):
            break
        return Hold(placed=placed, signer=signer.name, reason=reason)
    return Hold(placed=placed, signer=None, reason=reason)


def _signed(digest: bytes, keystore: str, placed: str, signer: str, reason: str) -> bytes:
    return _LABEL + canonical(
        {"digest": digest.hex(), "keystore": keystore, "placed": placed, "reason": reason, "signer": signer}
    )  # fmt: skip
