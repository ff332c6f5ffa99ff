# SPDX-License-Identifier: Apache-2.0
"""
Errors as problems (RFC 9457, ``application/problem+json``), without a value.

What is told is a status, a stable code of ``docs/errors.md`` and a sentence that is fixed for each
class: never an error's own text, and of a request that does not fit never what was sent, which
FastAPI by itself echoes. Errors that a response caused (a `ResponseValidationError` or a pydantic
`ValidationError`, whose texts quote values) are answered and logged without their values and go no
further. Errors' own words, which hold no values, are logged on ``lacre.fastapi``.

Does not touch exceptions of others: `HTTPException` stays what it is.
"""

import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import (
    RequestValidationError,
    ResponseValidationError,
    WebSocketRequestValidationError,
)
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lacre.context import nobody
from lacre.errors import (
    AccessDenied,
    AlreadyEncrypted,
    DuplicateValue,
    EvidenceUnavailable,
    InvalidValue,
    KeyDestroyed,
    KeyUnavailable,
    LacreError,
    MaskWritten,
    NoPrincipal,
    SubjectHeld,
    UnsupportedQuery,
)
from lacre.fastapi.origins import CORRELATION_HEADER, correlation_of

__all__ = ["Problem", "install", "problems"]

_MEDIA_TYPE = "application/problem+json"
# Of a websocket (RFC 6455): try again later, our error, or else not allowed.
_TRY_LATER, _OURS, _REFUSED = 1013, 1011, 1008
_log = logging.getLogger("lacre.fastapi")
_BACK = CORRELATION_HEADER.lower().encode()

# By the class that an error is of, or the nearest above it. What is ours to mend says nothing.
_ANSWERS: dict[type[LacreError], tuple[int, str]] = {
    LacreError: (500, "The request cannot be answered."),
    NoPrincipal: (401, "The request has no token that is accepted."),
    AccessDenied: (403, "The policy does not allow it."),
    DuplicateValue: (409, "Another record holds a value that is unique."),
    SubjectHeld: (409, "A legal hold forbids it."),
    KeyDestroyed: (410, "What was asked for was erased, and cannot be read again."),
    InvalidValue: (422, "A value is not one that its field takes."),
    UnsupportedQuery: (422, "Protected values cannot be searched like this."),
    MaskWritten: (422, "A mask was sent in place of a value."),
    AlreadyEncrypted: (422, "A value is encrypted already."),
    KeyUnavailable: (503, "Protected values cannot be read or written now."),
    EvidenceUnavailable: (503, "Protected values cannot be read or written now."),
}


class Problem(BaseModel):
    """The body of a refused request."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    retryable: bool = False
    fields: list[dict[str, str]] | None = None


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what ``responses=`` of an application, router or route takes, for the OpenAPI document."""
    schema = Problem.model_json_schema()
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {_MEDIA_TYPE: {"schema": schema}},
        }
        for status in statuses
    }


