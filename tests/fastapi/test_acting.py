# SPDX-License-Identifier: Apache-2.0
"""A request acts as its token says for the purpose of its route, and as nobody else, ever."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, Any

import anyio
import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Request, Response, WebSocket
from fastapi.responses import StreamingResponse

from lacre import ActingEnded, ConfigurationError, Lacre, NoPrincipal
from lacre.context import Acting, current
from lacre.fastapi import TokenActing, install
from tests.fastapi.issuer import Issuer
from tests.fastapi.serving import asked, asking, served, spoken

ISSUER = Issuer()
NOBODY = {"open", "middleware before", "middleware after"}


@pytest.fixture
def acting(lacre: Lacre) -> TokenActing:
    return TokenActing(lacre, ISSUER.tokens())


def me() -> str:
    """Who acts here, or which error says that nobody does."""
    try:
        return current().principal
    except (NoPrincipal, ActingEnded) as error:
        return type(error).__name__


def application(acting: TokenActing, told: list[tuple[str, str, str]]) -> FastAPI:
    """
    Every way of answering there is. *told* gets (request, where, who).

    Routes are awaited long enough for others to come between.
    """
    app = FastAPI()
    install(app)
    support = acting(purpose="support")

    @app.middleware("http")
    async def around(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        number = request.url.path.rpartition("/")[2]
        told.append((number, "middleware before", me()))
        answer = await call_next(request)
        told.append((number, "middleware after", me()))
        return answer

    async def others() -> None:
        for _ in range(random.randrange(4)):
            await asyncio.sleep(random.random() / 500)

    def before(request: str) -> None:
        told.append((request, "dependency", me()))

    @app.get("/sync/{request}", dependencies=[support, Depends(before)])
    def sync(request: str) -> str:
        told.append((request, "thread", me()))
        return me()

    @app.get("/async/{request}", dependencies=[support, Depends(before)])
    async def across_await(request: str) -> str:
        await others()
        told.append((request, "thread of its own", await asyncio.to_thread(me)))
        told.append((request, "child task", await asyncio.create_task(_me())))
        async with anyio.create_task_group() as group:
            group.start_soon(others)
        return me()

    @app.get("/stream/{request}", dependencies=[support])
    def streamed(request: str) -> StreamingResponse:
        def body() -> Iterator[str]:
            for _ in range(3):
                told.append((request, "body", me()))
                yield "."

        return StreamingResponse(body())

    @app.get("/astream/{request}", dependencies=[support])
    async def astreamed(request: str, tasks: BackgroundTasks) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            for _ in range(3):
                await others()
                told.append((request, "async body", me()))
                yield "."

        async def later() -> None:
            await others()
            told.append((request, "background", me()))

        tasks.add_task(later)
        tasks.add_task(lambda: told.append((request, "background thread", me())))
        return StreamingResponse(body(), background=tasks)

    @app.get("/fails/{request}", dependencies=[support])
    async def fails(request: str) -> None:
        await others()
        told.append((request, "before it fails", me()))
        raise ZeroDivisionError

    @app.get("/late/{request}", dependencies=[support])
    async def late(request: str) -> None:
        told.append((request, "before it is late", me()))
        async with asyncio.timeout(0.001):
            await asyncio.sleep(60)

    @app.get("/open/{request}")
    async def nobody_asked(request: str) -> str:
        await others()
        told.append((request, "open", me()))
        return me()

    return app


async def _me() -> str:
    return me()


def test_no_request_ever_acts_as_another(acting: TokenActing) -> None:
    """Six hundred requests of as many users, on one loop: everywhere in each acts who sent it."""
    told: list[tuple[str, str, str]] = []
    app = application(acting, told)
    kinds = ["sync", "async", "stream", "astream", "fails", "late", "open"]

    async def ask(client: httpx.AsyncClient, number: int) -> tuple[str, int]:
        kind = kinds[number % len(kinds)]
        headers = {} if kind == "open" else ISSUER.headers(str(number))
        answer = await client.get(f"/{kind}/{number}", headers=headers)
        return kind, answer.status_code

    async def main() -> list[tuple[str, int]]:
        async with asking(app) as client:
            answered = []
            for start in range(0, 600, 60):
                answered += await asyncio.gather(
                    *(ask(client, number) for number in range(start, start + 60))
                )
            return answered

    answered = asyncio.run(main())
    wrong = [
        (request, where, who)
        for request, where, who in told
        if who != ("NoPrincipal" if where in NOBODY else f"user:{request}")
    ]

    assert wrong == []
    assert {where for _, where, _ in told} == {
        "dependency", "thread", "thread of its own", "child task", "body", "async body",
        "background", "background thread", "before it fails", "before it is late", *NOBODY,
    }  # fmt: skip
    assert set(answered) == {(kind, 500 if kind in ("fails", "late") else 200) for kind in kinds}


def test_what_outlives_the_response_does_not_act(acting: TokenActing) -> None:
    """A task and a thread that an endpoint left behind get `ActingEnded`, not its principal."""
    app = FastAPI()
    told: dict[str, str] = {}
    left: list[Any] = []

    @app.get("/", dependencies=[acting(purpose="support")])
    async def leaves(tasks: BackgroundTasks) -> None:
        answered = asyncio.Event()
        thread_may = threading.Event()

        async def task() -> None:
            await answered.wait()
            told["task"] = me()

        def thread() -> None:
            thread_may.wait()
            told["thread"] = me()

        left.append(asyncio.create_task(task()))
        left.append(asyncio.create_task(asyncio.to_thread(thread)))
        left.append((answered, thread_may))

    async def main() -> None:
        async with asking(app) as client:
            assert (await client.get("/", headers=ISSUER.headers())).status_code == 200
        for event in left.pop():
            event.set()
        await asyncio.gather(*left)

    asyncio.run(main())

    assert told == {"task": "ActingEnded", "thread": "ActingEnded"}


def test_a_cancelled_request_ends_its_block(acting: TokenActing) -> None:
    """A client that goes away while an endpoint waits leaves nobody acting, and harms no other."""
    app = FastAPI()
    held: list[Acting] = []

    @app.get("/", dependencies=[acting(purpose="support")])
    async def waits() -> None:
        held.append(current())
        await asyncio.sleep(60)

    async def main() -> None:
        async with asking(app) as client:
            asked = asyncio.create_task(client.get("/", headers=ISSUER.headers()))
            while not held:  # noqa: ASYNC110 - nothing to wait for
                await asyncio.sleep(0.001)
            assert not held[0].ended
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked

    asyncio.run(main())

    assert [one.ended for one in held] == [True]


PIPELINED = "GET /{} HTTP/1.1\r\nHost: s\r\n{}\r\n"


def who_acts_in_the_second(app: FastAPI) -> str:
    """Send two requests at once on one connection, of which only the first has a token."""

    async def main() -> str:
        async with served(app) as port:
            reading, writing = await asyncio.open_connection("127.0.0.1", port)
            header = f"Authorization: {ISSUER.headers('ana')['Authorization']}\r\n"
            last = "Connection: close\r\n"
            writing.write((PIPELINED.format("first", header) + PIPELINED.format("second", last)).encode())  # fmt: skip
            answers = (await reading.read()).decode()
            writing.close()
            await writing.wait_closed()
        return answers.rpartition('"')[0].rpartition('"')[2]

    return asyncio.run(main())


def pipelined(acting: TokenActing) -> FastAPI:
    app = FastAPI()

    @app.get("/first", dependencies=[acting(purpose="support")])
    async def first(tasks: BackgroundTasks) -> None:
        tasks.add_task(asyncio.sleep, 0.3)

    @app.get("/second")
    async def second() -> str:
        return me()

    return app


def test_the_next_request_of_a_connection_begins_as_nobody(acting: TokenActing) -> None:
    """A request without a token that came right behind one with a token acts as nobody."""
    app = pipelined(acting)
    install(app)

    assert who_acts_in_the_second(app) == "NoPrincipal"


def test_without_install_a_pipelined_request_would_act_as_the_one_before(
    acting: TokenActing,
) -> None:
    """Why `install` does that: uvicorn starts the second request in the first one's context."""
    assert who_acts_in_the_second(pipelined(acting)) == "user:ana"


