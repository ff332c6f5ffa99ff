# SPDX-License-Identifier: Apache-2.0
"""Whose credentials sign, in which process and thread."""

import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lacre.errors import ConfigurationError, KeyServiceDenied, KeyServiceUnreachable
from lacre.kms.aws import AwsKeyService
from lacre.kms.aws.clients import AwsClients
from lacre.kms.calling import CallLimits
from lacre.policy.model import AwsSettings
from tests.components.aws import AWS, Credentials
from tests.components.faults import Answer, FaultProxy, Silence
from tests.kms.aws.conftest import Chain, Serve
from tests.kms.aws.rows import context_of, uri_of

CONTEXT = context_of()
LIMITS = CallLimits(deadline=20.0, attempt=10.0)


def _open(aws: AWS, **given: Any) -> AwsKeyService:
    settings = {"regions": ("us-east-1",), "endpoint_url": aws.endpoint, **given}
    return AwsKeyService.open(AwsSettings.model_validate(settings), limits=LIMITS)


def _provider(directory: Path, text: str) -> str:
    """Write a `credential_process` that prints what is in a file; return its profile's configuration."""
    given = directory / "given.json"
    given.write_text(text)
    return f"[profile it]\ncredential_process = {sys.executable} -c \"print(open('{given}').read())\"\n"


def _printed(who: Credentials, *, expires: str | None = None) -> str:
    import json

    token = {"SessionToken": who.token} if who.token else {}
    until = {"Expiration": expires} if expires else {}
    return json.dumps({"Version": 1, "AccessKeyId": who.access_key, "SecretAccessKey": who.secret_key, **token, **until})  # fmt: skip


@pytest.mark.usefixtures("chain")
def test_long_lived_credentials_are_refused(moto: AWS, monkeypatch: pytest.MonkeyPatch) -> None:
    """An access key without a session token signs nothing that leaves, unless the policy allows it."""
    uri = uri_of(moto.key())
    user = moto.principal(moto.allowed(["kms:*"], "*"))
    for name, value in user.environ().items():
        monkeypatch.setenv(name, value)
    since = moto.mark()

    with pytest.raises(ConfigurationError, match="long-lived") as raised:
        _open(moto).mint(uri, CONTEXT)
    assert "allow_static_keys" in raised.value.hint
    assert not moto.requests(since=since)
    assert _open(moto, allow_static_keys=True).mint(uri, CONTEXT)


