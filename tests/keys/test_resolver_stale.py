"""Stale use, where it is opted into: it only decrypts, only without an answer, and it ends."""

import os
from typing import Any

import pytest

from lacre.errors import (
    KeyDisabled,
    KeyServiceDenied,
    KeyServiceUnreachable,
    KeyStoreUnreachable,
    LacreError,
)
from lacre.keys.hierarchy import KeyState
from lacre.keys.resolver import CacheLimits, Resolver
from tests.keys.parts import Parts, handle, kms_keys

KMS_KEY = "local://pii-fields"
AGE, STALE = 100.0, 60.0


def settled(resolver: Resolver) -> None:
    assert resolver._cache.background.settle(30)


@pytest.fixture
def resolver(keys: Parts) -> Resolver:
    """One that may use keys for a minute more, with every key cached."""
    made = keys.resolver(age=AGE, stale_for=STALE)
    key_id = made.to_encrypt(handle()).key_id
    made.to_decrypt(handle(), key_id)
    made.searchable(handle("index"))
    keys.service.unwrapped.clear()
    return made


def expired(keys: Parts, resolver: Resolver) -> Any:
    """Let every key expire; return the data key that was held."""
    held = next(key for (token, _), key in resolver._entries.items() if token == handle().token)
    keys.clock.advance(AGE)
    return held


def test_without_the_setting_nothing_is_stale(keys: Parts) -> None:
    """By default a key is not used past its expiry, and nobody answering is `KeyServiceUnreachable`."""
    resolver = keys.resolver(age=AGE)
    key_id = resolver.to_encrypt(handle()).key_id
    resolver.to_decrypt(handle(), key_id)
    keys.clock.advance(AGE)
    keys.service.everything = KeyServiceUnreachable

    with pytest.raises(KeyServiceUnreachable):
        resolver.to_decrypt(handle(), key_id)
    assert resolver.prepare(handle(), []) == {}
    with pytest.raises(KeyServiceUnreachable):
        resolver.prepare(handle(), [key_id])


def test_it_decrypts_and_does_nothing_else(keys: Parts, resolver: Resolver) -> None:
    """While the key service is away values are read; nothing is encrypted, indexed, searched or wrapped."""
    held = expired(keys, resolver)
    keys.service.everything = KeyServiceUnreachable

    stale = resolver.to_decrypt(handle(), held.key_id)
    assert stale.material.reveal() == held.material.reveal()
    assert resolver.cached(handle(), held.key_id) is stale
    assert resolver.cached(handle()) is None
    for use in (
        lambda: resolver.to_encrypt(handle()),
        lambda: resolver.to_encrypt(handle("index")),
        lambda: resolver.searchable(handle("index")),
        lambda: resolver.to_decrypt(handle("index"), keys.row("index").key_id),
        lambda: resolver.to_encrypt(handle("branch")),
        lambda: resolver.to_decrypt(handle("branch"), keys.row("branch").key_id),
    ):
        with pytest.raises(KeyServiceUnreachable):
            use()


def test_a_result_set_is_prepared_with_it(keys: Parts, resolver: Resolver) -> None:
    """What the ORM asks for in advance is stale as well, and nothing is refused."""
    held = expired(keys, resolver)
    keys.service.everything = KeyServiceUnreachable

    assert resolver.prepare(handle(), [held.key_id]) == {}
    assert resolver.cached(handle(), held.key_id) is not None


def test_it_is_not_a_parent(keys: Parts, resolver: Resolver) -> None:
    """A data key that was not held is not unwrapped by a branch key that expired."""
    old = keys.row()
    keys.rotate("data")
    fresh = keys.row().key_id
    expired(keys, resolver)
    keys.service.everything = KeyServiceUnreachable

    assert resolver.to_decrypt(handle(), old.key_id)
    with pytest.raises(KeyServiceUnreachable):
        resolver.to_decrypt(handle(), fresh)


