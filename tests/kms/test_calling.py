# SPDX-License-Identifier: Apache-2.0
"""Attempts, the deadline and the breaker, on a clock that moves when something sleeps."""

import threading
from collections.abc import Callable

import pytest

from lacre.errors import KeyServiceDenied, KeyServiceUnreachable
from lacre.kms.calling import CallLimits, Calls, TryAgain
from lacre.testing import FrozenClock


class _Endpoint:
    """Answers, or fails as told; each attempt takes *takes* seconds."""

    def __init__(self, clock: FrozenClock, *, takes: float = 0.0) -> None:
        self.clock, self.takes, self.attempts = clock, takes, 0
        self.failing: Callable[[], Exception] | None = None

    def __call__(self) -> str:
        self.attempts += 1
        self.clock.advance(self.takes)
        if self.failing is not None:
            raise self.failing()
        return "answer"


def _calls(clock: FrozenClock, *, draw: float = 1.0) -> Calls:
    return Calls(
        "the endpoint",
        CallLimits(deadline=2.0, attempt=0.5),
        clock=clock,
        sleep=clock.advance,
        draw=lambda: draw,
    )


def _later() -> Exception:
    return TryAgain("throttles")


def test_what_fails_once_is_tried_again() -> None:
    """An attempt that got no answer is followed by another; the caller sees the answer."""
    clock = FrozenClock()
    endpoint = _Endpoint(clock)
    calls = _calls(clock)

    def second_time() -> str:
        endpoint.failing = _later if endpoint.attempts == 0 else None
        return endpoint()

    assert calls(second_time) == "answer"
    assert endpoint.attempts == 2


@pytest.mark.parametrize("takes", [0.0, 0.3, 0.5])
def test_all_attempts_end_within_the_deadline(takes: float) -> None:
    """However long attempts take, none begins that could end after the deadline."""
    clock = FrozenClock(0.0)
    endpoint = _Endpoint(clock, takes=takes)
    endpoint.failing = _later

    with pytest.raises(KeyServiceUnreachable, match="the endpoint throttles") as caught:
        _calls(clock)(endpoint)

    assert clock.now <= 2.0
    assert endpoint.attempts > 1
    assert caught.value.retryable


def test_a_pause_the_service_asks_for_is_kept() -> None:
    """Retry-After is waited for; where it is longer than the deadline nothing is waited for."""
    clock = FrozenClock(0.0)
    endpoint = _Endpoint(clock)
    endpoint.failing = lambda: TryAgain("throttles", after=1.0)
    with pytest.raises(KeyServiceUnreachable):
        _calls(clock)(endpoint)
    assert (endpoint.attempts, clock.now) == (2, 1.0)

    endpoint.failing = lambda: TryAgain("throttles", after=60.0)
    with pytest.raises(KeyServiceUnreachable):
        _calls(clock)(endpoint)
    assert (endpoint.attempts, clock.now) == (3, 1.0)


def test_a_denial_is_an_answer() -> None:
    """What is no `TryAgain` is passed on at once, and counts as an answer for the breaker."""
    clock = FrozenClock()
    endpoint = _Endpoint(clock)
    endpoint.failing = lambda: KeyServiceDenied("no")
    calls = _calls(clock)

    for _ in range(10):
        with pytest.raises(KeyServiceDenied):
            calls(endpoint)
    assert endpoint.attempts == 10


def test_the_breaker_opens_probes_and_closes() -> None:
    """After three operations without an answer nothing is asked, but for one probe after each rest."""
    clock = FrozenClock()
    endpoint = _Endpoint(clock)
    endpoint.failing = _later
    calls = _calls(clock)
    for _ in range(3):
        with pytest.raises(KeyServiceUnreachable):
            calls(endpoint)
    before = endpoint.attempts
    with pytest.raises(KeyServiceUnreachable, match="did not answer lately"):
        calls(endpoint)
    assert endpoint.attempts == before

    clock.advance(1.3)
    with pytest.raises(KeyServiceUnreachable, match="throttles"):
        calls(endpoint)
    assert endpoint.attempts == before + 1
    with pytest.raises(KeyServiceUnreachable, match="did not answer lately"):
        calls(endpoint)

    endpoint.failing = None
    clock.advance(2.5)
    assert calls(endpoint) == "answer"
    assert calls(endpoint) == "answer"
    assert endpoint.attempts == before + 3


def test_one_thread_probes_and_the_others_fail_at_once() -> None:
    """While a probe is under way nobody else is let through: no stampede on a service that comes back."""
    clock = FrozenClock()
    endpoint = _Endpoint(clock)
    endpoint.failing = _later
    calls = _calls(clock)
    for _ in range(3):
        with pytest.raises(KeyServiceUnreachable):
            calls(endpoint)
    clock.advance(20)
    entered, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        entered.set()
        assert go_on.wait(10)
        return "answer"

    answers: list[str] = []
    probe = threading.Thread(target=lambda: answers.append(calls(slow)))
    probe.start()
    assert entered.wait(10)
    for _ in range(5):
        with pytest.raises(KeyServiceUnreachable, match="did not answer lately"):
            calls(endpoint)
    go_on.set()
    probe.join()

    assert answers == ["answer"]
    endpoint.failing = None
    assert calls(endpoint) == "answer"


def test_a_probe_that_never_ends_is_followed_by_another() -> None:
    """A probe that hangs past the deadline keeps nobody out for ever: the next one closes the breaker."""
    clock = FrozenClock()
    endpoint = _Endpoint(clock)
    endpoint.failing = _later
    calls = _calls(clock)
    for _ in range(3):
        with pytest.raises(KeyServiceUnreachable):
            calls(endpoint)
    endpoint.failing = None
    clock.advance(20)
    told: list[str] = []

    def hangs() -> str:
        clock.advance(1.9)
        with pytest.raises(KeyServiceUnreachable, match="did not answer lately"):
            calls(endpoint)
        clock.advance(0.1)
        told.append(calls(endpoint))
        told.append(calls(endpoint))
        return "late"

    assert calls(hangs) == "late"
    assert told == ["answer", "answer"]


def test_the_pauses_are_drawn() -> None:
    """Full jitter: a draw of zero waits not at all, and the bound doubles."""
    clock = FrozenClock(0.0)
    endpoint = _Endpoint(clock)
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        clock.advance(seconds)

    endpoint.failing = _later
    limits = CallLimits(deadline=2.0, attempt=0.5)
    with pytest.raises(KeyServiceUnreachable):
        Calls("the endpoint", limits, clock=clock, sleep=sleep, draw=lambda: 1.0)(endpoint)

    assert waited == [0.05, 0.1, 0.2, 0.4]
