# SPDX-License-Identifier: Apache-2.0
"""
The example under sustained load: requests a second, p50 and p99 of each route, errors.

    PYTHONPATH=.:examples python benchmarks/nexus_load.py [--seconds N] [--clients N] [--people N]

`examples/nexus` and its plaintext twin take turns of a few seconds in one run, under the same mix
of requests. Prints a table and writes `results/<date>-nexus.json`. How it is measured: `README.md`.
Ends with status 1 where a request was not answered as it should be.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import nexus_twin
import sqlalchemy as sa
from measuring import machine, say, table, write_results
from nexus.issuing import Issuer
from nexus.models import Base, User
from nexus.provisioning import provision
from nexus.service import Service
from nexus.settings import Settings
from sqlalchemy.ext.asyncio import create_async_engine

from tests.components.postgresql import postgresql_server
from tests.components.processes import free_port

HERE = Path(__file__).parent
TURN = 3.0  # seconds of one service before the other has its turn
WARM = 2  # turns of each that do not count
MIX = {
    "GET /me": 30,
    "PATCH /me": 10,
    "GET /users/{user_id}": 20,
    "POST /users/search, CPF": 20,
    "POST /users/search, name": 10,
    "GET /users": 10,
}
PAGE = 20
PAGES = ("GET /users", "POST /users/search, name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    id: UUID
    cpf: str
    name: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, and the status that answers it."""

    route: str
    text: bytes
    status: int
    shows: bytes


class Load:
    """Clients of one service that each send one request after another."""

    def __init__(self, port: int, people: list[Person], admin: str) -> None:
        self._port = port
        self._people = people
        self._admin = admin
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.wrong = 0
        self.answered = 0
        self.lasted = 0.0

    def forget(self) -> None:
        """What was so far was to warm up."""
        self.seconds.clear()
        self.wrong = self.answered = 0
        self.lasted = 0.0

    def turn(self, clients: int, seconds: float) -> None:
        asyncio.run(self._turn(clients, seconds))

    async def _turn(self, clients: int, seconds: float) -> None:
        start = time.perf_counter()
        await asyncio.gather(*(self._client(start + seconds) for _ in range(clients)))
        self.lasted += time.perf_counter() - start

    async def _client(self, until: float) -> None:
        # As little as speaks HTTP: a client that took more of the machine than the service does
        # would make any two services look alike.
        reading, writing = await asyncio.open_connection("127.0.0.1", self._port)
        routes, weights = list(MIX), list(MIX.values())
        while time.perf_counter() < until:
            asked = self._ask(random.choices(routes, weights)[0])
            before = time.perf_counter()
            writing.write(asked.text)
            head = await reading.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
            body = await reading.readexactly(int(length)) if length else b""
            self.seconds[asked.route].append(time.perf_counter() - before)
            self.answered += 1
            if int(head.split()[1]) != asked.status or (body and asked.shows not in body):
                self.wrong += 1
        writing.close()

    def _ask(self, route: str) -> Ask:
        person = random.choice(self._people)
        token, path, body = self._admin, "", None
        match route:
            case "GET /me":
                token, path = person.token, "/me"
            case "PATCH /me":
                token, path = person.token, "/me"
                body = {"phone": f"+55 11 9{random.randrange(10**8):08}"}
            case "GET /users/{user_id}":
                path = f"/users/{person.id}"
            case "POST /users/search, CPF":
                path, body = "/users/search", {"cpf": person.cpf}
            case "POST /users/search, name":
                path, body = "/users/search", {"name": person.name[1:8], "limit": PAGE}
            case _:
                path = f"/users?limit={PAGE}&after={person.id}"
        told = b"" if body is None else json.dumps(body).encode()
        head = f"{route.split()[0]} {path} HTTP/1.1\r\nHost: nexus\r\nAuthorization: Bearer {token}\r\nX-Purpose: fraud\r\n"
        if told:
            head += f"Content-Type: application/json\r\nContent-Length: {len(told)}\r\n"
        return Ask(
            route=route,
            text=head.encode() + b"\r\n" + told,
            status=204 if route == "PATCH /me" else 200,
            # The right person, where there is room for one only.
            shows=b'"users"' if route in PAGES else str(person.id).encode(),
        )


def rows(count: int) -> list[dict[str, Any]]:
    """As many people, the same ones every time: names of syllables, CPFs with their check digits."""
    drawn = random.Random(1)
    syllables = [first + second for first in "bcdflmnprstvz" for second in "aeiou"]
    made = []
    for number in range(count):
        digits = f"{100_000_000 + number}"
        for length in (10, 11):
            total = sum(int(digit) * weight for digit, weight in zip(digits, range(length, 1, -1), strict=True))  # fmt: skip
            digits += str((total * 10 % 11) % 10)
        made.append(
            {
                "id": uuid4(),
                "role": "person",
                "password_hash": "none",
                "email": f"person.{number:07}@example.org",
                "name": " ".join("".join(drawn.choices(syllables, k=3)).title() for _ in range(2)),
                "cpf": digits,
                "phone": f"+55 11 9{number:08}",
                "address": f"Rua das Laranjeiras {number}, São Paulo",
                "born": None,
            }
        )
    return made


