# SPDX-License-Identifier: Apache-2.0
"""The stack of seed 003 is made in an emulator of AWS, and a second plan changes nothing that the emulator can keep."""

import json
import shutil
from pathlib import Path

import pytest

from tests.components.aws import AWS
from tests.components.terraform import Terraform
from tests.infra.conftest import ROOT, remarks

pytestmark = pytest.mark.long  # a minute, most of it waiting

# The emulator has no GuardDuty, and forgets what a trail is told: log group, role and tags.
FORGOTTEN = ["module.cloudtrail.aws_cloudtrail.this: Plan to update"]
VALUES = ["-var-file=example.tfvars", "-var=watch=false"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the stack of seed 003, beside the modules."""
    directory = tmp_path_factory.mktemp("apply") / "terraform"
    shutil.copytree(ROOT, directory)
    return directory / "stacks" / "neurocipher"


def test_the_stack_of_seed_003_is_made_and_stays(
    stack: Path, terraform: Terraform, ministack: AWS
) -> None:
    """After `apply` the keys, aliases and the trail are there, and `plan` would change nothing else."""
    environ = ministack.environ()
    assert terraform.run(stack, "get").returncode == 0
    made = terraform.messages(stack, "apply", "-json", "-auto-approve", *VALUES, **environ)
    assert remarks(made) == []
    again = terraform.messages(stack, "plan", "-json", "-detailed-exitcode", *VALUES, **environ)
    changed = [message["@message"] for message in again if message["type"] == "planned_change"]
    (changes,) = [message["changes"] for message in again if "changes" in message]

    assert remarks(again) == []
    assert changed == FORGOTTEN
    assert (changes["add"], changes["change"], changes["remove"]) == (0, len(FORGOTTEN), 0)

    kms = ministack.client(region="eu-central-1")
    for name in ("alias/nc-dp-data-prod", "alias/nc-dp-logs-prod"):
        key = kms.describe_key(KeyId=name)["KeyMetadata"]
        policy = json.loads(kms.get_key_policy(KeyId=key["KeyId"])["Policy"])

        assert key["KeyManager"] == "CUSTOMER"
        assert key["MultiRegion"] is False
        assert kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"] is True
        assert {each["Sid"] for each in policy["Statement"]} >= {"BreakGlass", "CaretakersDoNotUse"}

    trail = ministack.client("cloudtrail", region="eu-central-1")
    assert trail.get_trail_status(Name="nc-dp-prod")["IsLogging"] is True