@pytest.mark.usefixtures("chain")
def test_temporary_credentials_are_taken(aws: AWS, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a role have a session token; the whole service works with them."""
    uri = uri_of(aws.key())
    role = aws.principal(aws.allowed(["kms:*", "cloudtrail:*"], "*"), kind="role")
    for name, value in role.environ().items():
        monkeypatch.setenv(name, value)
    service = _open(aws)
    blob = service.mint(uri, CONTEXT)

    assert service.unwrap(uri, blob, CONTEXT)
    assert service.status(uri).usable


@pytest.mark.usefixtures("chain")
def test_the_check_holds_after_a_refresh(
    moto: AWS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that first gives a role's credentials and later long-lived ones is refused from then on."""
    uri = uri_of(moto.key())
    role = moto.principal(moto.allowed(["kms:*"], "*"), kind="role")
    user = moto.principal(moto.allowed(["kms:*"], "*"))
    config = tmp_path / "config"
    config.write_text(_provider(tmp_path, _printed(role, expires="2099-01-01T00:00:00Z")))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    service = _open(moto, profile="it")
    assert service.mint(uri, CONTEXT)
    session = service._ask._clients._session
    (tmp_path / "given.json").write_text(_printed(user, expires="2099-01-01T00:00:00Z"))
    # As it is when they are past their end: the chain asks its provider again.
    session.get_credentials()._expiry_time = session.get_credentials()._time_fetcher()
    since = moto.mark()

    with pytest.raises(ConfigurationError, match="long-lived"):
        service.mint(uri, CONTEXT)
    assert not moto.requests(since=since)


@pytest.mark.usefixtures("chain")
def test_no_credentials_at_all(moto: AWS, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials it says so; when they come later, the same service works."""
    uri = uri_of(moto.key())
    service = _open(moto, allow_static_keys=True)
    with pytest.raises(ConfigurationError, match="no AWS credentials"):
        service.mint(uri, CONTEXT)
    for name, value in moto.admin.environ().items():
        monkeypatch.setenv(name, value)

    assert service.mint(uri, CONTEXT)


@pytest.mark.parametrize(("profile", "text", "expected"), [
    ("nobody", "", "ProfileNotFound"),
    ("it", "[profile it]\naws_access_key_id = AKIAXXXXXXXXXXXXXXXX\n", "no AWS credentials"),
    ("it", "nonsense", "ConfigParseError"),
])  # fmt: skip
@pytest.mark.usefixtures("chain")
def test_a_wrong_profile_is_a_configuration_error(
    moto: AWS,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    profile: str,
    text: str,
    expected: str,
) -> None:
    """A profile that is not there, is half there, or a file that is none: ConfigurationError, without its text."""
    config = tmp_path / "config"
    config.write_text(text)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    with pytest.raises(ConfigurationError, match=expected) as raised:
        _open(moto, profile=profile).mint(uri_of(moto.key()), CONTEXT)
    assert raised.value.__context__ is None
    assert "AKIAXX" not in str(raised.value)


@pytest.mark.usefixtures("chain")
def test_a_log_in_that_is_over(moto: AWS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile of single sign-on without a log-in is denied, with the command that logs in."""
    config = tmp_path / "config"
    config.write_text(
        "[profile it]\nsso_start_url = https://it.example/start\nsso_region = us-east-1\n"
        "sso_account_id = 123456789012\nsso_role_name = reader\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(KeyServiceDenied, match="log-in to AWS is over") as raised:
        _open(moto, profile="it").mint(uri_of(moto.key()), CONTEXT)
    assert "aws sso login" in raised.value.hint


@pytest.fixture
def web_identity(
    chain: Chain,
    moto: AWS,
    before_moto: FaultProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Answer:
    """The chain of a pod: a token in a file that STS, played by the proxy, takes for a role's credentials."""
    del chain
    role = moto.principal(moto.allowed(["kms:*"], "*"), kind="role")
    given = (
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
        f"<AccessKeyId>{role.access_key}</AccessKeyId><SecretAccessKey>{role.secret_key}</SecretAccessKey>"
        f"<SessionToken>{role.token}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
        "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
    (tmp_path / "token").write_text("a-token-of-the-cluster")
    monkeypatch.setenv("AWS_ROLE_ARN", f"arn:aws:iam::{moto.account}:role/{role.arn.split('/')[1]}")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_SESSION_NAME", "pod")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", before_moto.address)
    monkeypatch.setenv("AWS_REGION", moto.region)
    monkeypatch.setenv("AWS_DEFAULT_REGION", moto.region)
    return Answer(status=200, body=given.encode())


def test_a_pod_takes_its_role(web_identity: Answer, moto: AWS, before_moto: FaultProxy) -> None:
    """The credentials of a web identity are taken, and STS is asked for them once."""
    before_moto.put(web_identity, times=None)
    service, uri = _open(moto), uri_of(moto.key())
    blob = service.mint(uri, CONTEXT)

    assert service.unwrap(uri, blob, CONTEXT)
    assert before_moto.count() == 1


def test_a_silent_provider_holds_nobody_up(
    web_identity: Answer, moto: AWS, before_moto: FaultProxy
) -> None:
    """Where STS does not answer, the call ends by its deadline as one that KMS did not answer; later it works."""
    settings = AwsSettings.model_validate({"regions": (moto.region,), "endpoint_url": moto.endpoint})  # fmt: skip
    service = AwsKeyService.open(settings, limits=CallLimits(deadline=1.0, attempt=0.4))
    uri = uri_of(moto.key())
    with before_moto.faulty(Silence()), pytest.raises(KeyServiceUnreachable) as raised:
        service.mint(uri, CONTEXT)
    asked = before_moto.seen()

    assert asked[-1].at - asked[0].at < 1.0
    assert raised.value.retryable
    before_moto.clear()
    before_moto.put(web_identity)
    assert service.mint(uri, CONTEXT)


@pytest.mark.usefixtures("web_identity")
def test_a_role_that_is_denied(moto: AWS, before_moto: FaultProxy) -> None:
    """Where STS denies the role, that is a denial, at once and without its text."""
    refusal = (
        b"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>"
        b"<Message>canary-of-sts</Message></Error></ErrorResponse>"
    )
    before_moto.put(Answer(status=403, body=refusal), times=None)

    with pytest.raises(KeyServiceDenied) as raised:
        _open(moto).mint(uri_of(moto.key()), CONTEXT)
    assert before_moto.count() == 1
    assert "canary" not in str(raised.value) + raised.value.hint


@pytest.mark.usefixtures("chain")
def test_fips_of_the_environment_and_an_endpoint(
    moto: AWS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the environment asks for FIPS and the policy for another endpoint, neither wins: nobody is called."""
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    for variable, value in moto.admin.environ().items():
        monkeypatch.setenv(variable, value)
    uri, since = uri_of(moto.key()), moto.mark()

    with pytest.raises(ConfigurationError, match="the environment asks for FIPS"):
        _open(moto, allow_static_keys=True).mint(uri, CONTEXT)
    assert not moto.requests(since=since)


def test_one_client_serves_all_threads(serve: Serve, moto: AWS, before_moto: FaultProxy) -> None:
    """Sixteen threads that come first share one client and its connections; every key is right."""
    moto_uri = uri_of(moto.key())
    service = serve(moto, endpoint_url=before_moto.address, limits=LIMITS)
    before = before_moto.connections
    with ThreadPoolExecutor(16) as pool:
        blobs = list(pool.map(lambda _: service.mint(moto_uri, CONTEXT), range(48)))
        keys = list(pool.map(lambda blob: service.unwrap(moto_uri, blob, CONTEXT), blobs))

    assert len({key.reveal() for key in keys}) == 48
    assert before_moto.connections - before <= 16


@pytest.mark.usefixtures("chain")
def test_threads_make_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of threads that need the first client at once, one makes it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAXXXXXXXXXXXXXXXX")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    clients = AwsClients(AwsSettings.model_validate({"regions": ("us-east-1",)}))
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: clients.client("kms", "us-east-1", attempt=1.0), range(8)))

    assert len(Counter(map(id, made))) == 1


def test_a_child_of_fork_has_its_own(serve: Serve, moto: AWS, before_moto: FaultProxy) -> None:
    """A child of fork, of a parent whose lock is held, opens connections of its own; the parent's work on."""
    uri = uri_of(moto.key())
    service = serve(moto, endpoint_url=before_moto.address, limits=LIMITS)
    blob = service.mint(uri, CONTEXT)
    key = service.unwrap(uri, blob, CONTEXT).reveal()
    before = before_moto.connections
    with service._ask._clients._lock:  # a thread of the parent that makes a client
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if service.unwrap(uri, blob, CONTEXT).reveal() == key else 1)
            finally:
                os._exit(2)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert before_moto.connections == before + 1
    assert service.unwrap(uri, blob, CONTEXT).reveal() == key
    assert before_moto.connections == before + 1
