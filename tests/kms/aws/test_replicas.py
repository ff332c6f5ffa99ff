# SPDX-License-Identifier: Apache-2.0
"""Replicas of multi-Region keys: they stand in for unwrapping, where the primary region does not answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from lacre.errors import (
    KeyDisabled,
    KeyNotFound,
    KeyServiceDenied,
    KeyServiceUnreachable,
    LacreError,
    Tampered,
)
from lacre.kms.aws import AwsKeyService
from lacre.kms.calling import CallLimits
from lacre.sensitive import KeyMaterial
from tests.components.aws import AWS, REGION, REPLICA_REGION
from tests.components.faults import Alter, Fault, FaultProxy, Silence, aws_error, fault_proxy
from tests.kms.aws.conftest import Serve
from tests.kms.aws.rows import context_of, uri_of

CONTEXT = context_of()
LIMITS = CallLimits(deadline=4.0, attempt=2.0)
THIRD = "ap-south-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicated:
    """A multi-Region key with one replica, each region behind a proxy of its own."""

    service: AwsKeyService
    uri: str
    blob: bytes
    key: bytes
    primary: FaultProxy
    second: FaultProxy


@pytest.fixture(scope="module")
def arn(moto: AWS) -> str:
    """A multi-Region key with a replica."""
    arn = moto.key(multi_region=True)
    moto.replica(arn)
    return arn


@pytest.fixture
def replicated(
    serve: Serve,
    moto: AWS,
    arn: str,
    before_moto: FaultProxy,
    _second: FaultProxy,
    request: pytest.FixtureRequest,
) -> Replicated:
    """The key, declared with its replica."""
    _second.forget()
    _second.clear()
    held = getattr(request, "param", {REGION: (REPLICA_REGION,)})
    service = serve(
        moto,
        limits=LIMITS,
        endpoints={REGION: before_moto.address, REPLICA_REGION: _second.address},
        regions=(REGION, REPLICA_REGION, THIRD),
        replicas=held,
    )
    blob = service.mint(uri_of(arn), CONTEXT)
    key = service.unwrap(uri_of(arn), blob, CONTEXT).reveal()
    before_moto.forget()
    return Replicated(
        service=service, uri=uri_of(arn), blob=blob, key=key, primary=before_moto, second=_second
    )


@pytest.fixture(scope="module")
def _second(moto: AWS) -> Any:
    with fault_proxy(moto.endpoint) as proxy:
        yield proxy


FAILING: list[Callable[[FaultProxy], None]] = [
    lambda proxy: proxy.refuse(),
    lambda proxy: proxy.put(Silence(), times=None),
    lambda proxy: proxy.put(aws_error("ThrottlingException"), times=None),
    lambda proxy: proxy.put(aws_error("KMSInternalException", status=500), times=None),
]


@pytest.mark.parametrize("fail", FAILING, ids=["refused", "silent", "throttled", "failing"])
def test_a_replica_stands_in(replicated: Replicated, fail: Callable[[FaultProxy], None]) -> None:
    """Where the primary region gives no answer the replica does, under its own ARN, and the key is the same."""
    fail(replicated.primary)
    key = replicated.service.unwrap(replicated.uri, replicated.blob, CONTEXT)
    asked = [seen.body.decode() for seen in replicated.second.seen()]

    assert key.reveal() == replicated.key
    assert len(asked) == 1
    assert f"arn:aws:kms:{REPLICA_REGION}:" in asked[0]


def test_the_primary_comes_first(replicated: Replicated) -> None:
    """While the primary answers, no replica is asked."""
    replicated.service.unwrap(replicated.uri, replicated.blob, CONTEXT)

    assert (replicated.primary.count(), replicated.second.count()) == (1, 0)


def test_an_open_breaker_goes_on_at_once(replicated: Replicated) -> None:
    """Once the primary's breaker is open it is not even asked, until a probe finds it well again."""
    replicated.primary.put(aws_error("KMSInternalException", status=500), times=None)
    for _ in range(3):
        replicated.service.unwrap(replicated.uri, replicated.blob, CONTEXT)
    replicated.primary.forget()
    replicated.service.unwrap(replicated.uri, replicated.blob, CONTEXT)

    assert replicated.primary.count() == 0
    assert replicated.second.count() == 4


