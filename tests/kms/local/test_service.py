# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import os
import pickle
import shutil
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from lacre._core.canonical import canonical
from lacre._core.derive import FIELD, WRAP
from lacre._core.field import decrypt, encrypt
from lacre.errors import (
    ConfigurationError,
    KeyDestroyed,
    KeyDisabled,
    KeyNotFound,
    KeyServiceDenied,
    LacreError,
    MisuseError,
    Tampered,
)
from lacre.keys.ports import KeyService
from lacre.kms.local import Identity, KeystoreAdministration, LocalKeyService, SeenSerial
from lacre.kms.local.manifest import open_version
from tests.kms.local.keystore import (
    APP,
    BILLING,
    CONTEXT,
    EVERYBODY,
    KEY,
    OPERATOR,
    STRANGER,
    Keystore,
    Memory,
)


def test_what_is_minted_is_unwrapped(keystore: Keystore) -> None:
    """A minted key comes back for both recipients, is new each time, and is in field format 1."""
    service: KeyService = keystore.service()
    first, second = service.mint(KEY, CONTEXT), service.mint(KEY, CONTEXT)
    key = service.unwrap(KEY, first, CONTEXT)

    assert keystore.service(OPERATOR).unwrap(KEY, first, CONTEXT).reveal() == key.reveal()
    assert service.unwrap(KEY, second, CONTEXT).reveal() != key.reveal()
    assert (type(first), len(first)) == (bytes, 123)
    assert first[:3] == b"\xc1\x01\x00"
    assert first[3:19] == keystore.operator.manifest("finance").newest.id


def test_the_vector_unwraps(tmp_path: Path) -> None:
    """The fixed keystore file unwraps the fixed wrapped key."""
    vector = json.loads(
        (Path(__file__).parents[3] / "vectors" / "local-keystore-1.json").read_text()
    )
    (tmp_path / "finance.json").write_text(vector["file"])
    operator, app = (
        Identity(vector[who]["name"], bytes.fromhex(vector[who]["private"]))
        for who in ("operator", "app")
    )
    memory = Memory()
    service = LocalKeyService(
        tmp_path,
        identity=app,
        signers=[operator.public],
        memory=memory,
        keystore_id=vector["keystore"],
    )

    key = service.unwrap("local://finance", bytes.fromhex(vector["wrapped"]), vector["context"])
    assert key.reveal().hex() == vector["unwrapped"]
    assert memory.rows["local://finance"].mac.hex() == vector["seen"]["mac"]


def test_another_context_does_not_open(keystore: Keystore) -> None:
    """Every pair of the wrap context is bound, and so is that there are no others."""
    service = keystore.service()
    wrapped = service.mint(KEY, CONTEXT)
    others = [CONTEXT | {name: "x"} for name in CONTEXT] + [CONTEXT | {"more": "x"}]
    others += [{key: value for key, value in CONTEXT.items() if key != name} for name in CONTEXT]

    for other in others:
        with pytest.raises(Tampered):
            service.unwrap(KEY, wrapped, other)


def test_another_key_does_not_open(keystore: Keystore) -> None:
    """A key wrapped under one KMS key is not one of another, even under that one's key id."""
    keystore.operator.create_key("sales", (OPERATOR.public, APP.public))
    service = keystore.service()
    wrapped = service.mint(KEY, CONTEXT)
    theirs = keystore.operator.manifest("sales").newest.id

    for moved in (wrapped, wrapped[:3] + theirs + wrapped[19:]):
        with pytest.raises(Tampered):
            service.unwrap("local://sales", moved, CONTEXT)


def test_every_flipped_bit_truncation_and_extension_is_refused(keystore: Keystore) -> None:
    """A wrapped key has one form."""
    service = keystore.service()
    wrapped = service.mint(KEY, CONTEXT)
    damaged = [
        wrapped[:at] + bytes((wrapped[at] ^ 1 << bit,)) + wrapped[at + 1 :]
        for at in range(len(wrapped))
        for bit in range(8)
    ]
    damaged += [wrapped[:size] for size in range(len(wrapped))] + [wrapped + b"\0"]

    for value in damaged:
        with pytest.raises(Tampered):
            service.unwrap(KEY, value, CONTEXT)


