# SPDX-License-Identifier: Apache-2.0
"""
Terraform with the provider for AWS that is on the machine. Nothing is downloaded: no registry is asked.

The provider is named to Terraform as a `dev_overrides`, by a CLI configuration of the tests' own: so there is no lock
file, no copy, and no digest of 700 MB at the start of every command. What is NOT tested by that: the version that
`required_providers` asks for. `terraform get` (60 ms) replaces `terraform init`.

Starting Terraform with the provider costs about 4 s of a core, whatever it then does: so the modules are planned in one
process and tested in one (`tests/infra/conftest.py`).
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.components.processes import dies_with_us, environment

__all__ = ["Terraform", "configured", "missing"]

_PROVIDER = "hashicorp/aws"
_OVERRIDDEN = "Provider development overrides are in effect"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terraform:
    """A `terraform` and the folder of its provider."""

    binary: Path
    provider: Path
    configuration: Path

    def run(
        self, directory: Path, *arguments: str, **settings: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in *directory*, with *settings* in its environment; return what it wrote."""
        own = {name: text for name, text in environment().items() if not name.startswith("TF_")}
        return subprocess.run(
            [*dies_with_us(), str(self.binary), *arguments],
            cwd=directory,
            env={
                **own, "TF_CLI_CONFIG_FILE": str(self.configuration), "CHECKPOINT_DISABLE": "1",
                "TF_IN_AUTOMATION": "1", "TF_INPUT": "0", **settings,
            },
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def messages(self, directory: Path, *arguments: str, **settings: str) -> list[dict[str, Any]]:
        """Run a command that writes a line of JSON for each message; return them, without the one on `dev_overrides`."""
        done = self.run(directory, *arguments, **settings)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        assert lines, done.stdout + done.stderr
        return [
            message
            for message in map(json.loads, lines)
            if message.get("diagnostic", {}).get("summary") != _OVERRIDDEN
        ]


def configured(directory: Path) -> Terraform | None:
    """Return Terraform and its provider, where both are on this machine, with a CLI configuration in *directory*."""
    binary, provider = shutil.which("terraform"), _provider()
    if binary is None or provider is None:
        return None
    configuration = directory / "terraform.tfrc"
    configuration.write_text(
        "disable_checkpoint = true\nprovider_installation {\n  dev_overrides {\n"
        f"    {json.dumps(_PROVIDER)} = {json.dumps(str(provider))}\n  }}\n}}\n"
    )
    return Terraform(binary=Path(binary), provider=provider, configuration=configuration)


def missing() -> str | None:
    """Return the line for the summary of the suite, where Terraform or its provider is missing."""
    if shutil.which("terraform") and _provider():
        return None
    what = "its provider hashicorp/aws" if shutil.which("terraform") else "terraform"
    return (
        f"infra/terraform was only read (python-hcl2), neither planned nor tested: {what} is not on this machine; "
        "unpack the provider under ~/.terraform.d/plugins, or name its folder in TF_PLUGIN_CACHE_DIR"
    )


@cache
def _provider() -> Path | None:
    """Return the folder of the newest provider there is."""
    return max(_providers(), default=None, key=lambda each: _numbers(each.parent.name))


def _providers() -> Iterator[Path]:
    """Find folders of the provider, unpacked as Terraform lays them out: HOST/hashicorp/aws/VERSION/SYSTEM."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    for place in _places():
        for binary in place.glob(
            f"*/{_PROVIDER}/*/{sys.platform}_{machine}/terraform-provider-aws*"
        ):
            yield binary.parent


def _places() -> Iterator[Path]:
    if named := os.environ.get("TF_PLUGIN_CACHE_DIR"):
        yield Path(named)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    yield Path.home() / ".terraform.d" / "plugins"
    yield Path(data) / "terraform" / "plugins"
    yield Path("/usr/local/share/terraform/plugins")
    yield Path("/usr/share/terraform/plugins")
    yield from Path("/opt").glob("*")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