def test_a_request_acts_as_the_roles_that_its_route_is_for(acting: TokenActing) -> None:
    """Of a token's roles those of the route count; without any it is 403, without a token 401."""
    app = FastAPI()
    install(app)

    @app.get("/")
    def shown(who: Annotated[Acting, acting(purpose="support", roles={"support", "admin"})]) -> Any:
        return sorted(who.roles), who.purpose, who.principal

    got = asked(app, "/", ISSUER.headers("bia", "app", "support"))
    denied = asked(app, "/", ISSUER.headers("bia", "app"))
    unknown = asked(app, "/")
    basic = asked(app, "/", {"Authorization": "Basic YTpi"})

    assert got.json() == [["support"], "support", "user:bia"]
    assert (denied.status_code, denied.json()["code"]) == (403, "access-denied")
    assert unknown.headers["WWW-Authenticate"] == "Bearer"
    assert basic.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert unknown.status_code == basic.status_code == 401
    assert unknown.json()["code"] == basic.json()["code"] == "no-principal"


def test_a_caller_chooses_a_purpose_among_those_of_the_route(acting: TokenActing) -> None:
    """The header is required and takes nothing else; a route with one purpose does not read it."""
    app = FastAPI()
    install(app)

    @app.get("/several")
    def several(who: Annotated[Acting, acting(purpose=("support call", "kyc"))]) -> str:
        return who.purpose

    @app.get("/one")
    def one(who: Annotated[Acting, acting(purpose="support call")]) -> str:
        return who.purpose

    def ask(path: str, **headers: str) -> Any:
        answer = asked(app, path, ISSUER.headers() | headers)
        return answer.json() if answer.status_code == 200 else answer.status_code

    told = [
        ask("/several", **{"X-Purpose": "kyc"}),
        ask("/several"),
        ask("/several", **{"X-Purpose": "curiosity"}),
        ask("/one", **{"X-Purpose": "kyc"}),
    ]
    (parameter,) = app.openapi()["paths"]["/several"]["get"]["parameters"]

    assert told == ["kyc", 422, 422, "support call"]
    assert (parameter["name"], parameter["required"]) == ("X-Purpose", True)
    assert parameter["schema"]["enum"] == ["support call", "kyc"]


