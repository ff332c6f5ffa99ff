# SPDX-License-Identifier: Apache-2.0
"""A waiver of `plaintext` excuses a column in the report, as long as it holds."""

import datetime as dt
from pathlib import Path

import pytest

from lacre.fields.column_state import ColumnState
from lacre.fields.deadlines import Standing
from lacre.policy.columns import WaiverSettings
from lacre.policy.loading import load_policy
from lacre.reporting.states import _column

NOW = dt.datetime(2027, 1, 18, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("of", "finding", "until", "excused"),
    [
        ("customers.cpf", "plaintext", None, True),
        ("customers", "plaintext", dt.date(2027, 1, 18), True),
        ("customers.cpf", "plaintext", dt.date(2027, 1, 17), False),
        ("customers.email", "plaintext", None, False),
        ("customers.cpf", "too-long", None, False),
    ],
)
def test_a_waiver_excuses_plaintext(home: Path, of: str, finding: str, until: dt.date | None, excused: bool) -> None:  # fmt: skip
    """Of that column or its table, to the end of its last day; a forged state never."""
    waiver = WaiverSettings(of=of, finding=finding, reason="by contract, LEGAL-311", until=until)
    policy = load_policy(home / "lacre.toml", {}).model_copy(update={"waivers": (waiver,)})
    standing = Standing(store="main", table="customers", column="cpf", class_="pii", state=ColumnState.PLAINTEXT, deadline=dt.date(2027, 1, 1), days_left=-17)  # fmt: skip

    assert _column(standing, policy, set(), NOW)["excused"] is excused
    assert _column(standing, policy, {("customers", "cpf")}, NOW)["excused"] is False
