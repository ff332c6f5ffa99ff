# SPDX-License-Identifier: Apache-2.0
"""An application served by a real uvicorn in this process, and asked in this process. Nothing else."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

__all__ = ["asked", "asking", "served", "spoken"]


@asynccontextmanager
async def asking(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of *app*, without a server."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    """Serve *app* on a port of this machine, as long as the block is open."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(app, http="h11", ws="none", log_config=None, lifespan="off")
        )
        serving = asyncio.create_task(server.serve([listening]))
        while not server.started:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        try:
            yield int(listening.getsockname()[1])
        finally:
            server.should_exit = True
            await serving


def asked(
    app: FastAPI,
    path: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    **sent: Any,
) -> httpx.Response:
    """What *app* answers to one request."""

    async def ask() -> httpx.Response:
        async with asking(app) as client:
            return await client.request(method, path, headers=dict(headers or {}), **sent)

    return asyncio.run(ask())


def spoken(
    app: FastAPI, path: str, headers: Mapping[str, str], texts: Sequence[str]
) -> list[dict[str, Any]]:
    """What *app* sends on a websocket on which *texts* are sent, and which is then left."""
    scope = {
        "type": "websocket", "asgi": {"version": "3.0"}, "scheme": "ws", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "subprotocols": [],
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    sent: list[Any] = []
    left = iter([
        {"type": "websocket.connect"},
        *({"type": "websocket.receive", "text": text} for text in texts),
        {"type": "websocket.disconnect", "code": 1000},
    ])  # fmt: skip

    async def receive() -> Any:
        return next(left)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent
