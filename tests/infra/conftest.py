# SPDX-License-Identifier: Apache-2.0
"""
What tests of `infra/terraform` may ask for. Each thing is made once, however many workers run the tests.

* `workspace`: a copy of `infra/terraform` whose root calls every stack, with the values of its `example.tfvars`, and
  what `tests/given.tf` calls
* `planned`: the messages of one `terraform plan` of that root, against an emulator of AWS
* `resources`: what that plan would make, by address: `module.STACK.module.NAME.TYPE.NAME` and its values
* `runs`: each `run` of `tests/*.tftest.hcl` by its name, from one `terraform test` of all of them

A module's tests are one file `tests/NAME.tftest.hcl`, which begins with the `mock_provider` that all begin with and
whose runs are named `NAME_...`, each with its own `module` and `variables`: the files are tested as one, because each
file costs a start of the provider. A run costs 0.7 s of a core: what can be refused together is refused in one.
"""

import fcntl
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.components.aws import AWS
from tests.components.terraform import Terraform, configured, missing

ROOT = Path(__file__).resolve().parents[2] / "infra" / "terraform"
MOCK = 'mock_provider "aws" {\n  source          = "./mocks"\n  override_during = plan\n}\n'


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker: str) -> Path:
    """A folder that all workers of this run have."""
    own = tmp_path_factory.getbasetemp()
    directory = (own.parent if worker else own) / "infra"
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture(scope="session")
def worker(request: pytest.FixtureRequest) -> str:
    """The name of this worker; empty where the tests run in one process."""
    return str(getattr(request.config, "workerinput", {}).get("workerid", ""))


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Terraform with its provider."""
    here = configured(tmp_path_factory.mktemp("terraform"))
    if here is None:
        pytest.skip(missing() or "")
    return here


@pytest.fixture(scope="session")
def workspace(terraform: Terraform, shared: Path) -> Path:
    """A copy of `infra/terraform` whose root calls every stack. To be read only."""

    def made() -> None:
        directory = shared / "terraform"
        shutil.copytree(ROOT, directory)
        calls = []
        for stack in sorted((directory / "stacks").iterdir()):
            values = (stack / "example.tfvars").read_text("utf-8")
            calls.append(
                f'module "{stack.name}" {{\n  source = "./stacks/{stack.name}"\n{values}}}\n'
            )
        (directory / "stacks.tf").write_text("\n".join(calls))
        tests = directory / "tests"
        (tests / "given.tf").rename(directory / "given.tf")
        texts = [path.read_text("utf-8") for path in sorted(tests.glob("*.tftest.hcl"))]
        assert all(text.startswith(MOCK) for text in texts), (
            f"a test of infra/terraform begins with:\n{MOCK}"
        )
        shutil.rmtree(tests)
        tests.mkdir()
        rest = [text.removeprefix(MOCK) for text in texts]
        (tests / "all.tftest.hcl").write_text("".join([MOCK, *rest]))
        done = terraform.run(directory, "get", "-no-color")
        assert done.returncode == 0, done.stdout + done.stderr

    _once(shared / "workspace.json", made)
    return shared / "terraform"


@pytest.fixture(scope="session")
def planned(
    terraform: Terraform, workspace: Path, shared: Path, request: pytest.FixtureRequest
) -> list[dict[str, Any]]:
    """The messages of a plan of every stack."""

    def made() -> list[dict[str, Any]]:
        ministack: AWS = request.getfixturevalue("ministack")
        return terraform.messages(
            workspace, "plan", "-json", "-lock=false", "-out=plan", **ministack.environ()
        )

    messages: list[dict[str, Any]] = _once(shared / "plan.json", made)
    return messages


@pytest.fixture(scope="session")
def resources(
    terraform: Terraform, workspace: Path, shared: Path, planned: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The values of each resource that the plan of every stack would make; what AWS will say is not there."""

    def made() -> dict[str, dict[str, Any]]:
        assert remarks(planned) == []
        done = terraform.run(workspace, "show", "-json", "plan")
        assert done.returncode == 0, done.stdout + done.stderr
        return {
            change["address"]: change["change"]["after"]
            for change in json.loads(done.stdout)["resource_changes"]
            if change["mode"] == "managed"
        }

    values: dict[str, dict[str, Any]] = _once(shared / "resources.json", made)
    return values


@pytest.fixture(scope="session")
def runs(terraform: Terraform, workspace: Path, shared: Path) -> dict[str, dict[str, Any]]:
    """Each run of the modules' tests: its `status`, and `remarks`."""

    def made() -> dict[str, dict[str, Any]]:
        names: dict[str, dict[str, Any]] = {}
        for message in terraform.messages(workspace, "test", "-json"):
            run = names.setdefault(message.get("@testrun", ""), {"status": "", "remarks": []})
            if message["type"] == "test_run" and message["test_run"]["progress"] == "complete":
                run["status"] = message["test_run"]["status"]
            run["remarks"] += remarks([message])
        return names

    results: dict[str, dict[str, Any]] = _once(shared / "runs.json", made)
    return results


def _once(kept: Path, make: Callable[[], Any]) -> Any:
    """Return what *make* returned, to whichever worker asked first."""
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_text(json.dumps(make()))
    return json.loads(kept.read_text())


def remarks(messages: list[dict[str, Any]]) -> list[str]:
    """Return the errors and warnings among *messages* of Terraform, a line or two each."""
    return [
        f"{found.get('range', {}).get('filename', '')}:{found.get('range', {}).get('start', {}).get('line', '')}: "
        f"{found['severity']}: {found['summary']}: {found['detail']}"
        for found in (message["diagnostic"] for message in messages if "diagnostic" in message)
    ]
