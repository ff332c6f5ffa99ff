"""A key is held for its age, fetched once by however many need it, and not at all after a fork."""

import inspect
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from lacre.errors import KeyServiceDenied, KeyServiceUnreachable, LacreError
from lacre.keys.cache import ACTIVE, KeyCache, Load, Slot
from lacre.keys.resolver import CacheLimits, Resolver, UsableKey
from lacre.sensitive import KeyMaterial
from lacre.testing import FrozenClock
from tests.keys.parts import Parts, handle, kms_keys


def test_a_key_is_used_up_to_its_age_and_no_longer(keys: Parts) -> None:
    """Within the age no call; at the age the key service is asked again."""
    resolver = keys.resolver(age=100)
    key_id = resolver.to_encrypt(handle()).key_id
    for _ in range(20):
        assert 90 <= resolver.to_encrypt(handle()).expires - keys.clock() <= 100
    keys.clock.advance(69)
    resolver.to_encrypt(handle())
    assert len(keys.service.unwrapped) == 1
    keys.clock.advance(31)
    resolver.to_encrypt(handle())

    assert len(keys.service.unwrapped) == 2
    assert resolver.to_decrypt(handle(), key_id).key_id == key_id


def test_a_key_expires_with_its_parent(keys: Parts) -> None:
    """A data key unwrapped at the end of its branch key's life does not outlive it."""
    resolver = keys.resolver(age=100)
    branch = resolver.to_encrypt(handle("branch"))
    branch = resolver.to_decrypt(handle("branch"), branch.key_id)
    keys.clock.advance(85)
    data = resolver.to_encrypt(handle())

    assert data.expires <= branch.expires
    keys.service.denied.add("local://pii-fields")
    keys.clock.now = branch.expires
    with pytest.raises(KeyServiceDenied):
        resolver.to_encrypt(handle())


def test_revocation_takes_effect_within_one_age_at_every_level(keys: Parts) -> None:
    """With the credential revoked at t = 0 the last success is at t < age, whatever is cached when."""
    for first_use in (0, 50, 99):
        keys.service.denied.clear()
        resolver = keys.resolver(age=100)
        resolver.to_encrypt(handle("branch"))
        resolver.to_decrypt(handle("branch"), keys.row("branch").key_id)
        revoked = keys.clock()
        keys.service.denied.add("local://pii-fields")
        keys.clock.now = revoked + first_use
        try:
            resolver.to_encrypt(handle())
            resolver.to_decrypt(handle(), keys.row().key_id)
        except KeyServiceDenied:
            assert first_use > 0
        keys.clock.now = revoked + 100

        with pytest.raises(KeyServiceDenied):
            resolver.to_encrypt(handle())
        with pytest.raises(KeyServiceDenied):
            resolver.to_decrypt(handle(), keys.row().key_id)


def test_the_age_counts_from_before_the_key_store_was_asked(keys: Parts) -> None:
    """A slow key store does not make a key live longer than what was true when it was read."""
    asked = keys.clock()

    class Slow:
        keystore_id = keys.store.keystore_id
        find = staticmethod(keys.store.find)
        holds = staticmethod(keys.store.holds)
        versions_of = staticmethod(keys.store.versions_of)

        @staticmethod
        def versions(wanted: Any) -> Any:
            rows = keys.store.versions(wanted)
            keys.clock.advance(50)
            return rows

    resolver = Resolver(
        store=Slow(),
        services={"local": keys.service},
        kms_keys=kms_keys,
        limits=CacheLimits(age=100),
        clock=keys.clock,
    )

    assert resolver.to_encrypt(handle("index")).expires <= asked + 100


def test_an_unreachable_key_service_is_never_answered_from_the_past(keys: Parts) -> None:
    """Past its expiry a key is not used, even if nobody can be asked."""
    resolver = keys.resolver(age=100)
    resolver.to_encrypt(handle())
    keys.service.everything = KeyServiceUnreachable
    keys.clock.advance(100)

    with pytest.raises(KeyServiceUnreachable) as caught:
        resolver.to_encrypt(handle())
    assert caught.value.retryable


def test_a_failure_is_not_cached(keys: Parts) -> None:
    """The next call after a failure asks again."""
    resolver = keys.resolver()
    keys.service.everything = KeyServiceUnreachable
    with pytest.raises(KeyServiceUnreachable):
        resolver.to_encrypt(handle())
    keys.service.everything = None

    assert resolver.to_encrypt(handle()).key_id == keys.row().key_id


def test_the_cache_is_bounded(keys: Parts) -> None:
    """However many scopes are used, no more than `entries` keys are held."""
    for number in range(5):
        keys.create(tenant=f"t{number}")
    resolver = keys.resolver(entries=3)
    for number in range(5):
        resolver.to_encrypt(handle(tenant=f"t{number}"))
        resolver.searchable(handle("index", tenant=f"t{number}"))

        assert len(resolver._entries) <= 3
        assert len(resolver._listed) <= 3


