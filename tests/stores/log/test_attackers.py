# SPDX-License-Identifier: Apache-2.0
"""Everything that an attacker of the log tries, and that the docs say of each what finds it, and what does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.log.attacks import ATTACKS, Attack, Base, base, tried
from tests.stores.log.stage import codes

pytestmark = pytest.mark.any_sqlalchemy

PAGE = Path(__file__).parents[3] / "docs" / "threat-model.md"


@pytest.fixture(scope="module")
def of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Base]:
    made = base(tmp_path_factory.mktemp("base"))
    yield made
    made.stage.close()


def test_the_log_that_is_attacked_is_right(of: Base) -> None:
    """Before anybody touches it nothing is wrong with it, in any of the three ways it is looked at."""

    assert codes(of.stage.verify()) == []
    assert codes(of.stage.verify(known=of.known)) == []
    assert codes(of.stage.verify(anchored=True)) == []


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.title)
def test_the_docs_say_what_finds_an_attack(attack: Attack, of: Base, tmp_path: Path) -> None:
    """What is found, by what, and what is not, is a row of the table in the threat model, word for word."""
    row = tried(attack, of, tmp_path)

    assert row in PAGE.read_text("utf-8").splitlines()


def test_the_docs_have_no_other_attack() -> None:
    """The tables of the threat model have a row for each attack that is tried, in their order, and no more."""
    text = PAGE.read_text("utf-8")
    section = text.partition("\n## The evidence log\n")[2].partition("\n## ")[0]
    titles = [
        line.split("|")[1].strip()
        for line in section.splitlines()
        if line.startswith("| ") and "---" not in line
    ]

    assert [each for each in titles if each != "what is done"] == [
        each.title for each in sorted(ATTACKS, key=lambda each: each.key)
    ]
