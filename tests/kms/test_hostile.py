# SPDX-License-Identifier: Apache-2.0
"""
Attackers of the key store, of the key service's names and of credentials, against a real key service.

Key store, provisioner and resolver are put together as Lacre does, over OpenBao; the one about
aliases over an emulator of AWS KMS. What a policy of OpenBao lets nobody do, `batch_input` included,
is tested in `tests.kms.openbao.test_rendering`.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from lacre.audit.recorder import Recorder
from lacre.context import acting_as
from lacre.errors import (
    ConfigurationError,
    KeyDisabled,
    KeyNotFound,
    KeyServiceDenied,
    KeyServiceUnreachable,
    Tampered,
)
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope
from lacre.keys.kms_keys import pinned
from lacre.keys.ports import KeyService
from lacre.keys.provisioning import Provisioner
from lacre.keys.resolver import CacheLimits, Resolver, ScopeHandle
from lacre.kms.calling import CallLimits
from lacre.sensitive import KeyMaterial
from lacre.stores.sql import SQLKeyStore
from lacre.testing import CapturedEvents, FrozenClock
from tests.components.aws import AWS
from tests.components.key_stores import KeptInSQLite
from tests.components.openbao import OpenBao
from tests.kms.contract.on_aws import MotoRig, arn_of
from tests.kms.contract.on_openbao import OpenBaoRig
from tests.kms.contract.rig import Credential

KNOWN = KeyMaterial(b"known to the attacker, 32 bytes.")
TENANTS, CLASSES = ("acme", "globex"), ("pii", "banking")


def scope(kind: str, tenant: str, class_: str) -> Scope:
    return Scope(
        kind=KeyKind(kind), app="shop", env="test", service="checkout", tenant=tenant, class_=class_
    )


@dataclass(frozen=True, kw_only=True)
class Composed:
    """A key store of one application, and the KMS keys that its policy names."""

    rig: OpenBaoRig
    place: KeptInSQLite
    store: SQLKeyStore
    recorder: Recorder
    clock: FrozenClock

    def kms_keys(self, scope: Scope) -> Sequence[str]:
        use = "index" if scope.kind is KeyKind.INDEX else "fields"
        return (f"openbao://{self.rig.mount}/{use}-{scope.class_}",)

    def provisioner(self, who: Credential) -> Provisioner:
        return Provisioner(
            store=self.store, services={"openbao": self.rig.open(who)}, kms_keys=self.kms_keys,
            recorder=self.recorder,
        )  # fmt: skip

    def resolver(self, service: KeyService | None = None) -> Resolver:
        return Resolver(
            store=self.store,
            services={"openbao": service or self.rig.open(Credential.RUNS)},
            kms_keys=self.kms_keys, limits=CacheLimits(age=300), clock=self.clock,
        )  # fmt: skip

    def provision(self, tenant: str, class_: str) -> None:
        """Mint with one credential, activate with another."""
        wanted = scope("data", tenant, class_)
        with acting_as("minter", purpose="test"):
            self.provisioner(Credential.MINTS).create(wanted, indexed=True)
        with acting_as("activator", purpose="test"):
            self.provisioner(Credential.RUNS).activate(wanted, indexed=True)

    def rows(self) -> list[KeyRow]:
        """Every row that a KMS key wraps."""
        return [
            self.store.versions(scope(kind, tenant, class_))[0]
            for tenant in TENANTS
            for class_ in CLASSES
            for kind in ("branch", "index")
        ]

    def edit(self, row: KeyRow, **columns: Any) -> None:
        """Do what somebody with a SQL prompt does."""
        told = ", ".join(f'"{column}" = ?' for column in columns)
        self.place.sql(
            f"UPDATE lacre_key SET {told} WHERE key_id = ?", *columns.values(), row.key_id
        )


@pytest.fixture
def composed(openbao: OpenBao, tmp_path: Path) -> Iterator[Composed]:
    """Two tenants with two classes each, provisioned."""
    rig = OpenBaoRig(openbao, tmp_path)
    for class_ in CLASSES:
        for use in ("fields", "index"):
            openbao.key(rig.mount, f"{use}-{class_}")
    place = KeptInSQLite(path=tmp_path / "store" / "keys.db")
    store = place.open()
    store.upgrade()
    recorder = Recorder(CapturedEvents())
    made = Composed(rig=rig, place=place, store=store, recorder=recorder, clock=FrozenClock())
    for tenant in TENANTS:
        for class_ in CLASSES:
            made.provision(tenant, class_)
    yield made
    recorder.close()
    store.close()


def test_run_time_cannot_mint(composed: Composed) -> None:
    """The credential that reads and writes is refused a mint by the server itself, and leaves no row behind."""
    since = composed.rig.server.mark()
    new = scope("data", "new", "pii")
    with acting_as("app", purpose="test"), pytest.raises(KeyServiceDenied):
        composed.provisioner(Credential.RUNS).create(new, indexed=True)
    minted = composed.rig.server.requests(f"{composed.rig.mount}/datakey/", since=since)

    assert minted
    assert all("permission denied" in entry["error"] for entry in minted)
    for kind in ("branch", "data", "index"):
        assert composed.store.versions(scope(kind, "new", "pii")) == []


def test_a_minter_cannot_open(composed: Composed) -> None:
    """The credential that mints is refused an unwrap: what it mints it never sees, and does not activate."""
    new = scope("data", "new", "pii")
    with acting_as("minter", purpose="test"):
        made = composed.provisioner(Credential.MINTS).create(new, indexed=True)
        with pytest.raises(KeyServiceDenied):
            composed.provisioner(Credential.MINTS).activate(new, indexed=True)

    assert {row.state for row in made} == {KeyState.PENDING}
    with pytest.raises(KeyNotFound):
        composed.resolver().to_encrypt(ScopeHandle(new))


def test_no_wrapped_key_serves_another_scope(composed: Composed) -> None:
    """Each wrapped key in the place of each other, of another tenant, class or kind: refused, and not kept."""
    rows, service = composed.rows(), composed.rig.open(Credential.RUNS)
    for mine, theirs in permutations(rows, 2):
        handle = ScopeHandle(mine.scope)
        for columns in ({"wrapped": theirs.wrapped}, {"wrapped": theirs.wrapped, "parent": theirs.parent}):  # fmt: skip
            composed.edit(mine, **columns)
            resolver = composed.resolver(service)
            for _ in range(2):
                with pytest.raises((Tampered, ConfigurationError)):
                    resolver.to_encrypt(handle)
            assert resolver.cached(handle) is None
        composed.edit(mine, wrapped=mine.wrapped, parent=mine.parent)

    assert len(rows) == 8
    for row in rows:  # and what was refused opens again in its own place
        assert composed.resolver(service).to_encrypt(ScopeHandle(row.scope)).key_id == row.key_id


def test_a_row_moved_to_another_scope_is_refused(composed: Composed) -> None:
    """A row that an attacker writes into another tenant, class or kind opens there for nobody."""
    service = composed.rig.open(Credential.RUNS)
    mine = composed.rows()[0]
    for column, value in (("tenant", "globex"), ("class", "banking"), ("kind", "index")):
        names = {"tenant": "tenant", "class": "class_", "kind": "kind"}
        wanted = replace(
            mine.scope, **{names[column]: KeyKind(value) if column == "kind" else value}
        )
        there = composed.store.versions(wanted)[0]
        composed.place.sql("DELETE FROM lacre_key WHERE key_id = ?", there.key_id)
        composed.edit(mine, **{column: value})
        with pytest.raises((Tampered, ConfigurationError)):
            composed.resolver(service).to_encrypt(ScopeHandle(wanted))
        composed.edit(mine, **{column: str(getattr(mine.scope, names[column]))})

    assert composed.resolver(service).to_encrypt(ScopeHandle(mine.scope)).key_id == mine.key_id


@pytest.mark.parametrize("kind", ["branch", "index"])
def test_a_key_planted_by_a_wrapper_of_other_keys_is_refused(composed: Composed, kind: str) -> None:
    """Who may wrap under a KMS key of their own and write the key store cannot make Lacre use a key they know."""
    row = composed.store.versions(scope(kind, "acme", "pii"))[0]
    own = composed.rig.kms_key()
    # In the victim's own context, to the last pair; also with the parent that the attacker writes.
    attacker, service = composed.rig.open(Credential.MOVES), composed.rig.open(Credential.RUNS)
    honest = attacker.wrap(own, KNOWN, row.wrap_context())
    renamed = replace(row, parent=own)
    planted = attacker.wrap(own, KNOWN, renamed.wrap_context())

    composed.edit(row, wrapped=honest)
    with pytest.raises(Tampered):
        composed.resolver(service).to_encrypt(ScopeHandle(row.scope))
    composed.edit(row, wrapped=planted, parent=own, mac=renamed.sealed(KNOWN).mac)
    before = composed.rig.asked()
    with pytest.raises(ConfigurationError, match="another KMS key"):
        composed.resolver(service).to_encrypt(ScopeHandle(row.scope))
    assert composed.rig.asked() == before
    assert attacker.unwrap(own, planted, renamed.wrap_context()).reveal() == KNOWN.reveal()


def test_another_key_in_an_answer_is_not_used(composed: Composed) -> None:
    """A key service that answers with 32 other bytes gets nothing encrypted, indexed or wrapped under them."""
    rig = composed.rig
    with rig.proxy() as proxy:
        service = rig.open(Credential.RUNS, through=proxy)
        with proxy.faulty(rig.opened_as(KNOWN.reveal()), path=rig.unwrapping):
            for kind in ("branch", "index"):
                with pytest.raises(KeyDisabled, match="not authentic"):
                    composed.resolver(service).to_encrypt(ScopeHandle(scope(kind, "acme", "pii")))
            with pytest.raises((KeyDisabled, Tampered)):
                composed.resolver(service).to_encrypt(ScopeHandle(scope("data", "acme", "pii")))

        assert composed.resolver(service).to_encrypt(ScopeHandle(scope("data", "acme", "pii")))


def test_a_key_of_another_services_name_is_refused(composed: Composed) -> None:
    """A row whose parent the attacker changes to another key service's key is not taken there."""
    row = composed.rows()[0]
    for parent in ("local://pii-fields", "aws-kms://us-east-1/123456789012/key/x", "", "00" * 16):
        composed.edit(row, parent=parent)
        with pytest.raises((ConfigurationError, Tampered)):
            composed.resolver().to_encrypt(ScopeHandle(row.scope))


