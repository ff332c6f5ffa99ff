# SPDX-License-Identifier: Apache-2.0
"""What mypy and pyright see of models with encrypted columns. Both run offline, once each."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent
FILES = ("dataclass_model.py", "model.py", "service.py", "wrong.py")


def wanted() -> list[tuple[str, int]]:
    return [
        (name, number)
        for name in FILES
        for number, line in enumerate((_HERE / name).read_text("utf-8").splitlines(), 1)
        if line.endswith("# reported")
    ]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # Nothing of the machine's: neither another library's settings nor a network is wanted.
    environ = {"MYPYPATH": str(_ROOT / "src"), "PATH": os.defpath, "HOME": str(_HERE / "nowhere")}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=_ROOT, timeout=300, env=environ
    )


def by_mypy(directory: Path) -> list[tuple[str, int]]:
    """Check as an application would that sets `strict`, without this project's own settings."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir"]
    files = [str(_HERE.relative_to(_ROOT) / name) for name in FILES]
    done = run([*command, str(directory), "--follow-imports=silent", *files])
    found = re.findall(r"typing/(\w+\.py):(\d+): error", done.stdout)

    assert done.returncode == 1, done.stdout + done.stderr
    assert len(found) == done.stdout.count(": error"), done.stdout
    return [(name, int(line)) for name, line in found]


def by_pyright(directory: Path) -> list[tuple[str, int]]:
    """Check in the mode `standard`, with the node that comes with basedpyright."""
    settings = {
        "include": [str(_HERE / name) for name in FILES],
        "extraPaths": [str(_ROOT / "src"), str(_ROOT)],
        "typeCheckingMode": "standard",
        "pythonVersion": "3.11",
    }
    (directory / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable]
    done = run([*command, "--project", str(directory)])
    assert done.returncode == 1, done.stdout + done.stderr
    report = json.loads(done.stdout)

    assert report["summary"]["filesAnalyzed"] == len(FILES)
    return [
        (Path(found["file"]).name, found["range"]["start"]["line"] + 1)
        for found in report["generalDiagnostics"]
        if found["severity"] == "error"
    ]


@pytest.mark.parametrize("checker", [by_mypy, by_pyright])
def test_what_is_right_passes_and_what_is_wrong_is_reported(
    checker: Callable[[Path], list[tuple[str, int]]], tmp_path: Path
) -> None:
    """Models have no error; every mistake is reported on its own line, and nothing else is."""
    found = checker(tmp_path)

    assert sorted(set(found)) == wanted()
    assert len(wanted()) > 15
