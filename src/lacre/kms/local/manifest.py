# SPDX-License-Identifier: Apache-2.0
"""
Keystore file 1: one KMS key, its versions, and who may open them, signed by an operator.

Implements ``spec/local-keystore.md``, sections 6 and 7. Does no I/O, keeps no
memory of serials and decides nothing about states: see service.py.

Rule 1: not one byte is interpreted before a trusted signer's signature over it is verified.
Rule 2: a file never brings its own signer; trusted signers come from ``lacre.toml``.
Rule 3: a manifest has one spelling, so its hash is its name.
"""

import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lacre._core.canonical import canonical
from lacre._core.derive import CHECK, expand
from lacre.errors import ConfigurationError, MisuseError, Tampered
from lacre.keys.hierarchy import KeyState
from lacre.kms.local import text
from lacre.kms.local.identity import NAME, Identity, PublicIdentity
from lacre.sensitive import KeyMaterial

__all__ = [
    "LIMIT",
    "NO_PREVIOUS",
    "Manifest",
    "Recipient",
    "Version",
    "check_key_name",
    "check_keystore_id",
    "manifest_path",
    "open_version",
    "seal_share",
    "seal_version",
    "sign",
    "verify",
]

LIMIT = 1024 * 1024
NO_PREVIOUS = "0" * 64

_FORMAT = "lacre-keystore-1"
_SUITE = "x25519-hkdf-sha256-aes256gcm"
_SIGNED = b"lacre/1/keystore"  # labels of exactly 16 bytes, as every label
_SHARE = b"lacre/1/keyshare"
_SEALED = 32 + 32 + 16  # HPKE's encapsulated key, the root key, the tag
_LARGEST = 2**53 - 1  # what every JSON reader keeps exactly
_KEY_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}", re.ASCII)
_EPOCH = re.compile(r".+\.epoch-[0-9]+", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)

_MANIFEST = frozenset(
    {"format", "key", "keystore", "previous", "serial", "signed_at", "signer", "versions"}
)
_VERSION = frozenset({"check", "id", "recipients", "state", "suite", "version"})
_RECIPIENT = frozenset({"id", "name", "sealed"})

