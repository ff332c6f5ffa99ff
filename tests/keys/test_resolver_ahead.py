"""A key that is used is asked for anew before it expires, behind everybody's back."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lacre.errors import (
    KeyDestroyed,
    KeyDisabled,
    KeyServiceDenied,
    KeyServiceUnreachable,
    LacreError,
    Tampered,
)
from lacre.keys.ahead import Background
from lacre.keys.hierarchy import KeyState
from lacre.keys.resolver import Resolver
from tests.keys.parts import Parts, handle


def settled(resolver: Resolver) -> None:
    """Wait until nothing runs in the background."""
    assert resolver._cache.background.settle(30)


def background_threads() -> int:
    return sum(thread.name == "lacre-keys-ahead" for thread in threading.enumerate())


def test_a_key_in_use_is_renewed_by_one_flight_while_everybody_goes_on(keys: Parts) -> None:
    """Fifty threads in the last fifth of its age get the key that is held, at once; one call renews it."""
    resolver = keys.resolver(age=100)
    held = resolver.to_encrypt(handle())
    resolver.to_decrypt(handle(), held.key_id)
    assert 70 <= held.fresh - keys.clock() <= held.expires - keys.clock() - 10
    gate = threading.Event()
    unwrap = keys.service.unwrap
    keys.service.unwrap = lambda *given: (gate.wait(30), unwrap(*given))[1]  # type: ignore[method-assign]
    keys.clock.now = held.fresh

    def use(number: int) -> Any:
        if number % 2:
            return resolver.to_encrypt(handle())
        return resolver.to_decrypt(handle(), held.key_id)

    with ThreadPoolExecutor(50) as pool:
        assert set(pool.map(use, range(500))) == {held}
    gate.set()
    settled(resolver)
    renewed = resolver.to_encrypt(handle())

    assert len(keys.service.unwrapped) == 2
    assert renewed.expires > held.expires
    assert resolver.to_decrypt(handle(), held.key_id) is renewed
    assert background_threads() == 0


def test_what_is_cached_is_renewed_too(keys: Parts) -> None:
    """`cached`, which asks nobody, has the same key asked for behind its back."""
    resolver = keys.resolver(age=100)
    held = resolver.to_encrypt(handle())
    keys.clock.now = held.fresh

    assert resolver.cached(handle(), held.key_id) is held
    settled(resolver)
    assert resolver.cached(handle(), held.key_id, spare=50) is not None


@pytest.mark.parametrize("used", ["data", "index"])
def test_a_key_in_use_never_expires_and_costs_two_calls_an_age(keys: Parts, used: str) -> None:
    """Used every second for twenty ages, it is always held, at two calls at most for each age."""
    resolver = keys.resolver(age=100)
    resolver.to_encrypt(handle(used))
    for _ in range(2000):
        keys.clock.advance(1)
        held = resolver.cached(handle(used))
        assert held is not None
        settled(resolver)

    assert 20 <= len(keys.service.unwrapped) <= 40


def test_a_key_that_is_not_used_is_not_asked_for(keys: Parts) -> None:
    """Who uses a key once, or long before its end, causes one call and no thread."""
    resolver = keys.resolver(age=100)
    resolver.to_encrypt(handle())
    keys.clock.advance(60)
    resolver.to_encrypt(handle())
    keys.clock.advance(1000)

    assert background_threads() == 0
    assert len(keys.service.unwrapped) == 1


def test_without_an_answer_the_key_stays_until_it_expires(keys: Parts) -> None:
    """A thousand uses while nobody answers cause one call; the next comes after a pause; nothing is stale."""
    resolver, asked = keys.resolver(age=100), keys.clock()
    held = resolver.to_encrypt(handle())
    keys.service.everything = KeyServiceUnreachable
    keys.clock.now = held.fresh
    for _ in range(1000):
        assert resolver.to_encrypt(handle()) is held
    settled(resolver)
    assert len(keys.service.unwrapped) == 2
    assert keys.clock() + 1 <= held.fresh
    keys.clock.advance(4)
    assert resolver.to_encrypt(handle()) is held
    settled(resolver)
    assert len(keys.service.unwrapped) == 3
    keys.clock.now = asked + 100

    with pytest.raises(KeyServiceUnreachable):
        resolver.to_encrypt(handle())
    with pytest.raises(KeyServiceUnreachable):
        resolver.to_decrypt(handle(), held.key_id)


def _denied(keys: Parts) -> None:
    keys.service.denied.add("local://pii-fields")


@pytest.mark.parametrize(
    ("happens", "error"),
    [
        (_denied, KeyServiceDenied),
        (lambda keys: keys.step(keys.row(), KeyState.DISABLED), KeyDisabled),
        (lambda keys: keys.step(keys.row("branch"), KeyState.COMPROMISED), KeyDisabled),
        (lambda keys: keys.step(keys.row(), KeyState.DESTROYED), KeyDestroyed),
        (lambda keys: keys.edit(keys.row(), "version", 7), Tampered),
        (lambda keys: keys.edit(keys.row("branch"), "created", "2020-01-01"), Tampered),
    ],
)
def test_a_refusal_takes_the_key_out_of_the_cache_at_once(
    keys: Parts, happens: Any, error: type[LacreError]
) -> None:
    """Denied, disabled, destroyed or tampered: whoever asks next is told so, with age left or not."""
    resolver = keys.resolver(age=100)
    held = resolver.to_encrypt(handle())
    resolver.to_decrypt(handle(), held.key_id)
    happens(keys)
    keys.clock.now = held.fresh
    assert resolver.to_encrypt(handle()) is held
    settled(resolver)

    assert resolver.cached(handle()) is None
    assert resolver.cached(handle(), held.key_id) is None
    with pytest.raises(error):
        resolver.to_encrypt(handle())
    with pytest.raises(error):
        resolver.to_decrypt(handle(), held.key_id)


def test_a_denied_branch_key_takes_what_it_wraps_with_it(keys: Parts) -> None:
    """Both data keys under it go when one of them is asked for anew; another class's stay."""
    old = keys.row()
    keys.create(class_="banking")
    new = keys.rotate("data")
    resolver = keys.resolver(age=100)
    other = resolver.to_encrypt(handle(class_="banking"))
    resolver.to_decrypt(handle(), old.key_id)
    held = resolver.to_encrypt(handle())
    _denied(keys)
    keys.clock.now = held.fresh
    resolver.to_encrypt(handle())
    settled(resolver)

    assert resolver.cached(handle(), new.key_id) is None
    assert resolver.cached(handle(), old.key_id) is None
    assert resolver.cached(handle(class_="banking")) is other


