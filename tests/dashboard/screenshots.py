# SPDX-License-Identifier: Apache-2.0
"""
Takes the pictures of `docs/images`: `python -m tests.dashboard.screenshots docs/images`.

Every page in light, some in dark and at the width of a telephone; all of them with ``--all``, to be
looked at.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from tests.dashboard.browsing import Served, chromium, served
from tests.dashboard.world import make_world

__all__ = ["PAGES", "take"]

PAGES = {
    "overview": "/",
    "accesses": "/accesses",
    "event": "a:accesses",
    "trail": "b:accesses",
    "alerts": "/alerts",
    "alert": "a:alerts",
    "fields": "/fields",
    "keys": "/keys",
    "rights": "/rights?who=compliance&purpose=kyc",
    "report": "/report",
}
_SIZES = {"": (1200, 800), "phone": (360, 740)}
_KEPT = {
    ("overview", "light", ""), ("overview", "dark", ""), ("overview", "light", "phone"),
    ("accesses", "light", ""), ("event", "light", ""), ("alert", "dark", ""),
    ("keys", "light", ""), ("rights", "light", ""), ("fields", "light", ""), ("report", "light", ""),
}  # fmt: skip


def take(browser: Browser, here: Served, into: Path, *, every: bool) -> None:
    """Write the pictures into the directory *into*."""
    for scheme in ("light", "dark"):
        for size, (width, height) in _SIZES.items():
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            page = context.new_page()
            page.goto(here.links[-1])
            page.wait_for_url(here.url + "/")
            for name, path in PAGES.items():
                if not every and (name, scheme, size) not in _KEPT:
                    continue
                if ":" in path:
                    page.goto(f"{here.url}/{path[2:]}")
                    links = page.locator("table.wide tbody a, table.middle tbody a")
                    page.goto(here.url + str(links.nth(0 if path[0] == "a" else 1).get_attribute("href")))  # fmt: skip
                else:
                    page.goto(here.url + path)
                label = "-".join(part for part in (name, scheme, size) if part)
                page.screenshot(path=into / f"dashboard-{label}.png", full_page=every, scale="css")
            context.close()


def main() -> None:
    """Take them into the directory that the command line names."""
    every = "--all" in sys.argv
    into = Path(sys.argv[1])
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        world = make_world(Path(directory))
        try:
            with served(world.sources) as here, chromium() as browser:
                take(browser, here, into, every=every)
        finally:
            world.close()


if __name__ == "__main__":
    main()
