# SPDX-License-Identifier: Apache-2.0
"""Sealing with a key service that is a server: a real OpenBao, with a key store on PostgreSQL; AWS by its emulator."""

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from lacre import Lacre
from lacre.cli.operator import as_operator, key_store
from lacre.cli.sealing import sealer_of
from lacre.errors import KeyUnavailable, LacreError, Tampered
from lacre.keys.epochs import EpochState
from lacre.keys.hierarchy import KeyKind, KeyState, subject_digest
from lacre.recovery.dump import read_dump
from lacre.recovery.restore import restore
from lacre.stores.roles import Roles
from tests.components.aws import AWS, REGION
from tests.components.openbao import OpenBao
from tests.components.postgresql import Database


def sealed_by(home: Path, tables: str) -> Path:
    """Return the policy of *home*, with `[sealing]` and what it needs."""
    config = home / "lacre.toml"
    with config.open("a") as file:
        file.write(tables)
    return config


def on_postgresql(home: Path, database: Database) -> None:
    """Have the key store of *home* in *database*, with its first keys."""
    config = home / "lacre.toml"
    url = sa.make_url(str(database.url("psycopg"))) if isinstance(database.url("psycopg"), str) else database.url("psycopg")  # fmt: skip
    text = config.read_text().replace("sqlite:///lacre/keys.db", url.render_as_string(hide_password=False))  # fmt: skip
    config.write_text(text)
    store, policy = key_store(config)
    store.upgrade()
    store.close()
    with as_operator(config, None, purpose="test") as operator:
        keystore = home / "lacre" / "keystore"
        for path in keystore.glob("*.json"):
            path.unlink()
        for uri in policy.named_keys():
            operator.keystore().create_key(uri.removeprefix("local://"), operator.recipients())
        for class_ in policy.classes:
            operator.lacre.create_keys("default", class_)


def seal(config: Path) -> None:
    with as_operator(config, None, purpose="test") as operator:
        sealer_of(operator).seal()


def shredded(config: Path) -> None:
    with as_operator(config, None, purpose="test") as operator:
        scope = operator.lacre.policy.scope(KeyKind.SUBJECT, "pii", "default")
        digest = subject_digest(scope, "ana")
        row = operator.store.subject(digest)
        assert row is not None
        assert row.pseudonym is not None
        when = sealer_of(operator).now()
        moved = [
            (key, key.stepped(KeyState.DESTROYED, changed=when))
            for key in operator.store.keys_of_subject(scope, row.pseudonym)
        ]
        assert operator.store.shred_subject(digest, when=when, replace=moved)


def restored(config: Path) -> None:
    """Put the dump that was taken last before now in the place of the key store."""
    dumps = sorted((config.parent / "lacre" / "dumps").iterdir())
    store, _ = key_store(config)
    with as_operator(config, None, purpose="test") as operator:
        lacre = operator.lacre
        restore(
            store,
            read_dump(dumps[-1].read_bytes(), signers=lacre.signers),
            directory=config.parent / "lacre" / "keystore",
            signers=lacre.signers,
            roll_back=True,
        )
    store.close()