def test_it_ends_counted_from_the_last_answer(keys: Parts, resolver: Resolver) -> None:
    """However often it is asked and tried meanwhile, the last use is at age + stale_for."""
    answered = keys.clock()
    held = expired(keys, resolver)
    keys.service.everything = KeyServiceUnreachable
    last = 0.0
    for _ in range(100):
        try:
            resolver.to_decrypt(handle(), held.key_id)
            last = keys.clock()
        except KeyServiceUnreachable:
            pass
        settled(resolver)
        keys.clock.advance(2)

    assert AGE + STALE - 0.1 * AGE - 2 <= last - answered < AGE + STALE
    assert held.last <= answered + AGE + STALE


def test_the_key_service_is_not_asked_for_each_use(keys: Parts, resolver: Resolver) -> None:
    """A thousand looks in an outage of a minute are as many calls as there are pauses in it, not a thousand."""
    held = expired(keys, resolver)
    keys.service.everything = KeyServiceUnreachable
    for _ in range(1000):
        resolver.to_decrypt(handle(), held.key_id)
        if resolver.cached(handle(), held.key_id).fresh <= keys.clock():  # type: ignore[union-attr]
            settled(resolver)
        keys.clock.advance(0.04)
    settled(resolver)

    assert 2 <= len(keys.service.unwrapped) <= 25


def test_with_an_answer_it_is_over(keys: Parts, resolver: Resolver) -> None:
    """The key service is back: the next try has the key anew, and everything works."""
    held = expired(keys, resolver)
    keys.service.everything = KeyServiceUnreachable
    stale = resolver.to_decrypt(handle(), held.key_id)
    keys.service.everything = None
    keys.clock.now = stale.fresh
    resolver.to_decrypt(handle(), held.key_id)
    settled(resolver)

    assert resolver.to_decrypt(handle(), held.key_id).last > stale.last
    assert resolver.to_encrypt(handle())


def test_it_is_never_used_after_a_denial(keys: Parts, resolver: Resolver) -> None:
    """Denied once, in the background or not, the key is gone, also when nobody answers any more."""
    held = expired(keys, resolver)
    keys.service.everything = KeyServiceUnreachable
    stale = resolver.to_decrypt(handle(), held.key_id)
    keys.service.everything = KeyServiceDenied
    keys.clock.now = stale.fresh
    resolver.to_decrypt(handle(), held.key_id)
    settled(resolver)
    keys.service.everything = KeyServiceUnreachable

    with pytest.raises(LacreError):
        resolver.to_decrypt(handle(), held.key_id)
    keys.clock.advance(2)
    with pytest.raises(KeyServiceUnreachable):
        resolver.to_decrypt(handle(), held.key_id)


def test_a_denial_in_the_foreground_leaves_nothing_either(keys: Parts, resolver: Resolver) -> None:
    """Denied at the expiry, then cut off: there is nothing to go on with."""
    held = expired(keys, resolver)
    keys.service.denied.add(KMS_KEY)
    with pytest.raises(KeyServiceDenied):
        resolver.to_encrypt(handle())
    keys.service.everything = KeyServiceUnreachable
    keys.service.denied.clear()
    keys.clock.advance(2)

    with pytest.raises(KeyServiceUnreachable):
        resolver.to_decrypt(handle(), held.key_id)


@pytest.mark.parametrize("kind", ["data", "branch"])
@pytest.mark.parametrize("state", [KeyState.DISABLED, KeyState.COMPROMISED, KeyState.DESTROYED])
def test_a_state_in_the_key_store_counts_in_an_outage(
    keys: Parts, resolver: Resolver, kind: str, state: KeyState
) -> None:
    """Disabled before the expiry or while it is stale, the key or the one above it: refused."""
    held = expired(keys, resolver)
    keys.service.everything = KeyServiceUnreachable
    stale = resolver.to_decrypt(handle(), held.key_id)
    keys.service.everything = None  # an operator's step needs no key service, a test's rig does
    keys.step(keys.row(kind), state)
    keys.service.everything = KeyServiceUnreachable
    keys.clock.now = stale.expires
    cold = keys.resolver(age=AGE, stale_for=STALE)

    with pytest.raises(LacreError):
        resolver.to_decrypt(handle(), held.key_id)
    assert resolver.cached(handle(), held.key_id) is None
    with pytest.raises(LacreError):
        cold.to_decrypt(handle(), held.key_id)


