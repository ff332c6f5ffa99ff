# SPDX-License-Identifier: Apache-2.0
"""
Nexus on a PostgreSQL of its own, until it is interrupted: ``make nexus``.

Makes a server, a database, keys and two employees in a directory that is removed at the end.
``python -m nexus erasures`` and ``erased`` are an operator's, for a service that runs, whose
settings are in the environment.
"""

import argparse
import asyncio
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import uvicorn

from nexus.erasing import NotErased, asked, close
from nexus.main import create_app
from nexus.provisioning import STAFF, add_staff, create_tables, provision
from nexus.service import Service
from nexus.settings import Settings
from tests.components.postgresql import Database, postgresql_server

T = TypeVar("T")

SHOWN = """\
Nexus runs. In another terminal, in this directory:

curl -sw '\\n' {url}/users --json '{{"email": "ana@example.org", "password": "correct horse battery", "name": "Ana Souza", "cpf": "529.982.247-25", "phone": "+55 11 98765 4321"}}'

TOKEN=$(curl -s {url}/tokens --json '{{"email": "ana@example.org", "password": "correct horse battery"}}' | sed 's/.*access_token":"\\([^"]*\\).*/\\1/')
curl -sw '\\n' {url}/me -H "Authorization: Bearer $TOKEN"
curl -sw '\\n' {url}/me/report -H "Authorization: Bearer $TOKEN"
curl -sw '\\n' -X PATCH {url}/me -H "Authorization: Bearer $TOKEN" --json '{{"phone": null}}'
curl -sw '\\n' -X DELETE {url}/me -H "Authorization: Bearer $TOKEN"

SUPPORT=$(curl -s {url}/tokens --json '{{"email": "{support}", "password": "{support_password}"}}' | sed 's/.*access_token":"\\([^"]*\\).*/\\1/')
curl -sw '\\n' {url}/users/search -H "Authorization: Bearer $SUPPORT" -H "X-Purpose: support call" --json '{{"cpf": "52998224725"}}'

ADMIN=$(curl -s {url}/tokens --json '{{"email": "{admin}", "password": "{admin_password}"}}' | sed 's/.*access_token":"\\([^"]*\\).*/\\1/')
curl -sw '\\n' {url}/users/search -H "Authorization: Bearer $ADMIN" -H "X-Purpose: fraud" --json '{{"name": "souz"}}'

An operator erases who asked:
. {environment}
{python} -m nexus erasures
{python} -m lacre.cli shred USER_ID --config "$NEXUS_LACRE" --models nexus.models:User --database "$OPERATOR_DATABASE_URL" --reason "asked for it"
{python} -m nexus erased USER_ID CERTIFICATE

Documentation: {url}/docs. Evidence: {evidence}. Ctrl-C ends it and removes everything.
"""


async def _prepare(settings: Settings) -> tuple[dict[str, str], Path]:
    service = Service.of(settings)
    await create_tables(service)
    passwords = await add_staff(service)
    await service.close()
    return passwords, service.evidence


def main() -> None:
    arguments = argparse.ArgumentParser(prog="nexus", description="run the example")
    arguments.add_argument("--port", type=int, default=8000)
    commands = arguments.add_subparsers(dest="command", title="an operator's commands")
    commands.add_parser("erasures", help="who asked to be erased, and when")
    erased = commands.add_parser("erased", help="close the request of who was erased")
    erased.add_argument("person", type=UUID, metavar="USER_ID")
    erased.add_argument("certificate", type=Path, help="what `lacre shred` wrote")
    told = arguments.parse_args()
    if told.command == "erasures":
        for person, since in _ask(asked):
            print(person, since.isoformat(timespec="seconds"))  # noqa: T201 - a program
    elif told.command == "erased":
        try:
            certificate = told.certificate.read_bytes()
            found = _ask(lambda service: close(service, told.person, certificate))
        except (NotErased, OSError) as error:
            sys.exit(f"not closed: {error}")
        print(f"closed by certificate {found}")  # noqa: T201
    else:
        run(told.port)


def _ask(work: Callable[[Service], Awaitable[T]]) -> T:
    async def asking() -> T:
        service = Service.of(Settings.from_environ())
        try:
            return await work(service)
        finally:
            await service.close()

    return asyncio.run(asking())


def _environment(settings: Settings, database: Database, path: Path) -> Path:
    """Write what an operator's commands are told to *path*, for a shell to read."""
    told = settings.to_environ() | {
        "OPERATOR_DATABASE_URL": database.text_url(),
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path))),
    }
    path.touch(mode=0o600)
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in told.items()]
    path.write_text("".join(lines), "utf-8")
    return path


def run(port: int) -> None:
    """Serve on *port* until interrupted."""
    # Ended like by Ctrl-C: the server and the directory go as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with (
        postgresql_server() as server,
        tempfile.TemporaryDirectory(prefix="nexus-") as directory,
    ):
        # Never dropped: Ctrl-C reaches the server as well, and it may be gone before we are.
        server.administer("CREATE DATABASE nexus")
        database = Database(server=server, name="nexus")
        settings = provision(
            Path(directory) / "home", database.text_url("asyncpg"), server.certificate
        )
        passwords, evidence = asyncio.run(_prepare(settings))
        print(  # noqa: T201 - a program
            SHOWN.format(
                url=f"http://127.0.0.1:{port}",
                evidence=evidence,
                python=shlex.quote(sys.executable),
                environment=_environment(settings, database, Path(directory, "nexus.env")),
                **STAFF,
                **{f"{role}_password": password for role, password in passwords.items()},
            ),
            flush=True,
        )
        with suppress(KeyboardInterrupt):
            uvicorn.run(create_app(settings), port=port, log_level="warning")


if __name__ == "__main__":
    main()
