# SPDX-License-Identifier: Apache-2.0
"""`Lacre.ready` says what works and what will not; `Lacre.warm_up` takes the first request's waiting."""

import asyncio
import errno
import json
import multiprocessing
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lacre import BlindIndex, Lacre
from lacre.errors import (
    ConfigurationError,
    KeyNotFound,
    KeyServiceDenied,
    KeyServiceUnreachable,
)
from lacre.fields.column_state import ColumnState, move
from lacre.keys.hierarchy import KeyKind, KeyState
from lacre.keys.resolver import ScopeHandle
from lacre.kms.local import Identity
from lacre.policy.decisions import Policy
from lacre.policy.loading import load_policy
from lacre.readiness import Part, Readiness, Status
from lacre.sensitive import KeyMaterial
from lacre.stores.sql import SQLKeyStore
from lacre.testing import CapturedEvents, FrozenClock, MemoryKeyService
from tests.components.postgresql import Database
from tests.sqlalchemy.models import Base, Customer

CLASSES = ("pii", "banking")
AGE = 300.0
KMS_KEYS = sorted(f"local://{class_}-{use}" for class_ in CLASSES for use in ("fields", "index"))


@dataclass
class Counted:
    """An application on doubles whose keys the test can take away."""

    home: Path
    application: Lacre
    service: MemoryKeyService
    sink: CapturedEvents
    clock: FrozenClock

    def ready(self, **more: Any) -> Readiness:
        return self.application.ready(classes=CLASSES, **more)

    def sql(self, statement: str) -> None:
        """What an operator with a SQL prompt does to the key store."""
        with sqlite3.connect(self.home / "lacre" / "keys.db") as connection:
            connection.execute(statement)
        connection.close()

    def step(self, kind: KeyKind, state: KeyState, version: int = 0, class_: str = "pii") -> None:
        application = self.application
        row = application.store.versions(application.scope("acme", class_, kind))[version]
        with application.acting_as("operator", purpose="test"):
            application.provisioner.step(row.key_id, state)


@pytest.fixture
def counted(home: Path, lacre: Lacre) -> Iterator[Counted]:
    """An application whose default tenant is `acme`, with keys, none of them cached."""
    service, sink, clock = MemoryKeyService(), CapturedEvents(), FrozenClock()
    policy = Policy(load_policy(home / "lacre.toml", {"LACRE_DEFAULT_TENANT": "acme"}))
    parts: dict[str, Any] = {"services": {"local": service}, "sink": sink, "clock": clock}
    with (
        Lacre(policy, store=lacre.store, **parts) as application,
        application.acting_as("operator", roles={"app"}, purpose="test", across_yield=True),
    ):
        for class_ in CLASSES:
            application.create_keys("acme", class_)
        application.resolver.forget()
        service.unwrapped.clear()
        sink.events.clear()
        yield Counted(home, application, service, sink, clock)


def found(report: Readiness, part: Part, subject: str = "") -> Any:
    """The check of one part."""
    (check,) = [check for check in report.checks if check.part is part and check.subject == subject]
    return check


def test_a_process_with_its_keys_is_ready(counted: Counted) -> None:
    """Every part passes, the report is true and says nothing but names."""
    report = counted.ready()

    assert report
    assert report.status is Status.PASS
    assert report.serves_for is None
    assert report.to_json() == {
        "status": "pass",
        "checks": [
            {"part": "key_store", "status": "pass"},
            {"part": "keys", "status": "pass", "subject": "pii"},
            {"part": "keys", "status": "pass", "subject": "banking"},
            {"part": "evidence", "status": "pass"},
        ],
    }


def test_an_application_from_its_file_is_ready(lacre: Lacre) -> None:
    """With the local keystore, every class of `lacre init`, and its identity file."""
    report = lacre.ready()

    assert report.status is Status.PASS
    assert found(report, Part.IDENTITY)
    assert {check.subject for check in report.checks if check.part is Part.KEYS} == set(
        lacre.policy.file.classes
    )


def test_with_warm_keys_the_key_service_is_asked_nothing(counted: Counted) -> None:
    """Thirty reports in the first four fifths of the keys' age cost what the first did: one call each."""
    for _ in range(30):
        counted.ready()
        counted.clock.advance(6)

    assert sorted(counted.service.unwrapped) == KMS_KEYS