def test_a_planted_pending_row_is_not_activated(composed: Composed) -> None:
    """Pending rows that an attacker inserts, above the honest one, are activated by no honest operator."""
    wanted = scope("branch", "acme", "pii")
    active = composed.store.versions(wanted)[0]
    own = composed.rig.kms_key()
    attacker = composed.rig.open(Credential.MOVES)
    planted = []
    for version, parent in ((2, own), (3, active.parent), (4, "local://pii-fields")):
        row = replace(
            active, key_id=os.urandom(16), version=version, parent=parent, state=KeyState.PENDING,
            revision=1, mac=None,
        )  # fmt: skip
        planted.append(replace(row, wrapped=attacker.wrap(own, KNOWN, row.wrap_context())))
    composed.store.change(add=planted)
    with acting_as("minter", purpose="test"):
        composed.provisioner(Credential.MINTS).rotate(wanted, anew=True)
    with acting_as("activator", purpose="test"):
        composed.provisioner(Credential.RUNS).activate(
            replace(wanted, kind=KeyKind.DATA), indexed=False
        )
    rows = composed.store.versions(wanted)
    used = composed.resolver().to_encrypt(ScopeHandle(wanted))

    states = {row.key_id: row.state for row in rows}
    assert {states[row.key_id] for row in planted} == {KeyState.PENDING}
    assert states[active.key_id] is KeyState.DECRYPT_ONLY
    assert used.material.reveal() != KNOWN.reveal()
    assert used.version == 5


