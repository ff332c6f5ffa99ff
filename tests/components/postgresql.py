# SPDX-License-Identifier: Apache-2.0
"""
A real PostgreSQL server of the tests' own: TLS on 127.0.0.1, passwords, nothing durable.

Started once for each test process and ended with it, also when that is killed. Every test gets
databases of its own. A machine without PostgreSQL fails the tests and says what to install.
"""

import os
import pwd
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa

from tests.components.authority import Authority
from tests.components.processes import dies_with_us, free_port

__all__ = ["Database", "Server", "postgresql_server", "programs"]

ROOT = Path(__file__).resolve().parents[2]
SUPERUSER = "postgres"
_SECONDS = 30

# Nothing here outlives the tests, so nothing waits for a disk.
_FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "ssl": "on",
    "ssl_min_protocol_version": "TLSv1.3",
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "max_prepared_transactions": "20",  # two-phase sessions
    "wal_level": "logical",  # change data capture
    "shared_buffers": "64MB",
    "logging_collector": "off",
    "timezone": "UTC",
}
_HBA = """\
local   all         all       trust
local   replication all       trust
hostssl all         all 127.0.0.1/32  scram-sha-256
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """One database of the server. *url* takes a driver: ``psycopg`` or ``asyncpg``."""

    server: "Server"
    name: str

    def url(
        self, driver: str = "psycopg", *, user: str = SUPERUSER, password: str | None = None
    ) -> sa.URL:
        """Return an SQLAlchemy URL, over TLS that checks the server's certificate."""
        query = (
            {"sslmode": "verify-full", "sslrootcert": str(self.server.certificate)}
            if driver == "psycopg"
            else {}
        )
        return sa.URL.create(
            f"postgresql+{driver}",
            username=user,
            password=self.server.password if password is None else password,
            host="localhost",
            port=self.server.port,
            database=self.name,
            query=query,
        )

    def text_url(self, driver: str = "psycopg", **options: str) -> str:
        """`url` as text, password included: as it stands in a settings file."""
        return self.url(driver, **options).render_as_string(hide_password=False)

    def dsn(self, *, user: str = SUPERUSER, password: str | None = None) -> str:
        """Return the URL that psycopg and libpq's programs take."""
        return self.text_url(
            user=user, **({} if password is None else {"password": password})
        ).replace("postgresql+psycopg", "postgresql")

    def variables(self) -> dict[str, str]:
        """Return libpq's variables, for programs that take nothing else."""
        return {
            "PGHOST": "localhost",
            "PGPORT": str(self.server.port),
            "PGDATABASE": self.name,
            "PGUSER": SUPERUSER,
            "PGPASSWORD": self.server.password,
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.server.certificate),
        }

    def connect(self, *, user: str = SUPERUSER, autocommit: bool = True) -> "psycopg.Connection":
        """Connect with psycopg."""
        return psycopg.connect(self.dsn(user=user), autocommit=autocommit)


