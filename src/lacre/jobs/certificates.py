# SPDX-License-Identifier: Apache-2.0
"""
Certificates of erasure: what was destroyed, when it is irrecoverable, and what remains.

Implements ``spec/sealing.md``, section 6. Two lines: canonical JSON, and an operator's Ed25519
signature. Holds a subject's pseudonym, never its id. Says what follows from the key store's rows and
the policy's word on backups; it proves that an operator said so, not that nobody kept a copy.
"""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lacre.errors import ConfigurationError, Tampered
from lacre.keys.epochs import Epoch, EpochState
from lacre.keys.hierarchy import KeyRow, KeyState
from lacre.keys.moments import moment_text
from lacre.keys.sealing import bucket_of, bucket_scope
from lacre.kms.local import Identity, PublicIdentity, text

__all__ = ["FORMAT", "Irrecoverable", "irrecoverable", "read_certificate", "write_certificate"]

_LABEL = b"lacre/1/erasure".ljust(16, b"\0")
_LONGEST = 16 * 1024 * 1024
_FINGERPRINT = re.compile("[0-9a-f]{32}")
FORMAT = "lacre-erasure-1"

# What every certificate says of the index values it lists.
STATEMENT = (
    "Index values of the subject in backups of the data remain linkable by whoever holds the index root,"
    " until those backups expire or the index root is rotated and destroyed. This certificate does not say that they are erased."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Irrecoverable:
    """From when on nobody reads it; None where nobody can say yet. *waits* says for what."""

    at: str | None
    waits: tuple[str, ...]

    def verdict(self, now: str) -> str:
        """Return ``irrecoverable`` or ``pending``."""
        return "irrecoverable" if self.at is not None and self.at <= now else "pending"


def irrecoverable(
    keys: Sequence[Mapping[str, Any]],
    *,
    live: str,
    epochs: Sequence[Epoch],
    buckets: Sequence[KeyRow],
    sealed: Collection[str],
    kept: dt.timedelta | None,
) -> Irrecoverable:
    """
    Return from when on no dump of the key store brings *keys* back.

    Args:
        keys: destroyed ones: class, key, created, destroyed, and sealed_by, the bucket key around it.
        live: when the last process forgets them.
        epochs, buckets: every one there is, believed already.
        sealed: the classes that the policy seals.
        kept: for how long backups of the key store are kept; None where nobody said.
    """
    moments: list[str] = [live]
    waits: dict[str, None] = {}
    by_seal = {epoch.seal: epoch for epoch in epochs if epoch.seal is not None}
    # A key from before then may be in a dump without its seal.
    bare = max((epoch.unsealed for epoch in epochs if epoch.unsealed is not None), default="")
    held = {row.key_id.hex(): row for row in buckets}
    for key in keys:
        last = held.get(key.get("sealed_by") or "")
        # That one, and those of its bucket before it: older dumps have the key under them. Which
        # one it was nobody authenticated, so all that were there count, of the bucket by its id.
        covers = [
            row
            for row in buckets
            if last is not None
            and row.scope == bucket_scope(last.scope, bucket_of(bytes.fromhex(key["key"])))
            and (row.version <= last.version or row.created <= key["destroyed"])
        ]
        if key["class"] not in sealed or not covers:
            # Where the key was never sealed only the end of the backups makes it irrecoverable.
            _backups(key["destroyed"], kept, moments, waits)
            continue
        if key["created"] <= bare:
            _backups(bare, kept, moments, waits)
        for row in covers:
            epoch = by_seal.get(row.parent)
            if (
                row.state is not KeyState.DESTROYED
                or epoch is None
                or epoch.state is not EpochState.DESTROYED
            ):
                waits["the next sealing: lacre seal"] = None
            elif epoch.final is None:
                waits["somebody to say how long snapshots of the key service are kept: [sealing] snapshots_kept"] = None  # fmt: skip
            else:
                moments.append(epoch.final)
    at = None if waits else max(moments)
    return Irrecoverable(at=at, waits=tuple(waits))


def _backups(
    since: str, kept: dt.timedelta | None, moments: list[str], waits: dict[str, None]
) -> None:
    if kept is None:
        waits["somebody to say how long backups of the key store are kept: [erasure] key_store_backups_kept"] = None  # fmt: skip
    else:
        moments.append(later(since, kept))


def later(moment: str, by: dt.timedelta) -> str:
    """Return RFC 3339 text of the moment *by* after *moment*."""
    found = dt.datetime.fromisoformat(moment) + by
    return moment_text(found)


def write_certificate(body: Mapping[str, Any], *, signer: Identity) -> bytes:
    """Return the certificate that says *body*, signed."""
    line = text.dump(dict(body) | {"signer": signer.fingerprint})
    signature = signer.sign(_signed(line))
    return line + b"\n" + text.to_base64url(signature).encode() + b"\n"


def read_certificate(data: bytes, *, signers: Collection[PublicIdentity]) -> dict[str, Any]:
    """
    Return what a certificate says, once one of *signers* is found to have signed it.

    Raises:
        ConfigurationError: it is no certificate; or it names a signer who is not among *signers*.
        Tampered: it is not what was signed.
    """
    line, _, rest = data.partition(b"\n")
    try:
        found = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError):
        found = None
    if len(data) > _LONGEST or type(found) is not dict or found.get("format") != FORMAT:
        raise ConfigurationError(
            "the file is no certificate of erasure", hint="lacre shred says where it wrote one"
        )
    named = found.get("signer")
    signer = next((each for each in signers if each.fingerprint == named), None)
    if signer is None:
        # Its own word, which nothing vouches for yet: it only says whom to ask.
        shown = named if isinstance(named, str) and _FINGERPRINT.fullmatch(named) else "nobody"
        raise ConfigurationError(
            f"the certificate names {shown} as its signer, whom lacre.toml does not trust",
            hint="check it where it was issued; or [local] signers, if that identity is to be trusted here",
        )
    try:
        last, end = rest[:-1], rest[-1:]
        signer.verify(_signed(line), text.from_base64url(last.decode("ascii"), 64))
        body = text.load(line)
    except (ValueError, Tampered):
        raise Tampered.signed("the certificate") from None
    if end != b"\n" or type(body) is not dict:
        raise Tampered.signed("the certificate")
    return body


def _signed(line: bytes) -> bytes:
    return _LABEL + hashlib.sha256(line).digest()
