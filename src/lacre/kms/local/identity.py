# SPDX-License-Identifier: Apache-2.0
"""
Identities: who may open a key of the local keystore, and who may sign for it.

Implements ``spec/local-keystore.md``, sections 3 and 4. An identity has two
keys, one per use: X25519 to receive, Ed25519 to sign. Does not say whom to trust: that is in
``lacre.toml``. Never reads a passphrase from an environment variable.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Never, Self, final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from lacre.errors import ConfigurationError, LacreError, MisuseError, Tampered
from lacre.kms.local import text
from lacre.kms.local.files import read_private, write_private

__all__ = ["NAME", "Identity", "PublicIdentity"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._@-]{0,63}", re.ASCII)

_FORMAT = "lacre-identity-1"
_PUBLIC_FORMAT = "lacre-public-1"
_LABEL = b"lacre/1/identity"  # exactly 16 bytes, as every label

# HPKE 0x0020, 0x0001, 0x0002 in base mode, the only one there is here. It has no sender: whoever
# knows the public key can make a box that opens. So a box alone proves nothing; a signature over
# what holds it does (manifest.py).
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)

# 128 MiB and about 0.4 s per guess. What a file asks for is bounded from both sides when read: less
# would be a weak file, more a way to exhaust memory.
_SCRYPT_N = 2**17
_SCRYPT_R = 8
_SCRYPT_P = 1
_SCRYPT_N_ALLOWED = (2**17, 2**18, 2**19, 2**20)

# The AES key comes from scrypt over a salt that is fresh at every save, and encrypts one file:
# a constant nonce is safe, and would not be if a salt were ever kept for a second save.
_NONCE = bytes(12)

_FILE = frozenset({"ed25519", "format", "name", "private", "protection", "x25519"})
_SCRYPT = frozenset({"kdf", "n", "p", "r", "salt"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicIdentity:
    """
    What others know of an identity. The name is a label; the fingerprint is who it is.

    Raises:
        ConfigurationError: made with a name or keys that cannot be.
    """

    name: str
    x25519: bytes = field(repr=False)
    ed25519: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigurationError(
                "an identity's name is 1 to 64 letters, digits, ':', '.', '_', '@' or '-'",
                hint='for example "svc:billing"',
            )
        if len(self.x25519) != 32 or len(self.ed25519) != 32:
            raise ConfigurationError("an identity has two public keys of 32 bytes")

    @property
    def fingerprint(self) -> str:
        """32 hex digits of a hash of both keys: two identities that share one key differ."""
        return hashlib.sha256(_LABEL + self.x25519 + self.ed25519).digest()[:16].hex()

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        """Encrypt to this identity, bound to *info*. Proves nothing about who sealed it."""
        try:
            return _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(self.x25519), info)
        except ValueError:  # a point of small order: no secret can be shared with it
            del plaintext  # a traceback's locals hold no secret, here and below
            raise ConfigurationError(
                f"the public key of {self.name} is not a usable X25519 key"
            ) from None

    def verify(self, message: bytes, signature: bytes) -> None:
        """
        Return if this identity signed *message*.

        Raises:
            Tampered: it did not.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.ed25519).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise Tampered from None

    def to_text(self) -> str:
        """Return one line of ASCII, for ``lacre.toml`` or a ``.pub`` file."""
        return f"{_PUBLIC_FORMAT} {self.name} {self.fingerprint} {text.to_base64url(self.x25519 + self.ed25519)}"

    @classmethod
    def from_text(cls, line: str) -> Self:
        """
        Read what `to_text` returned. White space around it is ignored, nothing else is.

        Raises:
            ConfigurationError: it is anything else; the fingerprint catches a slip of the pen.
        """
        wrong = ConfigurationError(
            "this is not the public text of an identity",
            hint=f"copy the whole line that begins with {_PUBLIC_FORMAT}",
        )
        words = line.strip().split(" ")
        if len(words) != 4 or words[0] != _PUBLIC_FORMAT:
            raise wrong
        try:
            keys = text.from_base64url(words[3], 64)
        except ValueError:
            raise wrong from None
        identity = cls(name=words[1], x25519=keys[:32], ed25519=keys[32:])
        if identity.fingerprint != words[2]:
            raise wrong
        return identity