class Server:
    """A running server. *password* is the superuser's."""

    def __init__(self, directory: Path, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.directory = directory
        self.process = process
        self.port = port
        self.password = (directory / "password").read_text(encoding="utf-8")
        self.certificate = directory / "ca.crt"

    @contextmanager
    def database(self) -> Iterator[Database]:
        """A new, empty database, dropped afterwards."""
        name = f"test_{uuid4().hex[:12]}"
        self.administer(f'CREATE DATABASE "{name}"')
        try:
            yield Database(server=self, name=name)
        finally:
            self.administer(f'DROP DATABASE "{name}" WITH (FORCE)')

    def administer(self, statement: str) -> None:
        """Run one statement as the superuser."""
        with Database(server=self, name="postgres").connect() as connection:
            connection.execute(statement)

    def version(self) -> str:
        """Return the server's version, ``15.18``."""
        with Database(server=self, name="postgres").connect() as connection:
            found = connection.execute("SHOW server_version").fetchone()
        return str(found[0]).split()[0] if found else ""

    def tls(self) -> dict[str, ssl.SSLContext]:
        """Return what asyncpg takes in ``connect_args``, to check the server's certificate."""
        return {"ssl": ssl.create_default_context(cafile=str(self.certificate))}

    def log(self) -> str:
        """What the server wrote to its log."""
        return (self.directory / "log").read_text(encoding="utf-8", errors="replace")


@contextmanager
def postgresql_server(*, durable: bool = False, **settings: str) -> Iterator[Server]:
    """
    Start a server; end it with the block.

    Args:
        durable: as production would run: for measurements.
        settings: of postgresql.conf.
    """
    folder = programs()
    directory = Path(tempfile.mkdtemp(prefix="lacre-pg-"))
    # The server refuses to run as root.
    owner = pwd.getpwnam(SUPERUSER) if os.geteuid() == 0 else None
    process: subprocess.Popen[bytes] | None = None
    try:
        (directory / "password").write_text(uuid4().hex, encoding="utf-8")
        Authority(directory).issue("server")
        if owner is not None:
            for path in (directory, *directory.iterdir()):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        port = free_port()
        data = directory / "data"
        as_owner = _as_owner(owner)
        made = subprocess.run(
            [*as_owner, folder / "initdb", "--pgdata", data, "--username", SUPERUSER, "--pwfile", directory / "password",
             "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--auth", "scram-sha-256"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode != 0:
            pytest.fail(f"initdb: {made.stderr}")
        (data / "pg_hba.conf").write_text(_HBA, encoding="utf-8")
        chosen = {
            **_SETTINGS,
            **({} if durable else _FAST),
            "port": str(port),
            "unix_socket_directories": str(directory),
            "ssl_cert_file": str(directory / "server.crt"),
            "ssl_key_file": str(directory / "server.key"),
            **settings,
        }
        process = _started(directory, as_owner, data, chosen)
        server = Server(directory, process, port)
        _wait(server)
        yield server
    finally:
        _ended(process)
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def standby_of(server: Server) -> Iterator[Server]:
    """Start a streaming replica of *server*; end it with the block."""
    folder, directory = programs(), Path(tempfile.mkdtemp(prefix="lacre-pg-"))
    owner = pwd.getpwnam(SUPERUSER) if os.geteuid() == 0 else None
    process: subprocess.Popen[bytes] | None = None
    try:
        for name in ("password", "ca.crt", "server.crt", "server.key"):
            shutil.copy2(server.directory / name, directory / name)
        if owner is not None:
            for path in (directory, *directory.iterdir()):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        as_owner, data, port = _as_owner(owner), directory / "data", free_port()
        subprocess.run(
            [*as_owner, folder / "pg_basebackup", "--pgdata", data, "--write-recovery-conf", "--checkpoint", "fast", "--no-sync",
             "--host", server.directory, "--port", str(server.port), "--username", SUPERUSER],
            capture_output=True, check=True,
        )  # fmt: skip
        chosen = {
            **_SETTINGS,
            **_FAST,
            "port": str(port),
            "unix_socket_directories": str(directory),
            "ssl_cert_file": str(directory / "server.crt"),
            "ssl_key_file": str(directory / "server.key"),
            "wal_receiver_status_interval": "1s",
        }
        process = _started(directory, as_owner, data, chosen)
        replica = Server(directory, process, port)
        _wait(replica)
        yield replica
    finally:
        _ended(process)
        shutil.rmtree(directory, ignore_errors=True)


def _started(
    directory: Path, as_owner: list[str], data: Path, settings: dict[str, str]
) -> "subprocess.Popen[bytes]":
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(
            [*as_owner, *dies_with_us("QUIT"), programs() / "postgres", "-D", data, *options],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def _ended(process: "subprocess.Popen[bytes] | None") -> None:
    if process is None or process.poll() is not None:
        return
    process.send_signal(3)  # SIGQUIT: at once; what it held is thrown away with its folder
    try:
        process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def programs() -> Path:
    """Return the folder of the server's and the clients' programs."""
    found = subprocess.run(
        [ROOT / "scripts" / "find-postgresql"], capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        pytest.fail(found.stderr)
    return Path(found.stdout.strip())


def _as_owner(owner: pwd.struct_passwd | None) -> list[str]:
    if owner is None:
        return []
    return ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]


def _wait(server: Server) -> None:
    until = time.monotonic() + _SECONDS
    while True:
        try:
            Database(server=server, name="postgres").connect().close()
            return
        except psycopg.OperationalError:
            if server.process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"PostgreSQL did not start:\n{server.log()}")
            time.sleep(0.05)