def test_only_an_unpadded_key_of_32_bytes_is_one(keystore: Keystore) -> None:
    """What holds the root key can make other values under it; they are not wrapped keys."""
    manifest = keystore.operator.manifest("finance")
    root = open_version(manifest, manifest.newest, APP)
    assert root is not None

    def made(plaintext: bytes, *, padded: bool = False, label: bytes = WRAP) -> bytes:
        return bytes(
            encrypt(
                root.reveal(),
                manifest.newest.id,
                canonical(CONTEXT),
                plaintext,
                salt=bytes(24),
                padded=padded,
                label=label,
            )
        )

    service = keystore.service()
    assert service.unwrap(KEY, made(bytes(32)), CONTEXT).reveal() == bytes(32)
    for value in (
        made(bytes(31)),
        made(bytes(33)),
        made(b""),
        made(bytes(31), padded=True),
        made(bytes(32), label=FIELD),
    ):
        with pytest.raises(Tampered):
            service.unwrap(KEY, value, CONTEXT)
    with pytest.raises(Tampered):
        decrypt(root.reveal(), service.mint(KEY, CONTEXT), canonical(CONTEXT), label=FIELD)


def test_a_strangers_keystore_is_refused(keystore: Keystore, tmp_path: Path) -> None:
    """A file sealed to the right recipient, with the right names, by a stranger: key substitution."""
    forged = Keystore(tmp_path / "forged", operator=STRANGER)
    shutil.copy(forged.path, keystore.path)

    with pytest.raises(Tampered):
        keystore.service().mint(KEY, CONTEXT)
    assert forged.service(signers=[STRANGER.public]).mint(KEY, CONTEXT)


def test_a_renamed_file_is_refused(keystore: Keystore) -> None:
    """The file of one key does not serve another, nor does one of another keystore."""
    shutil.copy(keystore.path, keystore.directory / "sales.json")

    with pytest.raises(Tampered):
        keystore.service().mint("local://sales", CONTEXT)
    with pytest.raises(Tampered):
        keystore.service(keystore_id="ff" * 16).mint(KEY, CONTEXT)


def test_a_spliced_file_is_refused(keystore: Keystore) -> None:
    """Neither a line nor a version of one signed file can be put into another."""
    first = keystore.path.read_bytes().split(b"\n")
    keystore.operator.rotate_key("finance", EVERYBODY)
    second = keystore.path.read_bytes().split(b"\n")
    older = json.loads(second[0])
    older["versions"] = older["versions"][1:]
    splices = [
        [first[0], second[1], b""],
        [second[0], first[1], b""],
        [json.dumps(older, sort_keys=True, separators=(",", ":")).encode(), second[1], b""],
    ]

    for lines in splices:
        keystore.path.write_bytes(b"\n".join(lines))
        with pytest.raises(Tampered):
            keystore.service().mint(KEY, CONTEXT)


def test_a_rolled_back_file_is_refused(keystore: Keystore) -> None:
    """An older file is refused by the process that saw a newer one, and by the next process."""
    old = keystore.path.read_bytes()
    keystore.operator.rotate_key("finance", EVERYBODY)
    memory = Memory()
    service = keystore.service(memory=memory)
    service.mint(KEY, CONTEXT)
    keystore.path.write_bytes(old)

    for reader in (service, keystore.service(memory=memory)):
        with pytest.raises(Tampered):
            reader.mint(KEY, CONTEXT)
    memory.rows.clear()
    with pytest.raises(Tampered):
        service.mint(KEY, CONTEXT)
    assert keystore.service(memory=memory).mint(KEY, CONTEXT), "without any memory nobody can tell"


@pytest.mark.parametrize(
    "change",
    [
        lambda operator: operator.add_recipient("finance", BILLING.public),
        lambda operator: operator.disable_version("finance", 1),
    ],
    ids=["a recipient was added", "the version was disabled"],
)
def test_a_rollback_that_leaves_the_keys_as_they_are_is_refused(
    keystore: Keystore, change: Callable[[KeystoreAdministration], object]
) -> None:
    """The next process refuses an older file too where nothing but its serial tells it apart."""
    old = keystore.path.read_bytes()
    change(keystore.operator)
    memory = Memory()
    keystore.service(memory=memory).manifest(KEY)
    remembered = memory.rows.get(KEY)
    keystore.path.write_bytes(old)

    assert remembered is not None
    with pytest.raises(Tampered):
        keystore.service(memory=memory).mint(KEY, CONTEXT)


def test_another_file_of_the_same_serial_is_refused(keystore: Keystore) -> None:
    """Two manifests of one serial, both rightly signed: the one seen first stands."""
    first = keystore.path.read_bytes()
    memory = Memory()
    service = keystore.service(memory=memory)
    service.mint(KEY, CONTEXT)
    keystore.path.unlink()
    keystore.operator.create_key("finance", (OPERATOR.public, APP.public))

    for reader in (service, keystore.service(memory=memory)):
        with pytest.raises(Tampered):
            reader.mint(KEY, CONTEXT)
    keystore.path.write_bytes(first)
    assert service.mint(KEY, CONTEXT)