@final
class Identity:
    """An identity with its private keys. It does not print, pickle, copy or compare them."""

    __slots__ = ("__receiving", "__signing", "_public")

    def __init__(self, name: str, private: bytes) -> None:
        if type(private) is not bytes or len(private) != 64:
            del private
            raise MisuseError("an identity has two private keys of 32 bytes")
        self.__receiving = X25519PrivateKey.from_private_bytes(private[:32])
        self.__signing = Ed25519PrivateKey.from_private_bytes(private[32:])
        self._public = PublicIdentity(
            name=name,
            x25519=self.__receiving.public_key().public_bytes_raw(),
            ed25519=self.__signing.public_key().public_bytes_raw(),
        )

    @classmethod
    def create(cls, name: str, *, entropy: Callable[[int], bytes] = os.urandom) -> Self:
        return cls(name, entropy(64))

    @property
    def public(self) -> PublicIdentity:
        return self._public

    @property
    def name(self) -> str:
        return self._public.name

    @property
    def fingerprint(self) -> str:
        return self._public.fingerprint

    def sign(self, message: bytes) -> bytes:
        """Sign (Ed25519). *message* begins with a 16-byte label, so no use's message is another's."""
        return self.__signing.sign(message)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """
        Decrypt what was sealed to this identity for the same *info*.

        Raises:
            Tampered: it was sealed to another identity, for another use, or altered.
        """
        try:
            return _SUITE.decrypt(sealed, self.__receiving, info)
        except (InvalidTag, ValueError):
            raise Tampered from None

    def save(self, path: Path, passphrase: str | None = None, *, replace: bool = False) -> None:
        """
        Write the identity, with mode 0600 in a directory with mode 0700.

        Args:
            passphrase: without one, whoever reads the file is this identity.
            replace: write over a file that is there, to change its passphrase.

        Raises:
            ConfigurationError: the directory is open to others, or the passphrase is empty.
            MisuseError: the file exists and *replace* is false.
        """
        salt = os.urandom(32)
        key = _stretched(passphrase, salt, _SCRYPT_N) if passphrase is not None else None
        protection: dict[str, Any] = {"kdf": "none"}
        if key is not None:
            protection = {
                "kdf": "scrypt",
                "n": _SCRYPT_N,
                "p": _SCRYPT_P,
                "r": _SCRYPT_R,
                "salt": text.to_base64url(salt),
            }
        header = {
            "ed25519": text.to_base64url(self._public.ed25519),
            "format": _FORMAT,
            "name": self.name,
            "protection": protection,
            "x25519": text.to_base64url(self._public.x25519),
        }
        private = self.__receiving.private_bytes_raw() + self.__signing.private_bytes_raw()
        if key is not None:
            private = AESGCM(key).encrypt(_NONCE, private, text.dump(header))
        header["private"] = text.to_base64url(private)
        del private, key, passphrase
        content = text.dump(header) + b"\n"
        del header
        try:
            write_private(path, content, replace=replace)
        except LacreError as error:
            del content
            error.__context__ = None  # with the traceback, all that held the content
            raise error.with_traceback(None) from None

    @classmethod
    def load(cls, path: Path, passphrase: str | None = None) -> Self:
        """
        Read an identity that `save` wrote.

        Raises:
            ConfigurationError: the file is missing, open to others, a link, not an identity; or
                the passphrase is wrong, missing, or given for a file that has none.
        """
        header = _read(path)
        protected = header["protection"]["kdf"] != "none"
        if protected and passphrase is None:
            raise ConfigurationError(
                f"{path} needs its passphrase", hint="give it in a file or at the prompt"
            )
        if not protected and passphrase is not None:
            del header, passphrase
            raise ConfigurationError(
                f"{path} has no passphrase", hint="load it without one, or save it again with one"
            )
        name, keys = header["name"], (header["x25519"], header["ed25519"])
        private = _unlocked(header, passphrase) if passphrase is not None else header["private"]
        del header, passphrase
        if private is None:
            raise ConfigurationError(
                f"the passphrase is not the one of {path}, or the file was altered"
            )
        identity = cls(name, private)
        del private
        if (identity.public.x25519, identity.public.ed25519) != keys:
            raise _not_an_identity(path)
        return identity

    @staticmethod
    def is_protected(path: Path) -> bool:
        """
        Whether `load` needs a passphrase for this file.

        Raises:
            ConfigurationError: as `load`.
        """
        return bool(_read(path)["protection"]["kdf"] != "none")

    def __repr__(self) -> str:
        return f"<Identity {self.name} {self.fingerprint}>"

    def __reduce__(self) -> Never:
        raise MisuseError("an identity does not pickle, copy or leave the process")