def test_a_denial_is_not_answered_from_the_past(composed: Composed) -> None:
    """A revoked token reads until its keys' age is over, then no more: not with the network gone, not later."""
    rig, clock = composed.rig, composed.clock
    token = rig.server.token([rig.policy(Credential.RUNS)])
    token_file = rig.directory / "token"
    token_file.write_text(token)
    token_file.chmod(0o600)
    handle = ScopeHandle(scope("data", "acme", "pii"))
    with rig.proxy() as proxy:
        service = rig.opened(
            {
                "address": proxy.address, "ca_file": str(rig.server.ca_file), "auth": "token",
                "token_file": str(token_file),
            },
            CallLimits(deadline=1.5, attempt=1.5),
        )  # fmt: skip
        resolver = composed.resolver(service)
        key = resolver.to_encrypt(handle)
        rig.server.client().revoke_token(token)
        clock.advance(200)
        cached = resolver.to_encrypt(handle)
        clock.advance(200)
        for _ in range(3):
            with pytest.raises(KeyServiceDenied):
                resolver.to_encrypt(handle)
            with pytest.raises(KeyServiceDenied):
                resolver.to_decrypt(handle, key.key_id)
        proxy.refuse()
        for _ in range(2):
            with pytest.raises((KeyServiceDenied, KeyServiceUnreachable)):
                resolver.to_decrypt(handle, key.key_id)
            clock.advance(1000)

    assert cached.key_id == key.key_id


