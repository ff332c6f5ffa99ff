# SPDX-License-Identifier: Apache-2.0
"""Answers that a service would not give: whoever sits in between makes no key of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lacre.errors import ConfigurationError, KeyServiceUnreachable, KeyUnavailable, Tampered
from lacre.kms.calling import CallLimits
from tests.components.authority import Authority
from tests.components.faults import Alter, Answer, FaultProxy, Truncate, fault_proxy
from tests.kms.contract.on_openbao import OpenBaoRig
from tests.kms.contract.rig import Credential, RemoteRig, context, until_it_answers

# What each test provokes is an error: nothing waits for an answer that is right.
BRIEF = CallLimits(deadline=1.0, attempt=1.0)  # one attempt


# What it is to fail closed: no key, and an error of the tree.
_CLOSED = (KeyServiceUnreachable, Tampered)

# Connections that ended in the middle of an answer are closed by the collector of garbage.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <:ResourceWarning")


def _unwrapping(remote: RemoteRig, proxy: FaultProxy) -> Callable[[], bytes]:
    """Return a call that unwraps a key through *proxy*, logged in already."""
    kms_key = remote.kms_key()
    pairs = context(kms_key)
    blob = remote.open(Credential.MINTS).mint(kms_key, pairs)
    service = remote.open(Credential.RUNS, limits=BRIEF, through=proxy)
    unwrap = lambda: service.unwrap(kms_key, blob, pairs).reveal()  # noqa: E731
    until_it_answers(unwrap)
    return unwrap


def _outcome(unwrap: Callable[[], bytes]) -> object:
    """Return the class of what *unwrap* raises, of whatever tree; what it returns where it does."""
    try:
        return unwrap()
    except Exception as error:
        return type(error)


def _nonsense() -> dict[str, bytes | dict[str, Any] | list[Any]]:
    return {
        "empty": b"",
        "not JSON": b"this is not JSON",
        "HTML": b"<html><body>Welcome to the hotel's network</body></html>",
        "not text": bytes(range(128, 256)),
        "no object": b"[]",
        "a string": b'"key"',
        "null": b"null",
        "a number": b"1e999",
        "deep": b"[" * 100_000,
        "nothing in it": {},
        "an error with status 200": {"errors": ["permission denied"], "__type": "AccessDenied"},
        "nulls": {"data": {"plaintext": None}, "Plaintext": None, "KeyId": None},
        "no base64": {"data": {"plaintext": "*" * 44}, "Plaintext": "*" * 44, "KeyId": "x"},
        "numbers": {"data": {"plaintext": 7}, "Plaintext": 7, "KeyId": 7},
        "lists": {"data": [1], "Plaintext": [1], "KeyId": [1]},
        "data is text": {"data": "plaintext", "Plaintext": "", "KeyId": ""},
    }


def test_an_answer_that_makes_no_sense_opens_nothing(remote: RemoteRig, proxy: FaultProxy) -> None:
    """An answer with status 200 that is not the service's gives no key, and an error of the tree."""
    unwrap, outcomes = _unwrapping(remote, proxy), {}
    for what, body in _nonsense().items():
        until_it_answers(unwrap)
        with proxy.faulty(Answer(status=200, body=body), path=remote.unwrapping):  # type: ignore[arg-type]
            outcomes[what] = _outcome(unwrap)

    assert {what: outcome for what, outcome in outcomes.items() if outcome not in _CLOSED} == {}


def test_a_key_of_another_length_is_refused(remote: RemoteRig, proxy: FaultProxy) -> None:
    """An answer with a key that is not 32 bytes long is no key."""
    unwrap, outcomes = _unwrapping(remote, proxy), {}
    for size in (0, 1, 16, 31, 33, 48, 64, 4096):
        until_it_answers(unwrap)
        with proxy.faulty(remote.opened_as(bytes(size)), path=remote.unwrapping):
            outcomes[size] = _outcome(unwrap)

    assert {size: outcome for size, outcome in outcomes.items() if outcome not in _CLOSED} == {}


def test_an_answer_cut_short_opens_nothing(remote: RemoteRig, proxy: FaultProxy) -> None:
    """An answer that ends in the middle is none."""
    unwrap = _unwrapping(remote, proxy)
    for keep in (0, 1, 20, 40):
        until_it_answers(unwrap)
        with proxy.faulty(Truncate(keep=keep), path=remote.unwrapping):
            assert _outcome(unwrap) is KeyServiceUnreachable


def test_an_answer_that_names_another_key(remote: RemoteRig, proxy: FaultProxy) -> None:
    """An answer in the name of another KMS key, or of an alias, or of nothing, is not believed."""
    unwrap, another = _unwrapping(remote, proxy), remote.kms_key()
    region, account, _, id_ = another.removeprefix("aws-kms://").split("/")
    arn = f"arn:aws:kms:{region}:{account}:key/{id_}"
    for named in (arn, id_, f"arn:aws:kms:{region}:{account}:alias/app", "", arn + " "):
        change = Alter(change=lambda answer, named=named: {**answer, "KeyId": named})
        with proxy.faulty(change, path=remote.unwrapping), pytest.raises(Tampered):
            unwrap()
    without = Alter(change=lambda answer: {"Plaintext": answer["Plaintext"]})
    with (
        proxy.faulty(without, path=remote.unwrapping),
        pytest.raises((Tampered, KeyServiceUnreachable)),
    ):
        unwrap()


def test_a_redirect_is_not_followed(remote: RemoteRig, proxy: FaultProxy) -> None:
    """A redirect to another host is not followed: no request, and so no credential, arrives there."""
    unwrap = _unwrapping(remote, proxy)
    with remote.proxy() as elsewhere:
        for status in (301, 302, 303, 307, 308):
            until_it_answers(unwrap)
            away = Answer(status=status, headers={"Location": f"{elsewhere.address}/v1/any"})
            with (
                proxy.faulty(away, path=remote.unwrapping),
                pytest.raises((KeyUnavailable, ConfigurationError)),
            ):
                unwrap()

        assert elsewhere.count() == 0
        assert elsewhere.connections == 0


def test_a_server_of_an_unknown_authority_is_told_nothing(
    transit: OpenBaoRig, tmp_path: Path
) -> None:
    """A server whose certificate is another authority's gets no request, and so no token and no secret id."""
    kms_key = transit.kms_key()
    pairs = context(kms_key)
    blob = transit.open(Credential.MINTS).mint(kms_key, pairs)
    with fault_proxy(transit.server.address, transit.server.authority) as proxy:
        trusting = transit.open(Credential.RUNS, through=proxy)
        assert trusting.unwrap(kms_key, blob, pairs)
        before = proxy.count()
        other = Authority(tmp_path / "another")
        wary = transit.open(Credential.RUNS, limits=BRIEF, through=proxy, ca_file=str(other.file))
        with pytest.raises((KeyServiceUnreachable, ConfigurationError)):
            wary.unwrap(kms_key, blob, pairs)

        assert proxy.count() == before
        assert proxy.connections > 1
