# SPDX-License-Identifier: Apache-2.0
"""
A proxy before a key service, that does to requests what a bad day does.

It speaks TLS to its clients, with a certificate of the authority it is given, and counts what it sees. Nothing is wrong until a test says so:

    with fault_proxy(openbao.address, openbao.authority) as proxy:
        client = openbao.client(token, address=proxy.address)
        proxy.put(Answer(status=503), times=2, path="/decrypt/")   # the next two
        proxy.put(Reset(), times=None)                             # every one after them
        proxy.clear()
        proxy.refuse()                                             # nobody listens any more

What is put is taken in order, each by the first request whose path (for AWS also: whose operation) has *path* in it.
It does not do HTTP/2, and holds requests and answers whole.
"""

import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from tests.components.authority import Authority
from tests.components.processes import free_port

__all__ = [
    "Alter",
    "Answer",
    "Delay",
    "Drip",
    "Fault",
    "FaultProxy",
    "Hold",
    "Pass",
    "Reset",
    "Seen",
    "Silence",
    "Truncate",
    "aws_error",
    "fault_proxy",
    "openbao_error",
]

_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass(Fault):
    """Nothing: for sequences, as of a network that comes and goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Fault):
    """Answered by the proxy; the service sees nothing."""

    status: int
    body: bytes | Mapping[str, Any] = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay(Fault):
    """Passed on after *seconds*."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(Fault):
    """Passed on when the test calls `release`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drip(Fault):
    """Answered by the service, *size* bytes of the body each *seconds*."""

    seconds: float
    size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(Fault):
    """The connection is reset; with *served*, after the service did what was asked."""

    served: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence(Fault):
    """Never answered, and not passed on. The connection stays open until `clear`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate(Fault):
    """Answered by the service; the connection ends after *keep* bytes of the body."""

    keep: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alter(Fault):
    """Answered by the service, with the JSON of the body changed by *change*, which returns what to send."""

    change: Callable[[Any], Any]


def aws_error(code: str = "ThrottlingException", *, status: int = 400) -> Answer:
    """Return the answer with which AWS refuses: `ThrottlingException`, `KMSInternalException` (500) ..."""
    return Answer(
        status=status, body={"__type": code, "message": "from the proxy"},
        headers={"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": "00000000-proxy"},
    )  # fmt: skip


def openbao_error(status: int, *errors: str, retry_after: int | None = None) -> Answer:
    """Return the answer with which OpenBao refuses: 429, 500, 503 ..."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Answer(status=status, body={"errors": list(errors)}, headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request: when it came (`time.monotonic`), what it asked, and what was done to it."""

    at: float
    method: str
    path: str
    operation: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    fault: Fault | None

    def about(self, path: str) -> bool:
        """Say whether its path or its AWS operation has *path* in it."""
        return path in self.path or path in self.operation


@dataclass(slots=True, kw_only=True)
class _Put:
    fault: Fault
    left: int | None
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    # Until when requests wait; replaced by another when that is over.
    cleared: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def end(self) -> None:
        self.cleared.set()
        self.released.set()