def test_an_alias_that_is_moved_changes_nothing(
    moto: AWS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever moves an alias chooses no key: what is pinned wraps and opens, and no request names the alias."""
    rig = MotoRig(moto, tmp_path, monkeypatch)
    ours, theirs = rig.kms_key(), rig.kms_key()
    name = moto.alias(None, arn_of(ours))
    alias = f"aws-kms://{moto.region}/{name}"
    pins = {alias: ours}
    place = KeptInSQLite(path=tmp_path / "store" / "keys.db")
    store, recorder, clock = place.open(), Recorder(CapturedEvents()), FrozenClock()
    store.upgrade()

    def kms_keys(scope: Scope) -> Sequence[str]:
        return (pinned(alias, pins),)

    def provisioner(who: Credential) -> Provisioner:
        services: dict[str, KeyService] = {"aws-kms": rig.open(who)}
        return Provisioner(store=store, services=services, kms_keys=kms_keys, recorder=recorder)

    def provisioned(tenant: str) -> None:
        wanted = scope("data", tenant, "pii")
        with acting_as("operator", purpose="test"):
            provisioner(Credential.MINTS).create(wanted, indexed=False)
            provisioner(Credential.RUNS).activate(wanted, indexed=False)

    since = moto.mark()
    provisioned("acme")
    moto.alias(name, arn_of(theirs))
    provisioned("globex")
    resolver = Resolver(
        store=store, services={"aws-kms": rig.open(Credential.RUNS)}, kms_keys=kms_keys,
        limits=CacheLimits(), clock=clock,
    )  # fmt: skip
    for tenant in TENANTS:
        assert resolver.to_encrypt(ScopeHandle(scope("data", tenant, "pii")))
    asked = [
        entry["KeyId"]
        for entry in moto.requests(since=since)
        if entry["operation"] in {"GenerateDataKeyWithoutPlaintext", "Decrypt"}
    ]
    recorder.close()
    parents = {store.versions(scope("branch", tenant, "pii"))[0].parent for tenant in TENANTS}
    store.close()

    assert len(asked) >= 6
    assert set(asked) == {arn_of(ours)}
    assert parents == {ours}
    with pytest.raises(ConfigurationError, match=r"lacre\.lock"):
        pinned(alias, {})
    with pytest.raises(ConfigurationError, match="alias"):
        rig.open(Credential.MINTS).mint(alias, {"app": "shop"})
