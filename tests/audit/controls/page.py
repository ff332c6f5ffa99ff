"""
The page of controls, made of the registry. `python -m tests.audit.controls.page` writes it.
"""

from pathlib import Path

from lacre.audit.controls.definition import Control, Regime
from lacre.audit.controls.manual import MANUAL
from lacre.audit.controls.registry import CONTROLS

PAGE = Path(__file__).parents[3] / "docs/reference/controls.md"

_HEAD = """\
# Controls

What a [compliance report](../how-to/report.md) measures. This page is made of the registry in the code and compared with it by the suite.

A control counts: what passed, of what was assessed. A report's score is the weighted mean of these shares, in per cent,
rounded down. A control that was **not assessed** counts as 0; one that had **nothing to assess** in its window is left
out. A **gate** that fails caps the score at 49 and makes the report's status FAIL. `[report]` of
[lacre.toml](lacre-toml.md) changes weights and gates; a report prints those that counted.

The clauses are those that a control is *evidence for*. No report says that anybody complies with any of them: a clause asks for
more than a program sees, and whether the evidence is enough is the auditor's to say.

"""


def page() -> str:
    """Return the page."""
    parts = [_HEAD, "| control | weight | gate | what it is |\n|---|---|---|---|\n"]
    parts += [
        f"| [`{each.id}`](#{each.id}) | {each.weight} | {'yes' if each.gate else ''} | {each.title} |\n"
        for each in CONTROLS
    ]
    parts += ["\n", *map(_section, CONTROLS), _manual(), _mapping()]
    return "".join(parts).rstrip("\n") + "\n"


def _section(control: Control) -> str:
    gate = f"| gate | {control.gate} |\n" if control.gate else ""
    clauses = "".join(f"| {name} | {', '.join(control.clauses[name])} |\n" for name in Regime if name in control.clauses)  # fmt: skip
    return (
        f"## {control.id}\n\n{control.title}.\n\n| | |\n|---|---|\n"
        f"| passed | {control.numerator} |\n| assessed | {control.denominator} |\n"
        f"| window | {control.window} |\n{gate}| shown by | `{control.evidence}` |\n{clauses}\n"
    )


def _manual() -> str:
    rows = "".join(f"| `{each.name}` | {each.title} | {each.every} days |\n" for each in MANUAL)
    return (
        "## Manual controls\n\nWhat people do, and say that they did with `lacre audit control done NAME --proof FILE`. "
        "`[report.manual.NAME]` changes a period, adds one, or leaves one out (`never`).\n\n"
        f"| name | what it is | every |\n|---|---|---|\n{rows}\n"
    )


def _mapping() -> str:
    parts = ["## By clause\n\n"]
    for regime in Regime:
        held: dict[str, list[str]] = {}
        for control in CONTROLS:
            for clause in control.clauses.get(regime, ()):
                held.setdefault(clause, []).append(f"`{control.id}`")
        rows = "".join(f"| {clause} | {', '.join(names)} |\n" for clause, names in held.items())
        parts.append(f"### {regime}\n\n| clause | evidence from |\n|---|---|\n{rows}\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
