# SPDX-License-Identifier: Apache-2.0
"""`infra/terraform` as anyone can read it, Terraform or not: HCL, inputs and outputs, explanations, the reference."""

import re
from pathlib import Path

import pytest

from tests.infra.reading import REFERENCE, TERRAFORM, Module, blocks, modules, reference

FILES = sorted(
    path for pattern in ("*.tf", "*.hcl", "*.tfvars") for path in TERRAFORM.rglob(pattern)
)


def _name(path: Path) -> str:
    return str(path.relative_to(TERRAFORM))


@pytest.fixture(scope="module")
def read() -> list[Module]:
    """Every module."""
    return list(modules())


def test_every_file_is_hcl() -> None:
    """A parser that is not Terraform's reads every file."""
    empty = [_name(path) for path in FILES if not blocks(path)]

    assert len(FILES) > 20
    assert empty == []


def test_every_input_and_output_says_what_it_is(read: list[Module]) -> None:
    """Each input has a type and a sentence, each output a sentence."""
    silent = [
        f"{module.name}.{name}"
        for module in read
        for kind, needed in (
            (module.variables, {"description", "type"}),
            (module.outputs, {"description"}),
        )
        for name, says in kind.items()
        if not needed <= says.keys()
    ]

    assert silent == []


def test_the_reference_is_what_the_modules_say() -> None:
    """docs/reference/terraform.md is what scripts/write-terraform-reference writes."""
    assert REFERENCE.read_text("utf-8") == reference()


def test_the_keys_of_seed_003_have_its_names(read: list[Module]) -> None:
    """The module `kms` has the inputs and outputs that seed 003 names."""
    (kms,) = (module for module in read if module.name == "kms")

    assert {
        "environment", "enable_key_rotation", "deletion_window_days", "lambda_role_arns",
        "fargate_role_arns", "glue_role_arns", "security_account_id", "logs_account_id", "tags",
    } <= kms.variables.keys()  # fmt: skip
    assert {
        f"{key}_key_{what}" for key in ("data", "logs") for what in ("id", "arn", "alias")
    } <= kms.outputs.keys()


@pytest.mark.parametrize("kind", ["modules", "stacks"])
def test_each_has_its_page(kind: str) -> None:
    """Every module and every stack has a README, and a stack an example of its values."""
    directories = sorted((TERRAFORM / kind).iterdir())
    wanted = {"README.md", "example.tfvars"} if kind == "stacks" else {"README.md"}

    assert [
        each.name for each in directories if not all((each / name).is_file() for name in wanted)
    ] == []


def test_no_statement_allows_a_whole_service() -> None:
    """`kms:*` is nowhere, and what is allowed has no action of an asterisk alone."""
    whole = []
    for path in FILES:
        effect = ""
        for found in re.finditer(
            r'Effect\s*=\s*"(\w+)"|Action\s*=\s*(\[[^\]]*\]|"[^"]*")', path.read_text("utf-8")
        ):
            effect = found[1] or effect
            if effect == "Allow" and re.search(r'"(\w+:)?\*"', found[2] or ""):
                whole.append(f"{_name(path)}: {found[2]}")

    assert whole == []
    assert not any('"kms:*"' in path.read_text("utf-8") for path in FILES)


def test_nothing_names_where_providers_come_from() -> None:
    """No lock file, no host of a registry: the address of a provider is its name."""
    assert list(TERRAFORM.rglob(".terraform.lock.hcl")) == []
    assert not any("registry." in path.read_text("utf-8") for path in FILES)
