# SPDX-License-Identifier: Apache-2.0
"""
Signed notes and checkpoints: what the log's signer says about its tree.

As c2sp.org/signed-note and c2sp.org/tlog-checkpoint write them: Ed25519 (signature type 0x01) and
ECDSA P-256 with SHA-256 (0x02). Implements ``spec/evidence-log.md``, section 7. Holds no private
key (`Signer` is a port) and does not say whom to believe (``[audit] signers``).

The text that is signed begins with the origin of a log, which begins ``lacre-audit/``: no label of
another signed message of lacre (``lacre/...``) begins so, and one is never taken for the other.
"""

import base64
import binascii
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from lacre.errors import ConfigurationError, MisuseError, Tampered

__all__ = [
    "ECDSA_P256",
    "ED25519",
    "Checkpoint",
    "Signer",
    "Verifier",
    "ecdsa_key_id",
    "ed25519_key_id",
    "open_note",
    "origin_of",
    "read_checkpoint",
    "sign_checkpoint",
    "sign_note",
]

ED25519 = 0x01
ECDSA_P256 = 0x02

_LINE = "— "  # em dash, space
_SIGNATURES = 16  # what every verifier has to take, and no more
_LONGEST = 16 * 1024


class Signer(Protocol):
    """Who signs notes: the name of its key, the id of its key (4 bytes), and a signature of bytes."""

    @property
    def name(self) -> str: ...

    @property
    def key_id(self) -> bytes: ...

    def sign(self, message: bytes, /) -> bytes: ...


def ed25519_key_id(name: str, public: bytes) -> bytes:
    """Return the id of an Ed25519 key of 32 bytes under *name*."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([ED25519]) + public).digest()[:4]


def ecdsa_key_id(public: bytes) -> bytes:
    """Return the id of an ECDSA key by its SubjectPublicKeyInfo (DER), which is all that type 0x02 hashes."""
    return hashlib.sha256(public).digest()[:4]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """
    A key that is believed: *kind* is its signature type, *public* 32 bytes of Ed25519 or the DER of a P-256 key.

    Raises:
        ConfigurationError: made with a name or a key that cannot be.
    """

    name: str
    kind: int
    public: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check_name(self.name)
        try:
            if self.kind == ED25519:
                Ed25519PublicKey.from_public_bytes(self.public)
                return
            key = load_der_public_key(self.public) if self.kind == ECDSA_P256 else None
        except ValueError:
            key = None
        if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
            raise ConfigurationError("a signer of notes has an Ed25519 or an ECDSA P-256 key")

    @property
    def key_id(self) -> bytes:
        """The id that a signature of this key begins with."""
        if self.kind == ED25519:
            return ed25519_key_id(self.name, self.public)
        return ecdsa_key_id(self.public)

    def verify(self, message: bytes, signature: bytes) -> None:
        """
        Return if this key signed *message*.

        Raises:
            Tampered: it did not.
        """
        try:
            if self.kind == ED25519:
                Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
            else:
                key = load_der_public_key(self.public)
                assert isinstance(key, EllipticCurvePublicKey)
                key.verify(signature, message, ECDSA(SHA256()))
        except (InvalidSignature, ValueError):
            raise Tampered.signed("a note") from None

    def to_text(self) -> str:
        """Return ``name+id+key``, as other tools that read C2SP notes take it."""
        key = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{key}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """
        Read what `to_text` returned.

        Raises:
            ConfigurationError: it is anything else; the id catches a slip of the pen.
        """
        wrong = ConfigurationError(
            "this is not the public text of a signer", hint="copy the whole line NAME+ID+KEY"
        )
        words = text.strip().split("+", 2)
        try:
            data = base64.b64decode(words[2], validate=True)
            found = cls(name=words[0], kind=data[0], public=data[1:])
            same = found.to_text() == text.strip()
        except (ValueError, IndexError, ConfigurationError):
            raise wrong from None
        if not same:
            raise wrong
        return found


def sign_note(text: str, signers: Sequence[Signer]) -> str:
    """Return the note of *text*, which ends with a newline, signed by each of *signers*."""
    if not _is_text(text) or not signers:
        raise MisuseError("a note is lines of text, and somebody signs it")
    lines = [_signature_line(text, signer) for signer in signers]
    return text + "\n" + "".join(lines)


def open_note(note: str, verifiers: Collection[Verifier]) -> str:
    """
    Return the text of *note*, which one of *verifiers* signed.

    Raises:
        Tampered: none did, a known key's signature is not over this text, or it is no note.
    """
    refused = Tampered.signed("a note")
    text, blank, tail = note.rpartition("\n\n")
    text += "\n"
    lines = tail.removesuffix("\n").split("\n")
    well_formed = (
        blank and tail.endswith("\n") and len(note) <= _LONGEST and len(lines) <= _SIGNATURES
    )
    if not well_formed or not _is_text(text):
        raise refused
    known = {(each.name, each.key_id): each for each in verifiers}
    believed = False
    for line in lines:
        name, _, encoded = line.removeprefix(_LINE).partition(" ")
        data = _decoded(encoded)
        if not line.startswith(_LINE) or not name or "+" in name or data is None or len(data) < 5:
            raise refused
        # A signature of somebody unknown says nothing; one of a known key that is wrong says that the note is.
        if (verifier := known.get((name, data[:4]))) is not None:
            verifier.verify(text.encode(), data[4:])
            believed = True
    if not believed:
        raise refused
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A tree head: the log *origin* had *size* leaves, and this *root*."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """
        Read what `text` returned.

        Raises:
            Tampered: it is anything else: lines of extension are refused, nobody writes them here.
        """
        refused = Tampered.signed("a checkpoint")
        lines = text.split("\n")
        if (
            len(lines) != 4
            or not lines[1].isascii()
            or not lines[1].isdecimal()
            or len(lines[1]) > 18
        ):
            raise refused
        root = _decoded(lines[2])
        if root is None or len(root) != 32:
            raise refused
        found = cls(origin=lines[0], size=int(lines[1]), root=root)
        if not found.origin or found.text() != text:
            raise refused
        return found


def origin_of(app: str, env: str, shard: int) -> str:
    """Return the origin of the log of one month, which *shard* is as a number: 202611."""
    return f"lacre-audit/{app}/{env}/{shard // 100:04}-{shard % 100:02}"


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> str:
    """Return the note of *checkpoint*."""
    return sign_note(checkpoint.text(), [signer])


def read_checkpoint(note: str, verifiers: Collection[Verifier]) -> Checkpoint:
    """
    Return the checkpoint that *note* is, signed by one of *verifiers*.

    Raises:
        Tampered: it is none, or nobody believed signed it as it is.
    """
    return Checkpoint.from_text(open_note(note, verifiers))


def _signature_line(text: str, signer: Signer) -> str:
    _check_name(signer.name)
    encoded = base64.b64encode(signer.key_id + signer.sign(text.encode())).decode()
    return f"{_LINE}{signer.name} {encoded}\n"


def _is_text(text: str) -> bool:
    # Valid UTF-8 without control characters but the newline, which ends it.
    if any(character < " " and character != "\n" for character in text):
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return text.endswith("\n") and text != "\n"


def _check_name(name: str) -> None:
    if not name or "+" in name or not name.isprintable() or any(map(str.isspace, name)):
        raise ConfigurationError(
            "the name of a signer's key has no spaces and no '+'", hint='for example "svc:audit"'
        )


def _decoded(text: str) -> bytes | None:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    # One spelling: base64 has several for the same bytes.
    return data if base64.b64encode(data).decode() == text else None
