# SPDX-License-Identifier: Apache-2.0
"""FastAPI under uvicorn and gunicorn: who acts is whoever asked, across await and thread pool."""

import asyncio
import importlib.util
import random
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.responses import StreamingResponse

from lacre import ActingEnded, Lacre, NoPrincipal
from lacre.context import current
from lacre.errors import MisuseError
from tests.deployment.serving import HTTP, Deployed, Server, asked, write_modules

# Those that are long differ from one that is not in the server only.
_SERVERS = [
    pytest.param(["uvicorn", "desk:app", "--workers", "2"], id="uvicorn, middleware"),
    pytest.param(["uvicorn", "desk_async:app", "--workers", "2"], id="uvicorn, AsyncSession"),
    pytest.param(["gunicorn", "api:app", "-k", "asgi"], id="gunicorn, asgi worker"),
    pytest.param(
        ["uvicorn", "api:app", "--workers", "2"], id="uvicorn, dependency", marks=pytest.mark.long
    ),
    pytest.param(
        ["gunicorn", "api:app", "-k", "uvicorn.workers.UvicornWorker"],
        id="gunicorn, uvicorn worker",
        marks=pytest.mark.long,
    ),
]


@pytest.fixture(scope="module", params=_SERVERS)
def server(request: pytest.FixtureRequest, deployed: Deployed) -> Iterator[Server]:
    """Two workers. gunicorn finds the page's configuration by its name."""
    listen = ["-b", "127.0.0.1:{port}"] if request.param[0] == "gunicorn" else ["--port", "{port}"]
    with deployed.serving(*request.param, *listen) as server:
        yield server


def paths(server: Server) -> list[str]:
    """The endpoints that look."""
    (app,) = [word for word in server.process.args if word.endswith(":app")]  # type: ignore[union-attr]
    return ["/sync", "/async"] if app == "desk:app" else ["/customers"]


def test_concurrent_requests_never_act_as_one_another(deployed: Deployed, server: Server) -> None:
    """A hundred and twenty users, thirty-two at once: each row was looked at by who asked for it."""
    answered = []
    for path in paths(server):
        requests = [
            (f"{server.port}{path[1]}-{n}", random.choice(deployed.customers)) for n in range(120)
        ]
        answered += asked(server, path, requests, threads=32)
    code = server.end()
    mine = [look for look in deployed.looks() if look[0].startswith(f"user:{server.port}")]

    assert code in (0, -15), server.text()
    assert len(answered) == 120 * len(paths(server))
    # All of them although the server was stopped at once: lifespan closes `Lacre`.
    assert sorted(mine) == sorted(answered)
    assert "Traceback" not in server.text()


async def got(app: FastAPI) -> httpx.Response:
    """What the application answers, in this process."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://service"
    ) as client:
        return await client.get("/")


def test_a_dependency_that_yields_inside_a_block_is_refused(lacre: Lacre) -> None:
    """It would act in another context than the endpoint: an error at once, and not nobody later."""
    app = FastAPI()

    def block() -> Iterator[None]:
        with lacre.acting_as("user:ana", purpose="test"):
            yield

    @app.get("/", dependencies=[Depends(block)])
    def endpoint() -> None: ...

    with pytest.raises(MisuseError, match="inside a generator"):
        asyncio.run(got(app))


def test_a_synchronous_dependency_does_not_act_in_its_endpoint(lacre: Lacre) -> None:
    """Why it is refused: with `across_yield` the endpoint acts as nobody."""
    app = FastAPI()

    def block() -> Iterator[None]:
        with lacre.acting_as("user:ana", purpose="test", across_yield=True):
            yield

    @app.get("/", dependencies=[Depends(block)])
    def endpoint() -> str:
        return current().principal

    with pytest.raises(NoPrincipal):
        asyncio.run(got(app))


def test_a_process_that_lives_is_not_asked_about_lacre(deployed: Deployed) -> None:
    """While evidence cannot be written the process is alive and not ready."""
    log = deployed.directory / "lacre" / "audit.jsonl"
    with deployed.serving("uvicorn", "api:app", "--port", "{port}") as server:
        kept = log.rename(log.with_name("kept")) if log.exists() else None
        log.mkdir()
        try:
            alive, ready = HTTP.get(f"{server.url}/live"), HTTP.get(f"{server.url}/ready")
        finally:
            log.rmdir()
            if kept is not None:
                kept.rename(log)

    assert (alive.status_code, ready.status_code) == (200, 503)


@pytest.fixture
def middleware(lacre: Lacre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The page's middleware, over this test's application."""
    write_modules(tmp_path)
    shop = ModuleType("shop")
    shop.lacre = lacre  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop", shop)
    spec = importlib.util.spec_from_file_location("middleware", tmp_path / "middleware.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Acting


def test_under_the_middleware_bodies_and_background_tasks_act_and_leftovers_do_not(
    middleware: Any,
) -> None:
    """Whatever the request waits for acts as who asked; a task it left behind gets `ActingEnded`."""
    app = FastAPI()
    app.add_middleware(middleware, purpose="support")
    told: dict[str, str] = {}
    left: list[asyncio.Task[None]] = []

    def tell(where: str) -> str:
        try:
            told[where] = current().principal
        except (NoPrincipal, ActingEnded) as error:
            told[where] = type(error).__name__
        return where

    def body() -> Iterator[str]:
        yield tell("body")

    async def async_body() -> AsyncIterator[str]:
        yield tell("async body")

    async def later(answered: asyncio.Event) -> None:
        tell("task")
        await answered.wait()
        tell("task after the answer")

    @app.get("/body")
    def streamed() -> StreamingResponse:
        return StreamingResponse(body())

    @app.get("/async")
    async def streamed_too(background: BackgroundTasks) -> StreamingResponse:
        background.add_task(tell, "background")
        answered = asyncio.Event()
        left.append(asyncio.create_task(later(answered)))
        asyncio.get_running_loop().call_later(0.2, answered.set)
        return StreamingResponse(async_body(), background=background)

    @app.get("/nobody")
    async def nobody() -> str:
        return tell("no user")

    async def ask() -> None:
        user = {"x-authenticated-user": "ana"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://service"
        ) as client:
            for path in ("/body", "/async"):
                assert (await client.get(path, headers=user)).status_code == 200
            await client.get("/nobody")
        await asyncio.gather(*left)

    asyncio.run(ask())

    assert told == {
        "body": "user:ana",
        "async body": "user:ana",
        "background": "user:ana",
        "task": "user:ana",
        "task after the answer": "ActingEnded",
        "no user": "NoPrincipal",
    }


@pytest.mark.long
@pytest.mark.parametrize("app", ["desk_async:app", "api:app"])
def test_no_request_meets_the_end_of_a_key(deployed: Deployed, app: str) -> None:
    """Keys that live for a second, and requests for many: every one is answered."""
    with deployed.serving("uvicorn", app, "--port", "{port}", LACRE_CACHE__AGE="1") as server:
        requests = [(f"{server.port}-{n}", row) for n, row in enumerate(deployed.customers * 24)]
        answered = asked(server, "/customers", requests, threads=16)

    assert len(answered) == len(requests)
    assert "Traceback" not in server.text()
