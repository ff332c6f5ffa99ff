"""Calls of key services are counted by KMS key and operation, uses of cached keys not at all."""

import os
import pickle
import threading
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from lacre import Lacre
from lacre.errors import KeyServiceDenied, KeyServiceUnreachable, LacreError
from lacre.keys.usage import CountedKeyService, Usage, UsageCounters
from lacre.sensitive import KeyMaterial
from lacre.testing import CapturedEvents, FrozenClock, MemoryKeyService
from tests.stores.rows import ROW

KMS_KEY = "local://pii-fields"


@pytest.fixture
def service() -> MemoryKeyService:
    return MemoryKeyService()


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(1_800_000_000.0)


@pytest.fixture
def application(lacre: Lacre, service: MemoryKeyService, clock: FrozenClock) -> Any:
    """One with a key service of its own, given to the constructor, and keys of a tenant."""
    with Lacre(
        lacre.policy,
        store=lacre.store,
        services={"local": service},
        sink=CapturedEvents(),
        clock=clock,
    ) as made:
        with made.acting_as("operator", purpose="test", across_yield=True):
            made.create_keys("acme", "pii")
        yield made


def found(usage: Usage, kms_key: str, operation: str) -> Any:
    (one,) = [
        each for each in usage.kms_keys if (each.kms_key, each.operation) == (kms_key, operation)
    ]
    return one


def test_what_provisioning_and_use_cost_is_counted(
    application: Lacre, service: MemoryKeyService, clock: FrozenClock
) -> None:
    """Every call of a key service that the application was given, by KMS key and operation; no use of a cached key."""
    before = application.usage()
    clock.advance(60)
    box = application.field("pii", table="t", column="c")
    with application.acting_as("svc:x", roles={"app"}, purpose="test", tenant="acme"):
        sealed = [box.encrypt("ana", row=row) for row in range(100)]
        assert set(box.decrypt_many(enumerate(sealed))) == {"ana"}
    usage = application.usage()
    unwrapped = found(usage, KMS_KEY, "unwrap")

    assert usage.calls == len(service.minted) + len(service.unwrapped)
    assert found(usage, KMS_KEY, "mint").calls == 1
    assert unwrapped.calls == found(before, KMS_KEY, "unwrap").calls + 1
    assert unwrapped.failures == {}
    assert unwrapped.seconds >= 0
    assert (usage.since, unwrapped.last) == ("2027-01-15T08:00:00Z", "2027-01-15T08:01:00Z")
    (data,) = [each for each in usage.keys if each.key == bytes(sealed[0] or b"")[3:19].hex()]
    assert (data.unwrapped, data.last) == (1, "2027-01-15T08:01:00Z")


def test_failures_are_counted_by_code(application: Lacre, service: MemoryKeyService) -> None:
    """Denied, unreachable, and what is no error of lacre's."""
    application.resolver.forget()
    for failure in (KeyServiceDenied, KeyServiceUnreachable, KeyServiceUnreachable):
        service.everything = failure
        application.resolver.forget()
        with pytest.raises(failure):
            application.warm_up(tenants=["acme"], classes=["pii"])
    counters = UsageCounters()
    with pytest.raises(ZeroDivisionError):
        counters.counted(KMS_KEY, "mint", lambda: 1 // 0)

    failures: dict[str, int] = {}
    for each in application.usage().kms_keys:
        for code, count in each.failures.items():
            failures[code] = failures.get(code, 0) + count
    assert failures["key-service-denied"] >= 1
    assert failures["key-service-unreachable"] >= 2
    assert found(counters.usage(), KMS_KEY, "mint").failures == {"other": 1}


class Unmoving:
    """A key service that can do what the run time needs."""

    def __init__(self) -> None:
        self.inner = MemoryKeyService()
        self.mint, self.unwrap = self.inner.mint, self.inner.unwrap


class Moving(Unmoving):
    """One that can move keys too."""

    name = "moving"

    def wrap(self, kms_key: str, key: KeyMaterial, context: Mapping[str, str]) -> bytes:
        return kms_key.encode()

    def rewrap(
        self,
        kms_key: str,
        wrapped: bytes,
        context: Mapping[str, str],
        *,
        to: str,
        to_context: Mapping[str, str],
    ) -> bytes:
        return (kms_key + to).encode()


def test_moves_are_counted_where_the_service_moves() -> None:
    """`wrap` and `rewrap` are there, and counted, exactly where the service has them; the rest is as it was."""
    counters = UsageCounters()
    moving: Any = CountedKeyService(Moving(), counters)
    assert moving.wrap("a", KeyMaterial(bytes(32)), {}) == b"a"
    assert moving.rewrap("a", b"", {}, to="b", to_context={}) == b"ab"
    assert moving.name == "moving"

    assert [(each.kms_key, each.operation, each.calls) for each in counters.usage().kms_keys] == [
        ("a", "rewrap", 1),
        ("a", "wrap", 1),
    ]
    assert not hasattr(CountedKeyService(Unmoving(), counters), "rewrap")


def test_an_application_counts_its_own_calls_only(application: Lacre) -> None:
    """Another one made of its parts counts for itself, and each call once."""
    other = Lacre(
        application.policy,
        store=application.store,
        services=application.services,
        sink=CapturedEvents(),
    )
    before = application.usage()
    other.warm_up(tenants=["acme"], classes=["pii"])
    other.recorder.close()

    assert other.usage().calls == 2
    assert application.usage() == before


def test_counts_of_many_threads_are_not_lost() -> None:
    """Eight threads that count at once add up."""
    counters = UsageCounters()

    def count() -> None:
        for number in range(500):
            counters.counted(KMS_KEY, "unwrap", lambda: None)
            counters.unwrapped(replace(ROW, key_id=bytes([number % 4]) * 16))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    usage = counters.usage()

    assert usage.calls == 4000
    assert [each.unwrapped for each in usage.keys] == [1000] * 4


def test_a_child_of_fork_counts_from_nothing(application: Lacre) -> None:
    """What the parent asked is not the child's."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = application.usage().calls
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert application.usage().calls > 0


def test_what_is_returned_is_frozen_and_holds_no_secret(application: Lacre) -> None:
    """Names, numbers and times: no key, no wrapped key, and nothing to change."""
    application.warm_up(tenants=["acme"], classes=["pii"])
    usage = application.usage()
    row = application.store.versions(application.scope("acme", "pii"))[0]
    held = [entry.material.reveal() for entry in application.resolver._entries.values()]

    with pytest.raises(FrozenInstanceError):
        usage.kms_keys[0].calls = 0  # type: ignore[misc]
    with pytest.raises(TypeError):
        usage.kms_keys[0].failures["x"] = 1  # type: ignore[index]
    assert len(held) > 2
    for secret in (*held, row.wrapped or b""):
        for shown in (repr(secret)[2:-1], secret.hex()):
            assert shown not in repr(usage)
    with pytest.raises((LacreError, TypeError)):
        pickle.dumps(application.services["local"])
