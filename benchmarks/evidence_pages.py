# SPDX-License-Identifier: Apache-2.0
"""
How long the server takes for each page of the dashboard, over a log of a million events on PostgreSQL.

From the request to the last byte of the answer, in this process: no network, no browser, nothing
is cached between two requests. Filters are of values that few events have, that many have, and that none has.
`--events 10000000` is the long mode, whose bar is the same.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from benchmarks.measuring import machine, say, table, verdict, write_results
from lacre.dashboard.application import make
from lacre.dashboard.place import Place
from lacre.dashboard.sessions import Sessions
from lacre.stores.log.reader import Filters
from tests.components.postgresql import postgresql_server
from tests.dashboard.world import World, make_world

BAR = 0.3  # seconds, of the slowest request but one of twenty
ROUNDS = 20
DISK = 1_500  # bytes of an event: its leaf, what it touches, and their indexes
WRITTEN = 1_000_000_000  # bytes of what PostgreSQL keeps of its writes, at most by its own setting
TOLD_EACH = 500_000  # leaves, between two lines of progress


def paths(world: World) -> dict[str, str]:
    """Return what is asked for, by a name."""
    # Looks alone: the newest leaves of a quiet hour are all heartbeats.
    looks = world.sources.reader.page(Filters(action="look"), limit=400)
    leaf = next(each for each in looks if {"rows", "correlation"} <= each.entry.members.keys() and each.entry.members["rows"])  # fmt: skip
    old = next(world.sources.reader.after(limit=1))
    alert = world.sources.alerts.list()[0]
    correlation, row = leaf.entry.members["correlation"], leaf.entry.members["rows"][0]
    deep = world.sources.reader.page(limit=1)[0]
    return {
        "overview": "/",
        "accesses": "/accesses",
        "accesses, 24 hours": "/accesses?range=24h",
        "accesses, 90 days": "/accesses?range=90d",
        "accesses, 90 days by principal": "/accesses?range=90d&by=principal",
        "accesses, a page on": f"/accesses?before={deep.shard}-{deep.seq // 2}",
        "accesses of one principal": "/accesses?principal=user:06&range=90d",
        "accesses of nobody": "/accesses?principal=nobody",
        "accesses that failed": "/accesses?status=failed&range=90d",
        "accesses of one class": "/accesses?class=credentials&range=90d",
        "accesses of one column": "/accesses?place=main.partners.token&range=90d",
        "accesses of no column": "/accesses?place=main.none.none",
        "accesses of one row": f"/accesses?resource={row}",
        "accesses of no row": "/accesses?resource=none",
        "accesses of no tenant": "/accesses?tenant=none",
        "accesses of a day, one action": "/accesses?action=search&since=2026-09-15T00:00&until=2026-09-16T00:00",
        "accesses of a class that failed": "/accesses?class=payment&status=failed&principal=user:06",
        "one request": f"/trail/{correlation}",
        "one event, proved": f"/accesses/{leaf.shard}/{leaf.seq}",
        "the first event, proved": f"/accesses/{old.shard}/{old.seq}",
        "fields": "/fields",
        "keys": "/keys",
        "who may read": "/rights",
        "alerts": "/alerts",
        "one alert": f"/alerts/{alert.id}",
        "report": "/report",
    }  # fmt: skip


async def measured(world: World) -> dict[str, list[float]]:
    """Return the seconds of each request, by name."""
    place, tokens = Place(), list[str]()
    sessions = Sessions(clock=time.monotonic, linked=tokens.append)
    sessions.link()
    transport = httpx.ASGITransport(app=make(world.sources, place=place, sessions=sessions))
    taken: dict[str, list[float]] = {}
    asked = paths(world)
    async with httpx.AsyncClient(transport=transport, base_url=place.url) as client:
        await client.get("/login", params={"token": tokens[-1]})
        for turn in range(-1, ROUNDS):
            for name, path in asked.items():
                start = time.perf_counter()
                answer = await client.get(path)
                seconds = time.perf_counter() - start
                if answer.status_code != 200:
                    raise SystemExit(f"{name}: {answer.status_code}")
                if turn >= 0:
                    taken.setdefault(name, []).append(seconds)
    return taken


def judged(taken: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return median and 95th percentile of each page, in milliseconds, and whether that meets the bar."""
    return [
        {
            "page": name,
            "median_ms": round(statistics.median(each) * 1000, 1),
            "p95_ms": round(sorted(each)[int(len(each) * 0.95) - 1] * 1000, 1),
            "met": sorted(each)[int(len(each) * 0.95) - 1] <= BAR,
        }
        for name, each in taken.items()
    ]


def progress_of(events: int) -> Callable[[int], None]:
    """Return what tells how many of *events* are loaded, now and then."""
    start, told = time.perf_counter(), 0

    def progress(loaded: int) -> None:
        nonlocal told
        if loaded // TOLD_EACH > told:
            told = loaded // TOLD_EACH
            say(
                f"  {loaded:,} leaves of {events:,} events and heartbeats, {time.perf_counter() - start:.0f} s"
            )

    return progress


def main() -> int:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, postgresql_server() as server, server.database() as database:  # fmt: skip
        say(
            f"loading {options.events:,} events of 90 days; that takes about {(options.events * DISK + WRITTEN) / 1e9:.1f} GB of disk"
        )
        start = time.perf_counter()
        world = make_world(Path(directory), url=database.text_url("psycopg"), events=options.events, days=90, progress=progress_of(options.events))  # fmt: skip
        loaded = time.perf_counter() - start
        say(f"loaded in {loaded:.0f} s; {ROUNDS} rounds")
        try:
            results = judged(asyncio.run(measured(world)))
        finally:
            world.close()
    lines = [(each["page"], f"{each['median_ms']:.1f}", f"{each['p95_ms']:.1f}", verdict(each["met"])) for each in results]  # fmt: skip
    print(table(("page", "median ms", "p95 ms", f"bar {BAR * 1000:.0f} ms"), lines))
    if options.keep:
        name = "evidence-pages" if options.events == 1_000_000 else f"evidence-pages-{options.events}"  # fmt: skip
        packages = ("jinja2", "psycopg", "sqlalchemy", "starlette")
        write_results(name, {"machine": machine(packages), "events": options.events, "rounds": ROUNDS, "pages": results})  # fmt: skip
    return 0 if all(each["met"] for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
