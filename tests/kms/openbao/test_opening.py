# SPDX-License-Identifier: Apache-2.0
"""Which key services are opened follows from the URIs of `lacre.toml`, and what is missing is said."""

import subprocess
import sys
from pathlib import Path

import pytest

from lacre import Lacre
from lacre.cli.initialise import initialise
from lacre.errors import ConfigurationError
from tests.kms.openbao.conftest import Engine

_TABLE = """
[openbao]
address = "{address}"
ca_file = "{ca_file}"
auth = "token"
"""


@pytest.fixture
def config(engine: Engine, tmp_path: Path) -> Path:
    """A `lacre.toml` whose KMS keys are in the engine."""
    made = initialise(tmp_path / "home", env="test").config
    text = made.read_text().replace("local://", f"openbao://{engine.mount}/")
    table = _TABLE.format(address=engine.server.address, ca_file=engine.server.ca_file)
    made.write_text(text.replace("[audit]", table + "\n[audit]"))
    return made


def test_one_line_opens_it(engine: Engine, config: Path) -> None:
    """With openbao:// keys the application has that service, without a call, and no other."""
    since = engine.server.mark()
    with Lacre.load(config, environ={"BAO_TOKEN": engine.server.root_token}) as lacre:
        services = dict(lacre.services)

    assert set(services) == {"openbao"}
    assert repr(services["openbao"]) == f"<OpenBaoKeyService {engine.server.address}>"
    assert not engine.server.requests(since=since)


def test_no_token(config: Path) -> None:
    """Without a token loading says where one may be."""
    with pytest.raises(ConfigurationError, match="no token") as raised:
        Lacre.load(config, environ={})
    assert "BAO_TOKEN" in raised.value.hint


def test_without_hvac(config: Path) -> None:
    """Where hvac is not installed, loading names the line that installs it; importing lacre needs none."""
    program = f"""
import sys
sys.modules["hvac"] = None
from lacre import Lacre
from lacre.errors import ConfigurationError
try:
    Lacre.load({str(config)!r}, environ={{"BAO_TOKEN": "s.token"}})
except ConfigurationError as error:
    print(error.hint)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.stdout.strip(), done.stderr) == ("pip install 'lacre[openbao]'", "")
