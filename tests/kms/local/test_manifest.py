# SPDX-License-Identifier: Apache-2.0
import base64
import dataclasses
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lacre._core.canonical import canonical
from lacre._core.derive import CHECK, expand
from lacre.errors import ConfigurationError, MisuseError, Tampered
from lacre.kms.local import Identity, Manifest
from lacre.kms.local.manifest import (
    LIMIT,
    NO_PREVIOUS,
    check_key_name,
    check_keystore_id,
    open_version,
    seal_version,
    sign,
    verify,
)
from lacre.kms.local.text import dump, to_base64url
from lacre.sensitive import KeyMaterial
from tests.kms.local.keystore import APP, BILLING, KEYSTORE, OPERATOR, STRANGER

ROOT = KeyMaterial(bytes(range(32)))


def small() -> Manifest:
    version = seal_version(
        keystore=KEYSTORE,
        key="finance",
        number=1,
        key_id=bytes(16),
        root=ROOT,
        recipients=[APP.public],
    )
    return Manifest(
        key="finance",
        keystore=KEYSTORE,
        serial=1,
        previous=NO_PREVIOUS,
        signed_at="2026-11-22T10:00:00Z",
        signer=OPERATOR.fingerprint,
        versions=(version,),
    )


def read(data: bytes) -> Manifest:
    return verify(data, key="finance", keystore=KEYSTORE, signers=[OPERATOR.public])


def signed(line: bytes, signer: Identity = OPERATOR) -> bytes:
    """Sign any line: what a careless or malicious signer could."""
    signature = signer.sign(b"lacre/1/keystore" + hashlib.sha256(line).digest())
    return line + b"\n" + to_base64url(signature).encode() + b"\n"


ONCE = small()


