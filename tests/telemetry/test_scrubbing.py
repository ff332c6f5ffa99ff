"""Crash reports, by a real client of Sentry whose transport is here, and tracebacks in logs."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.integrations.starlette import StarletteIntegration
from sentry_sdk.transport import Transport
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from lacre import AccessDenied, Lacre, Origin
from lacre.errors import ConfigurationError
from lacre.telemetry.logs import Correlated, JsonLines
from lacre.telemetry.scrubbing import Scrubber

# None has a shape that could be told from other text.
CANARY = "Wilhelmina Canary of Nowhere"


class _Kept(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Envelope] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.sent.append(envelope)

    def text(self) -> str:
        """Return all of it, as it goes over the network."""
        return "\n".join(each.serialize().decode("utf-8", "replace") for each in self.sent)

    def events(self) -> list[dict[str, Any]]:
        """Return the events."""
        return [event for each in self.sent if (event := each.get_event()) is not None]


@pytest.fixture
def sentry() -> Iterator[_Kept]:
    """Sentry as careless as it can be configured, but for the scrubber."""
    kept, scrubber = _Kept(), Scrubber()
    with pytest.warns(DeprecationWarning, match="send_default_pii"):
        sentry_sdk.init(
        dsn="https://key@sentry.invalid/1", transport=kept, include_local_variables=True,
        include_source_context=True, send_default_pii=True, max_request_body_size="always", attach_stacktrace=True,
        traces_sample_rate=1.0, default_integrations=False,
        integrations=[LoggingIntegration(level=logging.DEBUG, event_level=logging.ERROR), StarletteIntegration()],
        before_send=scrubber.before_send, before_send_transaction=scrubber.before_send,
        before_breadcrumb=scrubber.before_breadcrumb,
        )  # fmt: skip
    yield kept
    sentry_sdk.init(default_integrations=False)  # defaults patch http.client, for good


def _looks(lacre: Lacre) -> str:
    box = lacre.field("pii", table="t", column="c")
    with lacre.acting_as("svc:a", roles={"app"}, purpose="p"):
        return str(box.decrypt(box.encrypt(CANARY, row="1"), row="1"))


def test_the_canary_would_leave(lacre: Lacre) -> None:
    """Without the scrubber the same report has the value: in a variable, an argument and a message."""
    kept = _Kept()
    sentry_sdk.init(dsn="https://key@sentry.invalid/1", transport=kept, default_integrations=False)
    try:
        name = _looks(lacre)
        raise ValueError(f"no such customer: {name}")
    except ValueError:
        sentry_sdk.capture_exception()
    finally:
        sentry_sdk.init(default_integrations=False)  # defaults patch http.client, for good

    assert kept.text().count(CANARY) >= 2


def test_locals_arguments_and_notes(sentry: _Kept, lacre: Lacre) -> None:
    """Of an error there are its types and places; no variable, text, note or cause says a value."""

    def inner(name: str) -> None:
        held = {"customer": [name]}
        try:
            raise KeyError(name)
        except KeyError as error:
            error.add_note(f"of {name}")
            raise ValueError(name, held) from error

    try:
        inner(_looks(lacre))
    except ValueError:
        sentry_sdk.capture_exception()
    (event,) = sentry.events()
    errors = event["exception"]["values"]

    assert CANARY not in sentry.text()
    assert [each["type"] for each in errors] == ["KeyError", "ValueError"]
    assert {each["value"] for each in errors} == {"[scrubbed]"}
    assert "inner" in {frame["function"] for frame in errors[-1]["stacktrace"]["frames"]}
    assert not [
        frame for each in errors for frame in each["stacktrace"]["frames"] if "vars" in frame
    ]


def test_logs_and_breadcrumbs(sentry: _Kept, lacre: Lacre) -> None:
    """Of log messages there are the templates, in the report and in its breadcrumbs; whatever an application added is gone."""
    name, log = _looks(lacre), logging.getLogger("shop")
    sentry_sdk.set_user({"id": name, "email": "ana@example.org"})
    sentry_sdk.set_extra("customer", name)
    sentry_sdk.set_context("customer", {"name": name})
    sentry_sdk.set_tag("mail", "ana@example.org")
    sentry_sdk.add_breadcrumb(
        category="query", message=f"SELECT '{name}'", data={"db.params": name}
    )
    sentry_sdk.add_breadcrumb(
        category="http", data={"url": f"https://x.example/?q={name}", "status_code": 500}
    )
    log.warning("looked at %s", name)
    log.error("cannot write %s for %s", name, "x", extra={"customer": name})
    (event,) = sentry.events()
    crumbs = event["breadcrumbs"]["values"]

    assert CANARY not in sentry.text()
    assert "ana@example.org" not in sentry.text()
    assert event["logentry"] == {"message": "cannot write %s for %s"}
    assert [each.get("message") for each in crumbs if each["category"] == "shop"] == [
        "looked at %s"
    ]
    assert [each["data"] for each in crumbs if each["category"] == "http"] == [{"status_code": 500}]
    assert not {"user", "extra"} & event.keys()


def test_requests(sentry: _Kept, lacre: Lacre) -> None:
    """Of a request there are its method and path; no body, query, cookie, token, and no span's text."""

    async def fail(request: Request) -> JSONResponse:
        body = await request.json()
        with sentry_sdk.start_span(op="db", name=f"SELECT {body['name']}") as span:
            span.set_data("name", body["name"])
        raise RuntimeError(body["name"])

    async def ask() -> None:
        app = Starlette(routes=[Route("/customers", fail, methods=["POST"])])
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
            client.cookies.set("session", "cookie-canary")
            await client.post(
                "/customers", params={"q": CANARY}, json={"name": CANARY},
                headers={"Authorization": "Bearer token-canary", "X-Name": CANARY},
            )  # fmt: skip

    asyncio.run(ask())
    errors = [each for each in sentry.events() if "exception" in each]

    assert len(sentry.sent) >= 2
    for canary in (
        CANARY,
        "cookie-canary",
        "token-canary",
        CANARY.replace(" ", "+"),
        CANARY.replace(" ", "%20"),
    ):
        assert canary not in sentry.text()
    assert errors[0]["request"]["method"] == "POST"
    assert errors[0]["request"]["url"].endswith("/customers")


