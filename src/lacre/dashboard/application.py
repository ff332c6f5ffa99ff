# SPDX-License-Identifier: Apache-2.0
"""
The dashboard as an ASGI application: which path is which page, and what becomes of errors.

Pages are functions from a question to what is to be shown (`lacre.dashboard.pages`); who may ask is
decided before (`lacre.dashboard.doors`). Runs no server.
"""

import logging
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from lacre.dashboard.doors import Doors
from lacre.dashboard.pages import accesses, alerts, fields, keys, overview, report, rights
from lacre.dashboard.place import Place
from lacre.dashboard.rendering import Asked, Renderer, Shown, Unusable
from lacre.dashboard.sessions import Sessions
from lacre.dashboard.sources import Sources
from lacre.errors import LacreError

__all__ = ["PAGES", "make"]

Page = Callable[[Sources, Asked], Shown]
_log = logging.getLogger("lacre.dashboard")

# Path, name of the navigation's entry it belongs to, what makes it.
PAGES: tuple[tuple[str, str, Page], ...] = (
    ("/", "overview", overview.show),
    ("/accesses", "accesses", accesses.explore),
    ("/accesses/{shard}/{seq}", "accesses", accesses.one),
    ("/accesses/{shard}/{seq}/proof", "accesses", accesses.proof),
    ("/trail/{correlation}", "accesses", accesses.trail),
    ("/fields", "fields", fields.show),
    ("/keys", "keys", keys.show),
    ("/rights", "rights", rights.show),
    ("/alerts", "alerts", alerts.listed),
    ("/alerts/{id}", "alerts", alerts.one),
    ("/report", "report", report.show),
)
_CHANGES: tuple[tuple[str, str, Page], ...] = (
    ("/alerts/{id}/acknowledge", "alerts", alerts.acknowledge),
)
_NAVIGATION = (
    ("overview", "/", "Overview"),
    ("accesses", "/accesses", "Accesses"),
    ("alerts", "/alerts", "Alerts"),
    ("fields", "/fields", "Fields"),
    ("keys", "/keys", "Keys"),
    ("rights", "/rights", "Who may read"),
    ("report", "/report", "Report"),
)
# What went wrong, and what to do; never what was sent.
_REFUSED = {
    400: ("This question cannot be read", "Go back, and ask it with the form."),
    403: ("This was not sent by a page of this dashboard", "Go back to the page, reload it and try once more."),
    404: ("There is no such page", "The address may be mistyped, or what it named is gone."),
    405: ("This page is only to be read", "Nothing was changed."),
    413: ("This form is too large", "A note has up to 1,000 characters."),
    421: ("This dashboard does not answer to that name", "Open the address that `lacre serve` printed. Behind a reverse proxy, `--public-url` says the name that browsers use."),
    429: ("Too many logins failed", "Wait some minutes; then use the link that `lacre serve` shows now."),
    500: ("This page could not be made", "Nothing was changed. The log of `lacre serve` says more under the reference below."),
}  # fmt: skip