def test_a_fork_of_the_history_is_refused(keystore: Keystore) -> None:
    """The next serial, made from another manifest than the one seen, is not its successor."""
    first = keystore.path.read_bytes()
    memory = Memory()
    keystore.operator.rotate_key("finance", EVERYBODY)
    keystore.service(memory=memory).mint(KEY, CONTEXT)
    keystore.path.write_bytes(first)
    keystore.operator.add_recipient("finance", BILLING.public)
    keystore.operator.rotate_key("finance", EVERYBODY)

    assert keystore.operator.manifest("finance").serial == memory.rows[KEY].serial + 1
    with pytest.raises(Tampered):
        keystore.service(memory=memory).mint(KEY, CONTEXT)


def test_a_forged_memory_is_refused(keystore: Keystore) -> None:
    """Whoever rolls the file back and writes the old serial into the memory has no MAC for it."""
    old, digest = keystore.path.read_bytes(), keystore.operator.manifest("finance").digest
    keystore.operator.rotate_key("finance", EVERYBODY)
    memory = Memory()
    keystore.service(memory=memory).mint(KEY, CONTEXT)
    first_id = keystore.operator.manifest("finance").versions[1].id.hex()
    keystore.path.write_bytes(old)

    for version_id in (memory.rows[KEY].version_id, first_id, "00" * 16):
        memory.rows[KEY] = dataclasses.replace(
            memory.rows[KEY], serial=1, hash=digest, version_id=version_id
        )
        with pytest.raises(Tampered):
            keystore.service(memory=memory).mint(KEY, CONTEXT)


def test_a_memory_under_a_destroyed_version_still_counts(keystore: Keystore) -> None:
    """Its serial is honoured, the key goes on, and the memory moves to a living version."""
    memory = Memory()
    keystore.service(memory=memory).mint(KEY, CONTEXT)
    keystore.operator.rotate_key("finance", EVERYBODY)
    rotated = keystore.path.read_bytes()
    keystore.operator.destroy_version("finance", 1)
    before = memory.rows[KEY]

    assert keystore.service(memory=memory).mint(KEY, CONTEXT)
    assert (before.serial, memory.rows[KEY].serial) == (1, 3)
    assert memory.rows[KEY].version_id == keystore.operator.manifest("finance").newest.id.hex()
    memory.rows[KEY] = dataclasses.replace(memory.rows[KEY], version_id=before.version_id)
    with pytest.raises(Tampered):
        keystore.service(memory=memory).mint(KEY, CONTEXT)
    keystore.path.write_bytes(rotated)
    with pytest.raises(Tampered):
        keystore.service(memory=memory).mint(KEY, CONTEXT)


def test_the_memory_is_written_once_per_manifest(keystore: Keystore) -> None:
    """Reading costs a write only when there is something new to remember."""
    memory = Memory()
    service = keystore.service(memory=memory)
    for _ in range(3):
        service.mint(KEY, CONTEXT)
        keystore.service(memory=memory).mint(KEY, CONTEXT)
        os.utime(keystore.path)

    assert memory.written == 1
    keystore.operator.rotate_key("finance", EVERYBODY)
    service.mint(KEY, CONTEXT)
    assert memory.written == 2


def test_an_identity_that_is_no_recipient_is_denied(keystore: Keystore) -> None:
    """Another identity is refused by name, one of the same name too, and remembers nothing."""
    memory = Memory()

    for identity in (BILLING, STRANGER):
        with pytest.raises(KeyServiceDenied, match=identity.fingerprint):
            keystore.service(identity, memory=memory).mint(KEY, CONTEXT)
    assert memory.rows == {}


def test_another_identitys_share_does_not_help(keystore: Keystore) -> None:
    """A rightly signed file in which somebody holds another one's share does not open."""
    manifest = keystore.operator.manifest("finance")
    version = manifest.newest
    stolen = next(share for share in version.recipients if share.id == APP.fingerprint)
    shares = sorted(
        (*version.recipients, dataclasses.replace(stolen, id=BILLING.fingerprint)),
        key=lambda share: share.id,
    )
    keystore.operator._publish(
        "finance",
        serial=2,
        previous=manifest.digest,
        versions=(dataclasses.replace(version, recipients=tuple(shares)),),
    )

    assert keystore.service().mint(KEY, CONTEXT)
    with pytest.raises(Tampered):
        keystore.service(BILLING).mint(KEY, CONTEXT)


