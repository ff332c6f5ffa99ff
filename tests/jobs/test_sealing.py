# SPDX-License-Identifier: Apache-2.0
"""Sealing with the local keystore: subject keys outlive an epoch, what was shredded does not, in no dump."""

import json
import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lacre import Lacre
from lacre.cli.operator import as_operator, key_store
from lacre.cli.sealing import seal, sealer_of
from lacre.errors import (
    ConfigurationError,
    KeyNotFound,
    KeyUnavailable,
    LacreError,
    MisuseError,
    Tampered,
)
from lacre.keys.epochs import EpochState
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, subject_digest
from lacre.keys.sealing import bucket_of, cover
from lacre.recovery.dump import read_dump
from lacre.recovery.restore import restore

SEALING = """
[sealing]
kms_key = "local://seal"
classes = ["pii"]
snapshots_kept = "10 days"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """A home whose class `pii` is sealed."""

    home: Path

    @property
    def config(self) -> Path:
        return self.home / "lacre.toml"

    def seal(self, **changes: Any) -> list[str]:
        """Seal once; return what it told."""
        told: list[str] = []
        with self.operator() as operator:
            replace(sealer_of(operator), told=told.append, **changes).seal()
        return told

    def operator(self) -> Any:
        """The operator at work."""
        return as_operator(self.config, None, purpose="test")

    def write(self, subject: str, *, row: str = "1") -> bytes:
        """Encrypt a value of *subject* as the application does, in a process of its own."""
        with (
            Lacre.load(self.config, environ={}) as lacre,
            lacre.acting_as("svc:app", roles={"app"}, purpose="test"),
        ):
            return bytes(box(lacre).encrypt("canary-" + subject, row=row, subject=subject))

    def read(self, sealed: bytes, subject: str, *, row: str = "1") -> str:
        """Decrypt it as a process does that begins now."""
        with (
            Lacre.load(self.config, environ={}) as lacre,
            lacre.acting_as("svc:app", roles={"app"}, purpose="test"),
        ):
            return str(box(lacre).decrypt(sealed, row=row, subject=subject))

    def keys(self, subject: str) -> list[KeyRow]:
        """Return the subject's keys."""
        with self.operator() as operator:
            scope = operator.lacre.policy.scope(KeyKind.SUBJECT, "pii", "default")
            row = operator.store.subject(subject_digest(scope, subject))
            assert row is not None
            assert row.pseudonym is not None
            return list(operator.store.keys_of_subject(scope, row.pseudonym))

    def shred(self, subject: str) -> None:
        """Destroy the subject's keys, as shredding does in one transaction."""
        with self.operator() as operator:
            scope = operator.lacre.policy.scope(KeyKind.SUBJECT, "pii", "default")
            digest = subject_digest(scope, subject)
            row = operator.store.subject(digest)
            when = "2030-01-01T00:00:00Z"
            moved = [
                (key, key.stepped(KeyState.DESTROYED, changed=when))
                for key in operator.store.keys_of_subject(scope, row.pseudonym)
            ]
            assert operator.store.shred_subject(digest, when=when, replace=moved)

    def newest_dump(self) -> Path:
        """Return the file of the dump that was taken last."""
        return max((self.home / "lacre" / "dumps").iterdir())

    def restored(self, dump: Path, tmp_path: Path) -> "House":
        """Return a house whose key store is what *dump* holds, and whose key service is this one's."""
        other = tmp_path / f"restored-{dump.stem}"
        shutil.copytree(self.home, other)
        (other / "lacre" / "keys.db").unlink()
        house = House(home=other)
        store, _ = key_store(house.config)
        with Lacre.load(self.config, environ={}) as lacre:
            restore(
                store,
                read_dump(dump.read_bytes(), signers=lacre.signers),
                directory=other / "lacre" / "keystore",
                signers=lacre.signers,
            )
        store.close()
        return house


class Neighbour(House):
    """Another service of the same home."""

    @property
    def config(self) -> Path:
        return self.home / "other.toml"


