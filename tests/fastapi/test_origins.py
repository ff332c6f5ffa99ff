# SPDX-License-Identifier: Apache-2.0
"""Where a request comes from reaches the evidence, and nobody but a named proxy says it for another."""

import asyncio
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI

from lacre import ConfigurationError, Lacre
from lacre.context import Acting
from lacre.fastapi import TokenActing, install
from tests.fastapi.issuer import Issuer

ISSUER = Issuer()
TRACE = "0af7651916cd43dd8448eb211c80319c"


def answered(
    lacre: Lacre, headers: dict[str, str], *, client: str = "192.0.2.7", proxies: Any = ()
) -> httpx.Response:
    """What a route tells of its origin, to one request from the address *client*."""
    acting = TokenActing(lacre, ISSUER.tokens(), proxies=proxies)
    app = FastAPI()
    install(app)

    @app.get("/")
    async def told(who: Annotated[Acting, acting(purpose="support")]) -> dict[str, str]:
        origin = who.origin
        return {name: getattr(origin, name) for name in ("correlation", "ip", "agent", "reason")}

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(client, 1234), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
            return await http.get("/", headers=ISSUER.headers() | headers)

    return asyncio.run(ask())


def test_a_request_says_where_it_comes_from(lacre: Lacre) -> None:
    """Its address, user agent, correlation id and ticket; the id comes back."""
    answer = answered(
        lacre, {"X-Correlation-ID": "order-7", "User-Agent": "curl/8", "X-Reason": "TICKET-9"}
    )

    assert answer.json() == {
        "correlation": "order-7", "ip": "192.0.2.7", "agent": "curl/8", "reason": "TICKET-9",
    }  # fmt: skip
    assert answer.headers["x-correlation-id"] == "order-7"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}, TRACE),
        ({"traceparent": "00-" + "0" * 32 + "-b7ad6b7169203331-01"}, None),
        ({"X-Correlation-ID": "not one\u00e9"}, None),
        ({"X-Correlation-ID": "a b"}, None),
        ({}, None),
    ],
)
def test_a_correlation_id_is_the_trace_or_made(
    lacre: Lacre, headers: dict[str, str], expected: str | None
) -> None:
    """Without an id that is one, the trace of W3C's header; without that a new one, which comes back too."""
    answer = answered(lacre, {name: value.encode() for name, value in headers.items()})  # type: ignore[misc]
    told = answer.json()["correlation"]

    assert told == expected or (expected is None and len(told) == 32 and told != "0" * 32)
    assert answer.headers["x-correlation-id"] == told


@pytest.mark.parametrize(
    ("client", "forwarded", "expected"),
    [
        ("192.0.2.7", "198.51.100.1", "192.0.2.7"),  # no proxy: it may say what it likes
        ("10.0.0.2", "198.51.100.1", "198.51.100.1"),
        (
            "10.0.0.2",
            "6.6.6.6, 198.51.100.1, 10.0.0.9",
            "198.51.100.1",
        ),  # left of it: the caller's own
        ("10.0.0.2", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.2", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.2", "198.51.100.1, unknown", "10.0.0.2"),
        ("::ffff:10.0.0.2", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.2", "", "10.0.0.2"),
        ("testclient", "198.51.100.1", ""),
    ],
)
def test_only_a_proxy_that_was_named_speaks_for_others(
    lacre: Lacre, client: str, forwarded: str, expected: str
) -> None:
    """The rightmost address that is no such proxy's; and of everybody else their own."""
    answer = answered(lacre, {"X-Forwarded-For": forwarded}, client=client, proxies=["10.0.0.0/8"])

    assert answer.json()["ip"] == expected


def test_a_reason_that_is_free_text_is_refused(lacre: Lacre) -> None:
    """It might hold what evidence must not: 422, and it is not echoed."""
    answer = answered(lacre, {"X-Reason": "Ana Souza asked on the phone"})

    assert answer.status_code == 422
    assert "Souza" not in answer.text
    assert answer.headers["x-correlation-id"]


@pytest.mark.parametrize("proxies", ["10.0.0.0/8", ["ten"]])
def test_proxies_are_networks(lacre: Lacre, proxies: Any) -> None:
    """What is none is refused when the application starts."""
    with pytest.raises(ConfigurationError):
        TokenActing(lacre, ISSUER.tokens(), proxies=proxies)
