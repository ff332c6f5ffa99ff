# SPDX-License-Identifier: Apache-2.0
"""What a policy file becomes for AWS, Terraform and CloudFormation: who is named where, and the same bytes each time."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cfnlint import lint_all
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lacre.cli.program import app
from lacre.errors import ConfigurationError
from lacre.policy.rendering import (
    AwsRendering,
    render_aws,
    render_cloudformation,
    render_terraform,
)
from tests.components.terraform import configured, missing
from tests.policy.test_governance import BEGIN, read

_MORE = (
    BEGIN.replace('[aws]\nregions = ["ap-south-1"]', '[aws]\nregions = ["ap-south-1", "ap-south-2"]\nreplicas = { ap-south-1 = ["ap-south-2"] }')
    .replace('[residency]\nregions = ["ap-south-1"]', '[residency]\nregions = ["ap-south-1", "ap-south-2"]')
    .replace('security_account = "098765432109"', 'security_account = "098765432109"\nlogs_account = "111111111111"')
    .replace("[governance]\n", '[governance]\nboundary = "arn:aws:iam::123456789012:policy/edge"\n')
    + """
[move]
from = "aws-kms://ap-south-1/alias/older-{class}-{use}"
until = 2027-01-31
[sealing]
kms_key = "aws-kms://ap-south-1/alias/chandlery-prod-epochs"
classes = ["pii"]
[keys.logs]
kms_key = "aws-kms://ap-south-1/alias/chandlery-prod-logs"
purpose = "logs"
services = ["cloudtrail", "logs", "s3"]
[principals.mint]
duties = ["provision"]
aws = ["arn:aws:iam::123456789012:role/mint"]
[principals.rewrap]
duties = ["rewrap"]
aws = ["arn:aws:iam::123456789012:role/rewrap"]
[principals.migrate]
duties = ["migrate"]
aws = ["arn:aws:iam::123456789012:role/migrate"]
[principals.seal]
duties = ["seal"]
aws = ["arn:aws:iam::123456789012:role/seal"]
[principals.finder]
roles = ["finder"]
aws = ["arn:aws:iam::123456789012:role/finder"]
[roles.finder]
"""
).replace('rights.compliance = [', 'rights.finder = ["search"]\nrights.compliance = [')  # fmt: skip

USING = {"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"}  # fmt: skip
NAMES = ["app", "class", "env", "kind", "lacre-key", "lacre-row", "service", "tenant"]


def rendered(text: str = _MORE, **more: Any) -> AwsRendering:
    return render_aws(read(text), **more)


def statements(rendering: AwsRendering, key: str) -> list[dict[str, Any]]:
    (found,) = [each for each in rendering.keys if each.name == key]
    listed: list[dict[str, Any]] = json.loads(json.dumps(found.policy))["Statement"]
    return listed


def who_may(rendering: AwsRendering, key: str, action: str) -> set[str]:
    """The roles that a key's policy allows *action* by name, outside of accounts."""
    return {
        arn.rpartition("/")[2]
        for each in statements(rendering, key)
        if each["Effect"] == "Allow" and action in each["Action"]
        for arn in _listed(each["Principal"].get("AWS", []))
        if not arn.endswith(":root")
    }


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@pytest.mark.parametrize(("key", "action", "who"), [
    ("pii-fields", "kms:Decrypt", {"kyc"}),
    ("pii-index", "kms:Decrypt", {"kyc", "finder"}),
    ("banking-fields", "kms:Decrypt", {"billing"}),
    ("pii-fields", "kms:GenerateDataKeyWithoutPlaintext", {"mint"}),
    ("pii-fields", "kms:ReEncryptTo", {"migrate", "rewrap"}),
    ("pii-fields-before", "kms:ReEncryptFrom", {"migrate"}),
    ("pii-fields-before", "kms:ReEncryptTo", set()),
    ("pii-fields-before", "kms:Decrypt", {"kyc"}),
    ("pii-fields", "kms:Encrypt", set()),
    ("pii-fields", "kms:GenerateDataKey", set()),
    ("pii-fields", "kms:CreateGrant", set()),
    ("pii-fields", "kms:PutKeyPolicy", {"devops"}),
    ("pii-fields", "kms:GetKeyPolicy", {"devops", "security"}),
    ("epochs", "kms:Decrypt", {"kyc", "seal"}),
    ("epochs", "kms:GenerateDataKeyWithoutPlaintext", {"seal"}),
    ("epochs", "kms:ScheduleKeyDeletion", {"devops", "seal"}),
    ("department-finance", "kms:GenerateDataKey", {"kyc"}),
    ("department-finance", "kms:Decrypt", {"billing"}),
    ("key-storage", "kms:Decrypt", {"billing"}),
    ("key-logs", "kms:Decrypt", set()),
])  # fmt: skip
def test_who_is_named(key: str, action: str, who: set[str]) -> None:
    """Each action of each key is for those whom the file says, and for nobody else."""
    assert who_may(rendered(), key, action) == who


