# SPDX-License-Identifier: Apache-2.0
"""`infra/terraform` as Terraform sees it: layout, one plan of every stack, and the tests of the modules."""

import re
from typing import Any

from tests.components.terraform import Terraform
from tests.infra.conftest import ROOT, remarks


def test_files_are_laid_out_as_terraform_does(terraform: Terraform) -> None:
    """`terraform fmt` would change nothing."""
    done = terraform.run(ROOT, "fmt", "-check", "-recursive", "-no-color")

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_stack_plans_without_a_remark(planned: list[dict[str, Any]]) -> None:
    """A plan of every stack has neither error nor warning: so every module that a stack calls is valid."""
    added = [message["changes"]["add"] for message in planned if "changes" in message]

    assert remarks(planned) == []
    assert added > [0]


def test_every_module_is_called_by_a_stack() -> None:
    """No module is left out of the plan."""
    calls = "\n".join(path.read_text("utf-8") for path in ROOT.glob("stacks/*/*.tf"))
    called = set(re.findall(r'source\s*=\s*"\.\./\.\./modules/([\w-]+)"', calls))

    assert called == {path.name for path in (ROOT / "modules").iterdir()}


def test_every_run_of_the_modules_tests_passes(runs: dict[str, dict[str, Any]]) -> None:
    """`terraform test` passes, and ran every `run` that is written."""
    texts = [path.read_text("utf-8") for path in ROOT.glob("tests/*.tftest.hcl")]
    written = {name for text in texts for name in re.findall(r'^run "(\w+)"', text, re.MULTILINE)}
    failed = {name: run["remarks"] for name, run in runs.items() if run["remarks"]}

    assert failed == {}
    assert {name for name, run in runs.items() if run["status"] == "pass"} == written
