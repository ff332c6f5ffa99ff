# SPDX-License-Identifier: Apache-2.0
"""`scripts/stack` shows what it would do, asks, and without the right answer does nothing."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.components.aws import AWS
from tests.components.terraform import Terraform

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the script and of what it deploys."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(REPOSITORY / "scripts" / "stack", tmp_path / "scripts")
    shutil.copytree(REPOSITORY / "infra", tmp_path / "infra")
    return tmp_path


def _stack(
    checkout: Path, *arguments: str, answer: str = "", **settings: str
) -> "subprocess.CompletedProcess[str]":
    own = {name: text for name, text in os.environ.items() if not name.startswith(("AWS_", "TF_"))}
    return subprocess.run(
        ["scripts/stack", *arguments],
        cwd=checkout, input=answer, env={**own, **settings}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_what_is_not_there_is_refused(checkout: Path) -> None:
    """Another verb, a stack that is not there, a path for a name and a missing file of values are refused, and name what is wrong."""
    values = "infra/terraform/stacks/departments/example.tfvars"
    asked = {
        ("apply", "departments", values): "usage",
        ("deploy", "../modules/kms", values): "usage",
        ("deploy", "shop", values): "no stack shop",
        ("deploy", "departments", "production.tfvars"): "example.tfvars shows",
    }

    for arguments, said in asked.items():
        done = _stack(checkout, *arguments, TERRAFORM="/nonexistent")
        assert (done.returncode, said in done.stderr) == (2, True), arguments


@pytest.mark.long
def test_nothing_is_done_that_was_not_confirmed(
    checkout: Path, terraform: Terraform, ministack: AWS
) -> None:
    """The plan is shown; another answer than the stack's name, or none, changes nothing and leaves no plan behind."""
    rules = checkout / "rules.tfrc"
    mirror = terraform.provider.parents[4]
    rules.write_text(
        "disable_checkpoint = true\nprovider_installation {\n  filesystem_mirror {\n"
        f"    path = {json.dumps(str(mirror))}\n  }}\n}}\n"
    )
    kept = checkout / "kept"
    kept.mkdir()
    settings = {
        **ministack.environ(),
        "TF_CLI_CONFIG_FILE": str(rules),
        "CHECKPOINT_DISABLE": "1",
        "TMPDIR": str(kept),
    }
    values = "infra/terraform/stacks/departments/example.tfvars"

    for answer in ("yes\n", ""):
        done = _stack(checkout, "deploy", "departments", values, answer=answer, **settings)

        assert done.returncode == 1, done.stdout + done.stderr
        assert " to add, " in done.stdout
        assert "This will deploy departments, as shown." in done.stdout
        assert done.stderr.endswith("Nothing was changed.\n")
        assert list(kept.iterdir()) == []
    assert list(checkout.rglob("*.tfstate")) == []
    assert ministack.client("sqs").list_queues().get("QueueUrls", []) == []
