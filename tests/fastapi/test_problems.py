# SPDX-License-Identifier: Apache-2.0
"""Errors become problems with a stable code, and no answer or log line holds a value."""

import inspect
import logging
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, HTTPException, Query, WebSocket
from pydantic import BaseModel, ConfigDict

from lacre import ConfigurationError, errors
from lacre.errors import InvalidValue, LacreError
from lacre.fastapi import Problem, install, problems
from tests.fastapi.serving import asked, spoken

CANARY = "canary-52998224725"

STATUSES = {
    "no-principal": 401,
    "access-denied": 403,
    "duplicate-value": 409,
    "subject-held": 409,
    "key-destroyed": 410,
    "already-encrypted": 422,
    "invalid-value": 422,
    "mask-written": 422,
    "unsupported-query": 422,
    "evidence-unavailable": 503,
    "key-disabled": 503,
    "key-expired": 503,
    "key-not-found": 503,
    "key-service-denied": 503,
    "key-service-unreachable": 503,
    "key-store-unreachable": 503,
    "key-unavailable": 503,
}
CLASSES = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, LacreError)
]


def made(kind: type[LacreError]) -> LacreError:
    """An error of that class; those that take words have the canary in them."""
    return (
        kind() if not inspect.signature(kind).parameters else kind(f"words {CANARY}", hint=CANARY)
    )


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    install(app, types="https://errors.example.org/lacre")
    return app


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_a_problem_without_its_own_words(
    app: FastAPI, kind: type[LacreError]
) -> None:
    """Status, code and type are those of the class; the error's own text is not told."""

    @app.get("/")
    async def fails() -> None:
        raise made(kind)

    answer = asked(app, "/")
    problem = answer.json()
    status = STATUSES.get(kind.code, 500)

    assert answer.status_code == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == kind.code
    assert problem["type"] == f"https://errors.example.org/lacre#{kind.code}"
    assert problem["retryable"] is kind.retryable
    assert answer.headers.get("Retry-After") == ("5" if status == 503 else None)
    assert CANARY not in answer.text + str(answer.headers)
    assert Problem.model_validate(problem)


@pytest.mark.parametrize(
    ("kind", "closing"),
    [(errors.AccessDenied, 1008), (errors.Tampered, 1011), (errors.EvidenceUnavailable, 1013)],
)
def test_a_websocket_is_closed_with_the_code(
    app: FastAPI, kind: type[LacreError], closing: int
) -> None:
    """The status of a close says whose fault it is, its reason is the error's code."""

    @app.websocket("/")
    async def fails(socket: WebSocket) -> None:
        await socket.accept()
        raise made(kind)

    told = spoken(app, "/", {}, [])[-1]

    assert told == {"type": "websocket.close", "code": closing, "reason": kind.code}


def test_the_address_of_the_page_of_errors_is_optional() -> None:
    """Without one the type is what RFC 9457 has for it."""
    app = FastAPI()
    install(app, retry_after=30)

    @app.get("/")
    def fails() -> None:
        raise errors.KeyStoreUnreachable("gone")

    answer = asked(app, "/")

    assert (answer.json()["type"], answer.headers["Retry-After"]) == ("about:blank", "30")


class Sent(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    age: int = 0
    notes: dict[str, int] = {}


@pytest.mark.parametrize(
    "sent",
    [
        {"json": {"name": [CANARY]}},
        {"json": {"age": CANARY}},
        {"json": {"name": "x", CANARY: 1}},
        {"json": {"name": "x", "notes": {CANARY: CANARY}}},
        {"json": {"name": "x", "notes": {CANARY.replace("-", "_"): "x"}}},
        {"json": CANARY},
        {"content": f'{{"name": "{CANARY}"', "headers": {"content-type": "application/json"}},
        {"content": CANARY},
    ],
    ids=[
        "type",
        "missing",
        "made-up field",
        "key",
        "key like a name",
        "no object",
        "broken JSON",
        "no JSON",
    ],
)
def test_a_request_that_does_not_fit_is_not_echoed(app: FastAPI, sent: Any) -> None:
    """What was sent, as a value or as a name, is in no answer; where it is wrong and how is."""

    @app.post("/")
    def take(body: Sent) -> None: ...

    answer = asked(app, "/", method="POST", **sent)

    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid-request"
    assert answer.json()["fields"]
    assert "52998224725" not in answer.text


def test_a_place_is_named_as_the_route_declares_it(app: FastAPI) -> None:
    """A client finds the field by its name, and the reason by pydantic's code."""

    @app.post("/")
    def take(body: Sent, limit: Annotated[int, Query(le=10)] = 1) -> None: ...

    answer = asked(app, "/?limit=11", method="POST", json={"age": 1})

    assert answer.json()["fields"] == [
        {"at": "query.limit", "wrong": "less_than_equal"},
        {"at": "body.name", "wrong": "missing"},
    ]


@pytest.mark.parametrize("inside", [False, True], ids=["by FastAPI", "in the endpoint"])
def test_a_response_that_does_not_fit_is_neither_told_nor_logged(
    app: FastAPI, caplog: pytest.LogCaptureFixture, inside: bool
) -> None:
    """A value that its model refuses is in no answer, no log line and no traceback."""

    @app.get("/{what}", response_model=Sent)
    def give(what: str) -> Any:
        found = {"name": "x", "age": CANARY}
        return Sent.model_validate(found) if inside else found

    caplog.set_level(logging.DEBUG)
    answer = asked(app, f"/{CANARY}")

    assert (answer.status_code, answer.json()["code"]) == (500, "invalid-response")
    assert CANARY not in answer.text
    assert "GET /{what}: a value does not fit its model" in caplog.text
    lines = [
        record.getMessage() for record in caplog.records if record.name.startswith("lacre.fastapi")
    ]
    assert CANARY not in "".join(lines)
    assert not any(record.exc_info for record in caplog.records)


def test_what_is_ours_to_mend_is_logged_as_an_error(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    """The words of an error are for the log: an error where the service is at fault, else not."""

    @app.get("/{which}")
    def fails(which: str) -> None:
        if which == "ours":
            raise ConfigurationError("no such class")
        raise InvalidValue("a CPF has eleven digits")

    caplog.set_level(logging.INFO, "lacre.fastapi")
    for which in ("ours", "theirs"):
        asked(app, f"/{which}")
    told = [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name == "lacre.fastapi"
    ]

    assert told == [
        ("ERROR", "GET /{which}: configuration: no such class"),
        ("INFO", "GET /{which}: invalid-value: a CPF has eleven digits"),
    ]


def test_errors_of_others_stay_what_they_are(app: FastAPI) -> None:
    """An `HTTPException` is answered as FastAPI does."""

    @app.get("/")
    def fails() -> None:
        raise HTTPException(404, "no such page")

    assert asked(app, "/").json() == {"detail": "no such page"}


def test_the_document_describes_the_problems() -> None:
    """`problems` puts the body's schema under each status, 422 included."""
    app = FastAPI(responses=problems(401, 422))

    @app.post("/")
    def take(body: Sent) -> None: ...

    responses = app.openapi()["paths"]["/"]["post"]["responses"]

    for status in ("401", "422"):
        (media_type,) = responses[status]["content"]
        assert media_type == "application/problem+json"
        schema = responses[status]["content"][media_type]["schema"]
        assert set(schema["properties"]) == set(Problem.model_fields)
