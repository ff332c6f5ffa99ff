# SPDX-License-Identifier: Apache-2.0
"""What AWS answers, and what does not answer, in the tree of errors; and nothing of AWS' own words in it."""

import copy
import logging
import pickle
import time
import traceback
from email.utils import formatdate

import pytest

from lacre.errors import (
    ConfigurationError,
    KeyDisabled,
    KeyNotFound,
    KeyServiceDenied,
    KeyServiceUnreachable,
    LacreError,
    MisuseError,
    Tampered,
)
from lacre.kms.aws import AwsKeyService
from lacre.kms.calling import CallLimits
from lacre.sensitive import KeyMaterial
from tests.components.authority import Authority
from tests.components.aws import AWS, Credentials
from tests.components.faults import (
    Alter,
    Answer,
    Delay,
    Drip,
    FaultProxy,
    Reset,
    Silence,
    Truncate,
    aws_error,
    fault_proxy,
)
from tests.kms.aws.conftest import Serve
from tests.kms.aws.rows import context_of, uri_of

CONTEXT = context_of()
SHORT = CallLimits(deadline=1.0, attempt=0.6)
CANARY = "canary-of-the-provider"


def _refusal(code: str, *, status: int = 400, **headers: str) -> Answer:
    body = {"__type": code, "message": CANARY, "Message": CANARY}
    return Answer(status=status, body=body, headers=headers)


@pytest.fixture
def service(serve: Serve, moto: AWS, before_moto: FaultProxy) -> AwsKeyService:
    """A service behind the proxy, that does not wait long."""
    return serve(moto, endpoint_url=before_moto.address, limits=SHORT)


@pytest.fixture(scope="module")
def uri(moto: AWS) -> str:
    """A KMS key."""
    return uri_of(moto.key())


@pytest.mark.parametrize(("code", "expected"), [
    ("InvalidCiphertextException", Tampered),
    ("IncorrectKeyException", Tampered),
    ("AccessDeniedException", KeyServiceDenied),
    ("DisabledException", KeyDisabled),
    ("KMSInvalidStateException", KeyDisabled),
    ("NotFoundException", KeyNotFound),
    ("ExpiredTokenException", KeyServiceDenied),
    ("UnrecognizedClientException", KeyServiceDenied),
    ("InvalidClientTokenId", KeyServiceDenied),
    ("InvalidSignatureException", KeyServiceDenied),
    ("IncompleteSignatureException", KeyServiceDenied),
    ("MissingAuthenticationTokenException", KeyServiceDenied),
    ("RequestTimeTooSkewed", KeyServiceDenied),
    ("RequestExpired", KeyServiceDenied),
    ("InvalidKeyUsageException", ConfigurationError),
    ("ValidationException", ConfigurationError),
    ("SomethingNew", ConfigurationError),
])  # fmt: skip
def test_an_answer_is_not_asked_for_twice(
    service: AwsKeyService,
    before_moto: FaultProxy,
    uri: str,
    code: str,
    expected: type[LacreError],
) -> None:
    """Each code has its class, at the first attempt; a code nobody knows is not taken for an outage."""
    before_moto.put(_refusal(code), times=None)

    with pytest.raises(expected) as raised:
        service.unwrap(uri, b"x" * 150, CONTEXT)
    assert type(raised.value) is expected
    assert not raised.value.retryable
    assert before_moto.count() == 1


@pytest.mark.parametrize(("code", "status"), [
    ("ThrottlingException", 400), ("LimitExceededException", 400), ("KeyUnavailableException", 500),
    ("DependencyTimeoutException", 500), ("KMSInternalException", 500), ("ServiceUnavailable", 503),
    ("SomethingNew", 500), ("", 502), ("", 429),
])  # fmt: skip
def test_what_may_pass_is_tried_again(
    serve: Serve, moto: AWS, before_moto: FaultProxy, uri: str, code: str, status: int
) -> None:
    """Throttling and failures are tried again within the deadline, and then the answer is the answer."""
    service = serve(moto, endpoint_url=before_moto.address)
    before_moto.put(_refusal(code, status=status), times=2)
    blob = service.mint(uri, CONTEXT)

    assert blob
    assert before_moto.count() == 3