def test_a_revoked_recipient_is_denied_at_once(keystore: Keystore) -> None:
    """After its removal a running process can neither mint nor unwrap, old or new."""
    keystore.operator.add_recipient("finance", BILLING.public)
    billing, app = keystore.service(BILLING), keystore.service()
    old = billing.mint(KEY, CONTEXT)
    keystore.operator.remove_recipient("finance", BILLING.fingerprint, EVERYBODY)
    new = app.mint(KEY, CONTEXT)

    for attempt in (
        lambda: billing.mint(KEY, CONTEXT),
        lambda: billing.unwrap(KEY, new, CONTEXT),
        lambda: billing.unwrap(KEY, old, CONTEXT),
    ):
        with pytest.raises(KeyServiceDenied):
            attempt()
    assert app.unwrap(KEY, old, CONTEXT)
    assert new[3:19] != old[3:19]
    assert billing._opened == {}, "what it had opened is let go"


def test_a_rotated_key_still_unwraps_old_ones(keystore: Keystore) -> None:
    """After rotation new keys are minted under the new version, old ones open as before."""
    service = keystore.service()
    old = service.mint(KEY, CONTEXT)
    key = service.unwrap(KEY, old, CONTEXT).reveal()
    manifest = keystore.operator.rotate_key("finance", EVERYBODY)

    assert service.unwrap(KEY, old, CONTEXT).reveal() == key
    assert service.mint(KEY, CONTEXT)[3:19] == manifest.newest.id != old[3:19]


def test_states_are_obeyed_at_the_next_call(keystore: Keystore) -> None:
    """Disabled and destroyed say what they are; a key id that never was is Tampered."""
    service = keystore.service()
    first = service.mint(KEY, CONTEXT)
    keystore.operator.rotate_key("finance", EVERYBODY)
    keystore.operator.disable_version("finance", 1)
    with pytest.raises(KeyDisabled, match="version 1"):
        service.unwrap(KEY, first, CONTEXT)

    keystore.operator.enable_version("finance", 1)
    assert service.unwrap(KEY, first, CONTEXT)
    keystore.operator.destroy_version("finance", 1)
    with pytest.raises(KeyDestroyed, match="version 1"):
        service.unwrap(KEY, first, CONTEXT)
    with pytest.raises(Tampered):
        service.unwrap(KEY, first[:3] + bytes(16) + first[19:], CONTEXT)


def test_without_an_active_version_nothing_is_minted(keystore: Keystore) -> None:
    """An older version never steps in for a newest one that is disabled or destroyed."""
    service = keystore.service()
    old = service.mint(KEY, CONTEXT)
    keystore.operator.rotate_key("finance", EVERYBODY)
    keystore.operator.disable_version("finance", 2)
    with pytest.raises(KeyDisabled):
        service.mint(KEY, CONTEXT)

    assert service.unwrap(KEY, old, CONTEXT)
    keystore.operator.destroy_version("finance", 2)
    with pytest.raises(KeyDestroyed):
        service.mint(KEY, CONTEXT)
    keystore.operator.destroy_version("finance", 1)
    for reader in (service, keystore.service(), keystore.service(BILLING)):
        with pytest.raises(KeyDestroyed):
            reader.unwrap(KEY, old, CONTEXT)


def test_a_missing_key_is_not_found(keystore: Keystore) -> None:
    """A key that was never there, and one whose file is taken away from under a process."""
    service = keystore.service()
    wrapped = service.mint(KEY, CONTEXT)
    with pytest.raises(KeyNotFound, match="sales"):
        service.mint("local://sales", CONTEXT)

    keystore.path.unlink()
    with pytest.raises(KeyNotFound, match="finance"):
        service.unwrap(KEY, wrapped, CONTEXT)


@pytest.mark.parametrize(
    "kms_key",
    [
        "finance",
        "aws-kms://finance",
        "local://",
        "local://../finance",
        "local://a/b",
        "LOCAL://finance",
    ],
)
def test_only_local_uris_are_served(keystore: Keystore, kms_key: str) -> None:
    """A URI of another service, or one that leaves the directory, is a configuration error."""
    with pytest.raises(ConfigurationError):
        keystore.service().mint(kms_key, CONTEXT)


def test_a_service_without_signers_is_refused(keystore: Keystore) -> None:
    """No trusted signer means nothing to trust, which is a mistake and not a choice."""
    with pytest.raises(ConfigurationError):
        keystore.service(signers=[])
    with pytest.raises(ConfigurationError):
        keystore.service(keystore_id="mine")


