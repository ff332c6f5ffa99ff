# SPDX-License-Identifier: Apache-2.0
"""
A bad day of the network and of the service: what is tried again, for how long, and what is said in the end.

The faults are a real proxy's. Times are the limits given; the only wall clock is a bound that a hang
would break.
"""

import time
from collections import Counter
from collections.abc import Callable

import pytest

from lacre.errors import KeyServiceUnreachable, Tampered
from lacre.kms.calling import CallLimits
from tests.components.faults import (
    Answer,
    Drip,
    FaultProxy,
    Hold,
    Pass,
    Reset,
    Silence,
)
from tests.kms.contract.rig import PATIENT, Credential, RemoteRig, context, until_it_answers

# Connections that ended in the middle of an answer are closed by the collector of garbage.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <:ResourceWarning")

# For calls that are to fail: nothing is expected to be answered in this time.
HASTY = CallLimits(deadline=0.9, attempt=0.3)
# For calls whose first attempt gets no answer, and a later one does.
STEADY = CallLimits(deadline=30.0, attempt=1.0)


def _opened(
    remote: RemoteRig, proxy: FaultProxy, limits: CallLimits
) -> tuple[Callable[[], bytes], bytes]:
    """Return a call that unwraps a key through *proxy*, logged in already, and the key."""
    kms_key = remote.kms_key()
    pairs = context(kms_key)
    blob = remote.open(Credential.MINTS).mint(kms_key, pairs)
    key = remote.open(Credential.RUNS).unwrap(kms_key, blob, pairs).reveal()
    service = remote.open(Credential.RUNS, limits=limits, through=proxy)
    unwrap = lambda: service.unwrap(kms_key, blob, pairs).reveal()  # noqa: E731
    until_it_answers(unwrap)
    proxy.forget()
    return unwrap, key


def _fails(proxy: FaultProxy, unwrap: Callable[[], bytes], unwrapping: str) -> int:
    """Unwrap, which fails in time; return how many attempts were made."""
    before, began = proxy.count(unwrapping), time.monotonic()
    with pytest.raises(KeyServiceUnreachable) as caught:
        unwrap()
    took = time.monotonic() - began
    attempts = proxy.seen(unwrapping)[before:]

    assert caught.value.retryable
    assert caught.value.hint
    # All attempts began inside the deadline; a hang would be minutes.
    if attempts:
        assert attempts[-1].at - began <= HASTY.deadline
    assert took < HASTY.deadline + 10
    return len(attempts)


def test_throttled_once(remote: RemoteRig, proxy: FaultProxy) -> None:
    """A service that asks to come later is asked again, and the caller sees the answer only."""
    unwrap, key = _opened(remote, proxy, PATIENT)
    proxy.put(remote.later(), times=3, path=remote.unwrapping)

    assert unwrap() == key
    assert proxy.count(remote.unwrapping) == 4


def test_throttled_for_ever(remote: RemoteRig, proxy: FaultProxy) -> None:
    """A service that never stops asking to come later is unreachable, after some attempts in the deadline."""
    unwrap, _ = _opened(remote, proxy, HASTY)
    with proxy.faulty(remote.later(), path=remote.unwrapping):
        attempts = _fails(proxy, unwrap, remote.unwrapping)

    assert 2 <= attempts <= 30


@pytest.mark.parametrize("status", [500, 503])
def test_failing_once(remote: RemoteRig, proxy: FaultProxy, status: int) -> None:
    """An internal error of the service is tried again."""
    unwrap, key = _opened(remote, proxy, PATIENT)
    proxy.put(remote.error(status, "internal"), times=2, path=remote.unwrapping)

    assert unwrap() == key
    assert proxy.count(remote.unwrapping) == 3


@pytest.mark.parametrize("status", [500, 502])
def test_failing_for_ever(remote: RemoteRig, proxy: FaultProxy, status: int) -> None:
    """Internal errors without end, and those of a gateway that speaks HTML, are a service that is not there."""
    unwrap, _ = _opened(remote, proxy, HASTY)
    page = Answer(status=status, body=b"<html>bad gateway", headers={"Content-Type": "text/html"})
    with proxy.faulty(page, path=remote.unwrapping):
        attempts = _fails(proxy, unwrap, remote.unwrapping)

    assert attempts >= 2


def test_a_slow_answer_is_not_waited_for(remote: RemoteRig, proxy: FaultProxy) -> None:
    """An attempt that takes longer than it may is given up, and the next one's answer counts."""
    unwrap, key = _opened(remote, proxy, STEADY)
    proxy.put(Hold(), path=remote.unwrapping)

    assert unwrap() == key
    assert proxy.count(remote.unwrapping) >= 2


def test_an_answer_in_drops_is_not_waited_for(remote: RemoteRig, proxy: FaultProxy) -> None:
    """An answer that comes byte by byte, each in good time, does not outlast the attempt by much."""
    unwrap, _ = _opened(remote, proxy, HASTY)
    with proxy.faulty(Drip(seconds=0.2), path=remote.unwrapping):
        _fails(proxy, unwrap, remote.unwrapping)


