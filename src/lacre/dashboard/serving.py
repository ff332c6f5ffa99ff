# SPDX-License-Identifier: Apache-2.0
"""
Runs the dashboard by uvicorn: at one address, without a log of requests.

A log of requests would hold the one-time tokens and what people searched for; forwarded headers
are not believed. Terminates no TLS: off this machine a reverse proxy does.
"""

import time
from collections.abc import Callable

import uvicorn

from lacre.dashboard.application import make
from lacre.dashboard.place import Place
from lacre.dashboard.sessions import Sessions
from lacre.dashboard.sources import Sources

__all__ = ["serve", "server"]

_AT_ONCE = 64  # connections


def server(
    sources: Sources, *, place: Place, linked: Callable[[str], None]
) -> tuple[uvicorn.Server, Sessions]:
    """Return a server that is not started, and its sessions; *linked* is told each login link."""
    sessions = Sessions(
        clock=time.monotonic, linked=lambda token: linked(f"{place.url}/login?token={token}")
    )
    config = uvicorn.Config(
        make(sources, place=place, sessions=sessions),
        host=place.host,
        port=place.port,
        access_log=False,
        log_level="warning",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        ws="none",
        limit_concurrency=_AT_ONCE,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config), sessions


def serve(sources: Sources, *, place: Place, linked: Callable[[str], None]) -> None:
    """Serve until interrupted."""
    running, sessions = server(sources, place=place, linked=linked)
    sessions.link()
    running.run()
