# SPDX-License-Identifier: Apache-2.0
"""
A real server of the dashboard in a thread, and a real Chromium to look at it with.

Needs Chromium (`scripts/find-chromium`) and starts it once for whoever asks.
"""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from lacre.dashboard.place import Place
from lacre.dashboard.serving import server
from lacre.dashboard.sources import Sources

__all__ = ["Served", "chromium", "served"]

_ROOT = Path(__file__).resolve().parents[2]
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
]


@dataclass(slots=True, kw_only=True)
class Served:
    """A server that runs: its address, and the links that it showed, the newest last."""

    url: str
    links: list[str] = field(default_factory=list)


@contextmanager
def served(sources: Sources) -> Iterator[Served]:
    """Serve *sources* at a free port of this machine in the ``with`` block."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    place = Place(port=port)
    here = Served(url=place.url)
    running, sessions = server(sources, place=place, linked=here.links.append)
    sessions.link()
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        if not thread.is_alive():
            raise RuntimeError("the dashboard did not start")
        time.sleep(0.01)
    try:
        yield here
    finally:
        running.should_exit = True
        thread.join(30)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium for the ``with`` block."""
    path = subprocess.run(
        [_ROOT / "scripts" / "find-chromium"], capture_output=True, text=True, check=True
    ).stdout.strip()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()
