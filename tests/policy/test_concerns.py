# SPDX-License-Identifier: Apache-2.0
"""What is taken and probably not meant is said, once, where a policy is loaded."""

import logging
from pathlib import Path

import pytest

from lacre import Lacre
from lacre.policy.concerns import _logged, concerns_of
from lacre.policy.loading import parse_policy

SHORT = "short of 7 years by 2 days"


@pytest.fixture
def config(home: Path) -> Path:
    """A policy that keeps the log for 2555 days."""
    path = home / "lacre.toml"
    path.write_text(path.read_text("utf-8").replace("[audit]\n", '[audit]\nretention = "2555 days"\n', 1), encoding="utf-8")  # fmt: skip
    return path


def test_seven_years_are_no_concern(config: Path) -> None:
    """2555 days are, by the days that they are short; years of the calendar and three years less a month are not."""
    text = config.read_text("utf-8")
    said = {
        term: concerns_of(parse_policy(text.replace("2555 days", term), {}))
        for term in ("2555 days", "7 years", "2557 days", "1000 days")
    }

    assert [term for term, each in said.items() if each] == ["2555 days"]
    assert SHORT in said["2555 days"][0]


def test_loading_says_it_once(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log of a process has the warning once, however many applications it loads."""
    _logged.cache_clear()
    with caplog.at_level(logging.WARNING, logger="lacre.policy"):
        for _ in range(2):
            Lacre.load(config, environ={}).close()
    said = [each.getMessage() for each in caplog.records if each.name == "lacre.policy"]

    assert len(said) == 1
    assert SHORT in said[0]