class FaultProxy:
    """The proxy. *address* is where clients find it."""

    def __init__(self, upstream: str, authority: Authority | None) -> None:
        self.upstream = urlsplit(upstream)
        if self.upstream.scheme == "https" and authority is None:
            raise ValueError("the authority that issued the upstream's certificate is needed")
        self.port = free_port()
        self.address = f"{'https' if authority else 'http'}://127.0.0.1:{self.port}"
        self.trust = authority.trust() if authority and self.upstream.scheme == "https" else None
        self._shows = authority.issue(f"proxy-{self.port}").context() if authority else None
        # Bound for as long as the proxy lives: where it does not listen, connections are refused,
        # and nobody else gets the port.
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", self.port))
        self._changed = threading.Condition()
        self._put: list[_Put] = []
        self._seen: list[Seen] = []
        self._open: set[socket.socket] = set()
        self._accepting: threading.Thread | None = None
        self._deaf = self._refusing = False
        self._ended = threading.Event()
        self._waiting = _Waiting()
        self.connections = 0
        self._listen()

    # What a test says.

    def put(self, fault: Fault, *, times: int | None = 1, path: str = "") -> None:
        """Do *fault* to the next *times* requests about *path*; to all of them where *times* is none."""
        with self._changed:
            self._put.append(_Put(fault=fault, left=times, path=path))

    @contextmanager
    def faulty(self, fault: Fault, *, path: str = "") -> Iterator[None]:
        """Do *fault* to every request about *path* in a block."""
        put = _Put(fault=fault, left=None, path=path)
        with self._changed:
            self._put.append(put)
        try:
            yield
        finally:
            with self._changed:
                self._put = [other for other in self._put if other is not put]

    def release(self) -> None:
        """Let pass what is held now."""
        with self._changed:
            self._waiting.released.set()
            self._waiting = _Waiting(cleared=self._waiting.cleared)

    def refuse(self) -> None:
        """Refuse connections, and reset those that are there, until `clear`."""
        with self._changed:
            self._refusing = True
        self._stop_listening()
        self._reset_all()

    def blackhole(self) -> None:
        """Accept connections and never say a word, on those that are there neither, until `clear`."""
        with self._changed:
            self._deaf = True

    def clear(self) -> None:
        """Let everything pass again; end the connections that were kept waiting."""
        with self._changed:
            self._put.clear()
            self._waiting.end()
            self._waiting = _Waiting()
            self._deaf = self._refusing = False
        self._listen()

    # What a test asks.

    def seen(self, path: str = "") -> list[Seen]:
        """Return the requests about *path*, in the order in which they came."""
        with self._changed:
            return [seen for seen in self._seen if seen.about(path)]

    def count(self, path: str = "") -> int:
        """Count the requests about *path*."""
        return len(self.seen(path))

    def wait_for(self, count: int, path: str = "") -> None:
        """Return when *count* requests about *path* have come; raise `TimeoutError` where they do not."""
        with self._changed:
            came = self._changed.wait_for(
                lambda: sum(seen.about(path) for seen in self._seen) >= count, _SECONDS
            )
        if not came:
            raise TimeoutError(f"{self.count(path)} of {count} requests came")

    def forget(self) -> None:
        """Forget what was seen."""
        with self._changed:
            self._seen.clear()

    # How it is done.

    def close(self) -> None:
        """End the proxy and its connections."""
        self._ended.set()
        self._stop_listening()
        with self._changed:
            self._waiting.end()
        self._reset_all()
        self._socket.close()

    def take(self, handler: "_Handler", body: bytes) -> tuple[Fault | None, "_Waiting"]:
        """Write down a request; return what is to be done to it, and what it may wait for."""
        path, operation = handler.path, handler.headers.get("X-Amz-Target", "")
        with self._changed:
            # A request may have come on an old connection just before that was reset.
            gone = Reset() if self._refusing or self._ended.is_set() else None
            fault: Fault | None = gone or (Silence() if self._deaf else None)
            for put in self._put:
                if fault is None and (put.path in path or put.path in operation):
                    fault = put.fault
                    put.left = None if put.left is None else put.left - 1
            self._put = [put for put in self._put if put.left != 0]
            self._seen.append(
                Seen(
                    at=time.monotonic(),
                    method=handler.command,
                    path=path,
                    operation=operation,
                    headers=dict(handler.headers.items()),
                    body=body,
                    fault=fault,
                )
            )
            self._changed.notify_all()
            return fault, self._waiting

    def waited(self, fault: Fault, waiting: "_Waiting") -> bool:
        """Wait as *fault* says; return whether the request goes on."""
        match fault:
            case Silence():
                waiting.cleared.wait()
                return False
            case Hold():
                waiting.released.wait()
            case Delay(seconds=seconds):
                return self.paused(seconds)
        return not self._ended.is_set()

    def paused(self, seconds: float) -> bool:
        """Wait *seconds*; return whether the proxy is still there."""
        return not self._ended.wait(seconds)

    def _listen(self) -> None:
        if self._accepting is None and not self._ended.is_set():
            self._socket.listen(1024)
            self._accepting = threading.Thread(target=self._accept, name=self.address, daemon=True)
            self._accepting.start()

    def _stop_listening(self) -> None:
        if self._accepting is not None:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._accepting.join()
            self._accepting = None

    def _accept(self) -> None:
        while True:
            try:
                connection, address = self._socket.accept()
            except OSError:
                return
            with self._changed:
                self.connections += 1
                self._open.add(connection)
            threading.Thread(
                target=self._serve, args=(connection, address), name=self.address, daemon=True
            ).start()

    def _serve(self, raw: socket.socket, address: Any) -> None:
        connection = raw
        # A client that goes away, and a proxy that ends, are no news.
        with suppress(OSError, ValueError):
            with self._changed:
                deaf, waiting = self._deaf, self._waiting
            if deaf:
                waiting.cleared.wait()
            else:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._shows is not None:
                    connection = self._shows.wrap_socket(raw, server_side=True)
                    with self._changed:
                        self._open.discard(raw)
                        self._open.add(connection)
                _Handler(connection, address, self)
        with self._changed:
            self._open.discard(raw)
            self._open.discard(connection)
        connection.close()
        raw.close()

    def _reset_all(self) -> None:
        with self._changed:
            there = list(self._open)
        for connection in there:
            with suppress(OSError):
                reset(connection)