def a_thousand(keys: Parts, resolver: Resolver) -> list[UsableKey | LacreError]:
    """What a thousand threads get that all wait for one call."""
    gate, unwrap = threading.Event(), keys.service.unwrap

    def held_up(*given: Any) -> Any:
        assert gate.wait(60)
        return unwrap(*given)

    def use(_: int) -> UsableKey | LacreError:
        try:
            return resolver.to_encrypt(handle())
        except LacreError as error:
            return error

    keys.service.unwrap = held_up  # type: ignore[method-assign]
    with ThreadPoolExecutor(1000) as pool:
        uses = [pool.submit(use, number) for number in range(1000)]
        while not (flights := resolver._cache._flights.get((handle().token, ACTIVE))):
            time.sleep(0.01)
        while len(flights._condition._waiters) < 999:  # type: ignore[attr-defined]
            time.sleep(0.01)
        gate.set()
        found = [each.result(60) for each in uses]
    keys.service.unwrap = unwrap  # type: ignore[method-assign]
    return found


def test_a_thousand_threads_that_need_one_expired_key_make_one_call(keys: Parts) -> None:
    """Single flight: one asks, all wait, all get the key."""
    resolver = keys.resolver(age=100)
    resolver.to_encrypt(handle())
    keys.clock.advance(100)
    keys.service.unwrapped.clear()
    found = a_thousand(keys, resolver)

    assert set(found) == {resolver.to_encrypt(handle())}
    assert len(keys.service.unwrapped) == 1


@pytest.mark.parametrize("failure", [KeyServiceDenied, KeyServiceUnreachable])
def test_a_failure_in_flight_reaches_everyone_who_waits(keys: Parts, failure: Any) -> None:
    """A thousand threads wait for one call that fails: each is told, by an error of its own, and the next asks anew."""
    keys.service.everything = failure
    resolver = keys.resolver()
    told = a_thousand(keys, resolver)

    assert {type(error) for error in told} == {failure}
    assert len({id(error) for error in told}) == 1000
    assert len({str(error) for error in told}) == 1
    assert len(keys.service.unwrapped) == 1
    keys.service.everything = None
    keys.clock.advance(2)  # a denial is remembered for so long
    assert resolver.to_encrypt(handle()).key_id == keys.row().key_id
    assert len(keys.service.unwrapped) == 2


def test_an_interrupt_is_for_the_thread_it_was_meant_for(keys: Parts) -> None:
    """Ctrl-C of the thread that asks is not raised in those that wait: one of them asks."""
    resolver, entered, go = keys.resolver(), threading.Event(), threading.Event()
    unwrap = keys.service.unwrap

    def interrupted(*given: Any) -> Any:
        entered.set()
        assert go.wait(30)
        if len(keys.service.unwrapped) == 0:
            keys.service.unwrapped.append("interrupted")
            raise KeyboardInterrupt
        return unwrap(*given)

    keys.service.unwrap = interrupted  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(resolver.to_encrypt, handle())
        assert entered.wait(30)
        second = pool.submit(resolver.to_encrypt, handle())
        time.sleep(0.1)
        go.set()

        assert isinstance(first.exception(30), KeyboardInterrupt)
        assert second.result(30).key_id == keys.row().key_id


def test_a_child_of_fork_starts_cold_and_works(keys: Parts) -> None:
    """In a child the cache is empty, no lock is held by a thread that is not there, and keys resolve."""
    resolver = keys.resolver()
    resolver.to_encrypt(handle())
    keys.service.delay = 0.5
    busy = threading.Thread(target=lambda: resolver.to_encrypt(handle("index")))
    busy.start()
    time.sleep(0.1)
    calls = len(keys.service.unwrapped)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            keys.service.delay = 0
            assert not resolver._entries
            resolver.to_encrypt(handle("index"))
            resolver.to_encrypt(handle())
            code = 0 if len(keys.service.unwrapped) == calls + 2 else 2
        finally:
            os._exit(code)
    busy.join()

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _interrupted(cache: KeyCache, slot: Slot, load: Load, line: int) -> bool:
    # In a thread of its own, whose tracing is nobody else's. Whether the line was come by.
    came_by: list[int] = []

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code is not KeyCache.once.__code__:
            return None
        if event == "line" and frame.f_lineno == line and not came_by:
            came_by.append(line)
            raise SystemExit
        return trace

    def work() -> None:
        sys.settrace(trace)
        with suppress(SystemExit):
            cache.once(slot, load)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return bool(came_by)


def test_whoever_is_interrupted_anywhere_leaves_nobody_waiting() -> None:
    """A signal may raise between any two lines of a flight; the next who needs the key gets it."""
    lines, first = inspect.getsourcelines(KeyCache.once)
    slot = (b"scope", b"k" * 16)

    def load(_: float) -> UsableKey:
        return UsableKey(slot[1], KeyMaterial(b"x" * 32), float("inf"), 1)

    interrupted = 0
    for line in range(first, first + len(lines)):
        cache = KeyCache(limits=CacheLimits(), clock=FrozenClock())
        if not _interrupted(cache, slot, load, line):
            continue
        interrupted += 1
        found: list[UsableKey] = []
        other = threading.Thread(
            target=lambda cache=cache, found=found: found.append(cache.once(slot, load)),
            daemon=True,
        )
        other.start()
        other.join(10)
        assert found, lines[line - first]

    assert interrupted > 8
