# SPDX-License-Identifier: Apache-2.0
"""Nothing but the server gets a token, no bad answer is believed, and nothing secret is told."""

import copy
import logging
import pickle
import ssl
import threading
import traceback
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from lacre.errors import (
    ConfigurationError,
    KeyServiceDenied,
    KeyServiceUnreachable,
    LacreError,
    Tampered,
)
from lacre.kms.calling import CallLimits
from lacre.sensitive import KeyMaterial
from tests.components.authority import Authority
from tests.components.faults import (
    Alter,
    Answer,
    Drip,
    Fault,
    FaultProxy,
    Pass,
    Reset,
    Silence,
    Truncate,
    openbao_error,
)
from tests.kms.openbao.conftest import Engine, bound

SHORT = CallLimits(deadline=0.6, attempt=0.5)
KEY = b64encode(b"canary-of-32-bytes-in-plaintext!").decode()


def data(**found: object) -> Alter:
    """Answer with other data than the server's."""
    return Alter(change=lambda body: body | {"data": found})


FAULTS: dict[str, Fault] = {
    "429": openbao_error(429, "rate limit quota exceeded", retry_after=1),
    "500": openbao_error(500, "internal error"),
    "502": openbao_error(502),
    "sealed": openbao_error(503, "Vault is sealed"),
    "412": openbao_error(412, "required index state not present"),
    "473": openbao_error(473),
    "silence": Silence(),
    "drip": Drip(seconds=0.2),
    "reset": Reset(),
    "truncated": Truncate(keep=20),
    "html": Answer(status=200, body=b"<html>log in to the network</html>"),
    "a list": Answer(status=200, body=b"[]"),
    "a number for data": Answer(status=200, body=b'{"data": 7}'),
    "deep": Answer(status=200, body=b"[" * 100_000),
    "long": Answer(status=200, body=b'{"data": "' + b"x" * 2_000_000 + b'"}'),
    "empty": Answer(status=204),
    "a number for errors": Answer(status=403, body=b'{"errors": 7}'),
    "a short key": data(plaintext="AAAA"),
    "a key cut off": data(plaintext=KEY[:-1]),
    "a key with a line break": data(plaintext=KEY + "\n"),
    "a list of keys": data(plaintext=[KEY]),
    "no key": data(ciphertext="vault:v1:AAAA"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_no_answer_and_no_right_answer(engine: Engine, proxy: FaultProxy, fault: Fault) -> None:
    """An answer that says "later", comes too slowly, or is none of OpenBao's, is no answer."""
    wrapped = engine.service().mint(engine.pii, bound())
    service = engine.service(address=proxy.address, limits=SHORT)
    service.unwrap(engine.pii, wrapped, bound())

    with proxy.faulty(fault, path="/decrypt/"), pytest.raises(KeyServiceUnreachable):
        service.unwrap(engine.pii, wrapped, bound())
    assert service.unwrap(engine.pii, wrapped, bound())


@pytest.mark.parametrize("operation", ["mint", "wrap", "rewrap"])
@pytest.mark.parametrize(
    "found", [{}, {"ciphertext": "vault:v0:" + "A" * 80}, {"ciphertext": "vault:v1:" + "é" * 80}], ids=str
)  # fmt: skip
def test_no_wrapped_key_in_the_answer(
    engine: Engine, proxy: FaultProxy, operation: str, found: Mapping[str, Any]
) -> None:
    """What is no wrapped key is not taken for one."""
    wrapped = engine.service().mint(engine.pii, bound())
    service = engine.service(address=proxy.address, limits=SHORT)
    service.mint(engine.pii, bound())
    calls = {
        "mint": lambda: service.mint(engine.pii, bound()),
        "wrap": lambda: service.wrap(engine.pii, KeyMaterial(bytes(32)), bound()),
        "rewrap": lambda: service.rewrap(
            engine.pii, wrapped, bound(), to=engine.pii, to_context=bound()
        ),
    }

    with (
        proxy.faulty(data(**found), path=f"/{engine.mount}/"),
        pytest.raises(KeyServiceUnreachable),
    ):
        calls[operation]()


def test_words_that_nobody_knows(engine: Engine, proxy: FaultProxy) -> None:
    """A refusal in unknown words is not called tampering, and its words are not repeated."""
    wrapped = engine.service().mint(engine.pii, bound())
    service = engine.service(address=proxy.address)
    proxy.put(openbao_error(400, "canary: something new"), path="/decrypt/")

    with pytest.raises(ConfigurationError) as raised:
        service.unwrap(engine.pii, wrapped, bound())
    assert "canary" not in str(raised.value) + raised.value.hint


def test_a_network_that_comes_and_goes(engine: Engine, proxy: FaultProxy) -> None:
    """Attempts that fail in different ways are followed by one that does not."""
    wrapped = engine.service().mint(engine.pii, bound())
    service = engine.service(address=proxy.address, limits=CallLimits(deadline=20, attempt=5))
    for fault in (Reset(), openbao_error(503, "Vault is sealed"), Truncate(keep=3)):
        proxy.put(fault, path="/decrypt/")

    assert service.unwrap(engine.pii, wrapped, bound())
    assert proxy.count("/decrypt/") == 4


def test_a_rotation_whose_answer_is_lost_happens_once(engine: Engine, proxy: FaultProxy) -> None:
    """A rotation that was served, and whose answer was lost, is not made a second time."""
    service = engine.service(address=proxy.address, limits=CallLimits(deadline=20, attempt=5))
    proxy.put(Reset(served=True), path="/rotate")
    number = service.rotate(engine.pii)

    assert number == service.status(engine.pii).version == 2
    assert proxy.count("/rotate") == 1


@pytest.mark.parametrize("path", ["/lookup-self", "/login", "/decrypt/"])
def test_a_denial_stays_one_when_the_network_goes(
    engine: Engine, proxy: FaultProxy, path: str
) -> None:
    """Who is refused, and then hears nothing more, was refused: it is not a key service that is away."""
    wrapped = engine.service().mint(engine.pii, bound())
    role_id, secret_id = engine.server.approle(
        [engine.policy({"keys/pii": 'capabilities = ["read"]'})]
    )
    service = engine.service(
        address=proxy.address, limits=SHORT, auth="approle", role_id=role_id,
        secret_id_file=engine.secret_file("secret-id", secret_id),
    )  # fmt: skip
    service.status(engine.pii)
    if path == "/decrypt/":
        proxy.put(Pass(), path=path)
    proxy.put(Silence(), times=None, path=path)

    with pytest.raises(KeyServiceDenied):
        service.unwrap(engine.pii, wrapped, bound())
    assert proxy.count(path) >= 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(engine: Engine, proxy: FaultProxy, status: int) -> None:
    """A redirect gets neither the token nor the request, wherever it points."""
    wrapped = engine.service().mint(engine.pii, bound())
    service = engine.service(address=proxy.address, limits=SHORT)
    since = engine.server.mark()
    to = f"{engine.server.address}/v1/{engine.mount}/decrypt/pii"

    with (
        proxy.faulty(Answer(status=status, headers={"Location": to}), path="/decrypt/"),
        pytest.raises(KeyServiceUnreachable, match="not followed"),
    ):
        service.unwrap(engine.pii, wrapped, bound())
    assert not engine.server.calls(f"{engine.mount}/decrypt", since=since)


def test_no_proxy_of_the_environment(
    engine: Engine, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies, certificates and tokens that the environment names for other programs are not used."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, proxy.address)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    monkeypatch.setenv("VAULT_NAMESPACE", "elsewhere")
    monkeypatch.setenv("VAULT_TOKEN", "s.bogus")

    assert engine.service().mint(engine.pii, bound())
    assert proxy.connections == 0


def test_another_certificate(engine: Engine, tmp_path: Path) -> None:
    """A server whose certificate descends from no other that is trusted gets no token."""
    stranger = Authority(tmp_path / "stranger")

    with pytest.raises(KeyServiceUnreachable, match="certificate"):
        engine.service(ca_file=str(stranger.file)).status(engine.pii)
    with pytest.raises(ConfigurationError, match="no certificates"):
        engine.service(ca_file=str(tmp_path / "absent"))


def test_another_name(engine: Engine) -> None:
    """A certificate of the right authority for another name is not the server's."""
    service = engine.service(address=engine.server.address.replace("127.0.0.1", "127.1"))

    with pytest.raises(KeyServiceUnreachable, match="certificate"):
        service.status(engine.pii)
    assert engine.service(address=engine.server.address.replace("127.0.0.1", "localhost")).status(engine.pii)  # fmt: skip


def test_no_other_authority_beside_the_named_one(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file of certificates is named, those that come with requests are not trusted beside it."""
    stranger = Authority(tmp_path / "stranger")
    service = engine.service(ca_file=str(stranger.file))
    right = engine.service()
    right.status(engine.pii)
    # As though the server's own authority were a public one.
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(engine.server.ca_file))
    trusted = right._transit._connection._context.get_ca_certs()

    with pytest.raises(KeyServiceUnreachable, match="certificate"):
        service.status(engine.pii)
    assert len(trusted) == 1


@contextmanager
def old_tls(authority: Authority) -> Iterator[str]:
    """Serve TLS 1.1 at most; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = authority.issue("old-tls").context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_no_old_tls(engine: Engine) -> None:
    """A server that speaks nothing newer than TLS 1.1 gets no token."""
    with old_tls(engine.server.authority) as address:
        service = engine.service(address=address, limits=SHORT)
        with pytest.raises(KeyServiceUnreachable, match="speaks no TLS"):
            service.status(engine.pii)


def test_sealed_and_back(engine: Engine) -> None:
    """A sealed server is unreachable, in words that say so; unsealed, it serves."""
    service = engine.service()
    wrapped = service.mint(engine.pii, bound())
    with engine.server.sealed():
        with pytest.raises(KeyServiceUnreachable, match="sealed"):
            service.unwrap(engine.pii, wrapped, bound())
        with pytest.raises(KeyServiceUnreachable, match="sealed"):
            engine.service(limits=SHORT).status(engine.pii)

    assert service.unwrap(engine.pii, wrapped, bound())


def test_stopped_and_back(engine: Engine) -> None:
    """Connections that a server left behind when it was killed do not stop the next call."""
    service = engine.service()
    wrapped = service.mint(engine.pii, bound())
    with engine.server.stopped(), pytest.raises(KeyServiceUnreachable):
        service.unwrap(engine.pii, wrapped, bound())

    assert service.unwrap(engine.pii, wrapped, bound())


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the exception and all that hang on it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def test_nothing_secret_is_told(
    engine: Engine, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """No token, secret id or key is in an error, a traceback with its locals, a log or a repr."""
    caplog.set_level(logging.DEBUG)
    role_id, secret_id = engine.server.approle(
        [engine.policy({"+/+": 'capabilities = ["update", "read"]'})]
    )
    service = engine.service(
        address=proxy.address, limits=SHORT, auth="approle", role_id=role_id,
        secret_id_file=engine.secret_file("secret-id", secret_id),
    )  # fmt: skip
    wrapped = service.wrap(engine.pii, KeyMaterial(b"canary-of-32-bytes-in-plaintext!"), bound())
    token = service._transit._login._lease.token  # type: ignore[union-attr]
    secrets = [str(token), secret_id, KEY, "canary-of-32"]
    told = [repr(service), repr(service._transit._login), repr(service._transit._login._lease)]
    told += [repr(service._transit._login._source)]
    for fault in (
        openbao_error(500, f"{token} {KEY}"), openbao_error(400, f"{token} {KEY}"), Reset(), Truncate(keep=150),
        Answer(status=307, headers={"Location": f"https://{token}/"}),
        Answer(status=200, body={"data": {"plaintext": KEY + "\n"}}),
        Answer(status=200, body={"auth": {"client_token": token + "\r\nX: 1"}, "data": {}}),
    ):  # fmt: skip
        for call in (
            lambda: service.unwrap(engine.pii, wrapped, bound()),
            lambda: service.wrap(
                engine.pii, KeyMaterial(b"canary-of-32-bytes-in-plaintext!"), bound()
            ),
            lambda: service.mint(engine.pii, bound()),
        ):
            service._transit._calls._reset()
            for log_in in (False, True):
                if log_in:
                    service._transit._login._lease = None
                with proxy.faulty(fault), pytest.raises(LacreError) as raised:
                    call()
                for error in chain(raised.value):
                    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
                    # The test's own frame holds them all.
                    shown.stack = traceback.StackSummary.from_list(
                        [frame for frame in shown.stack if frame.filename != __file__]
                    )
                    told += [str(error), repr(error), getattr(error, "hint", ""), "".join(shown.format())]  # fmt: skip
                service._transit._login._lease = None
                service.unwrap(engine.pii, wrapped, bound())
                secrets.append(str(service._transit._login._lease.token))
    told.append(caplog.text)

    assert "decrypt" in caplog.text
    leaks = {where[:2000] for secret in secrets for where in told if secret in where}
    assert leaks == set()


def test_nothing_pickles_or_copies(engine: Engine) -> None:
    """Neither the service nor anything in it pickles or is copied."""
    service = engine.service()
    service.status(engine.pii)
    login = service._transit._login

    for part in (
        service, service._transit._connection, login, login._lease, login._source, login._lease.token,  # type: ignore[union-attr]
    ):  # fmt: skip
        for copies in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(LacreError):
                copies(part)


def test_tampering_has_one_face(engine: Engine) -> None:
    """A wrong key, context, version or byte raises the same error with the same text."""
    service = engine.service()
    wrapped = service.mint(engine.pii, bound())
    seen = set()
    for kms_key, blob, context in (
        (engine.other, wrapped, bound()),
        (engine.pii, wrapped, bound(tenant="other")),
        (engine.pii, wrapped[:-1] + (b"A" if wrapped[-1:] != b"A" else b"B"), bound()),
        (engine.pii, b"vault:v3" + wrapped[8:], bound()),
        (engine.pii, b"", bound()),
    ):
        with pytest.raises(Tampered) as raised:
            service.unwrap(kms_key, blob, context)
        seen.add((str(raised.value), raised.value.hint))

    assert len(seen) == 1
