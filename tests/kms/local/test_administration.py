# SPDX-License-Identifier: Apache-2.0
import datetime as dt
import fcntl
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lacre.errors import ConfigurationError, KeyNotFound, KeyServiceDenied, MisuseError, Tampered
from lacre.keys.hierarchy import KeyState
from lacre.kms.local import Identity, KeystoreAdministration, Manifest, new_keystore_id
from lacre.kms.local.manifest import NO_PREVIOUS, open_version
from tests.kms.local.keystore import (
    APP,
    BILLING,
    CONTEXT,
    EVERYBODY,
    KEY,
    KEYSTORE,
    OPERATOR,
    STRANGER,
    Keystore,
    Memory,
    counting,
    noon,
)


def shape(manifest: Manifest) -> list[tuple[int, str, set[str]]]:
    return [
        (version.number, str(version.state), {share.id for share in version.recipients})
        for version in manifest.versions
    ]


BOTH = {OPERATOR.fingerprint, APP.fingerprint}


def test_a_new_key_has_one_active_version(keystore: Keystore) -> None:
    """Creation writes serial 1, signed now by the operator, for exactly those named."""
    manifest = keystore.operator.manifest("finance")

    assert shape(manifest) == [(1, "active", BOTH)]
    assert (manifest.serial, manifest.previous, manifest.signed_at) == (
        1,
        NO_PREVIOUS,
        "2026-11-22T12:00:00Z",
    )
    assert (manifest.key, manifest.keystore, manifest.signer) == (
        "finance",
        KEYSTORE,
        OPERATOR.fingerprint,
    )
    assert keystore.operator.keys() == ("finance",)
    assert keystore.path.stat().st_mode & 0o777 == 0o644


def test_a_key_is_created_once(keystore: Keystore) -> None:
    """A second creation is refused and changes nothing; so is one for nobody."""
    before = keystore.path.read_bytes()

    with pytest.raises(MisuseError, match="already"):
        keystore.operator.create_key("finance", (OPERATOR.public,))
    with pytest.raises(MisuseError, match="nobody"):
        keystore.operator.create_key("sales", ())
    for name in ("../sales", "Sales"):
        with pytest.raises(ConfigurationError):
            keystore.operator.create_key(name, (OPERATOR.public,))
    assert keystore.path.read_bytes() == before
    assert keystore.operator.keys() == ("finance",)
    manifest = keystore.operator.create_key("sales", (OPERATOR.public, OPERATOR.public))
    assert shape(manifest) == [(1, "active", {OPERATOR.fingerprint})]


def test_clock_and_entropy_are_given(tmp_path: Path) -> None:
    """With the same clock and entropy the same keys and times are made; with the default others."""

    def made(directory: str, **given: object) -> Manifest:
        operator = KeystoreAdministration(
            tmp_path / directory, keystore_id=KEYSTORE, signer=OPERATOR, **given
        )
        return operator.create_key("finance", (OPERATOR.public,))

    def sao_paulo() -> dt.datetime:
        return dt.datetime(2026, 1, 1, 23, tzinfo=dt.timezone(dt.timedelta(hours=-3)))

    first, second = (
        made("a", entropy=counting(), clock=noon),
        made("b", entropy=counting(), clock=sao_paulo),
    )
    assert (first.newest.id, first.newest.check) == (second.newest.id, second.newest.check)
    assert second.signed_at == "2026-01-02T02:00:00Z"
    assert made("c").newest.id != made("d").newest.id != first.newest.id
    assert made("e").newest.check != made("f").newest.check
    assert new_keystore_id() != new_keystore_id()
    assert new_keystore_id(lambda size: bytes(range(size))) == "000102030405060708090a0b0c0d0e0f"


def test_each_change_continues_the_one_before(keystore: Keystore) -> None:
    """Every change is one serial higher and names the hash of the line that it replaces."""
    changes: list[Callable[[], Manifest]] = [
        lambda: keystore.operator.rotate_key("finance", EVERYBODY),
        lambda: keystore.operator.add_recipient("finance", BILLING.public),
        lambda: keystore.operator.remove_recipient("finance", BILLING.fingerprint, EVERYBODY),
        lambda: keystore.operator.disable_version("finance", 1),
        lambda: keystore.operator.enable_version("finance", 1),
        lambda: keystore.operator.destroy_version("finance", 1),
    ]
    memory = Memory()
    service = keystore.service(memory=memory)

    for number, change in enumerate(changes, start=2):
        line = keystore.path.read_bytes().split(b"\n")[0]
        manifest = change()
        assert manifest == keystore.operator.manifest("finance")
        assert (manifest.serial, manifest.previous) == (number, hashlib.sha256(line).hexdigest())
        assert service.mint(KEY, CONTEXT)
        assert memory.rows[KEY].serial == number


