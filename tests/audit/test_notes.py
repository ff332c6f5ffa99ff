# SPDX-License-Identifier: Apache-2.0
"""Signed notes and checkpoints, against those of other implementations."""

import base64
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lacre.audit.notes import (
    ECDSA_P256,
    ED25519,
    Checkpoint,
    Verifier,
    open_note,
    origin_of,
    read_checkpoint,
    sign_checkpoint,
    sign_note,
)
from lacre.errors import ConfigurationError, MisuseError, Tampered

# The example that Go's package for signed notes is documented with.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PRIVATE = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNED = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"

ROOT = bytes(range(32))
HEAD = Checkpoint(origin="lacre-audit/shop/prod/2026-11", size=7, root=ROOT)


@dataclass(frozen=True)
class Ed25519Signer:
    name: str
    key: Ed25519PrivateKey

    @property
    def verifier(self) -> Verifier:
        return Verifier(
            name=self.name, kind=ED25519, public=self.key.public_key().public_bytes_raw()
        )

    @property
    def key_id(self) -> bytes:
        return self.verifier.key_id

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)


@dataclass(frozen=True)
class P256Signer:
    name: str
    key: ec.EllipticCurvePrivateKey

    @property
    def verifier(self) -> Verifier:
        der = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return Verifier(name=self.name, kind=ECDSA_P256, public=der)

    @property
    def key_id(self) -> bytes:
        return self.verifier.key_id

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message, ec.ECDSA(SHA256()))


PETER_SIGNS = Ed25519Signer("PeterNeumann", Ed25519PrivateKey.from_private_bytes(PRIVATE))
P256 = P256Signer("aws-kms://eu-central-1/alias/audit", ec.generate_private_key(ec.SECP256R1()))


def test_a_note_is_that_of_other_implementations() -> None:
    """Our note of a published text under a published key is the published note, and theirs opens."""
    verifier = Verifier.from_text(PETER)

    assert sign_note(TEXT, [PETER_SIGNS]) == TEXT + "\n" + SIGNED
    assert open_note(TEXT + "\n" + SIGNED, [verifier]) == TEXT
    assert verifier.to_text() == PETER
    assert verifier == PETER_SIGNS.verifier


def test_a_signature_of_somebody_unknown_is_passed_over() -> None:
    """A note with two signatures opens for who knows one of the two."""
    note = sign_note(TEXT, [PETER_SIGNS, P256])

    assert open_note(note, [P256.verifier]) == TEXT
    assert open_note(note, [PETER_SIGNS.verifier]) == TEXT
    with pytest.raises(Tampered):
        open_note(note, [])


def test_a_wrong_signature_of_a_known_key_refuses_the_note() -> None:
    """One good signature does not cover for a false one in a known name."""
    theirs = SIGNED.encode().replace(b"x08go/ZJ", b"x08go/ZK").decode()
    note = sign_note(TEXT, [P256]) + theirs

    assert open_note(note, [P256.verifier]) == TEXT
    with pytest.raises(Tampered):
        open_note(note, [P256.verifier, PETER_SIGNS.verifier])


@pytest.mark.parametrize(
    "note",
    [
        "",
        TEXT,
        TEXT + SIGNED,
        TEXT + "\n" + SIGNED.rstrip(),
        TEXT + "\n" + SIGNED * 17,
        TEXT + "\n" + SIGNED.replace("— ", "- "),
        TEXT + "\n" + SIGNED.replace("nAM=", "nAN="),
        TEXT.replace("problem", "prob1em") + "\n" + SIGNED,
        TEXT.replace(" ", "\t") + "\n" + SIGNED,
        TEXT + "\n" + SIGNED + "x",
        "\n" + SIGNED,
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    """A note that was changed, cut, respelt or is none does not open."""

    with pytest.raises(Tampered):
        open_note(note, [Verifier.from_text(PETER)])


@pytest.mark.parametrize("text", ["", "no newline", "bell\a\n", "\ud800\n", "\n"])
def test_what_is_no_text_is_not_signed(text: str) -> None:
    """Only lines of printable text are signed."""

    with pytest.raises(MisuseError):
        sign_note(text, [PETER_SIGNS])


def test_a_checkpoint_is_three_lines() -> None:
    """A checkpoint is origin, size and root, and reads back from its note."""
    note = sign_checkpoint(HEAD, PETER_SIGNS)

    assert note.startswith(
        "lacre-audit/shop/prod/2026-11\n7\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\n— PeterNeumann "
    )
    assert read_checkpoint(note, [PETER_SIGNS.verifier]) == HEAD
    assert origin_of("shop", "prod", 202611) == HEAD.origin


@pytest.mark.parametrize(
    "text",
    [
        "lacre-audit/shop/prod/2026-11\n07\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "lacre-audit/shop/prod/2026-11\n7\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n",
        "lacre-audit/shop/prod/2026-11\n7\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\nmore\n",
        "\n7\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "lacre-audit/shop/prod/2026-11\n-7\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "lacre-audit/shop/prod/2026-11\n٧\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "lacre-audit/shop/prod/2026-11\n7\nAAECAw==\n",
        "lacre-audit/shop/prod/2026-11\n7\n",
    ],
)
def test_a_checkpoint_has_one_spelling(text: str) -> None:
    """Another number of lines, spelling of the size or length of the root is refused, though signed."""

    with pytest.raises(Tampered):
        read_checkpoint(sign_note(text, [PETER_SIGNS]), [PETER_SIGNS.verifier])


def test_the_id_of_an_ecdsa_key_is_of_its_der() -> None:
    """The id of type 0x02 does not depend on the name, and the text of the key reads back."""
    other = Verifier(name="other", kind=ECDSA_P256, public=P256.verifier.public)

    assert other.key_id == P256.key_id
    assert Verifier.from_text(P256.verifier.to_text()) == P256.verifier
    with pytest.raises(Tampered):
        open_note(sign_note(TEXT, [P256]), [other])


@pytest.mark.parametrize("text", ["", "a+b", PETER.replace("c74f", "c74e"), PETER[:-4], PETER.replace("ARpc", "BRpc"), "svc audit" + PETER[12:]])  # fmt: skip
def test_a_public_text_with_a_slip_is_refused(text: str) -> None:
    """A text that was cut or mistyped is a configuration error, and names no other key."""

    with pytest.raises(ConfigurationError):
        Verifier.from_text(text)


def test_other_curves_are_refused() -> None:
    """A key of another curve is no signer's."""
    der = (
        ec.generate_private_key(ec.SECP384R1())
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )

    with pytest.raises(ConfigurationError):
        Verifier(name="x", kind=ECDSA_P256, public=der)
    with pytest.raises(ConfigurationError):
        Verifier(name="x", kind=3, public=der)
