# SPDX-License-Identifier: Apache-2.0
"""Nexus on a real PostgreSQL under a real uvicorn, once for all tests; and people in it."""

import asyncio
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.components.postgresql import Database, Server
from tests.components.processes import ended, free_port, started, wait_until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

from nexus import __main__ as program  # noqa: E402
from nexus.evidence import looks_at  # noqa: E402
from nexus.main import create_app  # noqa: E402
from nexus.models import User  # noqa: E402
from nexus.provisioning import STAFF, add_staff, create_tables, provision  # noqa: E402
from nexus.service import Service  # noqa: E402
from nexus.settings import Settings  # noqa: E402

from lacre import Lacre  # noqa: E402

__all__ = ["EXAMPLES", "PASSWORD", "Nexus", "User", "create_app", "looks_at", "make_cpf", "program"]

PASSWORD = "correct horse battery staple"
_NUMBERS = itertools.count(100_000_000)
_LOCK = threading.Lock()


def make_cpf() -> str:
    """A CPF that nobody had before, with its two check digits."""
    with _LOCK:
        digits = str(next(_NUMBERS))
    for length in (10, 11):
        total = sum(int(digit) * weight for digit, weight in zip(digits, range(length, 1, -1), strict=True))  # fmt: skip
        digits += str((total * 10 % 11) % 10)
    return digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Nexus:
    """A running service, asked over HTTP."""

    home: Path
    log: Path
    settings: Settings
    database: Database
    http: httpx.Client
    passwords: dict[str, str]
    tokens: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, who: str = "", **sent: Any) -> httpx.Response:
        """Ask as *who*: an employee's role, a person's address, or nobody."""
        headers = dict(sent.pop("headers", {}))
        if who:
            headers["Authorization"] = f"Bearer {self.token(who)}"
        if who in STAFF:
            headers.setdefault("X-Purpose", "support call")
        return self.http.request(method, path, headers=headers, **sent)

    def token(self, who: str) -> str:
        """A token of *who*, given for their password."""
        if who not in self.tokens:
            told = {
                "email": STAFF.get(who, who),
                "password": self.passwords.get(who, PASSWORD),
            }
            answer = self.http.post("/tokens", json=told)
            assert answer.status_code == 200, answer.text
            self.tokens[who] = answer.json()["access_token"]
        return self.tokens[who]

    def sign_up(self, email: str, **told: Any) -> UUID:
        """Create a person; return the id."""
        body = {"email": email, "password": PASSWORD, "name": "Ana Souza"} | told
        answer = self.http.post("/users", json=body)
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["id"])

    def pseudonym(self, person: UUID) -> str:
        """What the evidence calls a person."""
        with Lacre.load(self.settings.lacre) as application:
            found = application.pseudonym(person)
        assert found is not None
        return found

    def evidence(self) -> str:
        return (self.home / "lacre" / "audit.jsonl").read_text("utf-8")


@pytest.fixture(scope="session")
def nexus(postgresql: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nexus]:
    """The service, provisioned as ``make nexus`` does it."""
    home = tmp_path_factory.mktemp("nexus") / "home"
    with postgresql.database() as database:
        settings = provision(home, database.text_url("asyncpg"), postgresql.certificate, env="test")

        async def prepare() -> dict[str, str]:
            service = Service.of(settings)
            await create_tables(service)
            passwords = await add_staff(service)
            await service.close()
            return passwords

        passwords = asyncio.run(prepare())
        port, log = free_port(), home / "uvicorn.log"
        command: list[str | Path] = [
            sys.executable, "-W", "error", "-m", "uvicorn", "--factory", "tests.examples.served:create_app",
            "--port", str(port), "--log-level", "debug",
        ]  # fmt: skip
        process = started(
            command, log=log, PYTHONPATH=f"{EXAMPLES}:{EXAMPLES.parent / 'src'}:{EXAMPLES.parent}",
            **settings.to_environ(),
        )  # fmt: skip
        try:
            # Whatever a developer's machine has for a proxy, this is not for it.
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}",
                timeout=60,
                trust_env=False,
                headers={"User-Agent": "nexus test"},
            ) as http:
                wait_until(lambda: _answers(http), process, "Nexus", log)
                yield Nexus(
                    home=home,
                    log=log,
                    settings=settings,
                    database=database,
                    http=http,
                    passwords=passwords,
                )
        finally:
            ended(process)


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/ready").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def cpf() -> Callable[[], str]:
    return make_cpf