def test_no_wildcard_allows() -> None:
    """No statement allows everybody or every action, and the account's root has no use of a key but through a service."""
    found = [
        each for key in rendered().keys for each in statements(rendered(), key.name) if each["Effect"] == "Allow"
    ]  # fmt: skip

    for each in found:
        assert not any("*" in action for action in each["Action"])
        principals = _listed(each["Principal"].get("AWS", []))
        assert "*" not in principals
        if any(arn.endswith(":root") for arn in principals) and USING & set(each["Action"]):
            assert "kms:ViaService" in each["Condition"]["StringEquals"]
            assert "kms:CallerAccount" in each["Condition"]["StringEquals"]


def test_every_use_of_a_class_pins_its_context() -> None:
    """Whatever uses the key of a class is bound to the eight pairs, all there and none besides."""
    rendering = rendered(tenant="acme")
    uses = [
        each
        for key in rendering.keys
        if key.name.startswith(("pii", "banking"))
        for each in statements(rendering, key.name)
        if each["Effect"] == "Allow" and USING & set(each["Action"])
    ]

    assert len(uses) > 10
    for each in uses:
        condition = each["Condition"]
        assert condition["ForAllValues:StringEquals"]["kms:EncryptionContextKeys"] == NAMES
        pinned = {*condition["StringEquals"], *condition["Null"]}
        assert pinned == {f"kms:EncryptionContext:{name}" for name in NAMES}
        assert condition["StringEquals"]["kms:EncryptionContext:tenant"] == "acme"
        moves = "Before" in each["Sid"] or "Move" in each["Sid"]
        assert ("DateLessThan" in condition) == moves
        assert (condition.get("Bool") == {"kms:ReEncryptOnSameKey": "true"}) == (
            "Rewrap" in each["Sid"]
        )


def test_a_move_ends_with_its_last_day() -> None:
    """`until` is the last day on which keys move."""
    moved = [each for each in statements(rendered(), "pii-fields") if "Move" in each["Sid"]]

    assert [each["Condition"]["DateLessThan"] for each in moved] == [{"aws:CurrentTime": "2027-02-01T00:00:00Z"}]  # fmt: skip


def test_denials_are_in_every_policy_of_a_class() -> None:
    """Without the pairs, from another account, and as a grant between people: denied to everybody."""
    sids = {each["Sid"] for each in statements(rendered(), "pii-fields") if each["Effect"] == "Deny"}  # fmt: skip

    assert sids == {
        "AdministratorsDoNotUse", "DenyGrantsBetweenPeople", "DenyOtherAccounts", "DenyOtherApp1", "DenyOtherEnv2",
        "DenyWithoutLacreKey", "DenyWithoutLacreRow", "DenyWithoutTenant",
    }  # fmt: skip


def test_identity_policies_name_exactly_their_keys() -> None:
    """A role's own policy names its keys by ARN, and there is none while `lacre.lock` lacks one of them."""
    arn = "aws-kms://ap-south-1/123456789012/key/11111111-1111-4111-8111-11111111111"
    named = sorted({key.kms_key for key in rendered().keys})
    pins = {alias: f"{arn}{number:x}" for number, alias in enumerate(named)}
    rendering = rendered(pins=pins)

    assert rendered().identity_policy("finder") is None
    assert rendering.unpinned == ()
    policy = rendering.identity_policy("finder")
    assert policy is not None
    index = pins["aws-kms://ap-south-1/alias/chandlery-prod-pii-index"].rpartition("/")[2]
    assert {resource.rpartition("/")[2] for each in policy["Statement"] for resource in each["Resource"] if "Decrypt" in str(each)} >= {index}  # fmt: skip
    for name in rendering.uses:
        found = rendering.identity_policy(name)
        assert found is not None
        for each in found["Statement"]:
            assert all(re.fullmatch(r"arn:aws:kms:[^*]+", held) for held in each["Resource"])


