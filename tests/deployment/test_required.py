# SPDX-License-Identifier: Apache-2.0
"""What `pip install 'lacre[sqlalchemy,cli]'` gives is enough for synchronous sessions on SQLite."""

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.deployment.required import environment, refused

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "constraints" / "demo.txt"

Run = Callable[..., subprocess.CompletedProcess[str]]

# What README shows before it comes to event loops.
_QUICKSTART = """
import sys
from pathlib import Path
from tests.markdown import run_page
text = Path({readme!r}).read_text("utf-8")
quickstart, service, _ = text.partition("\\n## A service\\n")
assert service
page = Path("page.md")
page.write_text(quickstart, "utf-8")
assert run_page(page.resolve(), Path.cwd()) > 1
"""

# Every module but those that need a package which an extra of its own installs.
_EVERY_MODULE = """
import importlib, pkgutil, lacre
failed = []
for module in pkgutil.walk_packages(lacre.__path__, "lacre.", onerror=lambda name: None):
    if not module.name.endswith(".__main__"):
        try:
            importlib.import_module(module.name)
        except Exception as error:
            failed.append((module.name, str(error)))
print(sorted(failed))
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a program in an empty directory, with the packages of `lacre[sqlalchemy,cli]` only."""
    (tmp_path / "start").mkdir()
    (tmp_path / "here").mkdir()
    environ = environment(DEMO, tmp_path / "start")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            cwd=tmp_path / "here",
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_what_is_not_required_is_not_found(run: Run) -> None:
    """What the tests have and `lacre[sqlalchemy,cli]` does not require cannot be imported there."""
    others = refused(DEMO)
    names = ["greenlet", "aiosqlite", "asyncpg", "alembic", "psycopg", "pytest"]

    done = [run("-c", f"import {name}") for name in names]

    assert set(names) <= others & set(packages_distributions())
    assert not {"lacre", "sqlalchemy", "typer", "pydantic", "cryptography"} & others
    assert [
        f"No module named {name!r}" in one.stderr for name, one in zip(names, done, strict=True)
    ] == [True] * len(names)


def test_every_module_imports_with_what_is_required(run: Run) -> None:
    """Every module is imported without what only tests install, but for those of the other extras."""
    done = run("-c", _EVERY_MODULE)

    assert done.returncode == 0, done.stderr
    found = eval(done.stdout)
    pages = {words for name, words in found if name.startswith("lacre.dashboard.")}
    assert pages == {
        f"No module named {name!r}" for name in ("jinja2", "markupsafe", "starlette", "uvicorn")
    }
    assert [each for each in found if not each[0].startswith("lacre.dashboard.")] == [
        ("lacre.bulk.arrow", "No module named 'pyarrow'"),
        ("lacre.bulk.parquet", "No module named 'pyarrow'"),
        ("lacre.bulk.reading", "No module named 'pyarrow'"),
        ("lacre.fastapi", "fastapi is not installed"),
        ("lacre.kms.aws", "No module named 'botocore'"),
        ("lacre.kms.openbao", "No module named 'requests'"),
        ("lacre.sinks.anchors.s3", "No module named 'boto3'"),
        ("lacre.sqlalchemy.autogenerating", "No module named 'alembic'"),
        ("lacre.sqlalchemy.migrations", "alembic is not installed"),
        ("lacre.sqlalchemy.token_migrations", "No module named 'alembic'"),
        ("lacre.telemetry.emf", "opentelemetry is not installed"),
    ]


def test_the_quickstart_runs_with_what_is_required(run: Run) -> None:
    """README's first ten lines run, `lacre init` included, without what only tests install."""
    done = run("-c", _QUICKSTART.format(readme=str(ROOT / "README.md")))

    assert done.returncode == 0, done.stderr


def test_the_demonstration_runs_with_what_is_required(run: Run) -> None:
    """`lacre demo` performs all its acts without what only tests install."""
    done = run("-m", "lacre.cli", "demo", "--people", "100")

    assert done.returncode == 0, done.stderr
    assert "no plaintext of any protected value is left" in done.stdout


def test_asynchronous_sessions_say_what_to_install(run: Run) -> None:
    """Without greenlet an `AsyncSession` cannot be had, and SQLAlchemy names what installs it."""
    done = run("-c", "from sqlalchemy.ext.asyncio import async_sessionmaker")

    assert "pip install sqlalchemy[asyncio]" in done.stderr, done.stdout
