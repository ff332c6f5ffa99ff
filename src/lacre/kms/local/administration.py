# SPDX-License-Identifier: Apache-2.0
"""
The operator's side of the local keystore: creates keys, changes who may open them, rotates them.

Implements ``spec/local-keystore.md``, section 10. Does not re-wrap what a version wraps, and
cannot take a root key back from an identity that ever opened it: after `remove_recipient` the
wrapped keys have to be rotated or re-wrapped, and copies of an older file still hold its shares.

Each change is one signed manifest, one serial higher, that names the one it was made from.
"""

import datetime as dt
import os
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import final

from lacre.errors import ConfigurationError, KeyServiceDenied, MisuseError
from lacre.keys.hierarchy import KeyState
from lacre.keys.moments import moment_text
from lacre.keys.seen import SeenSerial, SerialMemory
from lacre.kms.local.files import locked, read_shared, stamp_of, write_shared
from lacre.kms.local.identity import Identity, PublicIdentity
from lacre.kms.local.manifest import (
    LIMIT,
    NO_PREVIOUS,
    Manifest,
    Version,
    check_key_name,
    check_keystore_id,
    manifest_path,
    open_version,
    seal_share,
    seal_version,
    sign,
    verify,
)
from lacre.kms.local.memory import refuse_rollback, seen
from lacre.kms.local.service import SCHEME
from lacre.sensitive import KeyMaterial

__all__ = ["KeystoreAdministration", "new_keystore_id"]

_Versions = tuple[Version, ...]


