"""A restore is whole or not at all, and never makes a newer store older unasked."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lacre import Lacre
from lacre.context import acting_as
from lacre.errors import KeyDisabled, LacreError, MisuseError
from lacre.keys.hierarchy import KeyKind, KeyState
from lacre.kms.local import Identity, KeystoreAdministration
from lacre.recovery.dump import Dump, read_dump, write_dump
from lacre.recovery.restore import restore, undone_by
from lacre.stores.sql import SQLKeyStore
from tests.components.key_stores import KeyStorePlace


@pytest.fixture
def identity(home: Path) -> Identity:
    """The operator of `home`."""
    return Identity.load(home / "lacre" / "identities" / "operator.key")


def dumped(home: Path, store: SQLKeyStore, identity: Identity) -> Dump:
    """A dump of *store*, and of the keystore in *home*."""
    files = {path.stem: path.read_bytes() for path in (home / "lacre" / "keystore").glob("*.json")}
    data = write_dump(
        store.contents(), files, app="app", env="test", taken_at="2026-01-02T03:04:05Z",
        signer=identity, signers=[identity.public],
    )  # fmt: skip
    return read_dump(data, signers=[identity.public])


@pytest.fixture
def dump(home: Path, operator: Lacre, identity: Identity) -> Dump:
    """A dump of `home`."""
    return dumped(home, operator.store, identity)  # type: ignore[arg-type]


@pytest.fixture
def target(place: KeyStorePlace) -> Iterator[SQLKeyStore]:
    """A key store that does not exist yet."""
    store = place.open()
    yield store
    store.close()


@pytest.fixture
def where(home: Path, identity: Identity, tmp_path: Path) -> dict[str, Any]:
    """Where manifests go, and who is believed."""
    return {"directory": tmp_path / "restored", "signers": [identity.public]}


def test_what_is_restored_is_what_was_dumped(
    home: Path,
    operator: Lacre,
    target: SQLKeyStore,
    dump: Dump,
    where: dict[str, Any],
    identity: Identity,
) -> None:
    """Out of SQLite into either database, with its id and manifests, and back again."""
    assert list(restore(target, dump, **where)) == []
    again = dumped(home, target, identity)

    assert target.keystore_id == operator.store.keystore_id
    assert again == dump
    for path in (home / "lacre" / "keystore").glob("*.json"):
        assert (where["directory"] / path.name).read_bytes() == path.read_bytes()
    back = SQLKeyStore(f"sqlite:///{where['directory']}/back.db")
    restore(back, again, **where)
    assert dumped(home, back, identity) == dump
    back.close()


def test_a_restored_store_serves(
    home: Path, target: SQLKeyStore, place: KeyStorePlace, dump: Dump, where: dict[str, Any]
) -> None:
    """What was encrypted before opens after, and new values are encrypted."""
    config = home / "lacre.toml"
    with Lacre.load(config, environ={}) as lacre, acting_as("t", roles={"app"}, purpose="p"):
        sealed = lacre.field("pii", table="t", column="c", type=str).encrypt("x", row="1")
    restore(target, dump, **where)
    (home / "lacre" / "keys.db").unlink()
    shutil.rmtree(home / "lacre" / "keystore")
    shutil.copytree(where["directory"], home / "lacre" / "keystore")
    text = config.read_text()
    config.write_text(text.replace('url = "sqlite:///lacre/keys.db"', place.toml()))

    with Lacre.load(config, environ={}) as lacre, acting_as("t", roles={"app"}, purpose="p"):
        box = lacre.field("pii", table="t", column="c", type=str)
        assert box.decrypt(sealed, row="1") == "x"
        assert box.decrypt(box.encrypt("y", row="1"), row="1") == "y"


def test_another_stores_dump_is_refused(
    target: SQLKeyStore, dump: Dump, where: dict[str, Any]
) -> None:
    """A store that holds anything is only ever put back to its own past."""
    target.upgrade()
    stranger = replace(dump.contents.keys[0], keystore=target.keystore_id)
    target.change(add=[stranger])
    for more in ({}, {"roll_back": True}):
        with pytest.raises(MisuseError, match="another one"):
            restore(target, dump, **where, **more)

    assert target.rows() == [stranger]
    assert not where["directory"].exists()


def test_an_empty_store_of_another_id_becomes_the_dumped_one(
    target: SQLKeyStore, dump: Dump, where: dict[str, Any]
) -> None:
    """`lacre db upgrade` before the restore does no harm."""
    target.upgrade()
    assert target.keystore_id != dump.contents.keystore
    restore(target, dump, **where)

    assert target.keystore_id == dump.contents.keystore


def test_a_newer_store_is_not_made_older_unasked(
    home: Path, operator: Lacre, dump: Dump, where: dict[str, Any], identity: Identity
) -> None:
    """Keys made, moved or destroyed since, columns, manifests: each is named, nothing is written."""
    store: SQLKeyStore = operator.store  # type: ignore[assignment]
    scope = operator.scope("default", "pii")
    old = store.versions(scope)[0]
    gone = store.versions(operator.scope("default", "banking"))[0]
    with acting_as("operator", roles={"operator"}, purpose="test"):
        operator.provisioner.rotate(scope)
        operator.provisioner.step(gone.key_id, KeyState.DESTROYED)
        operator.provisioner.rotate(operator.scope("default", "credentials", KeyKind.BRANCH))
    keystore = KeystoreAdministration(
        home / "lacre" / "keystore", keystore_id=store.keystore_id, signer=identity, memory=store
    )
    keystore.disable_version("payment-fields", 1)
    with pytest.raises(LacreError), acting_as("t", roles={"app"}, purpose="p"):
        operator.field("payment", table="t", column="c").encrypt("x", row="1")
    before = store.contents()

    with pytest.raises(MisuseError, match="newer than the dump") as caught:
        restore(store, dump, **where)
    told = "\n".join(caught.value.__notes__)

    assert "version 1 (" + old.key_id.hex()[:8] + ") is decrypt_only since" in told
    assert "version 2" in told
    assert "made since" in told
    assert f"{gone.key_id.hex()[:8]}) is destroyed since" in told
    assert "LIVE AGAIN" in told
    assert "wrapped anew since" in told
    assert "manifest 2 of local://payment-fields was seen" in told
    assert store.contents() == before
    assert not where["directory"].exists()
    assert len(undone_by(dump.contents, before)) == len(caught.value.__notes__)
    assert list(undone_by(dump.contents, dump.contents)) == []


def test_another_manifest_of_the_same_serial_is_told(dump: Dump) -> None:
    """Neither is newer, so putting one in the place of the other forgets what was seen."""
    [first, *rest] = dump.contents.seen
    held = replace(dump.contents, seen=(replace(first, hash="0" * 64), *rest))
    [told] = undone_by(dump.contents, held)

    assert f"manifest {first.serial} of {first.kms_key} was seen: another one" in told


def test_a_store_that_stops_remembering_is_told(dump: Dump) -> None:
    """A dump of a store that has not remembered from its first day takes that from one which has."""
    assert dump.contents.remembers
    without = replace(dump.contents, remembers=False)

    assert list(undone_by(without, dump.contents)) == [
        "that a memory of a manifest is missing would not be noticed any more"
    ]
    assert list(undone_by(dump.contents, without)) == []


def test_told_to_it_goes_back_and_says_what_it_undid(
    operator: Lacre, dump: Dump, where: dict[str, Any]
) -> None:
    """`roll_back` undoes; a process that saw the later state refuses the key until it is restarted."""
    store: SQLKeyStore = operator.store  # type: ignore[assignment]
    scope = operator.scope("default", "pii")
    with acting_as("operator", roles={"operator"}, purpose="test"):
        operator.provisioner.step(store.versions(scope)[0].key_id, KeyState.DISABLED)
    with acting_as("t", roles={"app", "operator"}, purpose="p"):
        box = operator.field("pii", table="t", column="c")
        with pytest.raises(KeyDisabled):
            box.encrypt("x", row="1")
        undone = restore(store, dump, **where, roll_back=True)
        operator.resolver.forget()
        with pytest.raises(KeyDisabled, match="back in time"):
            box.encrypt("x", row="1")

    assert len(undone) == 1
    assert "disabled" in undone[0]
    assert {row.key_id for row in store.rows()} == {row.key_id for row in dump.contents.keys}


def test_rows_that_were_lost_come_back_unasked(
    operator: Lacre, dump: Dump, where: dict[str, Any], target: SQLKeyStore, place: KeyStorePlace
) -> None:
    """A store that lost rows and gained nothing undoes nothing."""
    restore(target, dump, **where)
    place.sql("DELETE FROM lacre_key WHERE class = 'pii'")
    assert len(target.rows()) < len(dump.contents.keys)

    assert list(restore(target, dump, **where)) == []
    assert len(target.rows()) == len(dump.contents.keys)


def test_a_restore_that_fails_leaves_what_was_there(
    target: SQLKeyStore, dump: Dump, where: dict[str, Any], place: KeyStorePlace
) -> None:
    """A database that refuses one row keeps all it had."""
    restore(target, dump, **where)
    before = target.contents()
    twice = replace(dump.contents, keys=(*dump.contents.keys, dump.contents.keys[0]))
    broken = replace(dump, contents=twice)

    with pytest.raises(LacreError):
        restore(target, broken, **where)
    assert target.contents() == before


def test_no_manifest_is_replaced_by_an_older_one(
    home: Path, operator: Lacre, dump: Dump, identity: Identity, target: SQLKeyStore
) -> None:
    """A newer file stays, a missing or older one is written, a stranger's is refused."""
    store: SQLKeyStore = operator.store  # type: ignore[assignment]
    directory = home / "lacre" / "keystore"
    first = (directory / "pii-fields.json").read_bytes()
    keystore = KeystoreAdministration(
        directory, keystore_id=store.keystore_id, signer=identity, memory=store
    )
    keystore.rotate_key(
        "pii-fields", [identity.public, Identity.load(home / "lacre/identities/svc-app.key").public]
    )
    second = (directory / "pii-fields.json").read_bytes()
    later = dumped(home, store, identity)
    (directory / "pii-index.json").unlink()

    restore(target, dump, directory=directory, signers=[identity.public])
    assert (directory / "pii-fields.json").read_bytes() == second
    assert (directory / "pii-index.json").exists()
    (directory / "pii-fields.json").write_bytes(first)
    restore(target, later, directory=directory, signers=[identity.public])
    assert (directory / "pii-fields.json").read_bytes() == second
    (directory / "pii-fields.json").write_bytes(b"{}\n")
    with pytest.raises(MisuseError, match="not this keystore's"):
        restore(target, later, directory=directory, signers=[identity.public])


def test_only_a_scratch_store_is_discarded(target: SQLKeyStore) -> None:
    """A key store with any other name is not removed."""
    target.upgrade()
    with pytest.raises(MisuseError, match="no scratch"):
        target.discard()

    assert target.version() > 0