def test_own_errors_speak(sentry: _Kept, lacre: Lacre) -> None:
    """The text of lacre's own errors, which quotes no value, is there to be read; notes, which name rows, are not."""
    box = lacre.field("pii", table="t", column="c")
    with lacre.acting_as("svc:a", roles={"stranger"}, purpose="p"):
        try:
            box.encrypt(CANARY, row="1")
        except AccessDenied as error:
            error.add_note("of row 52998224725")
            sentry_sdk.capture_exception(error)
    (event,) = sentry.events()
    (said,) = [each["value"] for each in event["exception"]["values"]]

    assert said.startswith("svc:a (stranger) may not encrypt t.c")
    assert "52998224725" not in sentry.text()
    assert CANARY not in sentry.text()


def test_what_cannot_be_scrubbed_is_not_sent() -> None:
    """A report of no known form leaves nothing but that it was."""
    left = Scrubber().before_send({"event_id": "1", "spans": 7, "tags": CANARY}, {})

    assert left == {"event_id": "1", "logentry": {"message": "a report that could not be scrubbed"}}


@pytest.mark.parametrize(
    "value",
    [
        "ana.souza@example.org", "529.982.247-25", "52998224725", "4111 1111 1111 1111", "+55 (11) 91234-5678",
        "GB82 WEST 1234 5698 7654 32", "postgresql://shop:hunter2@db/shop", "Authorization: Bearer abc.def",
        "password=hunter2", "eyJhbGciOi.eyJzdWIi.c2ln", "wQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ],
)  # fmt: skip
def test_shapes(value: str) -> None:
    """What has the shape of a value is taken out of any text, and the text around it stays."""
    left = Scrubber().text(f"before {value} after")

    assert value.split("@")[0].split("=")[-1] not in left
    assert left.startswith("before")
    assert "[scrubbed]" in left


@pytest.mark.parametrize("text", ["lacre 0.1.0 on 2026-11-22T12:00:00Z", "127.0.0.1:5432", "row 42 of 1000", "customers.email", "svc:kyc"])  # fmt: skip
def test_what_stays(text: str) -> None:
    """Versions, moments, addresses of machines, counts and names of columns stay."""
    assert Scrubber().text(text) == text


def test_log_lines(lacre: Lacre) -> None:
    """A line says who acts in which request; a text cannot end it, and a traceback has no text of an error."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    log = logging.getLogger("shop.lines")
    log.addHandler(handler)
    log.propagate = False
    name = _looks(lacre)
    try:
        with lacre.acting_as(
            "svc:kyc", purpose="kyc", tenant="acme", origin=Origin(correlation="req-1")
        ):
            log.warning("two\nlines of ana@example.org")
            try:
                raise ValueError(name)
            except ValueError:
                log.exception("it failed")
        log.warning("nobody")
    finally:
        log.removeHandler(handler)
    first, second, third = map(json.loads, stream.getvalue().splitlines())

    assert (first["correlation"], first["principal"], first["purpose"], first["tenant"]) == ("req-1", "svc:kyc", "kyc", "acme")  # fmt: skip
    assert first["message"] == "two\nlines of [scrubbed]"
    assert "ValueError: [scrubbed]" in second["exception"]
    assert "test_log_lines" in second["exception"]
    assert CANARY not in stream.getvalue()
    assert "principal" not in third


def test_any_formatter(lacre: Lacre) -> None:
    """As filters of a handler they serve any formatter."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(correlation)s %(principal)s %(message)s"))
    handler.addFilter(Correlated())
    handler.addFilter(Scrubber(speaks=[ZeroDivisionError]))
    log = logging.getLogger("shop.plain")
    log.addHandler(handler)
    log.propagate = False
    name = _looks(lacre)
    try:
        with lacre.acting_as("svc:kyc", purpose="kyc", origin=Origin(correlation="req-1")):
            try:
                try:
                    raise KeyError(name)
                except KeyError:
                    1 / 0
            except ZeroDivisionError:
                log.exception("it failed")
    finally:
        log.removeHandler(handler)
    text = stream.getvalue()

    assert text.startswith("req-1 svc:kyc it failed\n")
    assert "ZeroDivisionError: division by zero" in text
    assert "KeyError: [scrubbed]" in text
    assert CANARY not in text


class _Own(logging.Formatter):
    """Writes tracebacks itself, as formatters of JSON do."""

    def format(self, record: logging.LogRecord) -> str:
        told = self.formatException(record.exc_info) if record.exc_info else ""
        return f"{record.getMessage()} {told}"


def test_a_formatter_that_writes_tracebacks_itself() -> None:
    """It has the types and places of errors and of their causes, without their texts; an error as a parameter has none either."""
    stream, name = io.StringIO(), " ".join(["Maria", "Silva"])
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Own())
    handler.addFilter(Scrubber())
    handler.addFilter(Scrubber())
    logger = logging.Logger("own")
    logger.addHandler(handler)
    try:
        try:
            raise KeyError(name)
        except KeyError as error:
            raise ConfigurationError("say so") from error
    except ConfigurationError as error:
        logger.exception("it failed: %s", error.__cause__)
        logger.error(error.__cause__)
    text = stream.getvalue()

    assert name not in text
    assert "lacre.errors.ConfigurationError: say so" in text
    assert text.count("KeyError: [scrubbed]") == 3
    assert "test_a_formatter_that_writes_tracebacks_itself" in text
