# SPDX-License-Identifier: Apache-2.0
"""
The local keystore as a key service: mints, unwraps and moves keys under ``local://`` KMS keys.

Implements ``spec/local-keystore.md``, sections 7 and 8. Does not change the
keystore: see administration.py. The root keys it opened stay in memory for as long as their file
is unchanged; a changed or removed file takes effect at the next call.

Safe across fork and between threads without a lock: what is shared is replaced, never altered.
"""

import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from lacre._core.canonical import canonical
from lacre._core.derive import WRAP
from lacre._core.field import OVERHEAD, decrypt, encrypt, parse
from lacre.errors import (
    ConfigurationError,
    KeyDestroyed,
    KeyDisabled,
    KeyServiceDenied,
    KeyUnavailable,
    Tampered,
)
from lacre.keys.hierarchy import USABLE, KeyState
from lacre.keys.ports import KmsKeyStatus
from lacre.keys.seen import SeenSerial, SerialMemory
from lacre.kms.local.files import Stamp, read_shared, stamp_of
from lacre.kms.local.identity import Identity, PublicIdentity
from lacre.kms.local.manifest import (
    LIMIT,
    Manifest,
    Version,
    check_key_name,
    check_keystore_id,
    manifest_path,
    open_version,
    verify,
)
from lacre.kms.local.memory import refuse_forged, refuse_rollback, seen
from lacre.sensitive import KeyMaterial

__all__ = ["SCHEME", "LocalKeyService"]

SCHEME = "local://"
_WRAPPED = OVERHEAD + 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    stamp: Stamp
    manifest: Manifest
    roots: Mapping[bytes, KeyMaterial] = field(repr=False)


