# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
from pathlib import Path

import pytest

from lacre._core.canonical import canonical
from lacre._core.derive import STATE, expand
from lacre.errors import Tampered
from lacre.kms.local import Identity, SeenSerial
from lacre.kms.local.manifest import Manifest, open_version, verify
from lacre.kms.local.memory import refuse_forged, refuse_rollback, seen

VECTOR = json.loads((Path(__file__).parents[3] / "vectors" / "local-keystore-1.json").read_text())
APP = Identity("svc:app", bytes.fromhex(VECTOR["app"]["private"]))
OPERATOR = Identity("operator", bytes.fromhex(VECTOR["operator"]["private"]))


@pytest.fixture
def manifest() -> Manifest:
    """Serial 2: version 2 active, version 1 decrypt_only."""
    return verify(
        VECTOR["file"].encode(),
        key=VECTOR["key"],
        keystore=VECTOR["keystore"],
        signers=[OPERATOR.public],
    )


def test_the_mac_is_the_specified_one(manifest: Manifest) -> None:
    """The MAC is Expand of the version's root key over the five pairs, as the fixed row has it."""
    root = open_version(manifest, manifest.newest, APP)
    assert root is not None
    pairs = {
        "hash": manifest.digest,
        "id": manifest.newest.id.hex(),
        "key": "finance",
        "keystore": VECTOR["keystore"],
        "serial": "2",
    }

    row = seen("local://finance", manifest, manifest.newest, root)
    assert row.mac == expand(bytes.fromhex(VECTOR["roots"][0]), STATE, canonical(pairs), 32)
    assert dataclasses.asdict(row) | {"mac": row.mac.hex()} == VECTOR["seen"]


def test_a_row_that_was_edited_is_forged(manifest: Manifest) -> None:
    """Serial, hash, version and MAC of a row cannot be changed without the root key."""
    newest, older = manifest.versions
    root, old_root = open_version(manifest, newest, APP), open_version(manifest, older, APP)
    assert root is not None
    assert old_root is not None
    row = SeenSerial(**VECTOR["seen"] | {"mac": bytes.fromhex(VECTOR["seen"]["mac"])})

    refuse_forged(row, manifest, newest, root)
    for edited in (
        dataclasses.replace(row, serial=1),
        dataclasses.replace(row, hash=manifest.previous),
        dataclasses.replace(row, mac=bytes(32)),
        dataclasses.replace(row, mac=row.mac[:31]),
        dataclasses.replace(row, mac=b""),
    ):
        with pytest.raises(Tampered):
            refuse_forged(edited, manifest, newest, root)
    with pytest.raises(Tampered):
        refuse_forged(row, manifest, older, old_root)


def test_only_what_may_follow_is_accepted(manifest: Manifest) -> None:
    """Older, other and not-from-it are refused; the same, the next and a later one are not."""
    refuse_rollback(manifest, serial=2, digest=manifest.digest)
    refuse_rollback(manifest, serial=1, digest=manifest.previous)
    refuse_rollback(dataclasses.replace(manifest, serial=3), serial=1, digest="ab" * 32)
    for serial, digest in (
        (3, manifest.digest),
        (2, "ab" * 32),
        (1, "ab" * 32),
        (1, manifest.digest),
    ):
        with pytest.raises(Tampered):
            refuse_rollback(manifest, serial=serial, digest=digest)