def reset(connection: socket.socket) -> None:
    """End *connection* with a reset, also where another thread reads it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RD)
    connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy  # type: ignore[assignment]

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault, waiting = self.server.take(self, body)
        if fault is not None and not self.server.waited(fault, waiting):
            self.close_connection = True
            return
        match fault:
            case Answer(status=status, body=content, headers=headers):
                if not isinstance(content, bytes):
                    headers = {"Content-Type": "application/json", **headers}
                    content = json.dumps(content).encode()
                self._answer(status, dict(headers), content)
            case Reset(served=served):
                if served:
                    self._forward(body)
                self.close_connection = True
                reset(self.connection)
            case _:
                self._answer(*self._forward(body), fault)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_LIST = do_SCAN = handle_request

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = self.server.upstream
        where = (upstream.hostname or "", upstream.port)
        connection = (
            http.client.HTTPSConnection(*where, timeout=_SECONDS, context=self.server.trust)
            if self.server.trust is not None
            else http.client.HTTPConnection(*where, timeout=_SECONDS)
        )
        try:
            # As it came, `Host` too: it is part of what AWS signs.
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in {"connection", "transfer-encoding"}:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        ours = {"connection", "content-length", "transfer-encoding", "date", "server"}
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in ours}
        return answer.status, kept, content

    def _answer(
        self, status: int, headers: dict[str, str], content: bytes, fault: Fault | None = None
    ) -> None:
        if isinstance(fault, Alter):
            content = json.dumps(fault.change(json.loads(content))).encode()
        (self.send_response_only if "Date" in headers else self.send_response)(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        match fault:
            case Truncate(keep=keep):
                self.wfile.write(content[:keep])
                self.close_connection = True
            case Drip(seconds=seconds, size=size):
                for start in range(0, len(content), size):
                    self.wfile.write(content[start : start + size])
                    if not self.server.paused(seconds):
                        return
            case _:
                self.wfile.write(content)

    def log_message(self, *said: Any) -> None:
        """Say nothing."""


@contextmanager
def fault_proxy(upstream: str, authority: Authority | None = None) -> Iterator[FaultProxy]:
    """
    Start a proxy before *upstream*; end it with the block.

    Args:
        authority: issues the proxy's certificate, and did the upstream's. Without one, clients speak plain HTTP; with
            one, they speak TLS, also where the upstream does not.
    """
    proxy = FaultProxy(upstream, authority)
    try:
        yield proxy
    finally:
        proxy.close()