def box(lacre: Lacre) -> Any:
    """The field that the tests write."""
    return lacre.field("pii", table="customers", column="name", subject=True)


@pytest.fixture
def plain(home: Path) -> House:
    """A home without sealing."""
    return House(home=home)


@pytest.fixture
def house(plain: House) -> House:
    """A home with sealing, before the first epoch."""
    with plain.config.open("a") as file:
        file.write(SEALING)
    return plain


def test_without_an_epoch_no_sealed_key_is_made(house: House) -> None:
    """A class that is sealed has no subject keys until the first epoch begins: they would be in dumps for ever."""
    with pytest.raises(KeyNotFound, match="no epoch of sealing"):
        house.write("ana")

    house.seal()

    assert house.read(house.write("ana"), "ana") == "canary-ana"


def test_a_sealed_key_has_two_layers_and_outlives_epochs(house: House) -> None:
    """A subject key is under its bucket's key, is carried from epoch to epoch, and opens in each."""
    house.seal()
    sealed = house.write("ana")
    (row,) = house.keys("ana")
    assert row.wrapped is not None
    assert len(row.wrapped) == 214
    assert cover(row) is not None

    for _ in range(2):
        house.seal()

        assert house.read(sealed, "ana") == "canary-ana"
    with house.operator() as operator:
        epochs = operator.lacre.epochs.rows()
    assert [(row.number, row.state) for row in epochs] == [
        (3, EpochState.ACTIVE), (2, EpochState.DESTROYED), (1, EpochState.DESTROYED),
    ]  # fmt: skip
    assert [path.name for path in (house.home / "lacre/keystore/epochs").iterdir()] == [
        "seal.epoch-3.json"
    ]


def test_only_the_bucket_of_a_shred_gets_a_new_key(house: House) -> None:
    """Sealing replaces the bucket key of what was shredded, and wraps all other bucket keys anew."""
    house.seal()
    house.write("ana")
    bucket = bucket_of(house.keys("ana")[0].key_id)
    with house.operator() as operator:
        before = {row.scope.subject: row for row in operator.store.bucket_keys()}
    house.shred("ana")

    house.seal()

    with house.operator() as operator:
        rows = operator.store.bucket_keys()
    active = {row.scope.subject: row for row in rows if row.state is KeyState.ACTIVE}
    new = {name for name, row in active.items() if row.key_id != before[name].key_id}
    assert new == {f"{bucket:02x}"}
    assert len(active) == 256
    assert all(row.wrapped != before[name].wrapped for name, row in active.items())
    gone = [row for row in rows if row.state is KeyState.DESTROYED]
    assert [row.key_id for row in gone] == [before[f"{bucket:02x}"].key_id]
    assert gone[0].wrapped is None


def test_a_dump_from_before_a_shred_is_unreadable_once_the_epoch_is_destroyed(
    house: House, tmp_path: Path
) -> None:
    """Before the epoch ends a restored dump revives the subject; afterwards it does not, nor anybody else in it."""
    house.seal()
    sealed = {name: house.write(name) for name in ("ana", "bia")}
    house.seal()
    dump = house.newest_dump()
    house.shred("ana")
    with pytest.raises(KeyUnavailable):
        house.read(sealed["ana"], "ana")
    # So that what follows can fail: while the epoch lives, the dump gives it back.
    assert house.restored(dump, tmp_path).read(sealed["ana"], "ana") == "canary-ana"

    house.seal()

    after = house.restored(dump, tmp_path / "after")
    for name in ("ana", "bia"):
        with pytest.raises(LacreError) as raised:
            after.read(sealed[name], name)
        assert isinstance(raised.value, KeyUnavailable | Tampered)
    assert house.read(sealed["bia"], "bia") == "canary-bia"


