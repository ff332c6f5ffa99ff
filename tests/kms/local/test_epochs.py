# SPDX-License-Identifier: Apache-2.0
"""Epoch KMS keys of the local keystore: a file for each epoch, in no dump, written over and removed."""

from pathlib import Path

import pytest

from lacre.errors import KeyNotFound
from lacre.kms.local import KeystoreAdministration, LocalKeyService
from lacre.kms.local.epochs import LocalEpochKeys
from tests.kms.local.keystore import APP, CONTEXT, KEYSTORE, OPERATOR, Memory


@pytest.fixture
def keys(tmp_path: Path) -> LocalEpochKeys:
    """Epoch keys in an empty keystore."""
    administration = KeystoreAdministration(tmp_path, keystore_id=KEYSTORE, signer=OPERATOR)
    return LocalEpochKeys(
        "seal",
        administration=administration,
        directory=tmp_path,
        recipients=[OPERATOR.public, APP.public],
    )


def service(directory: Path) -> LocalKeyService:
    """Return the key service as the application uses it."""
    return LocalKeyService(
        directory,
        identity=APP,
        signers=[OPERATOR.public],
        memory=Memory(),
        keystore_id=KEYSTORE,
    )


def test_an_epoch_is_a_file_that_is_gone_with_it(keys: LocalEpochKeys, tmp_path: Path) -> None:
    """What an epoch wrapped opens until its file is removed, and not after, in a process that had it open too."""
    running = service(tmp_path)
    kms_key = keys.open(1, above=None)
    assert keys.open(1, above=None) == kms_key
    other = keys.open(2, above=None)
    wrapped, kept = running.mint(kms_key, CONTEXT), running.mint(other, CONTEXT)
    running.unwrap(kms_key, wrapped, CONTEXT)

    keys.destroy(kms_key, None, kept=None)
    keys.destroy(kms_key, None, kept=None)

    assert keys.is_destroyed(kms_key, None)
    assert not keys.is_destroyed(other, None)
    running.unwrap(other, kept, CONTEXT)
    for reader in (running, service(tmp_path)):
        with pytest.raises(KeyNotFound):
            reader.unwrap(kms_key, wrapped, CONTEXT)


def test_epochs_are_not_among_the_manifests_of_a_dump(keys: LocalEpochKeys, tmp_path: Path) -> None:
    """No file of an epoch is in the directory that a dump takes manifests from."""
    keys.open(1, above=None)

    assert list(tmp_path.glob("*.json")) == []
    assert [path.name for path in tmp_path.rglob("*.json")] == ["seal.epoch-1.json"]


def test_a_removed_epoch_was_written_over_first(keys: LocalEpochKeys, tmp_path: Path) -> None:
    """Whoever still has the file open reads random bytes, not the sealed key."""
    kms_key = keys.open(1, above=None)
    path = next(tmp_path.rglob("*.json"))
    before = path.read_bytes()
    with path.open("rb") as held:
        keys.destroy(kms_key, None, kept=None)

        after = held.read()
    assert len(after) == len(before)
    assert after[:32] != before[:32]