@pytest.mark.parametrize("fault", [
    aws_error("ThrottlingException"), aws_error("KMSInternalException", status=500),
    Answer(status=200, body=b"<html>sign in to the network</html>"), Answer(status=200, body=b""),
    Answer(status=403, body=b"<html>the gateway says no</html>"),
    Silence(), Delay(seconds=5), Drip(seconds=1), Reset(), Reset(served=True), Truncate(keep=3),
], ids=lambda fault: type(fault).__name__)  # fmt: skip
def test_no_answer_is_unreachable(
    service: AwsKeyService,
    before_moto: FaultProxy,
    uri: str,
    fault: Answer,
) -> None:
    """Whatever is no answer of KMS ends as KeyServiceUnreachable, which may be tried later; never as a wrong key."""
    before_moto.put(fault, times=None)

    with pytest.raises(KeyServiceUnreachable) as raised:
        service.unwrap(uri, b"x" * 150, CONTEXT)
    assert raised.value.retryable
    assert before_moto.count() >= 1


def test_nobody_listens(service: AwsKeyService, before_moto: FaultProxy, uri: str) -> None:
    """A refused connection is KeyServiceUnreachable; the breaker then fails at once, and one probe closes it."""
    blob = service.mint(uri, CONTEXT)
    before_moto.refuse()
    for _ in range(3):
        with pytest.raises(KeyServiceUnreachable, match="cannot be connected to"):
            service.unwrap(uri, blob, CONTEXT)
    with pytest.raises(KeyServiceUnreachable, match="not asked for a moment"):
        service.unwrap(uri, blob, CONTEXT)
    before_moto.clear()
    while True:
        try:
            key = service.unwrap(uri, blob, CONTEXT)
        except KeyServiceUnreachable:
            time.sleep(0.1)
        else:
            break

    assert len(key.reveal()) == 32


def test_an_authority_nobody_trusts(serve: Serve, moto: AWS, tmp_path_factory: pytest.TempPathFactory, uri: str) -> None:  # fmt: skip
    """A server whose certificate is not trusted gets no request: KeyServiceUnreachable."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    with fault_proxy(moto.endpoint, authority) as proxy:
        service = serve(moto, endpoint_url=proxy.address, limits=SHORT)

        with pytest.raises(KeyServiceUnreachable, match="TLS handshake failed"):
            service.mint(uri, CONTEXT)
        assert proxy.count() == 0


def test_no_plain_http_through_a_proxy(
    serve: Serve, moto: AWS, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An emulator on this machine is asked directly, whatever proxy the environment names."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    assert serve(moto).mint(uri, CONTEXT)


@pytest.mark.parametrize(("answer", "hint"), [
    (_refusal("ExpiredTokenException"), "past its end"),
    (_refusal("UnrecognizedClientException"), "unknown here or deleted"),
    (_refusal("RequestTimeTooSkewed"), "machine's clock"),
    (_refusal("InvalidSignatureException"), "secret of the access key"),
    (_refusal("InvalidSignatureException", Date=formatdate(time.time() - 86400, usegmt=True)), "machine's clock"),
    (_refusal("InvalidSignatureException", Date=formatdate(time.time() + 86400, usegmt=True)), "machine's clock"),
    (_refusal("InvalidSignatureException", Date="some day"), "secret of the access key"),
    (_refusal("AccessDeniedException", Date=formatdate(time.time() + 86400, usegmt=True)), "policy"),
])  # fmt: skip
def test_a_denial_says_what_to_look_at(
    service: AwsKeyService, before_moto: FaultProxy, uri: str, answer: Answer, hint: str
) -> None:
    """The hint tells a wrong clock, by the answer's own date, from a wrong secret, a wrong token and a policy."""
    before_moto.put(answer)

    with pytest.raises(KeyServiceDenied) as raised:
        service.mint(uri, CONTEXT)
    assert hint in raised.value.hint