def test_rotation_keeps_the_recipients(keystore: Keystore) -> None:
    """The recipients of the new version are the old ones, whoever else is known."""
    manifest = keystore.operator.rotate_key("finance", EVERYBODY)

    assert shape(manifest) == [(2, "active", BOTH), (1, "decrypt_only", BOTH)]
    roots = [open_version(manifest, version, APP) for version in manifest.versions]
    assert roots[0] is not None
    assert roots[1] is not None
    assert roots[0].reveal() != roots[1].reveal()


def test_rotation_needs_every_recipients_public_identity(keystore: Keystore) -> None:
    """A recipient that is not known is named, one with its name is not it, and nothing is written."""
    before = keystore.path.read_bytes()

    for known in ((OPERATOR.public,), (OPERATOR.public, STRANGER.public)):
        with pytest.raises(ConfigurationError, match="svc:app"):
            keystore.operator.rotate_key("finance", known)
    assert keystore.path.read_bytes() == before


def test_a_new_recipient_opens_all_that_lives(keystore: Keystore) -> None:
    """Adding shares every version that is not destroyed, and changes nobody else's share."""
    keystore.operator.rotate_key("finance", EVERYBODY)
    keystore.operator.rotate_key("finance", EVERYBODY)
    keystore.operator.destroy_version("finance", 1)
    keystore.operator.disable_version("finance", 2)
    before = keystore.operator.manifest("finance")
    after = keystore.operator.add_recipient("finance", BILLING.public)
    three = BOTH | {BILLING.fingerprint}

    assert shape(after) == [(3, "active", three), (2, "disabled", three), (1, "destroyed", set())]
    for old, new in zip(before.versions, after.versions, strict=True):
        assert set(old.recipients) <= set(new.recipients)
    for version in after.versions[:2]:
        mine, theirs = open_version(after, version, BILLING), open_version(after, version, APP)
        assert mine is not None
        assert theirs is not None
        assert mine.reveal() == theirs.reveal()
    with pytest.raises(MisuseError, match="already"):
        keystore.operator.add_recipient("finance", BILLING.public)


def test_only_who_can_open_can_add(tmp_path: Path) -> None:
    """An operator that is no recipient signs and rotates, but cannot hand on what it cannot open."""
    operator = KeystoreAdministration(tmp_path, keystore_id=KEYSTORE, signer=OPERATOR)
    operator.create_key("finance", (APP.public,))

    with pytest.raises(KeyServiceDenied):
        operator.add_recipient("finance", BILLING.public)
    assert operator.manifest("finance").serial == 1
    assert shape(operator.rotate_key("finance", EVERYBODY))[0] == (2, "active", {APP.fingerprint})


def test_removal_makes_a_new_version(keystore: Keystore) -> None:
    """The removed identity is in no version of the new file, and a new version is active."""
    keystore.operator.add_recipient("finance", BILLING.public)
    manifest = keystore.operator.remove_recipient("finance", BILLING.fingerprint, EVERYBODY)

    assert shape(manifest) == [(2, "active", BOTH), (1, "decrypt_only", BOTH)]
    assert open_version(manifest, manifest.newest, BILLING) is None
    assert BILLING.fingerprint not in keystore.path.read_text()


def test_removals_that_would_lock_everybody_out_are_refused(keystore: Keystore) -> None:
    """Nobody removes itself, a stranger, or the last recipient."""
    other = KeystoreAdministration(
        keystore.directory, keystore_id=KEYSTORE, signer=BILLING, signers=[OPERATOR.public]
    )

    with pytest.raises(MisuseError, match="itself"):
        keystore.operator.remove_recipient("finance", OPERATOR.fingerprint, EVERYBODY)
    with pytest.raises(MisuseError, match="not a recipient"):
        keystore.operator.remove_recipient("finance", STRANGER.fingerprint, EVERYBODY)
    other.remove_recipient("finance", OPERATOR.fingerprint, EVERYBODY)
    with pytest.raises(MisuseError, match="nobody"):
        other.remove_recipient("finance", APP.fingerprint, EVERYBODY)
    assert shape(other.manifest("finance"))[0] == (2, "active", {APP.fingerprint})


def test_disabling_is_undone_to_the_state_that_fits(keystore: Keystore) -> None:
    """Enabled again, the newest version is active and an older one only decrypts."""
    keystore.operator.rotate_key("finance", EVERYBODY)
    keystore.operator.disable_version("finance", 1)
    manifest = keystore.operator.disable_version("finance", 2)

    assert shape(manifest) == [(2, "disabled", BOTH), (1, "disabled", BOTH)]
    keystore.operator.enable_version("finance", 2)
    manifest = keystore.operator.enable_version("finance", 1)
    assert shape(manifest) == [(2, "active", BOTH), (1, "decrypt_only", BOTH)]


def test_a_disabled_version_stays_disabled_through_a_rotation(keystore: Keystore) -> None:
    """Rotating away from a disabled version does not bring it back."""
    keystore.operator.disable_version("finance", 1)

    assert shape(keystore.operator.rotate_key("finance", EVERYBODY)) == [
        (2, "active", BOTH),
        (1, "disabled", BOTH),
    ]


