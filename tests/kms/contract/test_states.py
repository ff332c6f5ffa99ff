# SPDX-License-Identifier: Apache-2.0
"""What the state of a KMS key does to those who use it, and what its administrator sees of it."""

from collections.abc import Callable

import pytest

from lacre.errors import KeyDestroyed, KeyDisabled, KeyNotFound, Tampered
from lacre.sensitive import KeyMaterial
from tests.kms.contract.rig import Credential, Rig, context


def test_a_key_that_is_not_there(rig: Rig) -> None:
    """Every use of a KMS key that does not exist is `KeyNotFound`, which names it, and makes no such key."""
    kms_key, there = rig.missing(), rig.kms_key()
    pairs = context(kms_key)
    blob = rig.open(Credential.MINTS).mint(there, pairs)

    for _ in range(2):
        with pytest.raises(KeyNotFound, match=kms_key.rpartition("/")[2]):
            rig.open(Credential.RUNS).unwrap(kms_key, blob, pairs)
    with pytest.raises(KeyNotFound):
        rig.open(Credential.MINTS).mint(kms_key, pairs)


def test_moving_and_administering_a_key_that_is_not_there(rig: Rig) -> None:
    """`wrap`, `rewrap` and `status` of a KMS key that does not exist are `KeyNotFound` too."""
    kms_key, there = rig.missing(), rig.kms_key()
    pairs = context(there)
    blob = rig.open(Credential.MINTS).mint(there, pairs)
    moving, administering = rig.open(Credential.MOVES), rig.open(Credential.ADMINISTERS)
    uses: list[Callable[[], object]] = [
        lambda: moving.wrap(kms_key, KeyMaterial(bytes(32)), pairs),
        lambda: moving.rewrap(there, blob, pairs, to=kms_key, to_context=pairs),
        lambda: administering.status(kms_key),
    ]

    for use in uses:
        with pytest.raises(KeyNotFound):
            use()
    with pytest.raises((KeyNotFound, Tampered)):  # the blob may say whose it is
        moving.rewrap(kms_key, blob, pairs, to=there, to_context=pairs)
    if rig.family != "local":  # whose keys its `KeystoreAdministration` rotates
        with pytest.raises(KeyNotFound):
            administering.rotate(kms_key)


def test_a_disabled_key_does_nothing(rig: Rig) -> None:
    """A disabled KMS key neither mints nor unwraps, `KeyDisabled`; enabled again, what was wrapped opens."""
    kms_key = rig.kms_key()
    pairs = context(kms_key)
    minting, running = rig.open(Credential.MINTS), rig.open(Credential.RUNS)
    blob = minting.mint(kms_key, pairs)
    key = running.unwrap(kms_key, blob, pairs).reveal()
    rig.disable(kms_key)

    for use in (
        lambda: minting.mint(kms_key, pairs),
        lambda: running.unwrap(kms_key, blob, pairs),
        lambda: rig.open(Credential.MOVES).wrap(kms_key, KeyMaterial(bytes(32)), pairs),
    ):
        with pytest.raises(KeyDisabled):
            use()
    status = rig.open(Credential.ADMINISTERS).status(kms_key)
    assert not status.usable
    rig.enable(kms_key)
    assert running.unwrap(kms_key, blob, pairs).reveal() == key
    assert rig.open(Credential.ADMINISTERS).status(kms_key).usable
    assert minting.mint(kms_key, pairs)


def test_a_destroyed_key_opens_nothing(rig: Rig) -> None:
    """What was wrapped under a KMS key that was destroyed opens no more: `KeyDestroyed` or `KeyNotFound`."""
    kms_key = rig.kms_key()
    pairs = context(kms_key)
    minting, running = rig.open(Credential.MINTS), rig.open(Credential.RUNS)
    blob = minting.mint(kms_key, pairs)
    running.unwrap(kms_key, blob, pairs)
    rig.destroy(kms_key)

    for service in (running, rig.open(Credential.RUNS)):
        with pytest.raises((KeyDestroyed, KeyNotFound)) as caught:
            service.unwrap(kms_key, blob, pairs)
        assert not caught.value.retryable
    with pytest.raises((KeyDestroyed, KeyNotFound)):
        minting.mint(kms_key, pairs)


def test_a_retired_version_opens_nothing(rig: Rig) -> None:
    """What was wrapped under a version that was retired opens no more; what was rewrapped before does."""
    kms_key = rig.kms_key()
    pairs = context(kms_key)
    running = rig.open(Credential.RUNS)
    old = rig.open(Credential.MINTS).mint(kms_key, pairs)
    key = running.unwrap(kms_key, old, pairs).reveal()
    rig.rotate(kms_key)
    moved = rig.open(Credential.MOVES).rewrap(kms_key, old, pairs, to=kms_key, to_context=pairs)
    rig.retire(kms_key)

    with pytest.raises((KeyDestroyed, KeyDisabled)):
        running.unwrap(kms_key, old, pairs)
    assert running.unwrap(kms_key, moved, pairs).reveal() == key


def test_rotation_keeps_what_was_wrapped(rig: Rig) -> None:
    """After a rotation older wrapped keys open, new ones too, and a number that is told is one higher."""
    kms_key = rig.kms_key()
    pairs = context(kms_key)
    minting, running = rig.open(Credential.MINTS), rig.open(Credential.RUNS)
    administering = rig.open(Credential.ADMINISTERS)
    old, before = minting.mint(kms_key, pairs), administering.status(kms_key).version
    key = running.unwrap(kms_key, old, pairs).reveal()
    told = rig.rotate(kms_key)
    new = minting.mint(kms_key, pairs)

    assert told == (None if before is None else before + 1)
    assert administering.status(kms_key).version == told
    assert running.unwrap(kms_key, old, pairs).reveal() == key
    assert running.unwrap(kms_key, new, pairs).reveal() != key


def test_the_status_tells_the_state(rig: Rig) -> None:
    """`status` names the KMS key, says that it is usable, that no deletion is due, and how long the answer took."""
    kms_key = rig.kms_key()
    status = rig.open(Credential.ADMINISTERS).status(kms_key)

    assert status.kms_key == kms_key
    assert status.usable
    assert status.deletion is None
    assert status.latency >= 0


def test_the_status_tells_a_destroyed_key(rig: Rig) -> None:
    """A destroyed KMS key is not usable, or is not there."""
    kms_key = rig.kms_key()
    rig.destroy(kms_key)

    try:
        usable = rig.open(Credential.ADMINISTERS).status(kms_key).usable
    except (KeyDestroyed, KeyNotFound):
        usable = False

    assert not usable


def test_a_disabled_key_says_nothing_of_what_it_was_given(rig: Rig) -> None:
    """Garbage is `Tampered` or `KeyDisabled` while the KMS key is disabled, never a key."""
    kms_key = rig.kms_key()
    blob = rig.open(Credential.MINTS).mint(kms_key, context(kms_key))
    rig.disable(kms_key)

    with pytest.raises((Tampered, KeyDisabled)):
        rig.open(Credential.RUNS).unwrap(kms_key, blob[:-1] + b"\0", context(kms_key))
