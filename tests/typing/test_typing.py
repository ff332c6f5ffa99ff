# SPDX-License-Identifier: Apache-2.0
"""What a type checker sees of a model with encrypted columns."""

import re
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent


def checked(name: str, cache: Path) -> subprocess.CompletedProcess[str]:
    # Without the project's own settings, as an application would check its models.
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--cache-dir",
        str(cache),
    ]
    command += ["--follow-imports=silent", str(_HERE.relative_to(_ROOT) / name)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=_ROOT,
        timeout=300,
        env={"MYPYPATH": str(_ROOT / "src"), "PATH": ""},
    )


def test_a_model_is_fine(tmp_path: Path) -> None:
    """Attributes have their annotated types, and `==` is a condition."""
    done = checked("model.py", tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr


def test_mistakes_are_reported(tmp_path: Path) -> None:
    """A wrong assignment is reported where it is made, and nothing else is."""
    done = checked("wrong.py", tmp_path)
    lines = (_HERE / "wrong.py").read_text(encoding="utf-8").splitlines()
    wanted = [n for n, line in enumerate(lines, 1) if line.endswith("# reported")]

    assert [int(n) for n in re.findall(r"wrong\.py:(\d+): error", done.stdout)] == wanted