def altered(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The small manifest, changed and signed again by its rightful signer."""
    members = json.loads(ONCE.line())
    change(members)
    return signed(dump(members))


def test_what_is_signed_is_read() -> None:
    """A manifest comes back equal, in two lines, and its hash is that of line 1."""
    manifest = small()
    data = sign(manifest, OPERATOR)

    assert read(data) == manifest
    assert data.count(b"\n") == 2
    assert data.split(b"\n")[0] == manifest.line()
    assert manifest.digest == hashlib.sha256(manifest.line()).hexdigest()


def test_every_flipped_byte_is_refused() -> None:
    """No byte of a manifest can be changed: each of its bits is tried."""
    data = sign(small(), OPERATOR)

    for at in range(len(data)):
        for bit in range(8):
            with pytest.raises(Tampered):
                read(data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :])


def test_every_truncation_and_extension_is_refused() -> None:
    """Nothing is missing at the end, and nothing comes after it."""
    data = sign(small(), OPERATOR)

    for size in range(len(data)):
        with pytest.raises(Tampered):
            read(data[:size])
    for more in (b"\n", b" ", b"x\n", b"\0", data):
        with pytest.raises(Tampered):
            read(data + more)
        with pytest.raises(Tampered):
            read(more + data)


def test_a_file_does_not_bring_its_own_signer() -> None:
    """A manifest in a stranger's name, or by a stranger in the operator's name, is refused."""
    by_stranger = dataclasses.replace(small(), signer=STRANGER.fingerprint)

    for data in (
        sign(by_stranger, STRANGER),
        signed(small().line(), STRANGER),
        signed(by_stranger.line(), OPERATOR),
    ):
        with pytest.raises(Tampered):
            read(data)
    with pytest.raises(Tampered):
        verify(sign(small(), OPERATOR), key="finance", keystore=KEYSTORE, signers=[])


def test_one_of_several_signers_is_enough() -> None:
    """Any trusted signer will do, if the manifest names that one."""
    data = sign(small(), OPERATOR)

    assert verify(
        data, key="finance", keystore=KEYSTORE, signers=[STRANGER.public, OPERATOR.public]
    ) == read(data)


def test_the_names_are_those_asked_for() -> None:
    """A manifest of another key, or of another keystore, is refused though rightly signed."""
    data = sign(small(), OPERATOR)

    for key, keystore in (("sales", KEYSTORE), ("finance", "ff" * 16)):
        with pytest.raises(Tampered):
            verify(data, key=key, keystore=keystore, signers=[OPERATOR.public])


def test_the_signature_is_for_keystores_only() -> None:
    """A signature over the bare hash, or over the line, is not one over a manifest."""
    line = small().line()

    for message in (
        line,
        hashlib.sha256(line).digest(),
        b"lacre/1/keyshare" + hashlib.sha256(line).digest(),
    ):
        with pytest.raises(Tampered):
            read(line + b"\n" + to_base64url(OPERATOR.sign(message)).encode() + b"\n")


def test_other_spellings_are_refused_though_signed() -> None:
    """A rightful signature does not excuse a second spelling of the same manifest."""
    line = small().line()
    spellings = [
        line.replace(b'":', b'": ', 1),
        line.replace(b'"serial":1', b'"serial":1.0'),
        line.replace(b'"serial":1', b'"serial":1,"serial":1'),
        line.replace(b'"key":"finance"', b'"key":"f\\u0069nance"'),
        line[:-1] + b',"a":1}',
        line + b" ",
    ]

    for spelling in spellings:
        assert spelling != line
        with pytest.raises(Tampered):
            read(signed(spelling))


def first(members: dict[str, Any]) -> dict[str, Any]:
    version: dict[str, Any] = members["versions"][0]
    return version


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(extra=1),
        lambda m: m.pop("signed_at"),
        lambda m: m.update(format="lacre-keystore-2"),
        lambda m: m.update(serial=0),
        lambda m: m.update(serial=True),
        lambda m: m.update(serial=2**53, previous="11" * 32),
        lambda m: m.update(serial=2),
        lambda m: m.update(previous="11" * 32),
        lambda m: m.update(previous="0" * 63),
        lambda m: m.update(signed_at="2026-11-22 10:00:00"),
        lambda m: m.update(signed_at="2026-13-22T10:00:00Z"),
        lambda m: m.update(key="../finance"),
        lambda m: m.update(signer=m["signer"].upper()),
        lambda m: m.update(versions=[]),
        lambda m: m.update(versions={}),
        lambda m: m["versions"].append(m["versions"][0]),
        lambda m: first(m).update(version=2),
        lambda m: first(m).update(extra=1),
        lambda m: first(m).update(suite="mlkem768-x25519"),
        lambda m: first(m).update(state="decrypt_only"),
        lambda m: first(m).update(state="pending"),
        lambda m: first(m).update(state="compromised"),
        lambda m: first(m).update(state=["active"]),
        lambda m: first(m).update(state="destroyed"),
        lambda m: first(m).update(recipients=[]),
        lambda m: first(m).update(check="00" * 15),
        lambda m: first(m).update(id="00" * 17),
        lambda m: first(m).pop("id"),
        lambda m: first(m)["recipients"].append(first(m)["recipients"][0]),
        lambda m: first(m)["recipients"][0].update(name="two words"),
        lambda m: first(m)["recipients"][0].update(sealed="AAAA"),
        lambda m: first(m)["recipients"][0].update(id="x"),
    ],
)
def test_malformed_manifests_are_refused_though_signed(
    change: Callable[[dict[str, Any]], object],
) -> None:
    """What the specification does not allow is refused whoever signed it."""
    assert read(altered(lambda members: None)) == ONCE
    with pytest.raises(Tampered):
        read(altered(change))


def test_the_size_is_bounded() -> None:
    """A file past the limit is neither read nor written, well formed as it may be."""

    def of(count: int) -> Manifest:
        share = ONCE.newest.recipients[0]
        shares = tuple(dataclasses.replace(share, id=f"{number:032x}") for number in range(count))
        version = dataclasses.replace(ONCE.newest, recipients=shares)
        return dataclasses.replace(ONCE, versions=(version,))

    assert read(signed(of(5000).line())) == of(5000)
    assert len(of(6000).line()) > LIMIT
    with pytest.raises(Tampered):
        read(signed(of(6000).line()))
    with pytest.raises(MisuseError, match="1 MiB"):
        sign(of(6000), OPERATOR)


def test_no_two_versions_share_an_id() -> None:
    """A key id names one version: a manifest with two of one id is refused."""

    def with_id(key_id: str) -> Callable[[dict[str, Any]], object]:
        def change(members: dict[str, Any]) -> None:
            older = first(members) | {"state": "decrypt_only", "id": key_id}
            members["versions"] = [first(members) | {"version": 2}, older]

        return change

    assert len(read(altered(with_id("11" * 16))).versions) == 2
    with pytest.raises(Tampered):
        read(altered(with_id(ONCE.newest.id.hex())))


def test_nothing_is_signed_that_would_be_refused() -> None:
    """The signer finds a mistake before the reader does."""
    for manifest, signer in (
        (dataclasses.replace(small(), serial=0), OPERATOR),
        (dataclasses.replace(small(), versions=()), OPERATOR),
        (small(), STRANGER),
    ):
        with pytest.raises(MisuseError):
            sign(manifest, signer)


def test_a_share_opens_for_its_recipient_only() -> None:
    """The recipient gets the root key, anybody else None."""
    manifest = small()
    opened = open_version(manifest, manifest.newest, APP)

    assert opened is not None
    assert opened.reveal() == ROOT.reveal()
    assert open_version(manifest, manifest.newest, BILLING) is None


def test_a_share_opens_in_its_place_only() -> None:
    """A share moved to another key, keystore, version or recipient does not open."""
    manifest = small()
    share = manifest.newest.recipients[0]
    theirs = dataclasses.replace(share, id=BILLING.fingerprint)
    places = [
        (dataclasses.replace(manifest, key="sales"), manifest.newest, APP),
        (dataclasses.replace(manifest, keystore="ff" * 16), manifest.newest, APP),
        (manifest, dataclasses.replace(manifest.newest, number=2), APP),
        (manifest, dataclasses.replace(manifest.newest, recipients=(theirs,)), BILLING),
    ]

    for place, version, identity in places:
        with pytest.raises(Tampered):
            open_version(place, version, identity)


def test_every_recipient_gets_the_same_key() -> None:
    """A share of another root key opens as HPKE, and the check refuses it."""
    other = seal_version(
        keystore=KEYSTORE,
        key="finance",
        number=1,
        key_id=bytes(16),
        root=KeyMaterial(bytes(32)),
        recipients=[APP.public],
    )
    mixed = dataclasses.replace(small().newest, recipients=other.recipients)

    assert open_version(small(), other, APP) is not None
    with pytest.raises(Tampered):
        open_version(small(), mixed, APP)


@pytest.mark.parametrize(
    "name", ["", "A", "-a", ".a", "a/b", "a b", "ç", "a" * 64, "a\n", "..", "a\0"]
)
def test_key_names_are_file_names(name: str) -> None:
    """A name that could leave the directory, or collide in it, is refused."""
    assert check_key_name("pii-fields.v1_x") == "pii-fields.v1_x"
    with pytest.raises(ConfigurationError):
        check_key_name(name)


@pytest.mark.parametrize("keystore", ["", "00" * 15, "FF" * 16, "g" * 32])
def test_keystore_ids_have_one_spelling(keystore: str) -> None:
    """A keystore id is 32 lower-case hex digits."""
    with pytest.raises(ConfigurationError):
        check_keystore_id(keystore)


# The fixed vector: a file that this version wrote must open for ever. It is opened by the
# library, and by the lines below, which follow RFC 9180 and the specification without the library's HPKE.

VECTOR = json.loads((Path(__file__).parents[3] / "vectors" / "local-keystore-1.json").read_text())


def extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, "sha256")


def expand_labelled(suite: bytes, key: bytes, label: bytes, info: bytes, size: int) -> bytes:
    return hmac.digest(
        key, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info + b"\x01", "sha256"
    )[:size]


def hpke_open(private: bytes, sealed: bytes, info: bytes) -> bytes:
    """RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, sequence 0."""
    key = X25519PrivateKey.from_private_bytes(private)
    enc, box = sealed[:32], sealed[32:]
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x02"
    secret = extract(kem, b"", b"eae_prk", key.exchange(X25519PublicKey.from_public_bytes(enc)))
    shared = expand_labelled(
        kem, secret, b"shared_secret", enc + key.public_key().public_bytes_raw(), 32
    )
    schedule = (
        b"\0" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    )
    secret = extract(suite, shared, b"secret", b"")
    nonce = expand_labelled(suite, secret, b"base_nonce", schedule, 12)
    return AESGCM(expand_labelled(suite, secret, b"key", schedule, 32)).decrypt(nonce, box, b"")


def test_the_vector_is_read() -> None:
    """The fixed file verifies, and both recipients open both versions to the recorded root keys."""
    operator, app = (
        Identity(VECTOR[who]["name"], bytes.fromhex(VECTOR[who]["private"]))
        for who in ("operator", "app")
    )
    manifest = verify(
        VECTOR["file"].encode(),
        key=VECTOR["key"],
        keystore=VECTOR["keystore"],
        signers=[operator.public],
    )

    assert (operator.public.to_text(), app.public.to_text()) == (
        VECTOR["operator"]["public"],
        VECTOR["app"]["public"],
    )
    assert sign(manifest, operator).decode() == VECTOR["file"]
    for version, root in zip(manifest.versions, VECTOR["roots"], strict=True):
        for identity in (operator, app):
            opened = open_version(manifest, version, identity)
            assert opened is not None
            assert opened.reveal().hex() == root


def test_the_vector_is_read_without_the_library() -> None:
    """RFC 9180 written out, and the derivation of `check`, give the same root keys."""
    line = json.loads(VECTOR["file"].split("\n")[0])
    private = bytes.fromhex(VECTOR["app"]["private"])[:32]
    who = VECTOR["app"]["public"].split(" ")[2]

    for version, root in zip(line["versions"], VECTOR["roots"], strict=True):
        place = {"key": "finance", "keystore": line["keystore"], "version": str(version["version"])}
        info = b"lacre/1/keyshare" + canonical(
            place | {"recipient": who, "suite": "x25519-hkdf-sha256-aes256gcm"}
        )
        share = next(share for share in version["recipients"] if share["id"] == who)
        sealed = base64.urlsafe_b64decode(share["sealed"] + "==")
        assert hpke_open(private, sealed, info).hex() == root
        assert expand(bytes.fromhex(root), CHECK, canonical(place), 16).hex() == version["check"]