# The newest version alone may be active, and never only decrypts; so there is at most one active
# version, and an older one cannot be made active again.
_NEWEST = frozenset({KeyState.ACTIVE, KeyState.DISABLED, KeyState.DESTROYED})
_OLDER = frozenset({KeyState.DECRYPT_ONLY, KeyState.DISABLED, KeyState.DESTROYED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """The root key of one version, sealed to one identity. *id* is its fingerprint."""

    id: str
    name: str
    sealed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One root key. *id* is the key id in the header of everything that it wraps."""

    number: int
    id: bytes
    state: KeyState
    check: bytes
    recipients: tuple[Recipient, ...]

    def share_of(self, fingerprint: str) -> Recipient | None:
        return next(
            (recipient for recipient in self.recipients if recipient.id == fingerprint), None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One KMS key of one keystore. *versions* are all there ever were, newest first."""

    key: str
    keystore: str
    serial: int
    previous: str
    signed_at: str
    signer: str
    versions: tuple[Version, ...]

    def line(self) -> bytes:
        """Return line 1 of the file: what is hashed and signed."""
        return text.dump(
            {
                "format": _FORMAT,
                "key": self.key,
                "keystore": self.keystore,
                "previous": self.previous,
                "serial": self.serial,
                "signed_at": self.signed_at,
                "signer": self.signer,
                "versions": [
                    {
                        "check": version.check.hex(),
                        "id": version.id.hex(),
                        "recipients": [
                            {
                                "id": recipient.id,
                                "name": recipient.name,
                                "sealed": text.to_base64url(recipient.sealed),
                            }
                            for recipient in version.recipients
                        ],
                        "state": str(version.state),
                        "suite": _SUITE,
                        "version": version.number,
                    }
                    for version in self.versions
                ],
            }
        )

    @property
    def digest(self) -> str:
        """SHA-256 of line 1, in hex."""
        return hashlib.sha256(self.line()).hexdigest()

    @property
    def newest(self) -> Version:
        return self.versions[0]

    def version(self, key_id: bytes) -> Version | None:
        return next((version for version in self.versions if version.id == key_id), None)


def check_key_name(name: str) -> str:
    """
    Return *name* if a key of a keystore can have it: it is also the name of a file.

    Raises:
        ConfigurationError: it cannot.
    """
    if not _KEY_NAME.fullmatch(name):
        raise ConfigurationError(
            "the name of a local key is 1 to 63 lower-case letters, digits, '.', '_' or '-'",
            hint='for example "local://pii-fields"',
        )
    return name


def manifest_path(directory: Path, name: str) -> Path:
    """
    Return where the manifest of a key is: in *directory*, and an epoch's in `epochs` inside it.

    Apart, so that no dump of the key store and no copy of the other manifests takes an epoch's along.
    """
    folder = directory / "epochs" if _EPOCH.fullmatch(name) else directory
    return folder / f"{name}.json"


def check_keystore_id(keystore: str) -> str:
    """
    Return *keystore* if it is a keystore id.

    Raises:
        ConfigurationError: it is not 32 lower-case hex digits.
    """
    try:
        text.from_hex(keystore, 16)
    except ValueError:
        raise ConfigurationError("a keystore id is 32 lower-case hex digits") from None
    return keystore


def sign(manifest: Manifest, signer: Identity) -> bytes:
    """
    Return the file.

    Raises:
        MisuseError: the manifest names another signer, or would be refused when read.
    """
    line = manifest.line()
    data = line + b"\n" + text.to_base64url(signer.sign(_signed(line))).encode() + b"\n"
    # An operator never signs what no reader would accept.
    if len(data) > LIMIT:
        raise MisuseError(
            "the manifest would be longer than 1 MiB",
            hint="make a new key: this one has too many versions and recipients",
        )
    try:
        verify(data, key=manifest.key, keystore=manifest.keystore, signers=(signer.public,))
    except Tampered:
        raise MisuseError("the manifest would be refused when read") from None
    return data


def verify(
    data: bytes, *, key: str, keystore: str, signers: Collection[PublicIdentity]
) -> Manifest:
    """
    Return the manifest of *key*, once a trusted signer's signature and the names are verified.

    Raises:
        Tampered: whatever is wrong with it.
    """
    lines = data.split(b"\n")
    if len(data) > LIMIT or len(lines) != 3 or lines[2]:
        raise Tampered
    try:
        signature = text.from_base64url(lines[1].decode("ascii"), 64)
    except ValueError:
        raise Tampered from None
    signer = _signer_of(lines[0], signature, signers)
    try:
        manifest = _parsed(lines[0])
    except ValueError:
        raise Tampered from None
    if (manifest.signer, manifest.key, manifest.keystore) != (signer.fingerprint, key, keystore):
        raise Tampered
    return manifest


def seal_version(
    *,
    keystore: str,
    key: str,
    number: int,
    key_id: bytes,
    root: KeyMaterial,
    recipients: Collection[PublicIdentity],
) -> Version:
    """Return a new active version, its root key sealed to every recipient."""
    version = Version(
        number=number,
        id=key_id,
        state=KeyState.ACTIVE,
        check=_check(keystore, key, number, root),
        recipients=(),
    )
    shares = (
        seal_share(keystore=keystore, key=key, version=version, root=root, recipient=recipient)
        for recipient in recipients
    )
    return Version(
        number=number,
        id=key_id,
        state=version.state,
        check=version.check,
        recipients=tuple(sorted(shares, key=lambda share: share.id)),
    )


def seal_share(
    *, keystore: str, key: str, version: Version, root: KeyMaterial, recipient: PublicIdentity
) -> Recipient:
    """Return the root key of *version*, sealed to one recipient and bound to its place."""
    info = _share_info(keystore, key, version.number, recipient.fingerprint)
    return Recipient(
        id=recipient.fingerprint, name=recipient.name, sealed=recipient.seal(root.reveal(), info)
    )


def open_version(manifest: Manifest, version: Version, identity: Identity) -> KeyMaterial | None:
    """
    Return the root key of *version*, or None if *identity* is not one of its recipients.

    Raises:
        Tampered: the share does not open in its place, or is not the key the others got.
    """
    share = version.share_of(identity.fingerprint)
    if share is None:
        return None
    info = _share_info(manifest.keystore, manifest.key, version.number, share.id)
    root = KeyMaterial(identity.open(share.sealed, info))  # 32 bytes, because `sealed` is 80
    # HPKE with AES-GCM commits to no key: without this, one signed file could give two
    # recipients two keys, and each would write what the other cannot read.
    if not hmac.compare_digest(
        version.check, _check(manifest.keystore, manifest.key, version.number, root)
    ):
        raise Tampered
    return root


def _signed(line: bytes) -> bytes:
    return _SIGNED + hashlib.sha256(line).digest()


def _share_info(keystore: str, key: str, number: int, recipient: str) -> bytes:
    return _SHARE + canonical(
        {
            "key": key,
            "keystore": keystore,
            "recipient": recipient,
            "suite": _SUITE,
            "version": str(number),
        }
    )


def _check(keystore: str, key: str, number: int, root: KeyMaterial) -> bytes:
    return expand(
        root.reveal(),
        CHECK,
        canonical({"key": key, "keystore": keystore, "version": str(number)}),
        16,
    )


def _signer_of(
    line: bytes, signature: bytes, signers: Collection[PublicIdentity]
) -> PublicIdentity:
    message = _signed(line)
    for signer in signers:
        try:
            signer.verify(message, signature)
        except Tampered:
            continue
        return signer
    raise Tampered


def _parsed(line: bytes) -> Manifest:
    found = text.members(text.load(line), _MANIFEST)
    if (
        found["format"] != _FORMAT
        or type(found["key"]) is not str
        or not _KEY_NAME.fullmatch(found["key"])
    ):
        raise ValueError("not a keystore file")
    text.from_hex(found["keystore"], 16)
    text.from_hex(found["previous"], 32)
    text.from_hex(found["signer"], 16)
    serial = _count(found["serial"])
    if (serial == 1) != (found["previous"] == NO_PREVIOUS):
        raise ValueError("a first manifest has no previous one, every other has")
    if type(found["signed_at"]) is not str or not _TIME.fullmatch(found["signed_at"]):
        raise ValueError("not a time")
    dt.datetime.fromisoformat(found["signed_at"])
    return Manifest(
        key=found["key"],
        keystore=found["keystore"],
        serial=serial,
        previous=found["previous"],
        signed_at=found["signed_at"],
        signer=found["signer"],
        versions=_versions(found["versions"]),
    )


def _versions(found: object) -> tuple[Version, ...]:
    if type(found) is not list or not found:
        raise ValueError("no versions")
    versions = tuple(_version(item) for item in found)
    if [version.number for version in versions] != list(range(len(versions), 0, -1)):
        raise ValueError("versions are all there ever were, newest first")
    if len({version.id for version in versions}) != len(versions):
        raise ValueError("a version id is there twice")
    if versions[0].state not in _NEWEST or any(
        version.state not in _OLDER for version in versions[1:]
    ):
        raise ValueError("a state that this version cannot have")
    return versions


def _version(item: object) -> Version:
    found = text.members(item, _VERSION)
    if found["suite"] != _SUITE or type(found["recipients"]) is not list:
        raise ValueError("not a version")
    recipients = tuple(_recipient(each) for each in found["recipients"])
    ids = [recipient.id for recipient in recipients]
    if ids != sorted(set(ids)):
        raise ValueError("recipients are sorted by id, each there once")
    state = KeyState(found["state"])
    if (state is KeyState.DESTROYED) != (not recipients):
        raise ValueError("a destroyed version has no recipients, every other has")
    return Version(
        number=_count(found["version"]),
        id=text.from_hex(found["id"], 16),
        state=state,
        check=text.from_hex(found["check"], 16),
        recipients=recipients,
    )


def _recipient(item: object) -> Recipient:
    found = text.members(item, _RECIPIENT)
    text.from_hex(found["id"], 16)
    if type(found["name"]) is not str or not NAME.fullmatch(found["name"]):
        raise ValueError("not a name")
    return Recipient(
        id=found["id"], name=found["name"], sealed=text.from_base64url(found["sealed"], _SEALED)
    )


def _count(value: Any) -> int:
    if type(value) is not int or not 0 < value <= _LARGEST:
        raise ValueError("not a count")
    return value
