# SPDX-License-Identifier: Apache-2.0
"""
Nexus on a PostgreSQL of its own, until it is interrupted: ``make nexus``.

Makes a server, a database, keys and two employees in a directory that is removed at the end.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import uvicorn

from nexus.main import create_app
from nexus.provisioning import STAFF, add_staff, create_tables, provision
from nexus.service import Service
from nexus.settings import Settings
from tests.components.postgresql import Database, postgresql_server

SHOWN = """\
Nexus runs. In another terminal:

curl -s {url}/users --json '{{"email": "ana@example.org", "password": "correct horse battery", "name": "Ana Souza", "cpf": "529.982.247-25", "phone": "+55 11 98765 4321"}}'

TOKEN=$(curl -s {url}/tokens --json '{{"email": "ana@example.org", "password": "correct horse battery"}}' | sed 's/.*access_token":"\\([^"]*\\).*/\\1/')
curl -s {url}/me -H "Authorization: Bearer $TOKEN"
curl -s {url}/me/report -H "Authorization: Bearer $TOKEN"
curl -s -X PATCH {url}/me -H "Authorization: Bearer $TOKEN" --json '{{"phone": null}}'
curl -s -X DELETE {url}/me -H "Authorization: Bearer $TOKEN"

SUPPORT=$(curl -s {url}/tokens --json '{{"email": "{support}", "password": "{support_password}"}}' | sed 's/.*access_token":"\\([^"]*\\).*/\\1/')
curl -s {url}/users/search -H "Authorization: Bearer $SUPPORT" -H "X-Purpose: support call" --json '{{"cpf": "52998224725"}}'

ADMIN=$(curl -s {url}/tokens --json '{{"email": "{admin}", "password": "{admin_password}"}}' | sed 's/.*access_token":"\\([^"]*\\).*/\\1/')
curl -s {url}/users/search -H "Authorization: Bearer $ADMIN" -H "X-Purpose: fraud" --json '{{"name": "souz"}}'

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
    port = arguments.parse_args().port
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
                **STAFF,
                **{f"{role}_password": password for role, password in passwords.items()},
            ),
            flush=True,
        )
        with suppress(KeyboardInterrupt):
            uvicorn.run(create_app(settings), port=port, log_level="warning")


if __name__ == "__main__":
    main()
