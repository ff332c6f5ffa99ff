"""The model of what a load costs says what is really called."""

import pytest

from lacre.context import acting_as
from lacre.keys.cost import AWS_PRICES, MEAN, SOONEST, Load, Prices, cost_of
from tests.keys.parts import Parts, handle, scope


def load(**more: float) -> Load:
    numbers: dict[str, float] = {
        "tenants": 3, "classes": 2, "indexed": 2, "processes": 2, "age": 300.0, "values": 10.0, "kms_keys": 4,
    }  # fmt: skip
    return Load(**(numbers | more))  # type: ignore[arg-type]


def used_for(parts: Parts, seconds: float, *, step: float, age: float) -> int:
    """The calls of one process that uses every key all the time."""
    resolver, before = parts.resolver(age=age), parts.service.calls
    handles = [
        (handle(tenant=tenant, class_=class_), handle("index", tenant=tenant, class_=class_))
        for tenant in ("t0", "t1", "t2") for class_ in ("pii", "banking")
    ]  # fmt: skip
    elapsed = 0.0
    while elapsed < seconds:
        for data, index in handles:
            resolver.to_encrypt(data)
            resolver.searchable(index)
        assert resolver._cache.background.settle(30)  # keys are asked for anew behind our back
        parts.clock.advance(step)
        elapsed += step
    resolver.close()
    return parts.service.calls - before


def test_an_hour_of_a_small_load_is_as_predicted(parts: Parts) -> None:
    """Counted at the key service: two processes, three tenants, two classes, for one hour."""
    for tenant in ("t0", "t1", "t2"):
        for class_ in ("pii", "banking"):
            parts.create(tenant=tenant, class_=class_)
    predicted = cost_of(load(age=300.0))
    called = sum(used_for(parts, 3600.0, step=15.0, age=300.0) for _ in range(2))
    refreshed = called - predicted.warm_up

    assert predicted.warm_up == 2 * 3 * (2 + 2)
    # No key is asked for sooner than the soonest, nor later than at its age.
    least = predicted.lines[0].hour * MEAN * 0.9
    most = predicted.lines[0].hour * MEAN / SOONEST
    assert least <= refreshed <= most


def test_a_warm_up_is_one_call_for_each_key(parts: Parts) -> None:
    """Branch keys and index roots; data keys and values cost none."""
    for tenant in ("t0", "t1", "t2"):
        for class_ in ("pii", "banking"):
            parts.create(tenant=tenant, class_=class_)

    assert used_for(parts, 5.0, step=5.0, age=300.0) == cost_of(load(processes=1)).warm_up


def test_rotations_cost_what_is_said(keys: Parts) -> None:
    """Three calls under a KMS key, two for a data key."""

    def calls(kind: str) -> int:
        before = keys.service.calls
        with acting_as("operator", purpose="test"):
            keys.provisioner.rotate(scope(kind))
        return keys.service.calls - before

    assert [calls("data"), calls("branch"), calls("index")] == [2, 3, 3]
    year = cost_of(load(rotations=1.0, index_rotations=1.0)).lines[1].hour * 8760
    assert year == pytest.approx(3 * 2 * (2 + 3) + 3 * 2 * 3)


def test_dollars_are_calls_times_the_price() -> None:
    """A month is 730 hours; KMS keys are paid apart; one call per value is what it is beside."""
    found = cost_of(load(values=100.0), Prices(per_10000=0.5, per_key=2.0, source="ours"))

    assert found.per_value.month == pytest.approx(100 * 3600 * 730)
    assert found.per_value.dollars == pytest.approx(100 * 3600 * 730 / 10_000 * 0.5)
    assert found.keys == 8.0
    assert found.total.hour == pytest.approx(sum(line.hour for line in found.lines))
    assert found.total.dollars < found.per_value.dollars


def test_the_list_price_says_whose_and_when() -> None:
    """A figure in dollars names its region and its date."""
    assert "us-east-1" in AWS_PRICES.source
    assert "2026" in AWS_PRICES.source
