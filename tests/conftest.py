"""What every test may ask for: a lacre that `lacre init` made, and the application it describes."""

import gc
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lacre import Lacre
from lacre.cli.initialise import initialise
from tests.components.aws import AWS, ministack_server, moto_server
from tests.components.key_stores import KeptInPostgreSQL, KeptInSQLite, KeyStorePlace
from tests.components.openbao import OpenBao, openbao_server
from tests.components.postgresql import Database, Server, postgresql_server
from tests.components.processes import forget_the_developer
from tests.components.terraform import missing
from tests.trouble import make_shop

forget_the_developer()

# No test rests on a time, and a busy machine is no failure.
settings.register_profile(
    "lacre", parent=settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("lacre")


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the garbage collector need not walk it again and again."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end what this machine could not test: the one component that may be missing."""
    if line := missing():
        terminalreporter.write_sep("=", "not tested on this machine", yellow=True, bold=True)
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def _made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("lacre")
    initialise(directory, env="test")
    return directory


@pytest.fixture
def home(_made_once: Path, tmp_path: Path) -> Path:
    """A directory with a `lacre.toml` of env `test`, a local keystore and the first keys, of its own."""
    directory = tmp_path / "home"
    shutil.copytree(_made_once, directory)
    return directory


@pytest.fixture(scope="session")
def _shop_once(_made_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("trouble") / "shop"
    shutil.copytree(_made_once, directory)
    make_shop(directory)
    return directory


@pytest.fixture
def shop(_shop_once: Path, tmp_path: Path) -> Path:
    """A copy of the shop of `tests.trouble`."""
    directory = tmp_path / "shop"
    shutil.copytree(_shop_once, directory)
    return directory


@pytest.fixture
def lacre(home: Path) -> Iterator[Lacre]:
    """The application in `home`, as its service identity."""
    with Lacre.load(home / "lacre.toml", environ={}) as application:
        yield application


@pytest.fixture
def operator(home: Path) -> Iterator[Lacre]:
    """The application in `home`, as its operator."""
    with Lacre.load(
        home / "lacre.toml", environ={}, identity="lacre/identities/operator.key"
    ) as application:
        yield application


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server."""
    with postgresql_server() as server:
        yield server


@pytest.fixture
def database(postgresql: Server) -> Iterator[Database]:
    """An empty PostgreSQL database."""
    with postgresql.database() as database:
        yield database


@pytest.fixture(scope="session")
def openbao() -> Iterator[OpenBao]:
    """An OpenBao server. Make mounts and policies of your own; leave it unsealed and running."""
    with openbao_server() as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[AWS]:
    """An emulator of AWS with true ciphertexts. What it does not tell is in `tests.components.aws`."""
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def ministack() -> Iterator[AWS]:
    """An emulator of AWS with true permissions and key states, and a false cipher."""
    with ministack_server() as server:
        yield server


@pytest.fixture(scope="session")
def _database_of_key_stores(postgresql: Server) -> Iterator[Database]:
    with postgresql.database() as database:
        yield database


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> KeyStorePlace:
    """Where a key store may be made: a file, and a schema of PostgreSQL. Nothing is there yet."""
    if request.param == "sqlite":
        return KeptInSQLite(path=tmp_path / "store" / "keys.db")
    database = request.getfixturevalue("_database_of_key_stores")
    return KeptInPostgreSQL(database=database, schema=f"lacre_{uuid.uuid4().hex[:12]}")
