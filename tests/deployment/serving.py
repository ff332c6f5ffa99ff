# SPDX-License-Identifier: Apache-2.0
"""
Real servers of the modules that `docs/how-to/deploy.md` shows, as a deployment would start them.

The page's blocks that begin with ``# NAME.py`` are the files: nothing here is a copy of them.
Servers listen on 127.0.0.1 and are ended by their own process group.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.markdown import blocks

__all__ = ["HTTP", "Deployed", "Server", "asked", "write_modules"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "deploy.md"
_SECONDS = 60

HTTP = httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))

_SEED = """\
import json
from shop import Base, Customer, Session, engine, lacre
Base.metadata.create_all(engine)
with lacre.acting_as("svc:seed", roles={"app"}, purpose="seed"), Session() as session:
    made = [Customer(email=f"{n}@example.org", account=str(n)) for n in range(64)]
    session.add_all(made)
    session.commit()
    print(json.dumps([str(customer.id) for customer in made]))
lacre.close()
"""


def write_modules(directory: Path) -> list[str]:
    """Write the modules that the page shows into *directory*; return their names."""
    written = []
    for block in blocks(PAGE.read_text("utf-8")):
        named = re.match(r"# ([a-z_.]+\.py)\n", block.text)
        if block.language == "python" and named:
            (directory / named[1]).write_text(block.text, encoding="utf-8")
            written.append(named[1])
    return written


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A directory with the modules, `lacre.toml` and a database with customers in it."""

    directory: Path
    environ: dict[str, str]
    customers: list[str]

    @classmethod
    def into(cls, directory: Path, database_url: str, **settings: str) -> "Deployed":
        """Write the modules beside the `lacre.toml` in *directory*, and fill the database."""
        write_modules(directory)
        environ = os.environ | {
            "DATABASE_URL": database_url,
            "PYTHONPATH": os.pathsep.join([str(directory), *(path for path in sys.path if path)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        environ = {name: value for name, value in environ.items() if not name.startswith("LACRE_")}
        environ |= settings
        done = subprocess.run(
            [sys.executable, "-c", _SEED],
            cwd=directory, env=environ, capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return cls(directory=directory, environ=environ, customers=json.loads(done.stdout))

    def looks(self) -> list[tuple[str, str]]:
        """Every (principal, row) of the evidence that was looked at, as often as it was."""
        log = self.directory / "lacre" / "audit.jsonl"
        events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        return [
            (event["principal"], row)
            for event in events
            if event["action"] == "look" and event["outcome"] == "allowed"
            for row in event["rows"]
        ]

    @contextmanager
    def running(self, *command: str, **environ: str) -> Iterator["Server"]:
        """Start ``python -m *command*``; end it, and whatever it started, with the block."""
        log = self.directory / f"{command[0]}-{time.monotonic_ns()}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.directory, env=self.environ | environ, stdin=subprocess.PIPE,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        server = Server(process=process, log=log, port=0)
        try:
            yield server
        finally:
            if process.stdin is not None:
                process.stdin.close()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @contextmanager
    def serving(self, *command: str, **environ: str) -> Iterator["Server"]:
        """`running`, with ``{port}`` in the command replaced; returns once `/ready` says 200."""
        port = _free_port()
        command = tuple(word.replace("{port}", str(port)) for word in command)
        with self.running(*command, **environ) as started:
            server = Server(process=started.process, log=started.log, port=port)
            server.wait_until_ready()
            yield server


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One started program; *log* is what it wrote."""

    process: "subprocess.Popen[bytes]"
    log: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_until_ready(self) -> None:
        self.wait_for(lambda: HTTP.get(f"{self.url}/ready", timeout=10).status_code == 200)

    def wait_for(self, condition: Any) -> None:
        """Ask until *condition* is true; no answer is no."""
        until = time.monotonic() + _SECONDS
        while True:
            try:
                if condition():
                    return
            except (httpx.HTTPError, OSError):
                pass
            if time.monotonic() > until or self.process.poll() is not None:
                pytest.fail(f"it does not come to that:\n{self.text()}")
            time.sleep(0.05)

    def end(self, with_: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal; return how it ended, once it did."""
        self.process.send_signal(with_)
        return self.process.wait(_SECONDS)


def asked(
    server: Server, path: str, requests: Sequence[tuple[str, str]], *, threads: int = 8
) -> list[tuple[str, str]]:
    """
    Send a request for each (user, row), several at once; return those that were answered.

    Each answer is checked to be a customer's.
    """

    def ask(wanted: tuple[str, str]) -> tuple[str, str] | None:
        user, row = wanted
        try:
            answer = HTTP.get(
                f"{server.url}{path}/{row}",
                headers={"x-authenticated-user": user},
                timeout=_SECONDS,
            )
        except httpx.TransportError:
            return None
        assert answer.status_code == 200, f"{answer.text}\n{server.text()}"
        assert answer.json()["email"].endswith("@example.org")
        return f"user:{user}", row.replace("-", "")

    with ThreadPoolExecutor(threads) as pool:
        return [answered for answered in pool.map(ask, requests) if answered is not None]


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