def new_keystore_id(entropy: Callable[[int], bytes] = os.urandom) -> str:
    """Return the id of a new keystore: 16 random bytes in hex, which all its manifests share."""
    return check_keystore_id(entropy(16).hex())


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@final
class KeystoreAdministration:
    """
    Changes the keys of one keystore directory, signed by one operator.

    Every method raises `MisuseError` while another process changes the same key, `Tampered` if
    the manifest that is there does not verify, and `KeyNotFound` if there is none.

    Args:
        signer: the operator. To add recipients it has to be one itself.
        signers: other operators whose manifests it continues.
        memory: refuses to continue a manifest that was rolled back; left out, only the readers'
            own memories do.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keystore_id: str,
        signer: Identity,
        signers: Collection[PublicIdentity] = (),
        memory: SerialMemory | None = None,
        clock: Callable[[], dt.datetime] = _now,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._directory = directory
        self._keystore_id = check_keystore_id(keystore_id)
        self._signer = signer
        self._signers = (signer.public, *signers)
        self._memory = memory
        self._clock = clock
        self._entropy = entropy

    def keys(self) -> tuple[str, ...]:
        """Return the names of the keys that are there. Verifies nothing."""
        return tuple(sorted(path.stem for path in self._directory.glob("[a-z0-9]*.json")))

    def manifest(self, name: str) -> Manifest:
        """Return the manifest of a key, verified. Opens nothing."""
        # Fetched before the file, which may be replaced in between: see service.py.
        remembered = self._memory.recall(SCHEME + name) if self._memory is not None else None
        data, _ = read_shared(self._path(name), limit=LIMIT)
        manifest = verify(data, key=name, keystore=self._keystore_id, signers=self._signers)
        if remembered is not None:
            refuse_rollback(manifest, serial=remembered.serial, digest=remembered.hash)
        return manifest

    def to_remember(self, name: str) -> tuple[Manifest, SeenSerial | None]:
        """
        Return the manifest of a key as it is now, and what to remember of it, whatever is remembered.

        An older manifest that somebody put back is taken for the present one: for an operator who
        looked at the file. None to remember where every version was destroyed.

        Raises:
            KeyServiceDenied: the operator cannot open the key itself.
        """
        data, _ = read_shared(self._path(name), limit=LIMIT)
        manifest = verify(data, key=name, keystore=self._keystore_id, signers=self._signers)
        living = [each for each in manifest.versions if each.state is not KeyState.DESTROYED]
        for version in living:
            root = open_version(manifest, version, self._signer)
            if root is not None:
                return manifest, seen(SCHEME + name, manifest, version, root)
        if living:
            raise KeyServiceDenied(
                f"{self._signer.name} is not a recipient of {SCHEME}{name}",
                hint="an operator who is one does it",
            )
        return manifest, None

    def create_key(self, name: str, recipients: Collection[PublicIdentity]) -> Manifest:
        """
        Create a key whose version 1 is active.

        Args:
            recipients: who may open it. The operator is not among them unless it is named.

        Raises:
            MisuseError: the key exists, or nobody could open it.
        """
        path = self._path(name)
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"{self._directory} cannot be used: {error.strerror}"
            ) from None
        if not recipients:
            raise MisuseError("a key without recipients could be opened by nobody")
        unique = {recipient.fingerprint: recipient for recipient in recipients}
        with locked(self._lock(name)):
            if os.path.lexists(path):
                raise MisuseError(
                    f"the keystore has a key {name!r} already",
                    hint="rotate it, or choose another name",
                )
            return self._publish(
                name,
                serial=1,
                previous=NO_PREVIOUS,
                versions=(self._new_version(name, 1, tuple(unique.values())),),
            )

    def rotate_key(self, name: str, known: Collection[PublicIdentity]) -> Manifest:
        """
        Make a new active version for the same recipients; the one before only decrypts.

        Args:
            known: public identities, among them every recipient's. Others get nothing.

        Raises:
            ConfigurationError: a recipient is not among *known*.
        """

        def rotated(manifest: Manifest) -> _Versions:
            return self._rotated(manifest, _recipients(manifest), known)

        return self._change(name, rotated)

    def add_recipient(self, name: str, recipient: PublicIdentity) -> Manifest:
        """
        Let *recipient* open every version that is not destroyed.

        Raises:
            KeyServiceDenied: the operator cannot open them itself.
            MisuseError: it is a recipient already.
        """

        def added(manifest: Manifest) -> _Versions:
            living = [
                version for version in manifest.versions if version.state is not KeyState.DESTROYED
            ]
            if all(version.share_of(recipient.fingerprint) for version in living):
                raise MisuseError(
                    f"{recipient.name} is a recipient already"
                    if living
                    else "every version of this key was destroyed"
                )
            return tuple(
                self._shared(manifest, version, recipient) for version in manifest.versions
            )

        return self._change(name, added)

    def remove_recipient(
        self, name: str, fingerprint: str, known: Collection[PublicIdentity]
    ) -> Manifest:
        """
        Remove an identity from every version and make a new active version without it.

        Args:
            known: as in `rotate_key`, for those who remain.

        Raises:
            ConfigurationError: a remaining recipient is not among *known*.
            MisuseError: it is not a recipient, the only one, or the operator that signs.
        """
        if fingerprint == self._signer.fingerprint:
            raise MisuseError(
                "an operator does not remove itself",
                hint="another operator does, who can still open the key",
            )

        def removed(manifest: Manifest) -> _Versions:
            remaining = _recipients(manifest)
            if remaining.pop(fingerprint, None) is None:
                raise MisuseError(f"{fingerprint} is not a recipient of this key")
            if not remaining:
                raise MisuseError(
                    "a key without recipients could be opened by nobody",
                    hint="destroy its versions instead",
                )
            return tuple(
                _without(version, fingerprint)
                for version in self._rotated(manifest, remaining, known)
            )

        return self._change(name, removed)

    def disable_version(self, name: str, number: int) -> Manifest:
        """Stop honest readers from using a version. Its shares stay, so this can be undone."""
        return self._step(name, number, {KeyState.ACTIVE, KeyState.DECRYPT_ONLY}, KeyState.DISABLED)

    def enable_version(self, name: str, number: int) -> Manifest:
        """Undo `disable_version`: the newest version becomes active, an older one only decrypts."""

        def enabled(manifest: Manifest) -> _Versions:
            to = KeyState.ACTIVE if number == manifest.newest.number else KeyState.DECRYPT_ONLY
            return _stepped(manifest, number, {KeyState.DISABLED}, to)

        return self._change(name, enabled)

    def destroy_version(self, name: str, number: int) -> Manifest:
        """
        Remove a version's key material from every recipient, and keep its tombstone. Final.

        Raises:
            MisuseError: it is active (rotate or disable it first) or destroyed already.
        """
        return self._step(
            name, number, {KeyState.DECRYPT_ONLY, KeyState.DISABLED}, KeyState.DESTROYED
        )

    def _step(
        self, name: str, number: int, allowed: Collection[KeyState], to: KeyState
    ) -> Manifest:
        return self._change(name, lambda manifest: _stepped(manifest, number, allowed, to))

    def _change(self, name: str, make: Callable[[Manifest], _Versions]) -> Manifest:
        stamp_of(self._path(name))
        # The lock is taken before the manifest is read: two operators never continue the same one.
        with locked(self._lock(name)):
            manifest = self.manifest(name)
            return self._publish(
                name, serial=manifest.serial + 1, previous=manifest.digest, versions=make(manifest)
            )

    def _publish(self, name: str, *, serial: int, previous: str, versions: _Versions) -> Manifest:
        manifest = Manifest(
            key=name,
            keystore=self._keystore_id,
            serial=serial,
            previous=previous,
            signed_at=moment_text(self._clock()),
            signer=self._signer.fingerprint,
            versions=versions,
        )
        write_shared(self._path(name), sign(manifest, self._signer))
        return manifest

    def _new_version(
        self, name: str, number: int, recipients: Collection[PublicIdentity]
    ) -> Version:
        return seal_version(
            keystore=self._keystore_id,
            key=name,
            number=number,
            key_id=self._entropy(16),
            root=KeyMaterial(self._entropy(32)),
            recipients=recipients,
        )

    def _rotated(
        self, manifest: Manifest, wanted: dict[str, str], known: Collection[PublicIdentity]
    ) -> _Versions:
        if not wanted:
            raise MisuseError(
                "every version of this key was destroyed", hint="create a key with another name"
            )
        # Manifests hold no public keys, only fingerprints, and those pick from what is known: a
        # stranger among the known gets nothing.
        by_fingerprint = {identity.fingerprint: identity for identity in known}
        missing = sorted(
            name for fingerprint, name in wanted.items() if fingerprint not in by_fingerprint
        )
        if missing:
            raise ConfigurationError(
                f"the public identity of {', '.join(missing)} is not known",
                hint="name it in lacre.toml",
            )
        version = self._new_version(
            manifest.key,
            manifest.newest.number + 1,
            [by_fingerprint[fingerprint] for fingerprint in wanted],
        )
        newest = manifest.newest
        if newest.state is KeyState.ACTIVE:
            newest = replace(newest, state=KeyState.DECRYPT_ONLY)
        return (version, newest, *manifest.versions[1:])

    def _shared(self, manifest: Manifest, version: Version, recipient: PublicIdentity) -> Version:
        if version.state is KeyState.DESTROYED or version.share_of(recipient.fingerprint):
            return version
        root = open_version(manifest, version, self._signer)
        if root is None:
            raise KeyServiceDenied(
                f"{self._signer.name} is not a recipient of version {version.number}",
                hint="an operator who is one adds others",
            )
        share = seal_share(
            keystore=manifest.keystore,
            key=manifest.key,
            version=version,
            root=root,
            recipient=recipient,
        )
        return replace(
            version,
            recipients=tuple(sorted((*version.recipients, share), key=lambda each: each.id)),
        )

    def _path(self, name: str) -> Path:
        return manifest_path(self._directory, check_key_name(name))

    def _lock(self, name: str) -> Path:
        return self._directory / f".{check_key_name(name)}.lock"


def _recipients(manifest: Manifest) -> dict[str, str]:
    # Fingerprint to name. Every living version has the same recipients: nothing here makes it
    # otherwise, and a union loses nobody if another program did.
    return {share.id: share.name for version in manifest.versions for share in version.recipients}


def _without(version: Version, fingerprint: str) -> Version:
    return replace(
        version, recipients=tuple(share for share in version.recipients if share.id != fingerprint)
    )


def _stepped(
    manifest: Manifest, number: int, allowed: Collection[KeyState], to: KeyState
) -> _Versions:
    if not 0 < number <= len(manifest.versions):
        raise MisuseError(
            f"{manifest.key} has no version {number}", hint=f"it has 1 to {len(manifest.versions)}"
        )
    version = manifest.versions[-number]
    if version.state not in allowed:
        raise MisuseError(
            f"version {number} of {manifest.key} is {version.state}, so it does not become {to}",
            hint=f"it would have to be {' or '.join(sorted(allowed))} first",
        )
    recipients = () if to is KeyState.DESTROYED else version.recipients
    changed = replace(version, state=to, recipients=recipients)
    return tuple(changed if each is version else each for each in manifest.versions)
