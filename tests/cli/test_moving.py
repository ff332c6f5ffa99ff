# SPDX-License-Identifier: Apache-2.0
"""`lacre tenants move`: the plan first, then the rows, by the operator."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from lacre import Lacre
from tests.cli.conftest import Run
from tests.sqlalchemy.tenanted import NORTH, SOUTH, Base, Client, add

ARGUMENTS = ("tenants", "move", "--from", NORTH, "--to", SOUTH, "--database", "shop.db")


@pytest.fixture(autouse=True)
def _shop(home: Path, operator: Lacre, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    engine = create_engine(f"sqlite:///{home / 'shop.db'}")
    Base.metadata.create_all(engine)
    with operator.acting_as("operator", roles={"operator"}, purpose="set up"):
        for tenant in (NORTH, SOUTH):
            for class_ in ("pii", "banking"):
                operator.create_keys(tenant, class_)
        with operator.sqlalchemy(sessionmaker(engine)).begin() as session:
            add(session, NORTH, range(4))
            add(session, SOUTH, range(100, 101))
    engine.dispose()


def _emails(home: Path, operator: Lacre, tenant: str) -> list[Any]:
    engine = create_engine(f"sqlite:///{home / 'shop.db'}")
    with (
        operator.acting_as("operator", roles={"operator"}, purpose="test"),
        operator.sqlalchemy(sessionmaker(engine))() as session,
    ):
        found = sorted(c.email for c in session.query(Client).filter_by(tenant=tenant))
    engine.dispose()
    return found


def test_the_plan_comes_first_and_rows_move(cli: Run, home: Path, operator: Lacre) -> None:
    """A dry run changes nothing; nobody to ask moves nothing; `--where` narrows, `--yes` moves."""
    models = ("--models", "tests.sqlalchemy.tenanted:Client")
    some = (*ARGUMENTS, *models, "--where", "city = 'Recife'")
    dry = cli(*some, "--dry-run", "--json")
    unasked = cli(*some)
    before = _emails(home, operator, NORTH)
    moved = cli(*some, "--yes", "--json")
    rest = cli(*ARGUMENTS, "--models", "tests.sqlalchemy.tenanted:Base", "--yes")
    again = cli(*ARGUMENTS, "--models", "tests.sqlalchemy.tenanted:Base", "--yes")

    assert json.loads(dry.stdout) == {
        "from": NORTH,
        "to": SOUTH,
        "rows": {"clients": 2, "visits": 4, "bills": 2},
        "values": 10,
        "classes": ["banking", "pii"],
        "conflicts": [],
        "notices": [],
    }
    assert (unasked.returncode, len(before)) == (8, 4)
    assert "--yes" in unasked.stderr
    assert json.loads(moved.stdout)["moved"] == {"clients": 2, "visits": 4, "bills": 2}
    assert "moved: 2 rows of clients" in rest.stdout, rest.stderr
    assert again.stdout.strip() == "moved: nothing"
    assert _emails(home, operator, NORTH) == []
    assert len(_emails(home, operator, SOUTH)) == 5


def test_what_is_in_the_way_is_said(cli: Run, home: Path, operator: Lacre) -> None:
    """By table, column and row, never by value; nothing moves."""
    engine = create_engine(f"sqlite:///{home / 'shop.db'}")
    with (
        operator.acting_as("operator", roles={"operator"}, purpose="test"),
        operator.sqlalchemy(sessionmaker(engine)).begin() as session,
    ):
        session.query(Client).filter_by(tenant=SOUTH).one().email = "2@example.org"
    engine.dispose()
    models = ("--models", "tests.sqlalchemy.tenanted:Client")
    dry = cli(*ARGUMENTS, *models, "--dry-run")
    moved = cli(*ARGUMENTS, *models, "--yes")

    assert (dry.returncode, moved.returncode) == (8, 8)
    assert "1 values of clients.email are there already (rows 0000" in moved.stderr
    assert "2@example.org" not in dry.stderr + dry.stdout + moved.stderr
    assert len(_emails(home, operator, NORTH)) == 4