@pytest.mark.parametrize(("old", "new", "said"), [
    ('account = "123456789012"\n', "", "in which account"),
    ("chandlery-prod-logs", "chandlery-prod-finance", "is for department-finance and key-logs"),
    ("aws-kms://", "local://", "no KMS key of lacre.toml is in AWS"),
])  # fmt: skip
def test_what_cannot_be_rendered_is_refused(old: str, new: str, said: str) -> None:
    """A key with two uses, an account that nobody said, and no key in AWS are errors that say so."""
    text = _MORE.replace(old, new)
    if new == "local://":
        text = re.sub(r"local://ap-south-1/(alias/)?", "local://", BEGIN.replace("aws-kms://", new))
        text = text.replace("[local]\n", '[local]\ndirectory = "k"\nidentity = "i"\n')

    with pytest.raises(ConfigurationError, match=re.escape(said)):
        rendered(text)


def test_a_policy_longer_than_aws_takes_is_refused() -> None:
    """The limit of a key policy is met here, with its size, and not by an answer of AWS."""
    roles = ", ".join(f'"arn:aws:iam::123456789012:role/{"r" * 60}{n}"' for n in range(300))
    text = BEGIN.replace('["arn:aws:iam::123456789012:role/kyc"]', f"[{roles}]")

    with pytest.raises(ConfigurationError, match="and AWS takes 32768"):
        rendered(text)


@settings(max_examples=15, deadline=None)
@given(st.permutations(_MORE.split("\n[principals.")[1:]), st.booleans())
def test_twice_is_the_same(order: list[str], pinned: bool) -> None:
    """The order in which principals stand in the file changes no byte of what is rendered."""
    head = _MORE.split("\n[principals.")[0]
    moved = "\n[principals.".join([head, *order])
    tenant = "acme" if pinned else None
    one, other = rendered(tenant=tenant), rendered(moved, tenant=tenant)

    assert one.files() == other.files()
    assert render_terraform(one) == render_terraform(other)
    assert render_cloudformation(one) == render_cloudformation(other)


def test_cloudformation_passes_its_linter() -> None:
    """cfn-lint finds no error and no warning in the templates; what it merely suggests begins with I."""
    files = render_cloudformation(rendered())

    assert list(files) == ["ap-south-1.template.json"]
    for text in files.values():
        assert [str(e) for e in lint_all(text) if not e.rule.id.startswith("I")] == []


def test_terraform_validates(tmp_path: Path) -> None:
    """Terraform and its provider take what is rendered, with its policies."""
    terraform = configured(tmp_path)
    if terraform is None:
        pytest.skip(missing() or "")
    for name, text in render_terraform(rendered()).items():
        path = tmp_path / "rendered" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = terraform.run(tmp_path / "rendered", "validate", "-json")
    told = json.loads(done.stdout)
    found = [each for each in told["diagnostics"] if "development overrides" not in each["summary"]]

    assert (told["valid"], found) == (True, [])


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "lacre.toml").write_text(_MORE)
    yield tmp_path
    shutil.rmtree(tmp_path / "out", ignore_errors=True)


@pytest.mark.parametrize("target", ["aws", "terraform", "cloudformation"])
def test_the_command_writes_files(folder: Path, target: str) -> None:
    """`lacre policy render --out` writes the files that it prints otherwise, the same ones each time."""
    arguments = ["policy", "render", "--target", target, "--config", str(folder / "lacre.toml")]
    results = []
    for _ in range(2):
        done = CliRunner().invoke(app, [*arguments, "--out", str(folder / "out")])
        assert done.exit_code == 0, done.output
        results.append({p.name: p.read_bytes() for p in sorted((folder / "out").rglob("*.json"))})
    told = CliRunner().invoke(app, [*arguments, "--json"])

    assert results[0] == results[1] != {}
    assert json.loads(told.stdout)["target"] == target