@final
class LocalKeyService:
    """
    The KMS keys of one keystore directory, as one identity may use them.

    Args:
        directory: where ``<key>.json`` is.
        identity: who opens.
        signers: the operators whose manifests are believed. Taken from ``lacre.toml``, which the
            application cannot write; never from the keystore.
        memory: the highest manifests seen, across processes.
        keystore_id: the keystore that is meant, 32 hex digits.
    """

    def __init__(
        self,
        directory: Path,
        *,
        identity: Identity,
        signers: Collection[PublicIdentity],
        memory: SerialMemory,
        keystore_id: str,
    ) -> None:
        if not signers:
            raise ConfigurationError(
                "a local keystore needs at least one trusted signer",
                hint="name its operator's public identity",
            )
        self._directory = directory
        self._identity = identity
        self._signers = tuple(signers)
        self._memory = memory
        self._keystore_id = check_keystore_id(keystore_id)
        self._opened: dict[str, _Opened] = {}
        # Every manifest this process has seen, by key and serial: it refuses an older one even if
        # somebody removes the memory under it.
        self._seen: dict[str, dict[int, str]] = {}

    def mint(self, kms_key: str, context: Mapping[str, str]) -> bytes:
        """Return 32 new random bytes, wrapped under the active version."""
        return self._wrapped(kms_key, os.urandom(32), context)

    def wrap(self, kms_key: str, key: KeyMaterial, context: Mapping[str, str]) -> bytes:
        """Wrap a key that comes from another key service, under the active version."""
        return self._wrapped(kms_key, key.reveal(), context)

    def rewrap(
        self,
        kms_key: str,
        wrapped: bytes,
        context: Mapping[str, str],
        *,
        to: str,
        to_context: Mapping[str, str],
    ) -> bytes:
        """Wrap anew, under the active version of *to*. The key passes through this process."""
        return self.wrap(to, self.unwrap(kms_key, wrapped, context), to_context)

    def version_of(self, wrapped: bytes) -> str | None:
        """Return the id of the version that the wrapped bytes name."""
        return parse(wrapped).key_id.hex()

    def status(self, kms_key: str) -> KmsKeyStatus:
        """Return how the KMS key is: its version, and the manifest's serial and signer."""
        started = time.perf_counter()
        manifest = self._current(kms_key).manifest
        newest = manifest.newest
        signer = next(each.name for each in self._signers if each.fingerprint == manifest.signer)
        return KmsKeyStatus(
            kms_key=kms_key,
            state=str(newest.state),
            usable=newest.state is KeyState.ACTIVE,
            version=newest.number,
            policy=f"serial {manifest.serial}, signed by {signer} {manifest.signed_at}",
            latency=time.perf_counter() - started,
        )

    def unwrap(self, kms_key: str, wrapped: bytes, context: Mapping[str, str]) -> KeyMaterial:
        """Return the key, if its version may still decrypt."""
        opened = self._current(kms_key)
        header = parse(wrapped)
        version = opened.manifest.version(header.key_id)
        if version is None or header.padded or len(wrapped) != _WRAPPED:
            raise Tampered
        if version.state not in USABLE:
            raise _unavailable(kms_key, version)
        root = self._root(opened, kms_key, version)
        return KeyMaterial(decrypt(root.reveal(), wrapped, canonical(context), label=WRAP))

    def manifest(self, kms_key: str) -> Manifest:
        """
        Return the manifest as it is now, verified and remembered.

        Raises:
            Tampered, KeyNotFound, KeyServiceDenied, ConfigurationError
        """
        return self._current(kms_key).manifest

    def _wrapped(self, kms_key: str, key: bytes, context: Mapping[str, str]) -> bytes:
        opened = self._current(kms_key)
        version = opened.manifest.newest
        if version.state is not KeyState.ACTIVE:
            raise _unavailable(kms_key, version)
        root = self._root(opened, kms_key, version)
        # The salt straight from the kernel, once per wrap: see field.py for what a repeated one
        # would cost.
        wrapped = encrypt(
            root.reveal(), version.id, canonical(context), key,
            salt=os.urandom(24), padded=False, label=WRAP,
        )  # fmt: skip
        return bytes(wrapped)

    def __repr__(self) -> str:
        return f"<LocalKeyService {self._directory} as {self._identity.name}>"

    def _current(self, kms_key: str) -> _Opened:
        name = _name_of(kms_key)
        path = manifest_path(self._directory, name)
        opened = self._opened.get(name)
        if opened is None or opened.stamp != stamp_of(path):
            # Forgotten first: after a failure nothing old is used.
            self._opened.pop(name, None)
            opened = self._read(kms_key, name, path)
            self._opened[name] = opened
        return opened

    def _read(self, kms_key: str, name: str, path: Path) -> _Opened:
        # What is remembered is fetched before the file: an operator who changes the key meanwhile
        # makes the file newer than the memory, never the memory newer than the file.
        remembered = self._memory.recall(kms_key)
        history = self._seen.setdefault(name, {})
        highest = max(tuple(history), default=0)
        # From here the order is the specification's: no step is taken before those above it.
        data, stamp = read_shared(path, limit=LIMIT)
        manifest = verify(data, key=name, keystore=self._keystore_id, signers=self._signers)
        if remembered is not None:
            refuse_rollback(manifest, serial=remembered.serial, digest=remembered.hash)
        if highest:
            refuse_rollback(manifest, serial=highest, digest=history[highest])
        # `setdefault` is atomic: of two threads with two files of one serial, one is refused.
        if history.setdefault(manifest.serial, manifest.digest) != manifest.digest:
            raise Tampered
        living = [
            version for version in manifest.versions if version.state is not KeyState.DESTROYED
        ]
        if living and not any(version.share_of(self._identity.fingerprint) for version in living):
            raise _denied(kms_key, self._identity)
        opened = {
            version.id: root
            for version in living
            if (root := open_version(manifest, version, self._identity))
        }
        self._authenticate(remembered, manifest, opened)
        self._remember(kms_key, remembered, manifest, opened)
        usable = {version.id for version in living if version.state in USABLE}
        return _Opened(
            stamp=stamp,
            manifest=manifest,
            roots={key_id: root for key_id, root in opened.items() if key_id in usable},
        )

    def _authenticate(
        self, remembered: SeenSerial | None, manifest: Manifest, opened: Mapping[bytes, KeyMaterial]
    ) -> None:
        if remembered is None:
            return
        version = next(
            (version for version in manifest.versions if version.id.hex() == remembered.version_id),
            None,
        )
        # Versions are never removed, and none is destroyed in the manifest that made the MAC.
        if version is None or (
            version.state is KeyState.DESTROYED and remembered.serial == manifest.serial
        ):
            raise Tampered
        root = opened.get(version.id)
        # Destroyed since, or not ours: the MAC cannot be checked any more. The serial has been
        # honoured all the same, and is remembered anew under a living version.
        if root is not None:
            refuse_forged(remembered, manifest, version, root)

    def _remember(
        self,
        kms_key: str,
        remembered: SeenSerial | None,
        manifest: Manifest,
        opened: Mapping[bytes, KeyMaterial],
    ) -> None:
        if remembered is not None and remembered.serial == manifest.serial:
            return
        # Under the newest version that is ours, so that destroying an old one costs no memory.
        version = next((version for version in manifest.versions if version.id in opened), None)
        if version is None:
            return
        self._memory.remember(seen(kms_key, manifest, version, opened[version.id]))

    def _root(self, opened: _Opened, kms_key: str, version: Version) -> KeyMaterial:
        root = opened.roots.get(version.id)
        if root is None:
            raise _denied(kms_key, self._identity)
        return root


def _name_of(kms_key: str) -> str:
    if not kms_key.startswith(SCHEME):
        raise ConfigurationError(
            "the local keystore serves KMS keys named local://NAME",
            hint='for example "local://pii-fields"',
        )
    return check_key_name(kms_key.removeprefix(SCHEME))


def _denied(kms_key: str, identity: Identity) -> KeyServiceDenied:
    return KeyServiceDenied(
        f"{identity.name} ({identity.fingerprint}) is not a recipient of {kms_key}",
        hint="its operator adds it to the key's recipients",
    )


def _unavailable(kms_key: str, version: Version) -> KeyUnavailable:
    if version.state is KeyState.DESTROYED:
        return KeyDestroyed(f"version {version.number} of {kms_key} was destroyed")
    return KeyDisabled(
        f"version {version.number} of {kms_key} is disabled",
        hint="its operator enables it, or rotates the key",
    )
