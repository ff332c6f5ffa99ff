# SPDX-License-Identifier: Apache-2.0
"""A world that is looked at, a dashboard of it, and somebody who is logged in."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from lacre.dashboard.application import make
from lacre.dashboard.place import Place
from lacre.dashboard.sessions import Sessions
from lacre.dashboard.sources import Sources
from tests.dashboard.world import World, make_world


class Asking:
    """A browser without a window: asks the application in this process, and keeps cookies."""

    def __init__(self, app: Any, url: str, headers: dict[str, str]) -> None:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True, client=("127.0.0.1", 5))
        self._client = httpx.AsyncClient(transport=transport, base_url=url, headers=headers)
        self.cookies = self._client.cookies

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        return asyncio.run(self._client.request(method, path, **more))

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)

    def head(self, path: str, **more: Any) -> httpx.Response:
        return self.request("HEAD", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.request("POST", path, **more)


@dataclass(kw_only=True)
class Entrance:
    """A dashboard that is asked in this process: what it shows, its tokens, and a browser without a cookie."""

    sources: Sources
    place: Place = field(default_factory=Place)
    now: float = 1000.0
    tokens: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sessions = Sessions(clock=lambda: self.now, linked=self.tokens.append)
        self.sessions.link()
        self.app = make(self.sources, place=self.place, sessions=self.sessions)

    def browser(self, **headers: str) -> Asking:
        """Return a browser that nobody logged in with."""
        base = self.place.url.removesuffix(self.place.root)
        return Asking(self.app, base, headers)

    def entered(self) -> Asking:
        """Return a browser that is logged in."""
        browser = self.browser()
        done = browser.get(f"{self.place.root}/login", params={"token": self.tokens[-1]})
        assert done.status_code == 200, done.text
        return browser

    def csrf(self) -> str:
        """Return the newest session's token of forms."""
        return list(self.sessions._visitors.values())[-1].csrf


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, _made_once: Path) -> Iterator[World]:
    """A world with hostile names in it, made once. Acknowledge no alert of it."""
    made = make_world(tmp_path_factory.mktemp("dashboard"), made=_made_once, events=1500, hostile=True)  # fmt: skip
    yield made
    made.close()


@pytest.fixture
def entrance(world: World) -> Entrance:
    """A dashboard of the world."""
    return Entrance(sources=world.sources)


@pytest.fixture
def browser(entrance: Entrance) -> Any:
    """Somebody who is logged in."""
    return entrance.entered()
