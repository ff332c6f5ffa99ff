"""What is recorded of calls that unwrap a key, and what becomes of the key where it cannot be."""

from collections.abc import Mapping

import pytest

from lacre.audit.event import Event, Outcome
from lacre.audit.events import KeyUnwrapped
from lacre.context import acting_as
from lacre.errors import EvidenceUnavailable, KeyServiceDenied, KeyServiceUnreachable
from lacre.keys.requests import noted
from lacre.keys.usage import CountedKeyService, UsageCounters
from lacre.sensitive import KeyMaterial

_KEY = "openbao://transit/pii"
_CONTEXT = {
    "app": "shop", "class": "pii", "env": "test", "kind": "branch", "service": "shop",
    "tenant": "acme", "lacre-key": "ab" * 16, "lacre-row": "digest",
}  # fmt: skip
_ID = "ccce9c3a-fe67-258d-939f-5b41f6dd498d"


class _Service:
    """A key service that answers, or fails, after the attempts it is told of."""

    def __init__(self, *attempts: object, error: Exception | None = None) -> None:
        self.attempts, self.error = attempts, error

    def mint(self, kms_key: str, context: Mapping[str, str]) -> bytes:
        return b""

    def unwrap(self, kms_key: str, wrapped: bytes, context: Mapping[str, str]) -> KeyMaterial:
        for each in self.attempts:
            noted(each)
        if self.error is not None:
            raise self.error
        return KeyMaterial(bytes(32))

    def rewrap(self, kms_key: str, wrapped: bytes, context: Mapping[str, str], *, to: str, to_context: Mapping[str, str]) -> bytes:  # fmt: skip
        self.unwrap(kms_key, wrapped, context)
        return b"rewrapped"


def _counted(service: _Service, events: list[Event]) -> CountedKeyService:
    return CountedKeyService(service, UsageCounters(), events.append)


def _only(events: list[Event]) -> KeyUnwrapped:
    (event,) = events
    assert isinstance(event, KeyUnwrapped)
    return event


def test_one_call() -> None:
    """One event says which key of whose, under which KMS key, by whom, under which ids, in how many attempts."""
    events: list[Event] = []
    with acting_as("svc:kyc", roles={"app"}, purpose="kyc"):
        _counted(_Service(None, _ID), events).unwrap(_KEY, b"", _CONTEXT)
    event = _only(events)

    assert (event.principal, event.purpose, event.tenant) == ("svc:kyc", "kyc", "acme")
    assert (event.kms_key, event.key, event.kind, event.class_) == (
        _KEY,
        "ab" * 16,
        "branch",
        "pii",
    )
    assert (event.operation, event.digest, event.outcome) == ("unwrap", "digest", Outcome.ALLOWED)
    assert (event.requests, event.attempts) == ((_ID,), 2)


def test_nobody_acts() -> None:
    """Keys that are warmed up are unwrapped by the process itself."""
    events: list[Event] = []
    _counted(_Service(_ID), events).unwrap(_KEY, b"", _CONTEXT)

    assert (_only(events).principal, _only(events).purpose) == ("lacre", "keys")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(KeyServiceDenied("no"), Outcome.DENIED), (KeyServiceUnreachable("gone"), Outcome.FAILED)],
)
def test_failures(error: Exception, outcome: Outcome) -> None:
    """A denial and a failure are recorded as that, and raised as they were."""
    events: list[Event] = []
    with pytest.raises(type(error)):
        _counted(_Service(error=error), events).unwrap(_KEY, b"", _CONTEXT)

    assert (_only(events).outcome, _only(events).requests, _only(events).attempts) == (outcome, (), 1)  # fmt: skip


def test_rewrap() -> None:
    """A rewrap opens the key inside the service, and is recorded with the context it came from."""
    events: list[Event] = []
    _counted(_Service(_ID), events).rewrap(
        _KEY, b"", _CONTEXT, to="openbao://transit/new", to_context=_CONTEXT | {"lacre-row": "new"}
    )

    assert (_only(events).operation, _only(events).digest) == ("rewrap", "digest")


def test_what_leaves_no_event() -> None:
    """Minting opens nothing, and the local keystore has no log to match: neither is recorded."""
    events: list[Event] = []
    service = _counted(_Service(), events)
    service.mint(_KEY, _CONTEXT)
    service.unwrap("local://pii-fields", b"", _CONTEXT)

    assert events == []


def test_an_id_is_an_id() -> None:
    """Whatever a service calls an id and is none stays out of the evidence; the attempt counts."""
    events: list[Event] = []
    hostile = ("x" * 65, "a\nb-c-d-e-f", 7, {"id": 1}, "short", "=cmd|' /C calc'!A0")
    _counted(_Service(*hostile, _ID), events).unwrap(_KEY, b"", _CONTEXT)

    assert (_only(events).requests, _only(events).attempts) == ((_ID,), 7)


def test_no_evidence_no_key() -> None:
    """Where the event cannot be taken, the key is not handed out; a failure is told before that."""

    def full(_: Event) -> None:
        raise EvidenceUnavailable("full")

    with pytest.raises(EvidenceUnavailable):
        CountedKeyService(_Service(), UsageCounters(), full).unwrap(_KEY, b"", _CONTEXT)
    denied = _Service(error=KeyServiceDenied("no"))
    with pytest.raises(KeyServiceDenied):
        CountedKeyService(denied, UsageCounters(), full).unwrap(_KEY, b"", _CONTEXT)
