# SPDX-License-Identifier: Apache-2.0
"""The matrix of rigs and facts has no hole, and says nothing of tests that are not there."""

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.kms.contract.matrix import ABSENT, FAMILIES, REMOTE, RIGS, UNTRUE, rigs_for


def _facts() -> Mapping[str, str]:
    """Every test of this folder that takes a rig, by name, with the fixture it takes."""
    found: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for item in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(item, ast.FunctionDef) and item.name.startswith("test_"):
                taken = {argument.arg for argument in item.args.args} & {"rig", "remote"}
                assert item.name not in found, "two tests of one name are one entry of the matrix"
                if taken:
                    found[item.name] = taken.pop()
    return found


FACTS = _facts()


@pytest.mark.parametrize("fact", FACTS)
def test_each_fact_is_told_of_each_real_service(fact: str) -> None:
    """Of every family some rig tells the fact, unless the service has no such thing."""
    remote = FACTS[fact] == "remote"
    told = {RIGS[rig] for rig in rigs_for(fact, remote=remote)}
    wanted = set(REMOTE if remote else FAMILIES) - set(ABSENT.get(fact, {}))

    assert wanted <= told
    assert wanted, "a fact of no service"


def test_the_matrix_speaks_of_what_is_there() -> None:
    """Each entry is about a test, a rig or a family that exist, and says why in words."""
    for table, names in ((UNTRUE, set(RIGS)), (ABSENT, set(FAMILIES))):
        assert set(table) <= set(FACTS)
        for reasons in table.values():
            assert set(reasons) <= names
            assert all(len(reason.split()) > 3 for reason in reasons.values())
    assert len(FACTS) > 30


def test_a_double_stands_for_no_service() -> None:
    """Every family has a rig, and a fact that only a double tells would be a hole."""
    assert {family for family in RIGS.values() if family} == set(FAMILIES)
    assert RIGS["memory"] is None