def test_destruction_leaves_a_tombstone(keystore: Keystore) -> None:
    """No share of a destroyed version is left in the file, its id and number are."""
    before = keystore.operator.rotate_key("finance", EVERYBODY).versions[1]
    sealed = [
        share["sealed"]
        for share in json.loads(keystore.path.read_text().split("\n")[0])["versions"][1][
            "recipients"
        ]
    ]
    after = keystore.operator.destroy_version("finance", 1).versions[1]

    assert (after.id, after.number, after.state, after.recipients) == (
        before.id,
        1,
        KeyState.DESTROYED,
        (),
    )
    assert len(sealed) == 2
    assert not any(share in keystore.path.read_text() for share in sealed)


def test_states_change_one_allowed_step_at_a_time(keystore: Keystore) -> None:
    """An active version is not destroyed, destroyed is final, and no version is invented."""
    operator = keystore.operator
    with pytest.raises(MisuseError, match="active"):
        operator.destroy_version("finance", 1)
    with pytest.raises(MisuseError, match="active"):
        operator.enable_version("finance", 1)
    for number in (0, -1, 2):
        with pytest.raises(MisuseError, match="no version"):
            operator.disable_version("finance", number)
    operator.disable_version("finance", 1)
    with pytest.raises(MisuseError, match="disabled"):
        operator.disable_version("finance", 1)

    operator.destroy_version("finance", 1)
    for step in (operator.disable_version, operator.enable_version, operator.destroy_version):
        with pytest.raises(MisuseError, match="destroyed"):
            step("finance", 1)
    for change in (
        lambda: operator.rotate_key("finance", EVERYBODY),
        lambda: operator.add_recipient("finance", BILLING.public),
    ):
        with pytest.raises(MisuseError, match="every version"):
            change()
    assert operator.manifest("finance").serial == 3


def test_an_operator_continues_only_what_it_trusts(keystore: Keystore, tmp_path: Path) -> None:
    """A second operator continues the first one's manifests only if it was told to trust it."""

    def second(*signers: Identity) -> KeystoreAdministration:
        return KeystoreAdministration(
            keystore.directory,
            keystore_id=KEYSTORE,
            signer=BILLING,
            signers=[signer.public for signer in signers],
        )

    with pytest.raises(Tampered):
        second().rotate_key("finance", EVERYBODY)
    manifest = second(OPERATOR).rotate_key("finance", EVERYBODY)
    assert manifest.signer == BILLING.fingerprint
    with pytest.raises(Tampered):
        keystore.operator.rotate_key("finance", EVERYBODY)
    with pytest.raises(Tampered):
        keystore.service().mint(KEY, CONTEXT)
    assert keystore.service(signers=[OPERATOR.public, BILLING.public]).mint(KEY, CONTEXT)


def test_an_operator_with_a_memory_does_not_continue_a_rolled_back_file(keystore: Keystore) -> None:
    """A file put back by somebody, with a recipient that was removed, is not signed anew."""
    keystore.operator.add_recipient("finance", BILLING.public)
    old = keystore.path.read_bytes()
    keystore.operator.remove_recipient("finance", BILLING.fingerprint, EVERYBODY)
    memory = Memory()
    keystore.service(memory=memory).mint(KEY, CONTEXT)
    keystore.path.write_bytes(old)
    careful = KeystoreAdministration(
        keystore.directory, keystore_id=KEYSTORE, signer=OPERATOR, memory=memory
    )

    with pytest.raises(Tampered):
        careful.rotate_key("finance", EVERYBODY)
    assert keystore.path.read_bytes() == old


def test_a_missing_key_is_not_found(keystore: Keystore, tmp_path: Path) -> None:
    """Changing a key that is not there says so and leaves nothing behind."""
    with pytest.raises(KeyNotFound):
        keystore.operator.rotate_key("sales", EVERYBODY)
    with pytest.raises(KeyNotFound):
        KeystoreAdministration(tmp_path / "none", keystore_id=KEYSTORE, signer=OPERATOR).rotate_key(
            "sales", ()
        )

    assert {path.name for path in keystore.directory.iterdir()} == {"finance.json", ".finance.lock"}
    assert not (tmp_path / "none").exists()


def test_two_operators_do_not_change_one_key_at_once(keystore: Keystore) -> None:
    """While another process holds the key's lock a change is refused; another key's is not."""
    with (keystore.directory / ".finance.lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(MisuseError, match="another process"):
            keystore.operator.rotate_key("finance", EVERYBODY)
        assert keystore.operator.create_key("sales", (OPERATOR.public,))
        assert keystore.service().mint(KEY, CONTEXT), "readers need no lock"

    assert keystore.operator.rotate_key("finance", EVERYBODY).serial == 2


def test_an_unusable_directory_says_so(tmp_path: Path) -> None:
    """A file where the directory should be is a configuration error."""
    (tmp_path / "keys").write_text("")

    with pytest.raises(ConfigurationError):
        KeystoreAdministration(tmp_path / "keys", keystore_id=KEYSTORE, signer=OPERATOR).create_key(
            "a", EVERYBODY
        )
