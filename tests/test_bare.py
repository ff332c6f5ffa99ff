# SPDX-License-Identifier: Apache-2.0
"""What an installation without extras does: it imports, and says what to install for the rest."""

import os
import subprocess
from pathlib import Path

import pytest

_CAUGHT = """
from lacre import ConfigurationError
try:
    {call}
except ConfigurationError as error:
    print(error.hint)
"""


@pytest.fixture(scope="module")
def bare() -> Path:
    named = os.environ.get("BARE_PYTHON", "")
    if not named or not Path(named).exists():
        pytest.fail("there is no environment without extras: run make test", pytrace=False)
    return Path(named)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def hint_of(bare: Path, call: str) -> str:
    done = run(bare, "-W", "error", "-I", "-c", _CAUGHT.format(call=call))

    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_public_name_imports_without_extras(bare: Path) -> None:
    """`from lacre import *` needs nothing but what lacre always requires, and warns of nothing."""
    done = run(bare, "-W", "error", "-I", "-c", "from lacre import *; print(Lacre.__module__)")

    assert (done.returncode, done.stdout.strip()) == (0, "lacre.application"), done.stderr


def test_the_environment_really_has_no_extras(bare: Path) -> None:
    """The environment these tests run in has neither SQLAlchemy nor what the command line needs."""
    done = run(bare, "-I", "-m", "pip", "list", "--format=freeze")
    installed = {line.partition("==")[0].lower() for line in done.stdout.splitlines()}

    assert "cryptography" in installed
    assert not installed & {"sqlalchemy", "typer", "rich", "python-stdnum", "phonenumbers"}


def test_the_wheel_is_typed(bare: Path) -> None:
    """The wheel carries the marker that tells type checkers to read its annotations."""
    done = run(
        bare,
        "-I",
        "-c",
        "import lacre, pathlib; print(pathlib.Path(lacre.__file__).with_name('py.typed').exists())",
    )

    assert done.stdout.strip() == "True", done.stderr


def test_a_key_store_without_sqlalchemy_says_what_to_install(bare: Path, tmp_path: Path) -> None:
    """The SQL key store without SQLAlchemy is a ConfigurationError with the line that installs it."""
    call = f"import lacre.stores.opening, pathlib; lacre.stores.opening.open_key_store('sqlite:///keys.db', pathlib.Path({str(tmp_path)!r}))"

    assert hint_of(bare, call) == "pip install 'lacre[sqlalchemy]'"


@pytest.mark.parametrize(
    "call", ["import lacre.sqlalchemy", "from lacre.sqlalchemy import encrypted"]
)
def test_models_without_sqlalchemy_say_what_to_install(bare: Path, call: str) -> None:
    """A module that declares encrypted columns, imported without SQLAlchemy, says what to install."""
    assert hint_of(bare, call) == "pip install 'lacre[sqlalchemy]'"


def test_requests_without_fastapi_say_what_to_install(bare: Path) -> None:
    """A module that lets requests act, imported without FastAPI, names the extra that has it."""
    assert hint_of(bare, "import lacre.fastapi") == "pip install 'lacre[fastapi]'"


def test_protected_models_need_no_extra(bare: Path) -> None:
    """pydantic is always there, so models that hide values are."""
    call = "from lacre.pydantic import Protected; print(Protected('x'))"

    assert run(bare, "-W", "error", "-I", "-c", call).stdout.strip() == "***"


def test_a_national_number_without_its_package_says_what_to_install(bare: Path) -> None:
    """A normaliser that needs a package which is not there names the extra that has it."""
    call = "from lacre.fields.normalisers import normaliser; normaliser('cpf')"

    assert "lacre[search]" in hint_of(bare, call)


def test_the_command_line_without_its_packages_says_what_to_install(bare: Path) -> None:
    """`lacre` without the cli extra fails with one line that installs it, not with a traceback."""
    done = run(bare, "-I", bare.with_name("lacre"), "--help")

    assert done.returncode != 0
    assert "pip install 'lacre[cli]'" in done.stderr
    assert "Traceback" not in done.stderr