def test_keys_are_asked_for_anew_before_they_expire(counted: Counted) -> None:
    """A probe every ten seconds for an hour: no key ever expires, at two calls at most per KMS key and age."""
    handle = ScopeHandle(counted.application.scope("acme", "pii"))
    held = []
    counted.ready()
    for _ in range(360):
        counted.clock.advance(10)
        held.append(counted.application.resolver.held_for(handle))
        counted.ready()

    assert min(held) > 0
    for kms_key in set(counted.service.unwrapped):
        assert counted.service.unwrapped.count(kms_key) <= 2 * 3600 / AGE


def test_a_report_records_no_look(counted: Counted) -> None:
    """Nothing is evidence of anything: no value was looked at."""
    counted.ready()
    counted.application.flush()

    assert counted.sink.events == []


def test_a_key_store_that_is_gone_is_a_warning_while_keys_are_cached(counted: Counted) -> None:
    """The report stays true, says for how long, and is false once the keys expired."""
    counted.ready()
    (counted.home / "lacre" / "keys.db").rename(counted.home / "elsewhere.db")
    counted.application.store.close()
    counted.clock.advance(100)
    report = counted.ready()

    assert report
    assert found(report, Part.KEY_STORE).status is Status.WARN
    assert 150 < found(report, Part.KEY_STORE).serves_for <= 200
    counted.clock.advance(200)
    report = counted.ready()
    assert not report
    assert report.serves_for == 0
    assert found(report, Part.KEY_STORE).status is Status.FAIL
    (counted.home / "elsewhere.db").rename(counted.home / "lacre" / "keys.db")
    assert counted.ready().status is Status.PASS


def test_a_cold_process_without_key_store_is_not_ready(counted: Counted) -> None:
    """Nothing is cached, so nothing can be served."""
    (counted.home / "lacre" / "keys.db").rename(counted.home / "elsewhere.db")
    counted.application.store.close()

    assert not counted.ready()
    (counted.home / "elsewhere.db").rename(counted.home / "lacre" / "keys.db")


def test_a_server_of_the_key_store_that_is_away_is_a_warning_while_keys_are_cached(
    counted: Counted, database: Database
) -> None:
    """On PostgreSQL too: connections that are cut and refused, then taken again."""
    clock, store = FrozenClock(), SQLKeyStore(database.text_url())
    store.upgrade()
    parts: dict[str, Any] = {"services": {"local": counted.service}, "sink": counted.sink}
    with Lacre(counted.application.policy, store=store, clock=clock, **parts) as application:
        for class_ in CLASSES:
            application.create_keys("acme", class_)
        ready = application.ready(classes=CLASSES)
        _let_in(database, allowed=False)
        clock.advance(100)
        away = application.ready(classes=CLASSES)
        clock.advance(200)
        expired = application.ready(classes=CLASSES)
        _let_in(database, allowed=True)
        back = application.ready(classes=CLASSES)

    assert ready.status is Status.PASS
    assert away
    assert found(away, Part.KEY_STORE).code == "key-store-unreachable"
    assert 150 < (away.serves_for or 0) <= 200
    assert not expired
    assert {check.code for check in expired.checks if check.part is Part.KEYS} == {
        "key-store-unreachable"
    }
    assert back.status is Status.PASS
    assert database.server.password not in repr([away, expired])


def _let_in(database: Database, *, allowed: bool) -> None:
    server = database.server
    server.administer(f'ALTER DATABASE "{database.name}" WITH ALLOW_CONNECTIONS {allowed}')
    if not allowed:
        server.administer(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database.name}'"
        )


@pytest.mark.parametrize("version", ["1", "999"])
def test_a_schema_of_another_release_is_a_warning_to_who_runs(
    counted: Counted, version: str
) -> None:
    """A process that runs serves on and its keys are renewed; it could not be started again."""
    counted.ready()
    counted.sql(f"UPDATE lacre_meta SET value = '{version}' WHERE name = 'schema'")
    counted.clock.advance(AGE)
    report = counted.ready()

    assert report
    assert found(report, Part.KEY_STORE).status is Status.WARN
    assert found(report, Part.KEYS, "pii").status is Status.PASS
    assert f"version {version}" in found(report, Part.KEY_STORE).detail


