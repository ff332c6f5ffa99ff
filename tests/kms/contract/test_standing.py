# SPDX-License-Identifier: Apache-2.0
"""What a running process meets: credentials that end, a server that is sealed, a clock that is wrong."""

from email.utils import formatdate

import pytest

from lacre.errors import (
    ConfigurationError,
    KeyDisabled,
    KeyServiceDenied,
    KeyServiceUnreachable,
    Tampered,
)
from lacre.kms.calling import CallLimits
from tests.components.faults import Answer, FaultProxy
from tests.kms.contract.on_aws import MinistackRig, MotoRig
from tests.kms.contract.on_openbao import OpenBaoRig
from tests.kms.contract.rig import PATIENT, Credential, RemoteRig, context, until_it_answers

BRIEF = CallLimits(deadline=1.0, attempt=1.0)  # one attempt


def test_credentials_that_were_withdrawn_are_denied(remote: RemoteRig) -> None:
    """A credential that is withdrawn at the service is denied from the next operation on, for good."""
    kms_key = remote.kms_key()
    pairs = context(kms_key)
    blob = remote.open(Credential.MINTS).mint(kms_key, pairs)
    service, withdraw = remote.withdrawable(Credential.RUNS)
    before = service.unwrap(kms_key, blob, pairs).reveal()
    withdraw()

    for _ in range(3):
        with pytest.raises(KeyServiceDenied) as caught:
            service.unwrap(kms_key, blob, pairs)
        assert not caught.value.retryable
        assert caught.value.hint
    assert remote.open(Credential.RUNS).unwrap(kms_key, blob, pairs).reveal() == before


def test_a_sealed_server(remote: OpenBaoRig) -> None:
    """A sealed server is `KeyServiceUnreachable`; unsealed, the same service object works again."""
    kms_key = remote.kms_key()
    pairs = context(kms_key)
    blob = remote.open(Credential.MINTS).mint(kms_key, pairs)
    service = remote.open(Credential.RUNS, limits=BRIEF)
    unwrap = lambda: service.unwrap(kms_key, blob, pairs).reveal()  # noqa: E731
    key = until_it_answers(unwrap)
    with remote.server.sealed():
        for _ in range(4):  # until the breaker is open, and once more
            with pytest.raises(KeyServiceUnreachable) as caught:
                unwrap()
            assert caught.value.retryable
    until = until_it_answers(unwrap)

    assert until == key


def test_a_log_in_that_ended_is_made_anew(remote: OpenBaoRig) -> None:
    """Where a token ends before its time the service logs in anew, and the caller notices nothing."""
    kms_key = remote.kms_key()
    pairs = context(kms_key)
    blob = remote.open(Credential.MINTS).mint(kms_key, pairs)
    service = remote.open(Credential.RUNS)
    key = service.unwrap(kms_key, blob, pairs).reveal()
    since = remote.server.mark()
    remote.end_tokens()
    again = service.unwrap(kms_key, blob, pairs).reveal()

    assert again == key
    assert remote.server.calls("auth/approle/login", since=since).total() == 1


def test_a_clock_that_is_wrong(remote: MotoRig, proxy: FaultProxy) -> None:
    """A signature refused for its time is a denial that says to set the clock, and is not tried again."""
    kms_key = remote.kms_key()
    pairs = context(kms_key)
    blob = remote.open(Credential.MINTS).mint(kms_key, pairs)
    service = remote.open(Credential.RUNS, limits=PATIENT, through=proxy)
    skewed = [
        ("RequestExpired", {}),
        ("RequestInTheFuture", {}),
        ("InvalidSignatureException", {"Date": formatdate(1_000_000_000, usegmt=True)}),
    ]
    for number, (code, headers) in enumerate(skewed, 1):
        answer = Answer(
            status=400,
            body={"__type": code, "message": "Signature expired"},
            headers={"Content-Type": "application/x-amz-json-1.1", **headers},
        )
        with (
            proxy.faulty(answer, path=remote.unwrapping),
            pytest.raises(KeyServiceDenied) as caught,
        ):
            service.unwrap(kms_key, blob, pairs)
        assert "clock" in caught.value.hint
        assert proxy.count(remote.unwrapping) == number


def test_a_session_that_ended(remote: MotoRig, proxy: FaultProxy) -> None:
    """An expired session token that nothing refreshes is a denial, and is not tried again."""
    kms_key = remote.kms_key()
    pairs = context(kms_key)
    blob = remote.open(Credential.MINTS).mint(kms_key, pairs)
    service = remote.open(Credential.RUNS, through=proxy)
    expired = Answer(
        status=400,
        body={"__type": "ExpiredTokenException", "message": "The security token is expired"},
        headers={"Content-Type": "application/x-amz-json-1.1"},
    )
    with proxy.faulty(expired), pytest.raises(KeyServiceDenied) as caught:
        service.unwrap(kms_key, blob, pairs)

    assert "log in" in caught.value.hint
    assert proxy.count(remote.unwrapping) == 1


def test_a_key_that_waits_for_its_deletion(remote: MinistackRig) -> None:
    """A KMS key that waits for deletion does nothing, `KeyDisabled`, and `status` tells the day."""
    kms_key = remote.kms_key()
    pairs = context(kms_key)
    minting, running = remote.open(Credential.MINTS), remote.open(Credential.RUNS)
    blob = minting.mint(kms_key, pairs)
    running.unwrap(kms_key, blob, pairs)
    remote.schedule_deletion(kms_key)
    status = remote.open(Credential.ADMINISTERS).status(kms_key)

    with pytest.raises(KeyDisabled):
        running.unwrap(kms_key, blob, pairs)
    with pytest.raises(KeyDisabled):
        minting.mint(kms_key, pairs)
    assert not status.usable
    assert status.deletion is not None


def test_an_alias_is_not_used(remote: RemoteRig) -> None:
    """Nothing is minted or unwrapped under a label that somebody can move: no call is made for one."""
    kms_key = remote.kms_key()
    service = remote.open(Credential.RUNS)
    before = remote.asked()
    for use in (
        lambda: service.mint("aws-kms://us-east-1/alias/app", context(kms_key)),
        lambda: service.unwrap("aws-kms://us-east-1/alias/app", b"x" * 180, context(kms_key)),
        lambda: service.mint("local://pii-fields", context(kms_key)),
    ):
        with pytest.raises((ConfigurationError, Tampered)):
            use()
    assert remote.asked() == before
