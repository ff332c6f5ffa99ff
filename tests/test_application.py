"""Doubles stay in tests, and an application closes whole."""

from pathlib import Path
from typing import Any

import pytest

from lacre import Lacre
from lacre.cli.initialise import initialise
from lacre.errors import ConfigurationError, EvidenceUnavailable, KeyServiceDenied
from lacre.policy.decisions import Policy
from lacre.policy.loading import load_policy
from lacre.testing import CapturedEvents, FrozenClock, MemoryKeyService


@pytest.mark.parametrize("env", ["dev", "prod", "testing"])
@pytest.mark.parametrize(
    "double",
    [
        {"services": {"local": MemoryKeyService()}},
        {"sink": CapturedEvents()},
        {"clock": FrozenClock()},
    ],
    ids=lambda double: next(iter(double)),
)
def test_a_double_outside_env_test_is_refused(
    home: Path, lacre: Lacre, env: str, double: dict[str, Any]
) -> None:
    """Any one of them, in any environment but `test`."""
    policy = Policy(load_policy(home / "lacre.toml", {"LACRE_ENV": env}))
    parts: dict[str, Any] = {
        "store": lacre.store,
        "services": lacre.services,
        "sink": lacre.recorder._sink,
    }

    with pytest.raises(ConfigurationError, match='env = "test" only'):
        Lacre(policy, **parts | double)
    Lacre(policy, **parts)


def test_an_application_on_doubles_works_and_ages(home: Path, lacre: Lacre) -> None:
    """With all three: real encryption, events in memory, a cache that expires when the clock says."""
    service, sink, clock = MemoryKeyService(), CapturedEvents(), FrozenClock()
    with (
        Lacre(
            lacre.policy, store=lacre.store, services={"local": service}, sink=sink, clock=clock
        ) as app,
        app.acting_as("svc:x", roles={"app"}, purpose="test", tenant="t2"),
    ):
        app.create_keys("t2", "pii")
        box = app.field("pii", table="t", column="c")
        sealed = box.encrypt("ana", row=1)
        assert box.decrypt(sealed, row=1) == "ana"
        service.everything = KeyServiceDenied
        clock.advance(300)
        with pytest.raises(KeyServiceDenied):
            box.decrypt(sealed, row=1)

    assert {event.time for event in sink.of("look")} == {clock.now - 300, clock.now}


def test_closing_drops_keys_even_if_the_evidence_fails(lacre: Lacre) -> None:
    """A full disk at the end of the process is said, and no key stays behind."""
    sink = CapturedEvents()
    app = Lacre(lacre.policy, store=lacre.store, services=lacre.services, sink=sink)
    with app.acting_as("svc:x", roles={"app"}, purpose="test"):
        app.field("pii", table="t", column="c").encrypt("a", row=1)
    sink.failing = OSError("full")
    with pytest.raises(EvidenceUnavailable):
        app.close()

    assert not app.resolver._entries
    sink.failing = None
    app.close()


@pytest.mark.parametrize("name", ["My App", 'x"', "x\ny", ""])
def test_init_with_a_name_the_policy_does_not_take_makes_nothing(tmp_path: Path, name: str) -> None:
    """The error comes before the first file, so that a second try is not in the way of itself."""
    with pytest.raises(ConfigurationError):
        initialise(tmp_path, app=name)

    assert list(tmp_path.iterdir()) == []
