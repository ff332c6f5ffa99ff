# SPDX-License-Identifier: Apache-2.0
"""
What every request passes before a page sees it, and every answer after.

The `Host` must be this dashboard's; nobody who is not logged in reaches anything but the login and
the stylesheet, so that an answer does not even tell which pages there are; what changes something
comes from one of our own forms. Every answer forbids scripts, styles and frames from elsewhere,
caches and referrers. Does not render pages.
"""

import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lacre.dashboard.place import Place
from lacre.dashboard.sessions import Sessions, Visitor

__all__ = ["OPEN", "Doors", "Refuse"]

# Paths for whoever is not logged in. None of them reads anything of the application's.
OPEN = frozenset({"/login", "/lacre.css", "/lacre.svg"})
_LARGEST = 16 * 1024  # bytes of a form
_READS, _WRITES = ("GET", "HEAD"), ("POST",)
_HEADERS = {
    # No script runs and nothing is loaded from anywhere but here, whatever a page was made to say.
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "x-robots-tag": "noindex, nofollow",
}
_log = logging.getLogger("lacre.dashboard")

Refuse = Callable[[Request, int], Response]
"""Makes the page that says why a request is refused, by its status."""


class Doors:
    """
    ASGI middleware around the pages.

    Args:
        cookie: the name of the session's cookie.
        refuse: makes a page for whoever is refused.
    """

    def __init__(
        self, app: ASGIApp, *, place: Place, sessions: Sessions, cookie: str, refuse: Refuse
    ) -> None:
        self._app = app
        self._place = place
        self._sessions = sessions
        self._cookie = cookie
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # a websocket: there is none
            await send({"type": "websocket.close", "code": 1008})
            return
        # In the path, or stripped by the proxy: both are common. Below, the path is without it.
        root = self._place.root
        path = str(scope["path"])
        if root and (path == root or path.startswith(root + "/")):
            path = path[len(root) :] or "/"
        scope.update(path=path, raw_path=path.encode(), root_path="")
        reference = scope["lacre.reference"] = secrets.token_hex(4)
        sent = False

        async def answer(message: Message) -> None:
            nonlocal sent
            if message["type"] == "http.response.start":
                sent = True
                self._mark(scope, MutableHeaders(scope=message))
            await send(message)

        try:
            await self._admit(scope, receive, answer)
        except Exception as error:  # noqa: BLE001  whatever a page raised
            # Its text may quote a value, and so may the texts of what caused it: neither is told.
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            line = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else "-"
            _log.error(
                "a page failed: %s at %s (reference %s)", type(error).__name__, line, reference
            )
            if not sent:
                await self._refuse(Request(scope), 500)(scope, receive, answer)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        headers = request.headers
        if _single(headers, "host") not in self._place.hosts:
            await self._refuse(request, 421)(scope, receive, send)
            return
        kept = _cookie(headers.getlist("cookie"), self._cookie)
        visitor = self._sessions.visitor(kept) if kept else None
        scope["lacre.visitor"], scope["lacre.kept"] = visitor, kept
        if visitor is None and scope["path"] not in OPEN:
            there: Response = RedirectResponse(self._place.root + "/login", 303)
            await there(scope, receive, send)
            return
        method = scope["method"]
        if method in _WRITES:
            refused = await self._form(scope, request, receive, visitor)
            if refused:
                await self._refuse(request, refused)(scope, receive, send)
                return
        elif method not in _READS:
            await self._refuse(request, 405)(scope, receive, send)
            return
        await self._app(scope, _nothing, send)

    async def _form(
        self, scope: Scope, request: Request, receive: Receive, visitor: Visitor | None
    ) -> int:
        """Read the form into the scope; return the status it is refused with, or 0."""
        # A browser that says where a form was says the truth; one that says nothing (or "null",
        # as it must where no referrer is sent) has the cookie, which is SameSite=Strict, and must
        # know the form's token besides.
        origin = _single(request.headers, "origin")
        if origin not in (None, "null") and origin not in self._place.origin:
            return 403
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403
        body = await _body(receive)
        if body is None:
            return 413
        try:
            form = dict(parse_qsl(body.decode("utf-8"), max_num_fields=20))
        except (UnicodeDecodeError, ValueError):
            return 400
        scope["lacre.form"] = form
        if scope["path"] not in OPEN and (
            visitor is None or not visitor.sent(form.get("csrf", ""))
        ):
            return 403
        return 0

    def _mark(self, scope: Scope, headers: MutableHeaders) -> None:
        for name, value in _HEADERS.items():
            headers[name] = value
        headers.setdefault("cache-control", "no-store")
        if self._place.secure:
            headers["strict-transport-security"] = "max-age=31536000"


def _single(headers: Headers, name: str) -> str | None:
    # Two of them, and one of two readers sees the other.
    found = headers.getlist(name)
    return found[0].lower() if len(found) == 1 else None if not found else ""


def _cookie(lines: Iterable[str], name: str) -> str:
    for line in lines:
        try:
            found = SimpleCookie(line).get(name)
        except CookieError:
            continue
        if found is not None:
            return found.value
    return ""


async def _body(receive: Callable[[], Awaitable[Message]]) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > _LARGEST:
            return None
        if not message.get("more_body"):
            return bytes(body)


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}
