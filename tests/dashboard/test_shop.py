# SPDX-License-Identifier: Apache-2.0
"""The pages of a shop that ran: its own log, a snapshot by the command, a verification, values counted."""

import html
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, chdir
from pathlib import Path
from typing import Any

import pytest

from lacre.audit.controls.definition import Standing
from lacre.cli.serving import _opened
from lacre.dashboard.sources import Sources
from lacre.stores.log.reader import Filters
from tests.calling import call
from tests.dashboard.conftest import Entrance
from tests.markdown import modules_of
from tests.stores.log.alerting import finding

MODELS = ("--models", "shop:Base", "--database", "sqlite:///shop.db")


@pytest.fixture
def sources(shop: Path) -> Iterator[Sources]:
    """What `lacre serve --models ... --database ...` shows, after a verification, a rotation and a report."""
    for command in (
        ("audit", "verify", "--by", "user:ines"),
        ("keys", "rotate", "--class", "pii"),
        ("audit", "report", "--format", "json", "--out", "report.json", *MODELS),
    ):
        done = call(*command, cwd=shop)
        assert done.returncode == 0, done.stderr
    with chdir(shop), modules_of(shop), ExitStack() as held:
        opened = _opened(held, shop / "lacre.toml", None, False, ["shop:Base"], MODELS[3], "main")
        assert opened.coverage is not None
        while opened.coverage.last is None and not opened.coverage.failed:
            time.sleep(0.01)
        yield opened


def _tile(text: str, name: str) -> str:
    """The words of one tile or card, without its markup."""
    part = text.split(f'aria-labelledby="{name}"')[1].split("</section>")[0].partition(">")[2]
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", part).split()))


def test_pages_tell_what_commands_did(sources: Sources, shop: Path) -> None:
    """The report page is the report that the command wrote; the overview has its score, the verification, the alerts and the counts."""
    sources.alerts.raise_(finding())
    browser: Any = Entrance(sources=sources).entered()
    made = json.loads((shop / "report.json").read_text())
    overview, report, fields = (browser.get(path).text for path in ("/", "/report", "/fields"))
    entry = sources.reader.page(Filters(action="verification"), limit=1)[0].entry
    judged = sources.report()
    assert judged is not None

    assert judged.snapshot.sha256 == made["snapshot"]["sha256"]
    assert f"{made['complianceScore']} of 100" in _tile(report, "c-score")
    assert report.count(">not assessed</span>") == len(judged.assessment.of(Standing.NOT_ASSESSED))
    assert [html.escape(each["title"]) in report for each in made["controls"]] == [True] * len(made["controls"])  # fmt: skip
    assert f"Score {made['complianceScore'] // 1:.0f} {made['status'].lower()}" in _tile(overview, "t-score")  # fmt: skip
    assert _tile(overview, "c-verified") == (
        "Last verification All of them integrity holds completeness holds anchored holds "
        f"{entry.time:%Y-%m-%d %H:%M:%S} by user:ines, as the log was told: whoever may hand entries over can say so"
    )
    assert _tile(overview, "t-alerts") == "Open alerts 1 high 1 Alerts"
    assert "Keys due 0 within 30 days" in _tile(overview, "t-keys")
    # Of three values one is under a key that nothing replaced; the erased one is none.
    assert "1 of 3 values under the key that encrypts now" in _tile(overview, "t-fields")
    assert "customers.email pii 2 0 %" in _tile(fields, "c-coverage")
    assert "signed" in _tile(overview, "t-log")