def make(sources: Sources, *, place: Place, sessions: Sessions) -> ASGIApp:
    """Return the application that shows *sources* at *place* to who logs in by *sessions*."""
    file = sources.policy.file
    renderer = Renderer(
        root=place.root,
        everywhere={
            "app": file.app, "env": file.env, "service": file.service,
            "operator": sources.operator, "navigation": _NAVIGATION,
        },
    )  # fmt: skip
    # A cookie is sent to every port of its host: two dashboards on one machine need two names.
    cookie = "__Secure-lacre" if place.secure else f"lacre-{place.port}"
    entrance = _Entrance(renderer=renderer, sessions=sessions, place=place, cookie=cookie)

    def refuse(request: Request, status: int) -> Response:
        title, advice = _REFUSED.get(status, _REFUSED[500])
        reference = request.scope["lacre.reference"] if status == 500 else ""
        context = {"title": title, "advice": advice, "reference": reference, "hint": ""}
        visitor = request.scope.get("lacre.visitor")
        if visitor is None:
            html = renderer.render("alone_error.html", context)
        else:
            html = renderer.render("error.html", {**context, "active": "", "csrf": visitor.csrf})
        headers = {"allow": "GET, HEAD"} if status == 405 else {}
        return HTMLResponse(html, status, headers=headers)

    def endpoint(active: str, page: Page) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            visitor = request.scope["lacre.visitor"]
            asked = Asked(
                query=dict(request.query_params),
                form=request.scope.get("lacre.form", {}),
                path={name: str(value) for name, value in request.path_params.items()},
                root=place.root,
            )

            def made() -> Response:
                try:
                    shown = page(sources, asked)
                except Unusable as unusable:
                    shown = _error(_REFUSED[unusable.status][0], str(unusable), status=unusable.status)  # fmt: skip
                except LacreError as error:
                    # Its text says what to do and holds no value: that is a rule of the tree.
                    shown = _error("This cannot be shown now", str(error), error.hint, status=503)
                if shown.leads:
                    return RedirectResponse(place.root + shown.leads, 303)
                if shown.file is not None:
                    name, text = shown.file
                    kept = {"content-disposition": f'attachment; filename="{name}"'}
                    return Response(text, media_type="text/plain; charset=utf-8", headers=kept)
                context: Mapping[str, Any] = {"active": active, "csrf": visitor.csrf, **shown.context}  # fmt: skip
                return HTMLResponse(renderer.render(shown.template, context), shown.status)

            return await run_in_threadpool(made)

        return answer

    async def refused(request: Request, error: Exception) -> Response:
        return refuse(request, error.status_code if isinstance(error, HTTPException) else 500)

    routes = [Route(path, endpoint(active, page), methods=["GET"]) for path, active, page in PAGES]
    routes += [
        Route(path, endpoint(active, page), methods=["POST"]) for path, active, page in _CHANGES
    ]
    routes += [
        Route("/login", entrance.login, methods=["GET", "POST"]),
        Route("/logout", entrance.logout, methods=["POST"]),
        Route("/lacre.css", _asset("lacre.css", "text/css")),
        Route("/lacre.svg", _asset("lacre.svg", "image/svg+xml")),
    ]
    application = Starlette(
        routes=routes, exception_handlers={HTTPException: refused, Exception: refused}
    )
    application.router.redirect_slashes = False
    return Doors(application, place=place, sessions=sessions, cookie=cookie, refuse=refuse)


class _Entrance:
    """The login and the way out."""

    def __init__(
        self, *, renderer: Renderer, sessions: Sessions, place: Place, cookie: str
    ) -> None:
        self._renderer = renderer
        self._sessions = sessions
        self._place = place
        self._cookie = cookie

    async def login(self, request: Request) -> Response:
        """Take the one-time token, by the link or by the form; ask for it where there is none."""
        address = "-" if request.client is None else request.client.host
        token = request.scope.get("lacre.form", {}).get("token", "").strip()
        # A HEAD request is some program that looks at links, and uses none up.
        if request.method == "GET":
            token = request.query_params.get("token", "")
        if not token:
            if request.scope["lacre.visitor"] is not None:
                return RedirectResponse(self._place.root + "/", 303)
            return self._page("", 200)
        wait = self._sessions.wait(address)
        # A right one is taken all the same: behind a proxy everybody has one address.
        kept = self._sessions.enter(token, address)
        if kept is None and wait:
            answer = self._page("Too many logins failed from this address. Wait some minutes.", 429)
            answer.headers["retry-after"] = str(wait)
            return answer
        if kept is None:
            _log.warning("a login failed")
            return self._page("This link was used already, is too old, or was never one. Use the one that `lacre serve` shows now.", 403)  # fmt: skip
        _log.info("a login")
        # No redirect: of a request that another site began, a browser would not send the cookie.
        done = HTMLResponse(self._renderer.render("entered.html", {}))
        done.set_cookie(
            self._cookie,
            kept,
            path=self._place.root or "/",
            secure=self._place.secure,
            httponly=True,
            samesite="strict",
        )
        return done

    async def logout(self, request: Request) -> Response:
        """End the session."""
        self._sessions.leave(request.scope["lacre.kept"])
        done = RedirectResponse(self._place.root + "/login", 303)
        done.delete_cookie(
            self._cookie,
            path=self._place.root or "/",
            secure=self._place.secure,
            httponly=True,
            samesite="strict",
        )
        return done

    def _page(self, wrong: str, status: int) -> Response:
        return HTMLResponse(self._renderer.render("login.html", {"wrong": wrong}), status)


def _error(title: str, advice: str, hint: str | None = None, *, status: int) -> Shown:
    return Shown(
        template="error.html",
        context={"title": title, "advice": advice, "hint": hint or "", "reference": ""},
        status=status,
    )


def _asset(name: str, media_type: str) -> Callable[[Request], Any]:
    content = files("lacre.dashboard").joinpath("static", name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, media_type=media_type, headers={"cache-control": "max-age=3600"})

    return answer