def test_the_inner_of_two_dependencies_counts(acting: TokenActing) -> None:
    """A route of a router with a purpose of its own acts for the route's."""
    router = APIRouter(dependencies=[acting(purpose="support")])

    @router.get("/")
    def own(who: Annotated[Acting, acting(purpose="kyc")]) -> list[str]:
        return [who.purpose, current().purpose]

    app = FastAPI()
    app.include_router(router)

    assert asked(app, "/", ISSUER.headers()).json() == ["kyc", "kyc"]


def test_the_tenant_of_the_token_is_the_tenant_of_the_request(lacre: Lacre) -> None:
    """Whose data it is about comes from the token."""
    acting = TokenActing(lacre, ISSUER.tokens(tenant_claim="org"))
    app = FastAPI()

    @app.get("/")
    def tenant(who: Annotated[Acting, acting(purpose="support")]) -> str | None:
        return who.tenant

    assert asked(app, "/", ISSUER.headers(org="acme")).json() == "acme"


def test_a_websocket_acts_while_it_is_open(acting: TokenActing) -> None:
    """A socket with a token acts as its sender; one without is closed before it opens."""
    app = FastAPI()
    install(app)

    @app.websocket("/")
    async def talk(socket: WebSocket, who: Annotated[Acting, acting(purpose="support")]) -> None:
        await socket.accept()
        await socket.send_text(who.principal)
        await socket.receive_text()
        await socket.send_text(me())

    told = [sent.get("text") for sent in spoken(app, "/", ISSUER.headers(), ["go on"])]
    (refused,) = spoken(app, "/", {}, [])

    assert told == [None, "user:ana", "user:ana"]
    assert refused == {"type": "websocket.close", "code": 1008, "reason": "no-principal"}


def test_the_document_says_that_a_token_is_needed(acting: TokenActing) -> None:
    """OpenAPI has the scheme, and each route that acts requires it."""
    app = FastAPI()

    @app.get("/", dependencies=[acting(purpose="support")])
    def shown() -> None: ...

    document = app.openapi()

    assert document["components"]["securitySchemes"] == {
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    }
    assert document["paths"]["/"]["get"]["security"] == [{"token": []}]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda acting: acting(purpose=""),
        lambda acting: acting(purpose=()),
        lambda acting: acting(purpose=("support", "")),
        lambda acting: acting(purpose="support", roles="admin"),
    ],
)
def test_a_route_without_a_purpose_is_refused(
    acting: TokenActing, wrong: Callable[[TokenActing], Any]
) -> None:
    """When the route is declared, not when it is called."""
    with pytest.raises(ConfigurationError):
        wrong(acting)