@pytest.mark.parametrize(("code", "expected"), [
    ("AccessDeniedException", KeyServiceDenied), ("ExpiredTokenException", KeyServiceDenied),
    ("DisabledException", KeyDisabled), ("KMSInvalidStateException", KeyDisabled),
    ("InvalidCiphertextException", Tampered), ("NotFoundException", KeyNotFound),
])  # fmt: skip
def test_an_answer_is_an_answer(
    replicated: Replicated, code: str, expected: type[LacreError]
) -> None:
    """A denial, a disabled or missing key and tampering at the primary are final: no replica is asked."""
    replicated.primary.put(aws_error(code))

    with pytest.raises(expected):
        replicated.service.unwrap(replicated.uri, replicated.blob, CONTEXT)
    assert replicated.second.count() == 0


@pytest.mark.parametrize(("code", "expected"), [
    ("AccessDeniedException", KeyServiceDenied), ("DisabledException", KeyDisabled),
    ("InvalidCiphertextException", Tampered), ("NotFoundException", KeyServiceUnreachable),
])  # fmt: skip
def test_a_stand_in_decides_too(
    replicated: Replicated, code: str, expected: type[LacreError]
) -> None:
    """What a replica answers counts; that it is not there says nothing about the key, which stays unreachable."""
    replicated.primary.refuse()
    replicated.second.put(aws_error(code), times=None)

    with pytest.raises(expected):
        replicated.service.unwrap(replicated.uri, replicated.blob, CONTEXT)


@pytest.mark.parametrize("wrong", [REGION, "eu-central-1"])
def test_a_replica_names_itself(replicated: Replicated, arn: str, wrong: str) -> None:
    """An answer of the replica's region that names the primary, or another region's key, is refused."""
    named = arn.replace(REGION, wrong)
    replicated.primary.refuse()
    replicated.second.put(Alter(change=lambda answer: answer | {"KeyId": named}))

    with pytest.raises(Tampered):
        replicated.service.unwrap(replicated.uri, replicated.blob, CONTEXT)


def test_nothing_else_fails_over(replicated: Replicated) -> None:
    """Minting, wrapping, rewrapping and administration are the primary's, whatever happens to it."""
    service, uri, blob = replicated.service, replicated.uri, replicated.blob
    replicated.primary.refuse()

    for call in (
        lambda: service.mint(uri, CONTEXT),
        lambda: service.wrap(uri, KeyMaterial(b"k" * 32), CONTEXT),
        lambda: service.rewrap(uri, blob, CONTEXT, to=uri, to_context=CONTEXT),
        lambda: service.rotate(uri),
    ):
        with pytest.raises(KeyServiceUnreachable):
            call()
    assert replicated.second.count() == 0


def test_a_key_of_one_region_has_no_replica(replicated: Replicated, moto: AWS) -> None:
    """A key that is not multi-Region is asked for in its own region only, whatever is declared."""
    uri = uri_of(moto.key())
    blob = replicated.service.mint(uri, CONTEXT)
    replicated.primary.refuse()

    with pytest.raises(KeyServiceUnreachable):
        replicated.service.unwrap(uri, blob, CONTEXT)
    assert replicated.second.count() == 0


@pytest.mark.parametrize("replicated", [{}, {REPLICA_REGION: (REGION,)}], indirect=True)
def test_only_declared_replicas_stand_in(replicated: Replicated) -> None:
    """Without a declaration for the key's region none is asked, though the replica is there."""
    replicated.primary.refuse()

    with pytest.raises(KeyServiceUnreachable):
        replicated.service.unwrap(replicated.uri, replicated.blob, CONTEXT)
    assert replicated.second.count() == 0


@pytest.mark.parametrize("replicated", [{REGION: (THIRD, REPLICA_REGION)}], indirect=True)
def test_replicas_stand_in_in_their_order(replicated: Replicated, moto: AWS) -> None:
    """The first of two is asked first; where it does not hold the key, the next one is."""
    replicated.primary.refuse()
    since = moto.mark()
    replicated.service.unwrap(replicated.uri, replicated.blob, CONTEXT)

    assert [entry["region"] for entry in moto.requests(since=since)] == [THIRD, REPLICA_REGION]


@pytest.mark.parametrize("fault", [Silence(), aws_error("ThrottlingException")], ids=["silent", "throttled"])  # fmt: skip
def test_the_whole_stays_within_the_deadline(replicated: Replicated, fault: Fault) -> None:
    """Each region gets its share: the last request goes out so that its attempt ends before the deadline."""
    replicated.primary.put(fault, times=None)
    replicated.second.put(fault, times=None)

    with pytest.raises(KeyServiceUnreachable, match=f"not in {REGION}, {REPLICA_REGION}"):
        replicated.service.unwrap(replicated.uri, replicated.blob, CONTEXT)
    first, last = replicated.primary.seen()[0], replicated.second.seen()[-1]
    assert last.at - first.at < LIMITS.deadline
