# SPDX-License-Identifier: Apache-2.0
"""FastAPI under uvicorn and gunicorn: who acts is whoever asked, across await and thread pool."""

import asyncio
import random
from collections.abc import Iterator

import httpx
import pytest
from fastapi import Depends, FastAPI

from lacre import Lacre, NoPrincipal
from lacre.context import current
from lacre.errors import MisuseError
from tests.deployment.serving import HTTP, Deployed, Server, asked

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
