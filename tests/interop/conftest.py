# SPDX-License-Identifier: Apache-2.0
"""The second readers, in Go, compiled once."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

GO = Path(__file__).parents[2] / "interop" / "go"


@pytest.fixture(scope="session")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `lacre-interop` reads vectors and `tlogcheck` proofs."""
    go = shutil.which("go")
    # Not a skip: without the second readers everything would only be checked by what made it.
    assert go is not None, "Go 1.19 or later is missing: apt-get install golang-go"
    made = tmp_path_factory.mktemp("go")
    environment = os.environ | {
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=mod",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
    }
    # Go compiles what it needs of its own library too, which takes longer than the tests: without C that is less.
    subprocess.run(
        [go, "build", "-o", f"{made}/", ".", "./tlogcheck"], cwd=GO, env=environment, check=True
    )
    return made
