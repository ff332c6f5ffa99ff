# SPDX-License-Identifier: Apache-2.0
"""
What a reader remembers of a manifest, so that an older one is refused.

Implements ``spec/local-keystore.md``, section "Rollback". Does not store: `SerialMemory` is a port, and
the key store implements it. Whoever can put back an old manifest *and* an old memory, or remove
the memory, is not detected here.
"""

import hmac
from dataclasses import dataclass
from typing import Protocol

from lacre._core.canonical import canonical
from lacre._core.derive import STATE, expand
from lacre.errors import Tampered
from lacre.kms.local.manifest import Manifest, Version
from lacre.sensitive import KeyMaterial

__all__ = ["SeenSerial", "SerialMemory", "refuse_forged", "refuse_rollback", "seen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSerial:
    """
    The highest manifest of one KMS key that was seen.

    Args:
        kms_key: its URI.
        hash: SHA-256 of its line 1, 64 hex digits.
        version_id: the version whose root key made the MAC, 32 hex digits.
    """

    kms_key: str
    serial: int
    hash: str
    version_id: str
    mac: bytes


class SerialMemory(Protocol):
    """Remembers, across processes, the highest manifest of each KMS key that was seen."""

    def recall(self, kms_key: str) -> SeenSerial | None:
        """
        Return what is remembered, or None if this KMS key was never seen.

        An implementation that can tell that the key *was* used (rows are wrapped under it) raises
        instead of returning None: somebody removed the memory.

        Raises:
            Tampered
        """
        ...

    def remember(self, seen: SeenSerial) -> None:
        """Keep *seen*, unless what is kept has a higher serial."""
        ...


def refuse_rollback(manifest: Manifest, *, serial: int, digest: str) -> None:
    """
    Return if *manifest* is the one seen, or may have come after it.

    Raises:
        Tampered: it is older, another one of the same serial, or the next but not made from it.
    """
    if manifest.serial < serial:
        raise Tampered
    if manifest.serial == serial and manifest.digest != digest:
        raise Tampered
    if manifest.serial == serial + 1 and manifest.previous != digest:
        raise Tampered


def seen(kms_key: str, manifest: Manifest, version: Version, root: KeyMaterial) -> SeenSerial:
    """Return what to remember of *manifest*, with its MAC under the root key of *version*."""
    mac = _mac(manifest, serial=manifest.serial, digest=manifest.digest, version=version, root=root)
    return SeenSerial(
        kms_key=kms_key,
        serial=manifest.serial,
        hash=manifest.digest,
        version_id=version.id.hex(),
        mac=mac,
    )


def refuse_forged(
    memory: SeenSerial, manifest: Manifest, version: Version, root: KeyMaterial
) -> None:
    """
    Return if *memory* was made by someone who held the root key of *version*.

    Raises:
        Tampered: somebody wrote it who did not: they wanted an older manifest accepted.
    """
    expected = _mac(manifest, serial=memory.serial, digest=memory.hash, version=version, root=root)
    if not hmac.compare_digest(memory.mac, expected):
        raise Tampered


def _mac(
    manifest: Manifest, *, serial: int, digest: str, version: Version, root: KeyMaterial
) -> bytes:
    # A local KMS key has no row of its own in the key store, so this is the only use of the
    # `state` label under a root key.
    pairs = {
        "hash": digest,
        "id": version.id.hex(),
        "key": manifest.key,
        "keystore": manifest.keystore,
        "serial": str(serial),
    }
    return expand(root.reveal(), STATE, canonical(pairs), 32)
