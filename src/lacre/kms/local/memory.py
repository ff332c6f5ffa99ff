# SPDX-License-Identifier: Apache-2.0
"""
What a reader remembers of a manifest, so that an older one is refused.

Implements ``spec/local-keystore.md``, section 9. Does not store: see the port
`lacre.keys.seen.SerialMemory`, which the key store implements. Whoever can put back an old manifest *and* an old memory, or remove
the memory, is not detected here.
"""

import hmac

from lacre._core.canonical import canonical
from lacre._core.derive import STATE, expand
from lacre.errors import Tampered
from lacre.keys.seen import SeenSerial
from lacre.kms.local.manifest import Manifest, Version
from lacre.sensitive import KeyMaterial

__all__ = ["refuse_forged", "refuse_rollback", "seen"]


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