def _read(path: Path) -> dict[str, Any]:
    header = _parsed(read_private(path))
    if header is None:
        raise _not_an_identity(path)
    return header


def _parsed(data: bytes) -> dict[str, Any] | None:
    # The members of the file, binary ones decoded, each checked; nothing decrypted.
    try:
        if not data.endswith(b"\n"):
            return None
        header = text.members(text.load(data[:-1]), _FILE)
        name = header["name"]
        if header["format"] != _FORMAT or type(name) is not str or not NAME.fullmatch(name):
            return None
        size = 64
        if header["protection"] != {"kdf": "none"}:
            header["protection"] = _scrypt_parameters(header["protection"])
            size = 64 + 16
        return header | {
            "ed25519": text.from_base64url(header["ed25519"], 32),
            "private": text.from_base64url(header["private"], size),
            "x25519": text.from_base64url(header["x25519"], 32),
        }
    except ValueError:
        return None


def _scrypt_parameters(protection: object) -> dict[str, Any]:
    found = text.members(protection, _SCRYPT)
    n, r, p = (found[name] for name in ("n", "r", "p"))
    if found["kdf"] != "scrypt" or not type(n) is type(r) is type(p) is int:
        raise ValueError("not a known protection")
    if n not in _SCRYPT_N_ALLOWED or (r, p) != (_SCRYPT_R, _SCRYPT_P):
        raise ValueError("parameters out of bounds")
    return found | {"salt": text.from_base64url(found["salt"], 32)}


def _unlocked(header: dict[str, Any], passphrase: str) -> bytes | None:
    protection = header["protection"]
    key = _stretched(passphrase, protection["salt"], protection["n"])
    # The header is associated data: a file with another name, other public keys or other
    # parameters does not open.
    written = {name: value for name, value in _as_written(header).items() if name != "private"}
    try:
        return AESGCM(key).decrypt(_NONCE, header["private"], text.dump(written))
    except InvalidTag:
        return None


def _as_written(header: dict[str, Any]) -> dict[str, Any]:
    return {
        name: text.to_base64url(value)
        if isinstance(value, bytes)
        else _as_written(value)
        if isinstance(value, dict)
        else value
        for name, value in header.items()
    }


def _stretched(passphrase: str, salt: bytes, n: int) -> bytes:
    if not passphrase:
        raise ConfigurationError(
            "a passphrase is not empty", hint="leave it out to save without one"
        )
    try:
        # NFC: one passphrase with accents gives one key, whichever keyboard typed it.
        secret = unicodedata.normalize("NFC", passphrase).encode()
    except UnicodeEncodeError:
        secret = b""
    if not secret:  # outside the handler: the codec's error quotes the passphrase
        del passphrase
        raise ConfigurationError("a passphrase is valid Unicode text")
    return Scrypt(salt=salt, length=32, n=n, r=_SCRYPT_R, p=_SCRYPT_P).derive(secret)


def _not_an_identity(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is not an identity file that this version reads", hint="restore it from its backup"
    )
