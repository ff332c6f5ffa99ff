# SPDX-License-Identifier: Apache-2.0
"""The page of the rules is the rules."""

from pathlib import Path

from lacre.audit.detection.evaluator import GROUPS
from lacre.audit.detection.observation import LATENESS
from lacre.audit.detection.sketch import EXACT, SHOWN
from lacre.audit.detection.wording import page

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "detection-rules.md"
MARK = "<!-- lacre.audit.detection.wording.page() -->\n\n"


def test_the_page_is_the_rules() -> None:
    """Below its mark the page is what the rules say of themselves: write `page()` there again after a change."""
    assert PAGE.read_text("utf-8").partition(MARK)[2] == page()


def test_the_page_says_the_bounds_that_the_code_has() -> None:
    """Lateness, exact counts, positions and groups are those of the code."""
    told = PAGE.read_text("utf-8").partition(MARK)[0]

    assert f"within {LATENESS // 60:.0f} minutes" in told
    assert f"Up to {EXACT - 1} different rows" in told
    assert f"standard error of {100 / EXACT**0.5:.0f} %" in told
    assert SHOWN == 10
    assert "the first ten and the last ten" in told
    assert f"{GROUPS:,} groups" in told
