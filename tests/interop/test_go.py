# SPDX-License-Identifier: Apache-2.0
"""The second reader, written in Go from the specification, agrees with every vector."""

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "vectors" / "field-format-1.json"


def run(readers: Path, vectors: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [readers / "lacre-interop", vectors], capture_output=True, text=True, check=False
    )


def test_go_agrees_with_every_vector(readers: Path) -> None:
    """Each test is run by the Go reader, none fails, and none is left out."""
    done = run(readers, VECTORS)
    lines = done.stdout.splitlines()
    count = json.loads(VECTORS.read_text("ascii"))["numberOfTests"]

    assert done.returncode == 0, (
        "\n".join(line for line in lines if line.startswith("FAIL")) + done.stderr
    )
    assert lines[-1] == f"{count} passed, 0 failed"
    assert len({line.split()[1] for line in lines if line.startswith("ok ")}) == count


def test_go_would_notice(readers: Path, tmp_path: Path) -> None:
    """In a file where each result is turned round, nothing passes."""
    vectors = json.loads(VECTORS.read_text("ascii"))
    for group in vectors["testGroups"]:
        for test in group["tests"]:
            test["result"] = "invalid" if test["result"] == "valid" else "valid"
    turned = tmp_path / "turned.json"
    turned.write_text(json.dumps(vectors))

    done = run(readers, turned)

    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == f"0 passed, {vectors['numberOfTests']} failed"


def test_go_imports_its_standard_library_only() -> None:
    """The reader shares no code with anything: its module names no other."""
    module = (ROOT / "interop" / "go" / "go.mod").read_text()

    assert "require" not in module
    assert not (ROOT / "interop" / "go" / "go.sum").exists()