def test_without_sealing_the_same_dump_is_readable(plain: House, tmp_path: Path) -> None:
    """The negative control: a class that is not sealed comes back from a dump after any number of sealings."""
    with plain.config.open("a") as file:
        file.write(SEALING.replace('["pii"]', '["banking"]'))
    plain.seal()
    sealed = plain.write("ana")
    plain.seal()
    dump = plain.newest_dump()
    plain.shred("ana")
    plain.seal()

    assert plain.restored(dump, tmp_path).read(sealed, "ana") == "canary-ana"


def test_keys_from_before_sealing_are_sealed_by_the_first(plain: House) -> None:
    """A subject key without an outer layer gets one, and the epoch says that older dumps have it without."""
    sealed = plain.write("ana")
    assert cover(plain.keys("ana")[0]) is None
    with plain.config.open("a") as file:
        file.write(SEALING)

    plain.seal()

    assert cover(plain.keys("ana")[0]) is not None
    assert plain.read(sealed, "ana") == "canary-ana"
    with plain.operator() as operator:
        assert operator.lacre.epochs.rows()[0].unsealed is not None


def test_a_run_that_died_has_said_which_keys_older_dumps_hold_bare(plain: House) -> None:
    """Interrupted once keys have their outer layer and resumed, the epoch says all the same that they had none."""
    plain.write("ana")
    created = plain.keys("ana")[0].created
    with plain.config.open("a") as file:
        file.write(SEALING)

    def fails() -> str:
        raise MisuseError("the disk is full")

    with pytest.raises(MisuseError, match="disk"):
        plain.seal(prove=fails)
    assert cover(plain.keys("ana")[0]) is not None
    plain.seal()

    with plain.operator() as operator:
        unsealed = operator.lacre.epochs.rows()[0].unsealed
    assert unsealed is not None
    assert unsealed >= created


def neighbour(house: House, *, more: str = "") -> House:
    """Return another service of the same key store and key service."""
    other = Neighbour(home=house.home)
    text = house.config.read_text().partition("[sealing]")[0]
    other.config.write_text(text.replace('service = "app"', 'service = "other"') + more)
    with other.operator() as operator:
        branch = operator.lacre.policy.scope(KeyKind.BRANCH, "pii", "default")
        operator.lacre.provisioner.create(branch, indexed=True)
    return other


def test_the_keys_of_another_service_in_one_key_store_are_left_alone(house: House) -> None:
    """Whoever seals wraps no subject key of a service that does not seal: it could not open it."""
    other = neighbour(house)
    sealed = other.write("bob")

    house.seal()
    house.seal()

    assert other.read(sealed, "bob") == "canary-bob"


def test_two_services_do_not_seal_in_one_key_store(house: House) -> None:
    """The second is refused before anything is done: it would end the first one's epoch, and every key in it."""
    house.seal()
    sealed = house.write("ana")
    other = neighbour(house, more=SEALING)

    with pytest.raises(ConfigurationError, match="another service"):
        other.seal()

    assert house.read(sealed, "ana") == "canary-ana"
    with house.operator() as operator:
        assert [row.number for row in operator.lacre.epochs.rows()] == [1]
    house.seal()
    assert house.read(sealed, "ana") == "canary-ana"


def test_nothing_is_destroyed_while_a_key_does_not_open(house: House) -> None:
    """A subject key that somebody spoilt stops the sealing before the epoch before ends."""
    house.seal()
    house.write("ana")
    with house.operator() as operator:
        (row,) = house.keys("ana")
        assert row.wrapped is not None
        spoilt = replace(row, wrapped=row.wrapped[:-1] + bytes([row.wrapped[-1] ^ 1]))
        operator.store.change(replace=[(row, spoilt)])

    with pytest.raises(MisuseError, match="nothing was destroyed"):
        house.seal()

    epochs = {path.name for path in (house.home / "lacre/keystore/epochs").iterdir()}
    assert "seal.epoch-1.json" in epochs


