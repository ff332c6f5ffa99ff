# SPDX-License-Identifier: Apache-2.0
"""
One pooled HTTPS connection to an OpenBao server: a request, and an answer that proves nothing yet.

Follows no redirect: a client would hand its token to wherever the redirect points. Takes no proxy
and no certificates from the environment. Does not log in, try again, or know what Transit is.

An attempt is bounded as a whole, however slowly bytes come: `allowed` sets when it ends, and the
socket waits no longer than what is left; without TLS, to this machine itself, for each piece anew.
A name server is asked outside of that bound.

What failed is told in fixed words, outside of the except block: the exceptions of requests hold the
request, which holds the token.
"""

import json
import os
import ssl
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Never, final

import requests
from hvac.adapters import RawAdapter
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ReadTimeoutError

from lacre.errors import ConfigurationError, MisuseError
from lacre.kms.calling import TryAgain

__all__ = ["Answer", "Connection", "Secret", "time_left"]

_LIMIT = 1024 * 1024  # bytes of an answer: a key with thousands of versions has fewer
_POOLED = 64  # connections kept open at most, as many as a warm-up may make
_LONGEST_PAUSE = 3600.0  # that a server may ask for
# Of 4xx, those that say "later": 412 a replica that is behind, 429 a rate limit, 472 and 473 a standby.
_LATER = frozenset({408, 412, 425, 429, 472, 473})

_attempt = threading.local()  # `ends`: when the attempt of this thread is over


@final
class Secret(str):
    """Text that goes to the server, or comes from it, and shows in no `repr`, of a frame either."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> Never:
        raise MisuseError("a secret does not pickle or copy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said. *data* and *errors* are its own words: never shown, only compared."""

    status: int
    body: Mapping[str, Any] = field(repr=False)
    errors: tuple[str, ...] = field(repr=False)

    @property
    def data(self) -> Mapping[str, Any]:
        """The member `data`, empty where there is none."""
        found = self.body.get("data")
        return found if isinstance(found, dict) else {}


class _BoundedSocket(ssl.SSLSocket):
    # Waits for what is left of the attempt, not anew for each piece that comes.
    def do_handshake(self, block: bool = False) -> None:
        self.settimeout(time_left())
        super().do_handshake(block)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(time_left())
        return super().recv_into(*args, **kwargs)


class _Transport(HTTPAdapter):
    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        # No attempt of urllib3's own below ours, which alone know the deadline.
        super().__init__(pool_connections=1, pool_maxsize=_POOLED, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        # requests would put every public authority beside those of `ca_file`, so that any of them
        # could vouch for a server. The context has what is trusted.
        conn.cert_reqs = "CERT_REQUIRED"


@final
class Connection:
    """
    A server, and how to reach it.

    Args:
        address: ``https://HOST:PORT``.
        ca_file: the certificates that its own must descend from; the system's where it is none.
        namespace: of every path.
        attempt: seconds a request may take.
    """

    def __init__(
        self, address: str, *, ca_file: Path | None, namespace: str | None, attempt: float
    ) -> None:
        self.address = address.rstrip("/")
        self.namespace = namespace
        self._attempt = attempt
        self._context = _tls(ca_file)
        self._connect()
        weak = weakref.WeakMethod(self._connect)
        # Two processes on one TLS connection would read one another's keys.
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())

    def _connect(self) -> None:
        session = requests.Session()
        session.trust_env = False  # no proxy, no .netrc, no REQUESTS_CA_BUNDLE
        session.mount("https://", _Transport(self._context))
        self._adapter = RawAdapter(
            base_uri=self.address,
            namespace=self.namespace,
            session=session,
            allow_redirects=False,
            ignore_exceptions=True,
        )

    def __repr__(self) -> str:
        return f"<Connection {self.address}>"

    def __reduce__(self) -> Never:
        raise MisuseError("a connection does not pickle or copy")

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Bound all requests of this thread in the block, together, by the attempt."""
        _attempt.ends = time.monotonic() + self._attempt
        try:
            yield
        finally:
            del _attempt.ends

    def request(
        self,
        method: str,
        path: str,
        *,
        token: Secret | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """
        Return what the server answers, in the time that `allowed` leaves.

        Raises:
            TryAgain: it did not, or said "later".
        """
        headers = {} if token is None else {"X-Vault-Token": token}
        failed = ""
        status, pause, text = 0, 0.0, b""
        try:
            with self._adapter.request(
                method,
                f"/v1/{path}",
                headers=headers,
                json=body,
                timeout=time_left(),
                stream=True,
            ) as response:
                status, pause = response.status_code, _pause(response.headers)
                text = _read(response)
        except (requests.RequestException, OSError, ValueError) as error:
            failed = _reason(error)
        if failed:
            raise TryAgain(failed)
        _refuse_later(status, pause)
        answer = _understood(status, text)
        del text
        if answer is None:
            raise TryAgain("does not answer as OpenBao does")
        return answer


def time_left() -> float:
    """Return the seconds that are left of this thread's attempt, at least a moment."""
    # Never zero: a socket takes that for "do not block".
    return max(0.001, float(_attempt.ends) - time.monotonic())


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError):
        raise ConfigurationError(
            f"{ca_file} holds no certificates", hint="[openbao] ca_file names a PEM file"
        ) from None
    # 1.3 is chosen wherever the server has it.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _BoundedSocket
    return context


def _read(response: requests.Response) -> bytes:
    text = b""
    for piece in response.iter_content(16 * 1024):
        text += piece
        if len(text) > _LIMIT:
            raise ValueError
    return text


def _refuse_later(status: int, pause: float) -> None:
    if status == 503:
        raise TryAgain("is sealed, or not there to serve", after=pause)
    if status == 429:
        raise TryAgain("allows no more requests for now", after=pause)
    if status >= 500 or status in _LATER:
        raise TryAgain("cannot serve for now", after=pause)
    if not 200 <= status < 300 and not 400 <= status < 500:
        # A standby that does not forward. The token stays here.
        raise TryAgain("sends elsewhere, which is not followed", after=pause)


def _understood(status: int, text: bytes) -> Answer | None:
    try:
        body = json.loads(text) if text.strip() else {}
        errors = body.get("errors") or []
        return Answer(status=status, body=body, errors=tuple(str(each) for each in errors))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _pause(headers: Mapping[str, str]) -> float:
    asked = headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_PAUSE) if asked.isascii() and asked.isdigit() else 0.0


def _reason(error: Exception) -> str:
    # TLS, DNS and time-outs all count as no answer (review of the cache's bounds); said apart
    # because different people repair them.
    if isinstance(error, requests.exceptions.SSLError):
        return "shows no certificate that is trusted, or speaks no TLS"
    cause = error.args[0] if error.args else None
    if isinstance(error, requests.Timeout | TimeoutError) or isinstance(cause, ReadTimeoutError):
        return "did not answer in time"
    if isinstance(error, requests.ConnectionError | OSError):
        return "cannot be reached"
    return "does not answer as OpenBao does"