@pytest.mark.parametrize("kind", ["data", "branch"])
def test_a_state_that_nobody_authenticated_is_not_believed(
    keys: Parts, resolver: Resolver, kind: str
) -> None:
    """SQL that makes a disabled key usable again does not help: the held keys check the MAC."""
    held = expired(keys, resolver)
    keys.step(keys.row(kind), KeyState.DISABLED)
    keys.edit(keys.row(kind), "state", "active")
    keys.service.everything = KeyServiceUnreachable

    with pytest.raises(KeyDisabled, match="not authentic"):
        resolver.to_decrypt(handle(), held.key_id)


def test_rows_of_another_place_are_refused(keys: Parts, resolver: Resolver) -> None:
    """A branch row that was edited, or is gone, ends it."""
    held = expired(keys, resolver)
    branch = keys.row("branch")
    keys.service.everything = KeyServiceUnreachable
    keys.sql("DELETE FROM lacre_key WHERE key_id = ?", branch.key_id)

    with pytest.raises(LacreError):
        resolver.to_decrypt(handle(), held.key_id)
    assert resolver.cached(handle(), held.key_id) is None


def test_a_data_key_under_another_branch_key_is_not_held(keys: Parts, resolver: Resolver) -> None:
    """After a rotation of the branch key the row says more than the held key: the key service has to answer."""
    held = expired(keys, resolver)
    keys.rotate("branch")
    keys.service.everything = KeyServiceUnreachable

    with pytest.raises(KeyServiceUnreachable):
        resolver.to_decrypt(handle(), held.key_id)


class Switched:
    """A key store that can be away."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.away = False

    def __getattr__(self, name: str) -> Any:
        if self.away and name != "keystore_id":
            raise KeyStoreUnreachable("the key store did not answer")
        return getattr(self.store, name)


def test_where_neither_answers_nothing_is_read(keys: Parts) -> None:
    """Without the key store its states cannot be read again: at the expiry it is over."""
    store = Switched(keys.store)
    resolver = Resolver(
        store=store,  # type: ignore[arg-type]
        services={"local": keys.service},
        kms_keys=kms_keys,
        limits=CacheLimits(age=AGE, stale_for=10 * STALE),
        clock=keys.clock,
    )
    key_id = resolver.to_encrypt(handle()).key_id
    keys.clock.advance(AGE)
    keys.service.everything = KeyServiceUnreachable
    resolver.to_decrypt(handle(), key_id)  # the key store alone answers: read for one age more
    store.away = True
    keys.clock.advance(AGE)

    with pytest.raises(KeyStoreUnreachable):
        resolver.to_decrypt(handle(), key_id)
    store.away = False
    assert resolver.to_decrypt(handle(), key_id)


def test_no_answer_of_the_key_store_is_no_reason(keys: Parts) -> None:
    """With the key service there and the key store away nothing is stale."""
    store = Switched(keys.store)
    resolver = Resolver(
        store=store,  # type: ignore[arg-type]
        services={"local": keys.service},
        kms_keys=kms_keys,
        limits=CacheLimits(age=AGE, stale_for=STALE),
        clock=keys.clock,
    )
    key_id = resolver.to_encrypt(handle()).key_id
    keys.clock.advance(AGE)
    store.away = True

    with pytest.raises(KeyStoreUnreachable):
        resolver.to_decrypt(handle(), key_id)


def test_a_child_of_fork_holds_nothing_to_go_on_with(keys: Parts, resolver: Resolver) -> None:
    """It starts cold, so in an outage it reads nothing."""
    held = expired(keys, resolver)
    keys.service.everything = KeyServiceUnreachable
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            resolver.to_decrypt(handle(), held.key_id)
        except KeyServiceUnreachable:
            code = 0
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
