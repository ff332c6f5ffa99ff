# SPDX-License-Identifier: Apache-2.0
"""
An asynchronous service with 50 concurrent readers: requests a second, and the loop's delay.

    PYTHONPATH=. python benchmarks/service.py [--requests N] [--rounds N]

A protected table against the same plaintext table in one run, with keys cached and with the cache
emptied before each round. Prints a table and writes `results/<date>-service.json`. How it is
measured: `README.md`. Ends with status 1 where a bar is missed.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from measuring import Bar, bars_table, judged, machine, rounds, say, table, verdict, write_results
from models import Base, Customer, Plain
from sqlalchemy.orm import sessionmaker
from workload import customers

from lacre import Lacre
from lacre.cli.initialise import initialise
from tests.components.postgresql import Database, postgresql_server

HERE = Path(__file__).parent
READERS = 50
ROWS = 5_000
LIMIT = 0.6  # of the plaintext service's requests a second
DELAY_LIMIT = 0.020  # seconds, the 99th percentile


class Service:
    """The service's process, and 50 readers of it in this one."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.delays: dict[str, list[float]] = {}

    def read(
        self, name: str, path: str, keys: list[str], *, forget: bool = False, pause: float = 0.0
    ) -> float:
        """
        Return the seconds of one request while all *keys* are read by 50 readers.

        Args:
            name: of the loop's delays, which are kept.
            forget: empty the cache of keys first.
            pause: seconds each reader waits after each answer.
        """
        if forget:
            self._post("/forget")
        self._post("/delays")
        start = time.perf_counter()
        asyncio.run(self._readers(path, keys, pause))
        seconds = (time.perf_counter() - start) / len(keys)
        self.delays.setdefault(name, []).extend(self._post("/delays"))
        return seconds

    async def _readers(self, path: str, keys: list[str], pause: float) -> None:
        left = iter(keys)

        async def reader() -> None:
            # As little as speaks HTTP: a client that took more of the machine than the service
            # does would make any two services look alike.
            reading, writing = await asyncio.open_connection("127.0.0.1", self._port)
            for key in left:
                writing.write(f"GET {path}{key} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
                head = await reading.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200"):
                    raise SystemExit(f"the service answered {head[:40]!r}")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reading.readexactly(length)
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            writing.close()

        await asyncio.gather(*(reader() for _ in range(READERS)))

    def _post(self, path: str) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def service(database: Database, config: Path) -> Iterator[Service]:
    """Start the service; end it with the block."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    environment = {
        **os.environ,
        "BENCH_DATABASE": database.text_url("asyncpg"),
        "BENCH_CERTIFICATE": str(database.server.certificate),
        "BENCH_LACRE": str(config),
    }
    command = [sys.executable, "-m", "uvicorn", "service_application:app", "--app-dir", HERE, "--port", str(port), "--log-level", "warning"]  # fmt: skip
    process = subprocess.Popen(command, env=environment)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit("the service did not start; its error is above") from None
                time.sleep(0.05)
        yield Service(port)
    finally:
        process.terminate()
        process.wait(30)


def filled(database: Database, lacre: Lacre) -> list[str]:
    """Fill both tables; return the rows' keys."""
    engine = sa.create_engine(database.url())
    Base.metadata.create_all(engine)
    rows = customers(ROWS)
    sessions = sessionmaker(engine)
    for model, factory in ((Plain, sessions), (Customer, lacre.sqlalchemy(sessions))):
        with (
            lacre.acting_as("svc:bench", roles={"app"}, purpose="bench"),
            factory.begin() as session,
        ):
            session.add_all(model(**row) for row in rows)
    engine.dispose()
    return [str(row["id"]) for row in rows]


def percentile(values: list[float], hundredth: int) -> float:
    return statistics.quantiles(values, n=100)[hundredth - 1]


def main() -> int:
    arguments = argparse.ArgumentParser(description="an asynchronous service with 50 readers")
    arguments.add_argument("--requests", type=int, default=2_000, help="in a round")
    arguments.add_argument("--rounds", type=int, default=9)
    given = arguments.parse_args()
    with (
        postgresql_server(durable=True) as server,
        server.database() as database,
        tempfile.TemporaryDirectory(prefix="lacre-bench-") as directory,
    ):
        config = initialise(Path(directory)).config
        with Lacre.load(config, environ={}) as lacre:
            keys = filled(database, lacre)[: given.requests]
        with service(database, config) as running:
            candidates: dict[str, Callable[[], float]] = {
                "plain": lambda: running.read("plain", "/plain/", keys),
                "lacre warm": lambda: running.read("lacre warm", "/lacre/", keys),
                "lacre cold": lambda: running.read("lacre cold", "/lacre/", keys, forget=True),
            }
            say(f"{given.rounds} rounds of {len(candidates)} candidates, {len(keys)} requests each")
            figures = rounds(candidates, given.rounds)
            # At saturation the loop is late whatever it serves: every request waits for the
            # others. So the bar is of a service at half of what the plaintext one can do.
            pause = 2 * READERS * figures["plain"].median
            say(f"the same at half the load: each reader pauses {pause * 1e3:.0f} ms")
            for _ in range(3):
                running.read("plain, half", "/plain/", keys, pause=pause)
                running.read("lacre warm, half", "/lacre/", keys, pause=pause)
                running.read("lacre cold, half", "/lacre/", keys, pause=pause, forget=True)
        delays = {name: percentile(found, 99) for name, found in running.delays.items()}
        facts = machine(("lacre", "cryptography", "sqlalchemy", "asyncpg", "fastapi", "uvicorn"))
        facts["postgresql"] = server.version()
    # Requests a second against plain's: seconds a request, the other way round.
    judgements = judged(
        [
            Bar(what=name, beside="plain", limit=round(1 / LIMIT, 3))
            for name in ("lacre warm", "lacre cold")
        ],
        figures,
    )
    late = {name: delays[f"{name}, half"] <= DELAY_LIMIT for name in ("lacre warm", "lacre cold")}
    lines = [
        (
            name,
            f"{1 / taken.median:,.0f}",
            f"{figures['plain'].median / taken.median:.2f}x",
            f"{delays[name] * 1e3:.1f}",
            f"{delays[f'{name}, half'] * 1e3:.1f}",
            "" if name == "plain" else f"<= {DELAY_LIMIT * 1e3:.0f}",
            "" if name == "plain" else verdict(late[name]),
        )
        for name, taken in figures.items()
    ]
    heads = (
        "service", "requests/s", "of plain", "loop delay p99, ms", "at half the load", "bar", "",
    )  # fmt: skip
    print(table(heads, lines), bars_table(judgements), sep="\n\n")
    path = write_results(
        "service",
        {
            "machine": facts,
            "rounds": given.rounds,
            "requests": len(keys),
            "readers": READERS,
            "seconds": {
                name: {"least": taken.least, "median": taken.median}
                for name, taken in figures.items()
            },
            "loop_delay_p99_seconds": delays,
            "bars": judgements,
        },
    )
    missed = sum(one["met"] is False for one in judgements) + sum(not met for met in late.values())
    print(
        f"\n{missed} of {len(judgements) + len(late)} bars missed; written to benchmarks/results/{path.name}"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