@pytest.mark.parametrize("version", ["1", "999"])
def test_a_schema_of_another_release_stops_who_starts(home: Path, version: str) -> None:
    """A process of this release does not start on it."""
    with sqlite3.connect(home / "lacre" / "keys.db") as connection:
        connection.execute(f"UPDATE lacre_meta SET value = '{version}' WHERE name = 'schema'")
    connection.close()

    with pytest.raises(ConfigurationError, match=f"version {version}"):
        Lacre.load(home / "lacre.toml", environ={})


@pytest.mark.parametrize("kind", [KeyKind.DATA, KeyKind.BRANCH, KeyKind.INDEX])
def test_a_disabled_key_is_seen_before_the_cached_one_expires(
    counted: Counted, kind: KeyKind
) -> None:
    """One class warns, with the seconds left and the tenant, then fails; the other passes."""
    counted.ready()
    counted.step(kind, KeyState.DISABLED)
    counted.clock.advance(100)
    report = counted.ready()
    check = found(report, Part.KEYS, "pii")

    assert report
    assert (check.status, check.code, check.tenants) == (Status.WARN, "key-disabled", ("acme",))
    assert 150 < check.serves_for <= 200
    assert check.do == "lacre keys enable, or rotate"
    assert found(report, Part.KEYS, "banking").status is Status.PASS
    counted.clock.advance(200)
    assert found(counted.ready(), Part.KEYS, "pii").status is Status.FAIL


def test_an_older_index_root_that_is_disabled_is_seen(counted: Counted) -> None:
    """Searches need every root that is not destroyed, so one of them missing is a warning."""
    application = counted.application
    replace(application.provisioner, settle=0.0).rotate(
        application.scope("acme", "pii", KeyKind.INDEX)
    )
    rotated = counted.ready()
    counted.step(KeyKind.INDEX, KeyState.DISABLED, version=1)
    report = counted.ready()

    assert rotated.status is Status.PASS
    assert found(report, Part.KEYS, "pii").code == "key-disabled"


def test_a_dead_key_service_shows_in_the_last_fifth_of_a_key(counted: Counted) -> None:
    """First nothing, then a warning with the seconds left, then a failure, then all is well again."""
    counted.ready()
    counted.service.everything = KeyServiceUnreachable
    counted.clock.advance(150)
    early = counted.ready()
    counted.clock.advance(100)
    late = counted.ready()
    counted.clock.advance(50)
    over = counted.ready()
    counted.service.everything = None
    again = counted.ready()

    assert early.status is Status.PASS
    assert late
    assert late.status is Status.WARN
    assert late.serves_for is not None
    assert 0 < late.serves_for <= 50
    assert found(late, Part.KEYS, "pii").code == "key-service-unreachable"
    assert not over
    assert over.serves_for == 0
    assert again.status is Status.PASS


def test_while_the_key_service_is_dead_cached_keys_serve(counted: Counted) -> None:
    """A report that fails to renew a key takes nothing away: values open until the key's expiry."""
    box = counted.application.field("pii", table="t", column="c")
    sealed = box.encrypt("ana", row=1)
    counted.application.warm_up(classes=CLASSES)
    counted.service.everything = KeyServiceUnreachable
    counted.clock.advance(AGE * 0.85)
    report = counted.ready()

    assert report.status is Status.WARN
    assert box.decrypt(sealed, row=1) == "ana"


def test_a_credential_that_may_not_is_told_apart(counted: Counted) -> None:
    """A denied KMS key fails its class alone, and the words say what to do."""
    counted.service.denied.add("local://banking-fields")
    report = counted.ready()

    assert not report
    assert found(report, Part.KEYS, "banking").code == "key-service-denied"
    assert found(report, Part.KEYS, "pii").status is Status.PASS
    assert counted.application.ready(classes=["pii"])


def test_a_tenant_without_keys_is_named_to_the_log_only(counted: Counted) -> None:
    """`detail` and `tenants` name it; the JSON form does not."""
    report = counted.ready(tenants=["acme", "canary-tenant"])
    check = found(report, Part.KEYS, "pii")

    assert not report
    assert check.tenants == ("canary-tenant",)
    assert "canary-tenant" in check.detail
    assert "canary-tenant" not in json.dumps(report.to_json())