def install(app: FastAPI, *, retry_after: int = 5, types: str | None = None) -> None:
    """
    Have *app* answer with problems, begin every request as nobody, and send its correlation id back.

    A middleware of yours that opens a block is added before this is called: what is added later is
    further outside, and its block would not be seen.

    Args:
        retry_after: seconds that a client is asked to wait where the same request may succeed later.
        types: the address of your page of errors, to which ``#CODE`` is added; ``about:blank`` by default.
    """
    answers = _Answers(retry_after, types)
    handlers: dict[type[Exception], Any] = {  # of requests and of websockets alike
        LacreError: answers.of_lacre,
        RequestValidationError: answers.of_request,
        WebSocketRequestValidationError: answers.of_request,
        ResponseValidationError: answers.of_response,
        ValidationError: answers.of_response,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(_AsNobody)


class _AsNobody:
    # A server may start a connection's next request in the context of the one before, while that
    # one's block is still open (uvicorn does, for pipelined requests): a route without a
    # dependency would act as its principal, who is another user behind a proxy.
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                correlation = correlation_of(scope).encode()
                headers = [each for each in message.get("headers", ()) if each[0].lower() != _BACK]
                message = {**message, "headers": [*headers, (_BACK, correlation)]}
            await send(message)

        with nobody():
            if scope["type"] in ("http", "websocket"):
                correlation_of(scope)
            await self._app(scope, receive, answered)


class _Answers:
    def __init__(self, retry_after: int, types: str | None) -> None:
        self._retry_after = retry_after
        self._types = types

    async def of_lacre(self, connection: HTTPConnection, error: Exception) -> Response | None:
        assert isinstance(error, LacreError)
        status, detail = next(_ANSWERS[kind] for kind in type(error).__mro__ if kind in _ANSWERS)
        level = logging.ERROR if status >= 500 else logging.INFO
        _log.log(level, "%s: %s: %s", _route(connection), error.code, error)
        headers = {}
        if status == 401:
            token = "authorization" in connection.headers
            headers["WWW-Authenticate"] = 'Bearer error="invalid_token"' if token else "Bearer"
        if status == 503:
            headers["Retry-After"] = str(self._retry_after)
        return await self._answered(
            connection, status, detail, error.code, headers, retryable=error.retryable
        )

    async def of_request(self, connection: HTTPConnection, error: Exception) -> Response | None:
        assert isinstance(error, RequestValidationError | WebSocketRequestValidationError)
        return await self._answered(
            connection,
            422,
            "The request is not one that this route takes.",
            "invalid-request",
            {},
            fields=_told(error.errors(), _declared(connection)),
        )

    async def of_response(self, connection: HTTPConnection, error: Exception) -> Response | None:
        assert isinstance(error, ResponseValidationError | ValidationError)
        wrong = "; ".join(
            f"{one['at']}: {one['wrong']}" for one in _told(error.errors(), _declared(connection))
        )
        _log.error("%s: a value does not fit its model: %s", _route(connection), wrong)
        return await self._answered(
            connection, 500, "The request cannot be answered.", "invalid-response", {}
        )

    async def _answered(
        self,
        connection: HTTPConnection,
        status: int,
        detail: str,
        code: str,
        headers: dict[str, str],
        **more: Any,
    ) -> Response | None:
        if isinstance(connection, WebSocket):
            closing = _TRY_LATER if status == 503 else _OURS if status >= 500 else _REFUSED
            await connection.close(closing, reason=code)
            return None
        told = Problem(
            type="about:blank" if self._types is None else f"{self._types}#{code}",
            title=HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            code=code,
            **more,
        )
        return JSONResponse(
            told.model_dump(exclude_none=True), status, headers=headers, media_type=_MEDIA_TYPE
        )


def _route(connection: HTTPConnection) -> str:
    # The pattern: a path may hold what somebody searched for.
    route = getattr(connection.scope.get("route"), "path", "?")
    return f"{connection.method} {route}" if isinstance(connection, Request) else str(route)


_PARTS = frozenset({"body", "query", "path", "header", "cookie"})


def _told(errors: Iterable[Any], names: frozenset[str]) -> list[dict[str, str]]:
    # Pydantic's codes and places. Its messages quote what was sent, as its `input` and `ctx` do,
    # and a place has the keys that somebody made up: told are those that the application declares.
    return [
        {
            "at": ".".join(
                str(part) if isinstance(part, int) or part in names | _PARTS else "*"
                for part in error["loc"]
            ),
            "wrong": str(error["type"]),
        }
        for error in errors
    ]


def _declared(connection: HTTPConnection) -> frozenset[str]:
    # Of the OpenAPI document, which FastAPI makes once: every property and every parameter.
    found: set[str] = set()
    left: list[Any] = [connection.app.openapi()]
    while left:
        part = left.pop()
        if isinstance(part, list):
            left += part
        elif isinstance(part, dict):
            left += part.values()
            properties = part.get("properties")
            found.update(properties if isinstance(properties, dict) else ())
            if "in" in part and isinstance(part.get("name"), str):
                found.add(part["name"])
    return frozenset(found)
