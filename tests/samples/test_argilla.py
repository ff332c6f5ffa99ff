# SPDX-License-Identifier: Apache-2.0
"""
An application that this project did not make: Argilla, whose users become encrypted by a diff of
nine lines. Apache-2.0, from the registry; of its code only what the diff shows is kept here.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.components import warm
from tests.components.postgresql import Database

_HERE = Path(__file__).parent
DIFF = _HERE / "argilla.diff"
COLUMNS = {
    "first_name": "pii",
    "last_name": "pii",
    "username": "pii:exact",
    "api_key": "pii:exact",
    "password_hash": "credentials",
}
CREATED = {
    "name": "canary-Ana canary-Silva",
    "workspaces": ["research"],
    "by_key": "canary-ana",
    "listed": ["canary-ana"],
    "signed_in": True,
    "wrong_password": None,
    "stranger": None,
}


def installed() -> Path:
    for name in ("argilla_server", "pydantic_settings", "dotenv", "bcrypt"):
        if importlib.util.find_spec(name) is None:
            pytest.fail(
                f"{name} is not installed: pip install --no-deps --require-hashes -r constraints/samples.txt"
            )
    spec = importlib.util.find_spec("argilla_server")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])


def patched(text: str, hunks: list[list[str]]) -> str:
    """Apply a unified diff's hunks, each where its old lines stand, and nowhere else."""
    for hunk in hunks:
        old = "".join(line[1:] for line in hunk if line[0] in " -")
        new = "".join(line[1:] for line in hunk if line[0] in " +")
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


def files_of(diff: str) -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    for line in diff.splitlines(keepends=True):
        if line.startswith("+++ b/"):
            hunks = found.setdefault(line.removeprefix("+++ b/").strip(), [])
        elif line.startswith("@@"):
            hunks.append([])
        elif not line.startswith("---"):
            hunks[-1].append(line)
    return found


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Argilla's Python files as the registry has them (`before`), and with the diff (`after`)."""
    folder = tmp_path_factory.mktemp("argilla")
    package = installed()
    for file in package.rglob("*.py"):
        for name in ("before", "after"):
            copy = folder / name / "argilla_server" / file.relative_to(package)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    for name, hunks in files_of(DIFF.read_text(encoding="utf-8")).items():
        file = folder / "after" / name
        file.write_text(patched(file.read_text(encoding="utf-8"), hunks), encoding="utf-8")
    return folder


Work = Callable[..., dict[str, Any]]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, home: Path) -> str:
    """The database, as Argilla's own setting names it."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{home / 'argilla.db'}"
    database: Database = request.getfixturevalue("database")
    return database.text_url("asyncpg") + "?ssl=verify-full"


@pytest.fixture
def work(request: pytest.FixtureRequest, sources: Path, home: Path, url: str) -> Work:
    """Run steps of Argilla `before` or `after` the diff, in `home`."""
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "ARGILLA_HOME_PATH": str(home / "argilla"),
        "ARGILLA_DATABASE_URL": url,
    }
    if url.startswith("postgresql"):
        database: Database = request.getfixturevalue("database")
        environ["PGSSLROOTCERT"] = str(database.server.certificate)

    def work(which: str, *steps: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, _HERE / "argilla.py", sources / which, *steps],
            cwd=home,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    return work


def stored(request: pytest.FixtureRequest, home: Path, url: str) -> bytes:
    """Everything the database holds."""
    if url.startswith("sqlite"):
        return b"".join(file.read_bytes() for file in home.glob("argilla.db*"))
    database: Database = request.getfixturevalue("database")
    with database.connect() as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        parts = []
        for (table,) in tables.fetchall():
            with connection.cursor().copy(f'COPY "{table}" TO STDOUT') as copy:
                parts += [bytes(chunk) for chunk in copy]
        return b"".join(parts)


def test_the_diff_is_a_few_lines() -> None:
    """Nine lines are added and six removed, import lines included."""
    lines = DIFF.read_text(encoding="utf-8").splitlines()

    assert len([line for line in lines if re.match(r"\+(?!\+\+)", line)]) == 9
    assert len([line for line in lines if re.match(r"-(?!--)", line)]) == 6


def test_its_accounts_work_and_the_database_holds_no_plaintext(
    request: pytest.FixtureRequest, home: Path, url: str, work: Work
) -> None:
    """Its own code creates, finds, lists, signs in, changes, refuses twice and deletes encrypted users."""
    said = work("after", "make", "read")
    user = said["make"]
    content = stored(request, home, url)
    assert said["read"] == {"id": user["id"], **CREATED}
    assert b"research" in content
    assert b"canary" not in content
    assert user["api_key"].encode() not in content

    assert work("after", "change")["change"] == {
        "changed": ["canary-Bia", "canary-bia", None],
        "twice": "NotUniqueError",
        "left": 0,
    }
    assert b"canary" not in stored(request, home, url)


def test_its_users_of_before_are_protected(
    request: pytest.FixtureRequest, home: Path, url: str, work: Work
) -> None:
    """Users that Argilla stored in plaintext are found and sign in after `lacre protect` and the diff."""
    user = work("before", "make")["make"]
    content = stored(request, home, url)
    assert b"canary" in content
    assert user["api_key"].encode() in content
    database = sa.make_url(url.replace("+aiosqlite", ""))
    if url.startswith("postgresql"):
        database = request.getfixturevalue("database").url()
    columns = [f"--column={name}:{class_}" for name, class_ in COLUMNS.items()]
    shown = database._replace(password=None).render_as_string()
    environ = os.environ | {"PGPASSWORD": str(database.password)}
    done = warm.run("protect", "--database", shown, "--table", "users", *columns, "--yes", cwd=home, environ=environ)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr

    assert b"canary" not in stored(request, home, url)
    assert work("after", "read")["read"] == {"id": user["id"], **CREATED}
    engine = sa.create_engine(database)
    with engine.begin() as connection, pytest.raises(sa.exc.IntegrityError, match="_lacre"):
        connection.execute(sa.text(f"UPDATE users SET first_name = CAST('x' AS {binary(engine)})"))
    engine.dispose()


def binary(engine: sa.Engine) -> str:
    return "BLOB" if engine.dialect.name == "sqlite" else "bytea"