def test_an_unchanged_file_is_read_once(keystore: Keystore) -> None:
    """The memory, and so the file, is consulted again only when the file changes."""

    class Counting(Memory):
        asked = 0

        def recall(self, kms_key: str) -> SeenSerial | None:
            self.asked += 1
            return super().recall(kms_key)

    memory = Counting()
    service = keystore.service(memory=memory)
    for _ in range(5):
        service.unwrap(KEY, service.mint(KEY, CONTEXT), CONTEXT)
    assert memory.asked == 1

    keystore.operator.add_recipient("finance", BILLING.public)
    service.mint(KEY, CONTEXT)
    assert memory.asked == 2


def test_a_change_during_a_reading_is_no_rollback(keystore: Keystore) -> None:
    """A key that is rotated, and seen by another process, while this one reads is just newer."""
    shared = Memory()

    class Meanwhile(Memory):
        def recall(self, kms_key: str) -> SeenSerial | None:
            manifest = keystore.operator.rotate_key("finance", EVERYBODY)
            keystore.service(OPERATOR, memory=shared).mint(KEY, CONTEXT)
            assert shared.rows[KEY].serial == manifest.serial
            return shared.recall(kms_key)

    assert keystore.service(memory=Meanwhile()).mint(KEY, CONTEXT)


def test_a_damaged_file_ends_what_was_cached(keystore: Keystore) -> None:
    """After a failed reading nothing that was opened before is used."""
    service = keystore.service()
    wrapped = service.mint(KEY, CONTEXT)
    good = keystore.path.read_bytes()
    keystore.path.write_bytes(good[:-2] + b"\n")

    for _ in range(2):
        with pytest.raises(Tampered):
            service.unwrap(KEY, wrapped, CONTEXT)
    keystore.path.write_bytes(good)
    assert service.unwrap(KEY, wrapped, CONTEXT)


def test_root_keys_do_not_leave(keystore: Keystore) -> None:
    """A warm service shows no root key in repr, and neither it nor its parts pickle."""
    service = keystore.service()
    service.mint(KEY, CONTEXT)
    manifest = keystore.operator.manifest("finance")
    root = open_version(manifest, manifest.newest, APP)
    assert root is not None
    shown = repr(service) + repr(vars(service)) + repr(manifest)

    assert root.reveal().hex() not in shown
    assert repr(root.reveal()) not in shown
    with pytest.raises(MisuseError):
        pickle.dumps(service)


def test_errors_hold_no_key(keystore: Keystore) -> None:
    """No refusal quotes the key that it refuses to give."""
    service = keystore.service()
    wrapped = service.mint(KEY, CONTEXT)
    key = service.unwrap(KEY, wrapped, CONTEXT).reveal()

    keystore.operator.disable_version("finance", 1)
    for context in (CONTEXT, CONTEXT | {"tenant": "other"}):
        with pytest.raises(LacreError) as caught:
            service.unwrap(KEY, wrapped, context)
        said = repr(caught.value) + caught.value.hint
        assert key.hex() not in said
        assert wrapped.hex() not in said


def test_fork_is_harmless(keystore: Keystore) -> None:
    """A child of a warm process unwraps and mints, and mints what its parent does not."""
    service = keystore.service()
    wrapped = service.mint(KEY, CONTEXT)
    key = service.unwrap(KEY, wrapped, CONTEXT).reveal()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the test runner may have threads
        child = os.fork()
    if child == 0:
        try:
            same = service.unwrap(KEY, wrapped, CONTEXT).reveal() == key
            os.write(writer, b"same" + service.mint(KEY, CONTEXT) if same else b"lost")
        finally:
            os._exit(0)
    mine = service.mint(KEY, CONTEXT)
    os.close(writer)
    theirs = os.read(reader, 1000)
    os.close(reader)
    os.waitpid(child, 0)

    assert theirs[:4] == b"same"
    assert theirs[4:][19:43] != mine[19:43]
    assert (
        service.unwrap(KEY, theirs[4:], CONTEXT).reveal()
        != service.unwrap(KEY, mine, CONTEXT).reveal()
    )


def test_threads_see_every_rotation(keystore: Keystore) -> None:
    """While the operator rotates, no reader fails and all end on the newest version."""
    service = keystore.service()
    wrapped = service.mint(KEY, CONTEXT)
    failed: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                service.unwrap(KEY, wrapped, CONTEXT)
                service.unwrap(KEY, service.mint(KEY, CONTEXT), CONTEXT)
        except BaseException as error:
            failed.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for _ in range(10):
        manifest = keystore.operator.rotate_key("finance", EVERYBODY)
    done.set()
    for reader in readers:
        reader.join()

    assert failed == []
    assert service.mint(KEY, CONTEXT)[3:19] == manifest.newest.id
