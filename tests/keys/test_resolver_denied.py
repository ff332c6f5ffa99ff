"""A denial is remembered for two seconds: long enough for a loop, too short to hide a grant."""

import threading
from typing import Any

import pytest

from lacre.errors import KeyServiceDenied, KeyServiceUnreachable
from tests.keys.parts import Parts, handle

KMS_KEY = "local://pii-fields"


def test_a_loop_that_is_denied_asks_once_in_two_seconds(keys: Parts) -> None:
    """A hundred uses cost one call, and each is told the same."""
    resolver = keys.resolver()
    keys.service.denied.add(KMS_KEY)
    key_id = keys.row().key_id
    for _ in range(50):
        with pytest.raises(KeyServiceDenied, match=KMS_KEY):
            resolver.to_encrypt(handle())
        with pytest.raises(KeyServiceDenied, match=KMS_KEY):
            resolver.to_decrypt(handle(), key_id)
    assert len(keys.service.unwrapped) == 1
    keys.clock.advance(2)

    with pytest.raises(KeyServiceDenied):
        resolver.to_encrypt(handle())
    assert len(keys.service.unwrapped) == 2


def test_a_grant_shows_after_two_seconds_at_most(keys: Parts) -> None:
    """Asked in between or not, what was denied at 0 is asked for at 2."""
    resolver = keys.resolver()
    keys.service.denied.add(KMS_KEY)
    with pytest.raises(KeyServiceDenied):
        resolver.to_encrypt(handle())
    keys.service.denied.clear()
    keys.clock.advance(1.9)
    with pytest.raises(KeyServiceDenied):
        resolver.to_decrypt(handle(), keys.row().key_id)
    keys.clock.advance(0.1)

    assert resolver.to_decrypt(handle(), keys.row().key_id)


def test_a_denial_counts_from_when_the_key_service_was_asked(keys: Parts) -> None:
    """One that took three seconds is not remembered at all."""
    resolver = keys.resolver()
    keys.service.denied.add(KMS_KEY)
    unwrap = keys.service.unwrap

    def slow(*given: Any) -> Any:
        keys.clock.advance(3)
        return unwrap(*given)

    keys.service.unwrap = slow  # type: ignore[method-assign]
    with pytest.raises(KeyServiceDenied):
        resolver.to_encrypt(handle())
    keys.service.denied.clear()

    assert resolver.to_encrypt(handle())


def test_a_denial_is_of_one_kms_key_and_forgotten_on_demand(keys: Parts) -> None:
    """Another KMS key is asked; `forget` forgets denials too."""
    resolver = keys.resolver()
    keys.service.denied.add(KMS_KEY)
    with pytest.raises(KeyServiceDenied):
        resolver.to_encrypt(handle())
    assert resolver.to_encrypt(handle("index"))
    keys.service.denied.clear()
    resolver.forget()

    assert resolver.to_encrypt(handle())


def test_no_answer_is_not_remembered(keys: Parts) -> None:
    """An outage hides nothing: the next use asks."""
    resolver = keys.resolver()
    keys.service.everything = KeyServiceUnreachable
    for _ in range(3):
        with pytest.raises(KeyServiceUnreachable):
            resolver.to_encrypt(handle())
    keys.service.everything = None

    assert resolver.to_encrypt(handle())


def test_a_remembered_denial_gathers_no_frames(keys: Parts) -> None:
    """Raised over and over in eight threads, its traceback is that of one raising."""
    resolver = keys.resolver()
    keys.service.denied.add(KMS_KEY)
    depths: list[int] = []

    def use() -> None:
        for _ in range(25):
            try:
                resolver.to_encrypt(handle())
            except KeyServiceDenied as error:
                depth, frame = 0, error.__traceback__
                while frame is not None:
                    depth, frame = depth + 1, frame.tb_next
                depths.append(depth)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(depths) == 200
    assert max(depths) < 30