def test_a_failing_proof_destroys_nothing_and_the_next_run_goes_on(house: House) -> None:
    """Where the dump does not open, the epoch before lives; a later run finishes the same epoch."""
    house.seal()
    sealed = house.write("ana")

    def fails() -> str:
        raise MisuseError("the disk is full")

    with pytest.raises(MisuseError, match="disk"):
        house.seal(prove=fails)
    assert house.read(sealed, "ana") == "canary-ana"
    with house.operator() as operator:
        states = [row.state for row in operator.lacre.epochs.rows()]
    assert states == [EpochState.OPENING, EpochState.ACTIVE]

    house.seal()

    with house.operator() as operator:
        states = [row.state for row in operator.lacre.epochs.rows()]
    assert states == [EpochState.ACTIVE, EpochState.DESTROYED]
    assert house.read(sealed, "ana") == "canary-ana"


def test_an_epoch_that_nobody_signed_is_refused(house: House) -> None:
    """Whoever writes the key store cannot name another KMS key for an epoch."""
    house.seal()
    sealed = house.write("ana")
    with house.operator() as operator:
        (row,) = operator.store.epochs()
        operator.store.put_epoch(replace(row, kms_key="local://pii-fields"), over=row)

    with pytest.raises(Tampered):
        house.read(sealed, "ana")


def test_the_command_keeps_a_cadence(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """`--due` begins the first epoch, does nothing a day later, and goes on with what was interrupted."""

    def run(**options: bool) -> list[dict[str, Any]]:
        given = {"status": False, "due": False, "as_json": True} | options
        seal(database=None, config=house.config, passphrase_file=None, **given)
        return list(json.loads(capsys.readouterr().out)["epochs"])

    assert run(status=True) == []
    assert [row["epoch"] for row in run(due=True)] == [1]
    assert [row["epoch"] for row in run(due=True)] == [1]

    def fails() -> str:
        raise MisuseError("the disk is full")

    with pytest.raises(MisuseError):
        house.seal(prove=fails)
    assert [row["state"] for row in run(status=True)] == ["opening", "active"]
    assert [row["state"] for row in run(due=True)] == ["active", "destroyed"]


def test_sealing_refuses_a_key_store_that_shares_the_data(house: House) -> None:
    """Asked where the data is, it does not begin an epoch where both are one database."""
    with pytest.raises(ConfigurationError, match="in the database that holds the data"):
        seal(status=False, due=False, database=f"sqlite:///{house.home}/lacre/keys.db", as_json=False, config=house.config, passphrase_file=None)  # fmt: skip
    with house.operator() as operator:
        assert operator.lacre.epochs.rows() == []


def test_two_sealers_at_once_leave_one_epoch(house: House) -> None:
    """One goes on, the other is told or finds it done; every key opens, and one epoch is in use."""
    house.seal()
    sealed = house.write("ana")
    errors: list[BaseException] = []

    def run() -> None:
        try:
            house.seal()
        except LacreError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(isinstance(error, MisuseError | KeyUnavailable) for error in errors)
    house.seal()
    assert house.read(sealed, "ana") == "canary-ana"
    with house.operator() as operator:
        states = [row.state for row in operator.lacre.epochs.rows()]
    assert states[0] is EpochState.ACTIVE
    assert set(states[1:]) == {EpochState.DESTROYED}


def test_nobody_ends_a_key_that_is_over_those_of_many_people(house: House) -> None:
    """Seal and bucket keys are ended by sealing alone: `lacre keys` neither destroys nor disables one."""
    house.seal()
    sealed = house.write("ana")
    with house.operator() as operator:
        over = [
            row for row in operator.store.rows() if row.scope.kind in (KeyKind.SEAL, KeyKind.BUCKET)
        ]
        for row in (over[0], over[-1]):
            for state in (KeyState.DISABLED, KeyState.COMPROMISED, KeyState.DESTROYED):
                with pytest.raises(MisuseError, match="ends with its epoch"):
                    operator.lacre.provisioner.step(row.key_id, state)

    assert {row.scope.kind for row in (over[0], over[-1])} == {KeyKind.SEAL, KeyKind.BUCKET}
    assert house.read(sealed, "ana") == "canary-ana"
