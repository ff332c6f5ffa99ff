# SPDX-License-Identifier: Apache-2.0
"""The page of events is what the code records."""

import json
from pathlib import Path

from typer.testing import CliRunner

from lacre.audit.catalogue import MEANINGS, page
from lacre.audit.entries import CATALOGUE, COMMON
from lacre.cli.program import app

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "events.md"
MARK = "<!-- lacre audit events -->\n\n"


def test_every_member_has_its_meaning_and_no_other() -> None:
    """What an entry may say is explained, and nothing is explained that no entry says."""
    used = set(COMMON).union(*(kind.members for kind in CATALOGUE.values()))

    assert MEANINGS.keys() == used


def test_the_page_is_the_catalogue() -> None:
    """`lacre audit events` prints what the page has below its mark: run it again after a change."""
    told = PAGE.read_text("utf-8").partition(MARK)[2]

    assert told == page()
    assert CliRunner().invoke(app, ["audit", "events"]).stdout == page()


def test_a_program_can_read_it() -> None:
    """As JSON it is every action with its members."""
    told = json.loads(CliRunner().invoke(app, ["audit", "events", "--json"]).stdout)

    assert told["actions"] == {name: sorted(kind.members) for name, kind in CATALOGUE.items()}
