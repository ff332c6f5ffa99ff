# SPDX-License-Identifier: Apache-2.0
"""
Reads `infra/terraform` without Terraform (python-hcl2), and writes the reference of its modules from what it read.

What it does NOT do: evaluate an expression, know a resource's attributes, or follow a module into another.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

__all__ = ["REFERENCE", "TERRAFORM", "Module", "blocks", "modules", "reference"]

_ROOT = Path(__file__).resolve().parents[2]
TERRAFORM = _ROOT / "infra" / "terraform"
REFERENCE = _ROOT / "docs" / "reference" / "terraform.md"

_BEGINNING = """# Terraform modules

Inputs and outputs of each module under [infra/terraform](../../infra/terraform/README.md), as its HCL says.
What they are for, and how they are used: [the how-to](../how-to/terraform.md), and each module's own page.

This page is written by `scripts/write-terraform-reference`; the suite compares it with the modules.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module's inputs and outputs by name, as its HCL says."""

    name: str
    variables: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]


def blocks(path: Path) -> dict[str, Any]:
    """Return what a file of HCL says: blocks by kind, each a list."""
    try:
        import hcl2
    except ModuleNotFoundError:
        pytest.fail(
            "the tests of infra/terraform need python-hcl2, and there is none: pip install python-hcl2"
        )
    with path.open(encoding="utf-8") as file:
        found: dict[str, Any] = hcl2.load(file)
    return found


def modules() -> Iterator[Module]:
    """Read every module, by name."""
    for directory in sorted((TERRAFORM / "modules").iterdir()):
        yield Module(
            name=directory.name,
            variables=_named(directory / "variables.tf", "variable"),
            outputs=_named(directory / "outputs.tf", "output"),
        )


def reference() -> str:
    """Return the page of inputs and outputs."""
    return "\n".join([_BEGINNING, *(_section(module) for module in modules())])


def _section(module: Module) -> str:
    lines = [
        f"## {module.name}\n",
        f"[README](../../infra/terraform/modules/{module.name}/README.md)\n",
    ]
    lines += ["| input | type | default | what it is |", "|---|---|---|---|"]
    for name, says in module.variables.items():
        default = f"`{_shown(says['default'])}`" if "default" in says else "required"
        lines.append(f"| `{name}` | `{_shown(says['type'])}` | {default} | {_text(says)} |")
    lines += ["", "| output | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {_text(says)} |" for name, says in module.outputs.items()]
    return "\n".join([*lines, ""])


def _named(path: Path, kind: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for block in blocks(path).get(kind, []):
        ((name, says),) = block.items()
        found[json.loads(name)] = says
    return found


def _text(says: dict[str, Any]) -> str:
    return str(json.loads(says["description"])).replace("|", "\\|")


def _shown(value: Any) -> str:
    """Return a value as HCL writes it, on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        pairs = {name: each for name, each in value.items() if not name.startswith("__")}
        return (
            f"{{ {', '.join(f'{name} = {_shown(each)}' for name, each in pairs.items())} }}"
            if pairs
            else "{}"
        )
    text = str(value)
    text = text[2:-1] if text.startswith("${") and text.endswith("}") else text
    return " ".join(text.split()).replace("|", "\\|")