def test_a_dump_from_before_does_not_outlive_trim(
    home: Path, openbao: OpenBao, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs in OpenBao, the key store on PostgreSQL: a dump from before a shred revives it, until trim."""
    mount = openbao.transit()
    openbao.key(mount, "epochs")
    monkeypatch.setenv("BAO_TOKEN", openbao.root_token)
    on_postgresql(home, database)
    config = sealed_by(home, f"""
[openbao]
address = "{openbao.address}"
ca_file = "{openbao.ca_file}"
auth = "token"

[sealing]
kms_key = "openbao://{mount}/epochs"
classes = ["pii"]
""")  # fmt: skip

    seal(config)
    sealed = _with_token(config, openbao)
    seal(config)
    shredded(config)
    with pytest.raises(KeyUnavailable):
        _with_token(config, openbao, sealed)
    restored(config)
    assert _with_token(config, openbao, sealed) == "canary"
    shredded(config)
    dumps = home / "lacre" / "dumps"
    before = max(dumps.iterdir()).read_bytes()

    # The dump was taken while epoch 2 was opening: the first run goes on with that, the second ends it.
    seal(config)
    seal(config)

    with as_operator(config, None, purpose="test") as operator:
        epochs = operator.lacre.epochs.rows()
        assert [row.state for row in epochs][1:] == [EpochState.DESTROYED] * (len(epochs) - 1)
        assert epochs[1].final is None  # nobody said how long snapshots are kept
    (dumps / "9.dump").write_bytes(before)
    restored(config)
    with pytest.raises(LacreError) as raised:
        _with_token(config, openbao, sealed)
    assert isinstance(raised.value, KeyUnavailable | Tampered)


def _with_token(config: Path, openbao: OpenBao, sealed: bytes | None = None) -> Any:
    environ = {"BAO_TOKEN": openbao.root_token}
    with Lacre.load(config, environ=environ) as lacre, lacre.acting_as("svc:app", roles={"app"}, purpose="t"):  # fmt: skip
        box = lacre.field("pii", table="t", column="c", subject=True)
        if sealed is None:
            return bytes(box.encrypt("canary", row="1", subject="ana"))
        return box.decrypt(sealed, row="1", subject="ana")


def test_an_epoch_of_aws_waits_for_its_deletion(
    home: Path, ministack: AWS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A KMS key for each epoch; of an ended one the day of its deletion is final, and nothing opens under it from now on."""
    for name, given in ministack.admin.environ().items():
        monkeypatch.setenv(name, given)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    config = sealed_by(home, f"""
[calls]
deadline = 20.0
attempt = 10.0

[aws]
regions = ["{REGION}"]
endpoint_url = "{ministack.endpoint}"
allow_static_keys = true

[sealing]
kms_key = "aws-kms://{REGION}/alias/epochs-{uuid4().hex[:12]}"
classes = ["pii"]
waiting = "9 days"
""")  # fmt: skip
    seal(config)
    with Lacre.load(config, environ={}) as lacre, lacre.acting_as("svc:app", roles={"app"}, purpose="t"):  # fmt: skip
        box = lacre.field("pii", table="t", column="c", subject=True)
        sealed = box.encrypt("canary", row="1", subject="ana")

    seal(config)

    with Lacre.load(config, environ={}) as lacre, lacre.acting_as("svc:app", roles={"app"}, purpose="t"):  # fmt: skip
        box = lacre.field("pii", table="t", column="c", subject=True)
        assert box.decrypt(sealed, row="1", subject="ana") == "canary"
        new, old = lacre.epochs.rows()
    assert new.kms_key != old.kms_key
    assert (new.state, old.state) == (EpochState.ACTIVE, EpochState.DESTROYED)
    assert old.final is not None
    days = dt.datetime.fromisoformat(old.final) - dt.datetime.now(dt.UTC)
    assert days.days in (8, 9)
    _, account, _, key = old.kms_key.removeprefix("aws-kms://").split("/")
    told = ministack.client().describe_key(KeyId=key)["KeyMetadata"]
    assert told["KeyState"] == "PendingDeletion"
    assert account == ministack.account


def test_the_roles_of_postgresql_are_enough(home: Path, database: Database) -> None:
    """A login that is an operator seals, shreds and holds; one of the run time makes sealed keys, and touches no epoch."""
    on_postgresql(home, database)
    config = sealed_by(home, '\n[sealing]\nkms_key = "local://seal"\nclasses = ["pii"]\n')
    owner, _ = key_store(config)
    owner.upgrade(roles=Roles())
    owner.close()
    text = config.read_text()
    mine = text[text.index("postgresql+psycopg://") :].split('"')[0]
    logins = {role: f"{role}_{uuid4().hex[:8]}" for role in ("lacre_operator", "lacre_runtime")}

    def be(role: str) -> None:
        config.write_text(text.replace(mine, database.text_url(user=logins[role], password="pw")))

    for role, name in logins.items():
        database.server.administer(f"CREATE ROLE {name} LOGIN PASSWORD 'pw' IN ROLE {role}")
    try:
        be("lacre_operator")
        seal(config)
        be("lacre_runtime")
        with Lacre.load(config, environ={}) as lacre, lacre.acting_as("svc:app", roles={"app"}, purpose="t"):  # fmt: skip
            box = lacre.field("pii", table="t", column="c", subject=True)
            sealed = box.encrypt("canary", row="1", subject="ana")
            (epoch,) = lacre.epochs.rows()
            for wrong in (replace(epoch, number=9), replace(epoch, state=EpochState.CLOSING)):
                with pytest.raises(LacreError, match="may not do that"):
                    lacre.store.put_epoch(wrong, over=None if wrong.number == 9 else epoch)
        be("lacre_operator")
        seal(config)
        be("lacre_runtime")
        with Lacre.load(config, environ={}) as lacre, lacre.acting_as("svc:app", roles={"app"}, purpose="t"):  # fmt: skip
            box = lacre.field("pii", table="t", column="c", subject=True)
            assert box.decrypt(sealed, row="1", subject="ana") == "canary"
        be("lacre_operator")
        with as_operator(config, None, purpose="test") as operator:
            scope = operator.lacre.policy.scope(KeyKind.SUBJECT, "pii", "default")
            digest = subject_digest(scope, "ana")
            assert operator.store.hold_subject(digest, hold="case 7", over=None)
            assert operator.store.hold_subject(digest, hold=None, over="case 7")
            ended = operator.lacre.epochs.rows()[1]
            with pytest.raises(LacreError, match="may not do that"):
                operator.store.put_epoch(replace(ended, state=EpochState.ACTIVE), over=ended)
        shredded(config)
        with as_operator(config, None, purpose="test") as operator:
            row = operator.store.subject(digest)
            assert row is not None
            assert row.shredded is not None
    finally:
        config.write_text(text)
        with database.connect() as connection:
            for name in logins.values():
                connection.execute(f"DROP OWNED BY {name}")
                connection.execute(f"DROP ROLE {name}")