def test_a_real_denial_of_credentials(serve: Serve, moto: AWS, uri: str) -> None:
    """A wrong secret, an unknown access key and a made-up session token are KeyServiceDenied."""
    role = moto.principal(moto.allowed(["kms:*"], "*"), kind="role")
    for who in (
        Credentials(arn="", access_key=moto.admin.access_key, secret_key="guessed"),
        Credentials(arn="", access_key="AKIAXXXXXXXXXXXXXXXX", secret_key="guessed"),
        Credentials(arn="", access_key=role.access_key, secret_key="guessed", token="canary-token"),
    ):
        with pytest.raises(KeyServiceDenied, match="refuses the credentials"):
            serve(moto, who).mint(uri, CONTEXT)


def test_rotation_is_asked_for_once(
    service: AwsKeyService, before_moto: FaultProxy, uri: str
) -> None:
    """A rotation without an answer may have been done, and is limited in number: no second attempt."""
    before_moto.put(Reset(served=True), times=None)

    with pytest.raises(KeyServiceUnreachable):
        service.rotate(uri)
    assert before_moto.count("RotateKeyOnDemand") == 1


def test_rotations_are_used_up(service: AwsKeyService, before_moto: FaultProxy, uri: str) -> None:
    """The limit of rotations on demand is of the key, and does not pass: no outage is told."""
    before_moto.put(_refusal("LimitExceededException"), times=None)

    with pytest.raises(ConfigurationError, match="as often as AWS KMS lets it"):
        service.rotate(uri)


def _shown(error: BaseException) -> str:
    """Everything of an error that a log, a crash reporter or a pickle would have."""
    seen: list[str] = []
    queue: list[BaseException | None] = [error]
    while queue:
        each = queue.pop()
        if each is None:
            continue
        seen += [repr(each), str(each), repr(each.args), repr(vars(each))]
        frame = each.__traceback__
        while frame is not None:
            if "lacre/kms" in frame.tb_frame.f_code.co_filename:
                seen.append(repr(frame.tb_frame.f_locals))
            frame = frame.tb_next
        queue += [each.__cause__, each.__context__]
    seen += traceback.format_exception(error)
    return "\n".join(seen) + repr(pickle.dumps(error))


@pytest.mark.parametrize("answer", [
    _refusal("AccessDeniedException"), _refusal("ThrottlingException"), _refusal("ExpiredTokenException"),
    _refusal("ValidationException"), _refusal("NotFoundException"), _refusal(CANARY),
    _refusal("DisabledException"), _refusal("InvalidCiphertextException"), _refusal(CANARY, status=503),
    Answer(status=200, body=CANARY.encode()),
    Alter(change=lambda answer: answer | {"KeyId": CANARY}),
    Alter(change=lambda answer: answer | {"Plaintext": "c2hvcnQtY2FuYXJ5"}),
])  # fmt: skip
def test_nothing_of_aws_is_repeated(
    serve: Serve,
    moto: AWS,
    before_moto: FaultProxy,
    uri: str,
    answer: Answer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No text of AWS, credential or key is in an error, its chain, its frames, its pickle or a log at INFO."""
    who = moto.principal(moto.allowed(["kms:*"], "*"), kind="role")
    service = serve(moto, who, endpoint_url=before_moto.address, limits=SHORT)
    key = b"planted-canary-key-of-32-bytes.."
    material = KeyMaterial(key)
    blob = service.wrap(uri, material, CONTEXT)
    before_moto.put(answer, times=None)
    caplog.set_level(logging.INFO)

    with pytest.raises(LacreError) as raised:
        service.unwrap(uri, blob, CONTEXT)
    shown = _shown(raised.value) + caplog.text + repr(service)
    if not isinstance(answer, Alter):
        with pytest.raises(LacreError) as raised:
            service.wrap(uri, material, CONTEXT)
        shown += _shown(raised.value) + caplog.text
    for secret in (
        CANARY, who.secret_key, who.token or "-", who.access_key, "planted-canary", "short-canary",
        "c2hvcnQtY2FuYXJ5", "cGxhbnRlZC1jYW5hcnk",
    ):  # fmt: skip
        assert secret not in shown


def test_a_service_does_not_pickle(service: AwsKeyService) -> None:
    """The service and its clients hold credentials, and are neither pickled nor copied."""
    for each in (service, service._ask._clients):
        for way in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(MisuseError):
                way(each)
