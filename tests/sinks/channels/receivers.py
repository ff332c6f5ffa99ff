# SPDX-License-Identifier: Apache-2.0
"""Real receivers of messages, in this process: an HTTP server and a mail server, with TLS."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from tests.components.authority import Certificate
from tests.components.processes import free_port

__all__ = ["Answered", "Mailbox", "http_receiver", "mail_receiver"]


@dataclass(slots=True, kw_only=True)
class Answered:
    """What an HTTP server got, and what it answers: *status*, *headers*, after *delay* seconds."""

    port: int
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


@contextmanager
def http_receiver(
    certificate: Certificate | None = None, *, host: str = "127.0.0.1"
) -> Iterator[Answered]:
    """An HTTP server on this machine; over TLS with a *certificate*."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got = {name.lower(): value for name, value in self.headers.items()}
            answered.requests.append((self.path, got, body))
            time.sleep(answered.delay)
            self.send_response(answered.status)
            for name, value in answered.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "15")
            self.end_headers()
            self.wfile.write(b"canary-answered")

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Say nothing: clients that do not trust the certificate are meant to go."""

    server = Quiet((host, 0), Handler)
    if certificate is not None:
        server.socket = certificate.context().wrap_socket(server.socket, server_side=True)
    answered = Answered(port=server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield answered
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(kw_only=True)  # no slots: Python 3.11.2 cannot list the members of one
class Mailbox:
    """What a mail server took: envelope and bytes. *refusing* are recipients it does not take."""

    port: int = 0
    mails: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    logins: list[bytes] = field(default_factory=list)
    refusing: Sequence[str] = ()
    data: str = "250 OK"

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address in self.refusing:
            return "550 canary-answered"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        if self.data.startswith("2"):
            self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return self.data


@contextmanager
def mail_receiver(
    certificate: Certificate | None, *, implicit: bool = False, password: bytes | None = None
) -> Iterator[Mailbox]:
    """A mail server on 127.0.0.1 that demands STARTTLS, or begins with TLS; and a login, with a *password*."""
    box = Mailbox()

    def authenticate(_s: Any, _e: Any, _n: Any, _m: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        box.logins.append(given.login)
        return AuthResult(success=given.password == password, handled=False)

    context = None if certificate is None else certificate.context()
    controller = Controller(
        box, hostname="127.0.0.1", port=free_port(), ready_timeout=20,
        ssl_context=context if implicit else None,
        tls_context=None if implicit else context,
        require_starttls=context is not None and not implicit,
        auth_required=password is not None,
        authenticator=authenticate if password is not None else None,
    )  # fmt: skip
    controller.start()
    box.port = controller.port
    try:
        yield box
    finally:
        controller.stop()