@pytest.mark.parametrize("served", [False, True])
def test_a_reset_connection_is_tried_again(
    remote: RemoteRig, proxy: FaultProxy, served: bool
) -> None:
    """A connection that is reset is made anew, also where the service had done what was asked."""
    unwrap, key = _opened(remote, proxy, PATIENT)
    proxy.put(Reset(served=served), times=2, path=remote.unwrapping)

    assert unwrap() == key
    assert proxy.count(remote.unwrapping) == 3


def test_a_refused_connection(remote: RemoteRig, proxy: FaultProxy) -> None:
    """Where nobody listens the service is unreachable, and is there again with who listens."""
    unwrap, key = _opened(remote, proxy, HASTY)
    proxy.refuse()
    _fails(proxy, unwrap, remote.unwrapping)
    proxy.clear()

    assert until_it_answers(unwrap) == key


@pytest.mark.parametrize("fault", ["silent", "deaf"])
def test_a_black_hole(remote: RemoteRig, proxy: FaultProxy, fault: str) -> None:
    """Where nothing is ever answered, on the old connection or on a new one, the deadline ends it."""
    unwrap, key = _opened(remote, proxy, HASTY)
    if fault == "silent":
        proxy.put(Silence(), times=None)
    else:
        proxy.blackhole()
    _fails(proxy, unwrap, remote.unwrapping)
    proxy.clear()

    assert until_it_answers(unwrap) == key


def test_a_network_that_comes_and_goes(remote: RemoteRig, proxy: FaultProxy) -> None:
    """On a network that drops every second request each operation succeeds rightly, or fails as it should."""
    _flapping(remote, proxy, operations=30)


@pytest.mark.long
def test_a_network_that_comes_and_goes_for_long(remote: RemoteRig, proxy: FaultProxy) -> None:
    """The same of 200 operations."""
    _flapping(remote, proxy, operations=200)


def _flapping(remote: RemoteRig, proxy: FaultProxy, *, operations: int) -> None:
    kms_key = remote.kms_key()
    minting = remote.open(Credential.MINTS)
    blobs = [
        (context(kms_key, key=number), minting.mint(kms_key, context(kms_key, key=number)))
        for number in range(1, 6)
    ]
    direct = remote.open(Credential.RUNS)
    keys = [direct.unwrap(kms_key, blob, pairs).reveal() for pairs, blob in blobs]
    service = remote.open(Credential.RUNS, through=proxy)
    for _ in range(5 * operations):
        proxy.put(Reset(), path=remote.unwrapping)
        proxy.put(Pass(), path=remote.unwrapping)
    outcomes: Counter[str] = Counter()
    for number in range(operations):
        at = number % len(blobs)
        # Each tenth is moved to another's place, which no luck of the network may open.
        pairs = blobs[(at + 1) % len(blobs)][0] if number % 10 == 9 else blobs[at][0]
        try:
            key = service.unwrap(kms_key, blobs[at][1], pairs).reveal()
        except Tampered:
            outcomes["tampered" if number % 10 == 9 else "wrong"] += 1
        except KeyServiceUnreachable:
            outcomes["unreachable"] += 1
        else:
            outcomes["right" if key == keys[at] and number % 10 != 9 else "wrong"] += 1

    assert outcomes["wrong"] == 0
    assert outcomes["right"] + outcomes["tampered"] + outcomes["unreachable"] == operations
    assert outcomes["right"] >= 0.8 * operations
    dropped = sum(isinstance(seen.fault, Reset) for seen in proxy.seen(remote.unwrapping))
    assert dropped >= 0.9 * operations


def test_the_breaker_opens_and_closes(remote: RemoteRig, proxy: FaultProxy) -> None:
    """After some operations without an answer the service is left alone; then one asks, and all is well."""
    unwrap, key = _opened(remote, proxy, HASTY)
    proxy.put(Reset(), times=None, path=remote.unwrapping)
    for _ in range(3):
        assert _fails(proxy, unwrap, remote.unwrapping) >= 1
    left_alone = [_fails(proxy, unwrap, remote.unwrapping) for _ in range(20)]
    proxy.clear()
    proxy.forget()

    # A probe may come while the machine is slow; but most of them ask nothing at all.
    assert left_alone.count(0) >= 15
    assert until_it_answers(unwrap) == key
    assert unwrap() == key


def test_minting_is_tried_again_too(remote: RemoteRig, proxy: FaultProxy) -> None:
    """A mint whose answer was lost is asked for again; the key that counts is the one that came back."""
    kms_key = remote.kms_key()
    pairs = context(kms_key)
    minting = remote.open(Credential.MINTS, through=proxy)
    minting.mint(kms_key, pairs)  # the first one looks at the KMS key, too
    proxy.forget()
    proxy.put(Reset(served=True), path=remote.minting)
    blob = minting.mint(kms_key, pairs)

    assert proxy.count(remote.minting) == 2
    assert len(remote.open(Credential.RUNS).unwrap(kms_key, blob, pairs).reveal()) == 32