async def fill(settings: Settings, twin: Settings, people: list[dict[str, Any]]) -> None:
    """Write the same people into both tables."""
    service = Service.of(settings)
    async with service.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    with service.itself("registration"):
        async with service.sessions.begin() as session:
            await session.execute(sa.insert(User), people)
    await service.close()
    engine = create_async_engine(twin.database_url.get_secret_value(), connect_args=twin.tls())
    async with engine.begin() as connection:
        await connection.exec_driver_sql("CREATE EXTENSION pg_trgm")
        await connection.run_sync(nexus_twin.Base.metadata.create_all)
        await connection.execute(sa.insert(nexus_twin.User), people)
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).exec_driver_sql("ANALYZE")  # fmt: skip
    await engine.dispose()


@contextmanager
def running(factory: str, settings: Settings) -> Iterator[int]:
    """Serve an application in a process of its own; end it with the block."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", factory, "--app-dir", HERE, "--port", str(port), "--log-level", "warning"]  # fmt: skip
    process = subprocess.Popen(command, env=os.environ | settings.to_environ())
    try:
        until = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5).close()
                break
            except (OSError, urllib.error.HTTPError):
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit("a service did not start; its error is above") from None
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def percentile(values: list[float], hundredth: int) -> float:
    return statistics.quantiles(values, n=100)[hundredth - 1] if len(values) > 1 else values[0]


def figures(load: Load) -> dict[str, Any]:
    """What one service did, by route and altogether."""
    every = {"all": [one for taken in load.seconds.values() for one in taken], **load.seconds}
    return {
        "requests_per_second": load.answered / load.lasted,
        "answered": load.answered,
        "wrong": load.wrong,
        "routes": {
            name: {
                "count": len(taken),
                "p50_seconds": percentile(taken, 50),
                "p99_seconds": percentile(taken, 99),
            }
            for name, taken in every.items()
        },
    }


def main() -> int:
    arguments = argparse.ArgumentParser(description="the example under sustained load")
    arguments.add_argument("--seconds", type=float, default=120, help="of both services together")
    arguments.add_argument("--clients", type=int, default=16)
    arguments.add_argument("--people", type=int, default=20_000)
    given = arguments.parse_args()
    with (
        postgresql_server(durable=True) as server,
        server.database() as protected,
        server.database() as clear,
        tempfile.TemporaryDirectory(prefix="nexus-load-") as directory,
    ):
        settings = provision(
            Path(directory) / "home", protected.text_url("asyncpg"), server.certificate
        )
        twin = settings.model_copy(
            update={"database_url": type(settings.database_url)(clear.text_url("asyncpg"))}
        )
        people = rows(given.people)
        asyncio.run(fill(settings, twin, people))
        issuer = Issuer(settings.model_copy(update={"token_seconds": 86_400}))
        known = [
            Person(
                id=one["id"],
                cpf=one["cpf"],
                name=one["name"],
                token=issuer.issue(str(one["id"]), {"person"}),
            )
            for one in random.sample(people, min(1_000, len(people)))
        ]
        admin = issuer.issue(str(uuid4()), {"admin"})
        with (
            running("nexus.main:create_app", settings) as ours,
            running("nexus_twin:create_app", twin) as theirs,
        ):
            loads = {"nexus": Load(ours, known, admin), "twin": Load(theirs, known, admin)}
            turns = max(2, round(given.seconds / TURN / len(loads)))
            say(f"{turns} turns of {TURN:g} s for each of both, {given.clients} clients")
            for turn in range(-WARM, turns):
                if turn == 0:
                    for load in loads.values():
                        load.forget()
                for name in list(loads) if turn % 2 else reversed(loads):
                    loads[name].turn(given.clients, TURN)
        facts = machine(("lacre", "cryptography", "sqlalchemy", "asyncpg", "fastapi", "uvicorn"))
        facts["postgresql"] = server.version()
    found = {name: figures(load) for name, load in loads.items()}
    lines = [
        (
            route,
            *(
                f"{found[name]['routes'][route][which] * 1e3:.1f}"
                for which in ("p50_seconds", "p99_seconds")
                for name in loads
            ),
            f"{found['nexus']['routes'][route]['p50_seconds'] / found['twin']['routes'][route]['p50_seconds']:.2f}x",
            f"{found['nexus']['routes'][route]['count']}",
        )
        for route in ("all", *MIX)
    ]
    heads = ("route", "p50 ms", "twin's", "p99 ms", "twin's", "p50 of the twin's", "requests")
    rates = [found[name]["requests_per_second"] for name in loads]
    wrong = sum(load.wrong for load in loads.values())
    print(table(heads, lines))
    print(f"\n{rates[0]:,.0f} requests/s, the twin {rates[1]:,.0f}: {rates[0] / rates[1]:.2f}x; {wrong} answered wrongly")  # fmt: skip
    path = write_results(
        "nexus",
        {"machine": facts, "clients": given.clients, "people": given.people, "turns": turns,
         "seconds_of_a_turn": TURN, "mix": MIX, "services": found},
    )  # fmt: skip
    print(f"written to benchmarks/results/{path.name}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
