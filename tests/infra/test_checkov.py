# SPDX-License-Identifier: Apache-2.0
"""checkov has nothing to say about `infra/terraform` that is not explained beside the resource."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.components.processes import environment
from tests.infra.reading import TERRAFORM

pytestmark = pytest.mark.long  # 13 s of a core


def checkov() -> Path:
    """Return the program: its environment lies beside the one that runs the tests."""
    program = Path(sys.prefix).parent / ".venv-checkov" / "bin" / "checkov"
    if not program.exists():
        pytest.fail("the tests need checkov, and there is none: make .venv-checkov/.stamp")
    return program


def test_checkov_finds_nothing() -> None:
    """Every module, and every stack with its modules, passes checkov's checks, and is read without an error."""
    done = subprocess.run(
        [checkov(), "--directory", TERRAFORM, "--framework", "terraform", "--skip-download",
         "--quiet", "--compact", "--output", "json"],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    report = json.loads(done.stdout)
    failed = report["results"]["failed_checks"]

    assert [(each["check_id"], each["resource"], each["check_name"]) for each in failed] == []
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 100


def test_each_skip_says_why() -> None:
    """A check that is skipped is skipped beside its resource, with a reason, and none for all."""
    skips = [
        (path.name, found)
        for path in TERRAFORM.rglob("*.tf")
        for found in re.findall(r"checkov:skip=(.*)", path.read_text("utf-8"))
    ]

    assert skips
    assert [each for each in skips if not re.fullmatch(r"CKV2?_AWS_\d+: ?\S.{15,}", each[1])] == []
    assert not list(TERRAFORM.rglob(".checkov*"))