def test_a_sink_that_fails_is_a_failure_at_once(counted: Counted) -> None:
    """With looks to write and without; and a sink that works again is a pass."""
    counted.sink.failing = OSError(errno.ENOSPC, "No space left on device")
    report = counted.ready()

    assert not report
    assert found(report, Part.EVIDENCE).code == "evidence-unavailable"
    counted.sink.failing = None
    assert counted.ready()


def test_a_file_of_evidence_that_cannot_be_written_is_a_failure(home: Path) -> None:
    """A directory in its place, or a disk that is full, is found without a look."""
    environ = {"LACRE_AUDIT__PATH": str(home / "lacre")}
    with Lacre.load(home / "lacre.toml", environ=environ) as application:
        report = application.ready()

    assert found(report, Part.EVIDENCE).status is Status.FAIL
    assert str(home) not in json.dumps(report.to_json())


def test_an_identity_file_that_is_gone_or_open_is_a_warning(home: Path, lacre: Lacre) -> None:
    """The process goes on; it could not be started again."""
    file = home / "lacre" / "identities" / "svc-app.key"
    file.chmod(0o644)
    opened = lacre.ready()
    file.unlink()
    gone = lacre.ready()

    assert opened
    assert found(opened, Part.IDENTITY).status is Status.WARN
    assert gone
    assert found(gone, Part.IDENTITY).status is Status.WARN
    assert str(file) in found(gone, Part.IDENTITY).detail
    assert str(file) not in json.dumps(gone.to_json())


def test_columns_are_looked_at_where_asked(home: Path, lacre: Lacre) -> None:
    """A column whose state is not what its model says fails, by name; the others pass."""
    passes = lacre.ready(models=Base)
    move(
        lacre.store,
        Identity.load(home / "lacre" / "identities" / "operator.key"),
        keystore=lacre.store.keystore_id,
        store="main",
        table="customers",
        column="email",
        class_="pii",
        to=ColumnState.DUAL,
        changed="2026-01-01T00:00:00Z",
    )
    report = lacre.ready(models=[Customer])

    assert passes
    assert {"customers.email", "customers.cpf"} <= {check.subject for check in passes.checks}
    assert not report
    assert found(report, Part.COLUMNS, "customers.email").status is Status.FAIL
    assert "dual" in found(report, Part.COLUMNS, "customers.email").detail
    assert found(report, Part.COLUMNS, "customers.cpf").status is Status.PASS


def test_a_forged_column_state_fails(lacre: Lacre) -> None:
    """A row that no operator signed is not believed, and the report says so."""
    place = ("main", "customers", "email")
    with lacre.store._writing() as connection:  # type: ignore[attr-defined]
        connection.exec_driver_sql(
            "INSERT INTO lacre_column_state VALUES (?, ?, ?, 'pii', 'encrypted', 1, 'x', ?, ?, ?)",
            (*place, lacre.store.keystore_id, "0" * 32, bytes(64)),
        )
    report = lacre.ready(models=Customer)

    assert found(report, Part.COLUMNS, "customers.email").code == "tampered"
    assert not report