def test_an_older_version_is_renewed_by_its_id(keys: Parts) -> None:
    """A key that only decrypts stays held while it is read with, and is never made to encrypt."""
    old = keys.row()
    new = keys.rotate("data")
    resolver = keys.resolver(age=100)
    held = resolver.to_decrypt(handle(), old.key_id)
    keys.clock.now = held.fresh
    assert resolver.to_decrypt(handle(), old.key_id) is held
    settled(resolver)

    assert resolver.to_decrypt(handle(), old.key_id).expires > held.expires
    assert resolver.to_encrypt(handle()).key_id == new.key_id


def test_a_child_of_fork_renews_its_own_keys(keys: Parts) -> None:
    """Forked in the middle of a flight, the child has no thread and no key, and renews what it uses."""
    resolver = keys.resolver(age=100)
    held = resolver.to_encrypt(handle())
    keys.clock.now = held.fresh
    keys.service.delay = 0.5
    resolver.to_encrypt(handle())
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            keys.service.delay = 0
            entry = resolver.to_encrypt(handle())
            keys.clock.now = entry.fresh
            resolver.to_encrypt(handle())
            assert resolver._cache.background.settle(30)
            code = 0 if resolver.to_encrypt(handle()).expires > entry.expires else 2
        finally:
            os._exit(code)
    settled(resolver)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_flight_that_hangs_does_not_keep_a_process_from_ending() -> None:
    """The interpreter ends with work that never returns, and drops what waits behind it."""
    program = """
import threading
from lacre.keys.ahead import Background

background, begun = Background(), threading.Barrier(5)
for number in range(4):
    background.do(number, lambda: (begun.wait(), threading.Event().wait()))
background.do(4, lambda: print("never"))
begun.wait()
print("end")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_work_of_one_name_is_done_once_and_errors_end_nothing() -> None:
    """What waits or runs under a name is not taken again; after an error the next work is done."""
    background, gate = Background(), threading.Event()
    done: list[str] = []

    def failing() -> None:
        gate.wait(30)
        done.append("first")
        raise RuntimeError("nobody hears this")

    for _ in range(10):
        background.do("a", failing)
    background.do("b", lambda: done.append("second"))
    gate.set()
    assert background.settle(30)
    background.do("a", lambda: done.append("third"))
    assert background.settle(30)

    assert sorted(done) == ["first", "second", "third"]


def test_where_no_thread_can_be_had_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks goes on; the name is free for the next time."""
    background = Background()
    done: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", _no_thread)
        background.do("a", lambda: done.append(1))
    background.do("a", lambda: done.append(2))
    assert background.settle(30)

    assert done == [2]


def _no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