@pytest.mark.parametrize(
    "wrong",
    [
        {"classes": ["pij"]},
        {"classes": "pii"},
        {"tenants": "acme"},
        {"tenants": [""]},
        {"models": 3},
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_raised(lacre: Lacre, wrong: dict[str, Any]) -> None:
    """A misspelt class would otherwise be ready for ever."""
    with pytest.raises(ConfigurationError):
        lacre.ready(**wrong)


def test_without_a_default_tenant_one_is_named(home: Path) -> None:
    """Nothing to look at would be ready for ever; an empty list says that it is meant."""
    config = home / "lacre.toml"
    config.write_text(
        config.read_text("utf-8").replace('default_tenant = "default"\n', ""), "utf-8"
    )
    with Lacre.load(config, environ={}) as application:
        with pytest.raises(ConfigurationError, match="no tenant was named"):
            application.ready()
        with pytest.raises(ConfigurationError, match="no tenant was named"):
            application.warm_up()

        assert application.ready(tenants=["default"])
        assert application.ready(tenants=[])


def test_the_async_twins_do_the_same(lacre: Lacre) -> None:
    """Outside the event loop's thread, with the same answer."""

    async def both() -> Readiness:
        await lacre.awarm_up()
        return await lacre.aready(tenants=["default"], classes=["pii"], models=Customer)

    report = asyncio.run(both())

    assert report == lacre.ready(tenants=["default"], classes=["pii"], models=Customer)


def test_after_a_warm_up_requests_ask_nobody(counted: Counted) -> None:
    """The first write, look and search make no call of the key service."""
    counted.application.warm_up(classes=CLASSES)
    calls = list(counted.service.unwrapped)
    box = counted.application.field("pii", table="t", column="c", index=BlindIndex("exact"))
    with counted.application.acting_as("svc:x", roles={"app"}, purpose="test"):
        assert box.decrypt(box.encrypt("ana", row=1), row=1) == "ana"
        box.prepare("ana", row=2)
        box.search_tokens("ana")

    assert sorted(calls) == KMS_KEYS
    assert counted.service.unwrapped == calls


def test_a_warm_up_that_cannot_raises(counted: Counted) -> None:
    """A tenant without keys, a credential that may not, a cache that is too small."""
    with pytest.raises(KeyNotFound):
        counted.application.warm_up(tenants=["nobody"], classes=["pii"])
    counted.service.everything = KeyServiceDenied
    with pytest.raises(KeyServiceDenied):
        counted.application.warm_up(classes=["pii"])
    with pytest.raises(ConfigurationError, match="the cache holds 1000 keys"):
        counted.application.warm_up(tenants=[f"t{number}" for number in range(400)])


@dataclass
class CountingService:
    """Counts every call of a real key service, of every process, in one file."""

    service: Any
    log: Path

    def mint(self, kms_key: str, context: Mapping[str, str]) -> bytes:
        return bytes(self.service.mint(kms_key, context))

    def unwrap(self, kms_key: str, wrapped: bytes, context: Mapping[str, str]) -> KeyMaterial:
        with self.log.open("a") as log:  # O_APPEND: lines of processes do not mix
            log.write(f"{os.getpid()} {kms_key}\n")
        found: KeyMaterial = self.service.unwrap(kms_key, wrapped, context)
        return found


def _start(home: Path, log: Path, barrier: Any) -> None:
    # One process of eight: everything a cold worker does, from eight threads at once.
    with Lacre.load(home / "lacre.toml", environ={}) as loaded:
        services = {"local": CountingService(loaded.services["local"], log)}
        application = Lacre(
            loaded.policy, store=loaded.store, services=services, sink=loaded.recorder._sink
        )
        box = application.field("pii", table="t", column="c")
        together = threading.Barrier(8)

        def work(number: int) -> None:
            together.wait()
            application.warm_up()
            assert application.ready()
            with application.acting_as("svc:x", roles={"app"}, purpose="test"):
                assert box.decrypt(box.encrypt("ana", row=number), row=number) == "ana"

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        barrier.wait()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        application.close()


def test_eight_processes_that_start_at_once_ask_once_each(home: Path, tmp_path: Path) -> None:
    """Eight cold processes of eight threads: one call for each KMS key and process."""
    log = tmp_path / "calls"
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(8)
    processes = [context.Process(target=_start, args=(home, log, barrier)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0] * 8
    calls = log.read_text().split("\n")[:-1]
    assert len(calls) == len(set(calls))
    assert len({call.split()[1] for call in calls}) == 7
    assert len(calls) == 8 * len({call.split()[1] for call in calls})


@pytest.fixture
def many(counted: Counted) -> Counted:
    """With 30 tenants of two classes, one of which has an older index root: the most there may be."""
    application = counted.application
    for number in range(30):
        for class_ in CLASSES:
            application.create_keys(f"t{number}", class_)
    replace(application.provisioner, settle=0.0).rotate(
        application.scope("t7", "pii", KeyKind.INDEX)
    )
    application.resolver.forget()
    counted.service.unwrapped.clear()
    return counted


TENANTS = [f"t{number}" for number in range(30)]


def test_a_warm_up_of_many_tenants_asks_once_for_each_key(
    many: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call for each branch key and index root, a bounded number at once, rows in one query; then nobody is asked."""
    store, queries = many.application.store, [0]
    at_once, most, lock = [0], [0], threading.Lock()
    unwrap = many.service.unwrap

    def counting(*given: Any) -> Any:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        try:
            return unwrap(*given)
        finally:
            with lock:
                at_once[0] -= 1

    def asked(name: str) -> Any:
        method = getattr(store, name)

        def ask(*given: Any) -> Any:
            queries[0] += 1
            return method(*given)

        return ask

    many.service.delay = 0.002
    monkeypatch.setattr(many.service, "unwrap", counting)
    for name in ("find", "versions", "versions_of"):
        monkeypatch.setattr(store, name, asked(name))
    many.application.warm_up(tenants=TENANTS, classes=CLASSES)
    calls = len(many.service.unwrapped)

    assert calls == 30 * 2 * 2 + 1
    assert queries == [1]
    assert 1 < most[0] <= many.application.policy.file.calls.concurrent
    box = many.application.field("pii", table="t", column="c", index=BlindIndex("exact"))
    for tenant in TENANTS:
        with many.application.acting_as("svc:x", roles={"app"}, purpose="test", tenant=tenant):
            assert box.decrypt(box.encrypt("ana", row=1), row=1) == "ana"
            assert len(box.search_tokens("ana")) == (2 if tenant == "t7" else 1)
    assert len(many.service.unwrapped) == calls
    many.application.warm_up(tenants=TENANTS, classes=CLASSES)
    assert len(many.service.unwrapped) == calls


def test_a_warm_up_that_fails_stops_and_says_the_first_error(many: Counted) -> None:
    """Nothing runs any more when it is raised; the async twin does the same."""
    many.service.denied.add("local://pii-fields")
    many.service.delay = 0.01
    for warm_up in (
        many.application.warm_up,
        lambda **named: asyncio.run(many.application.awarm_up(**named)),
    ):
        many.application.resolver.forget()
        many.service.unwrapped.clear()
        with pytest.raises(KeyServiceDenied):
            warm_up(tenants=TENANTS, classes=CLASSES)
        calls = len(many.service.unwrapped)

        assert calls <= 2 * many.application.policy.file.calls.concurrent
        assert not [t for t in threading.enumerate() if t.name.startswith("lacre-warm-up")]


def test_keys_of_a_warm_up_age_from_when_their_rows_were_read(many: Counted) -> None:
    """A warm-up that takes half an age leaves keys with half of it."""
    unwrap = many.service.unwrap

    def slow(*given: Any) -> Any:
        many.clock.advance(AGE / 240)
        return unwrap(*given)

    begun = many.clock()
    many.service.unwrap = slow  # type: ignore[method-assign]
    many.application.warm_up(tenants=TENANTS, classes=CLASSES)

    assert many.clock() - begun > AGE / 2
    for entry in many.application.resolver._entries.values():
        assert entry.expires <= begun + AGE


@pytest.fixture
def reading_on(counted: Counted) -> Iterator[Counted]:
    """The same application, which lets values be read for a minute past their key's expiry."""
    made = counted.application
    environ = {"LACRE_DEFAULT_TENANT": "acme"}
    config = counted.home / "lacre.toml"
    config.write_text(config.read_text("utf-8") + "\n[cache]\nstale_for = 60\n", "utf-8")
    with Lacre(
        Policy(load_policy(config, environ)),
        store=made.store,
        services={"local": counted.service},
        sink=counted.sink,
        clock=counted.clock,
    ) as application:
        yield replace(counted, application=application)


def test_reading_on_without_the_key_service_is_a_warning(reading_on: Counted) -> None:
    """With `stale_for` a process can serve reads past the expiry; the report says for how long, then fails."""
    application = reading_on.application
    assert application.revocation_latency == AGE + 60
    reading_on.ready()
    reading_on.service.everything = KeyServiceUnreachable
    reading_on.clock.advance(AGE)
    report = reading_on.ready()

    assert report.status is Status.WARN
    assert found(report, Part.KEYS, "pii").code == "key-service-unreachable"
    assert 0 < (report.serves_for or 0) <= 60
    application.resolver.close()
    reading_on.clock.advance(60)
    assert not reading_on.ready()


def test_without_the_setting_a_process_fails_at_the_expiry(counted: Counted) -> None:
    """The longest that a revoked process reads is then the age alone."""
    assert counted.application.revocation_latency == AGE
    counted.ready()
    counted.service.everything = KeyServiceUnreachable
    counted.clock.advance(AGE)

    assert not counted.ready()
