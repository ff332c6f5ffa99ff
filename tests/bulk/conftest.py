# SPDX-License-Identifier: Apache-2.0
"""Rows that a reading process finds: the models and databases of the SQLAlchemy tests."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import URL, insert

from lacre import Lacre, acting_as
from lacre.bulk import BulkReader
from tests.bulk.forking import forking
from tests.sqlalchemy.conftest import (
    Acting,
    Sessions,
    _made_tables,
    acting,
    engine,
    home,
    recorded,
    sessions,
    url,
)
from tests.sqlalchemy.models import Customer

__all__ = ["Acting", "_made_tables", "acting", "engine", "home", "recorded", "sessions", "url"]

CANARY = "canary-7f3a"


def person(number: int) -> dict[str, Any]:
    """Return what the row of that number holds."""
    return {
        "id": UUID(int=number + 1),
        "email": f"{CANARY}{number}@example.org",
        "name": f"{CANARY} {number}" if number % 3 else None,
        "city": ("Recife", "Olinda")[number % 2],
    }


@pytest.fixture
def people(sessions: Sessions, acting: Acting) -> list[dict[str, Any]]:
    """Twenty-five customers, in the database."""
    rows = [person(number) for number in range(25)]
    with acting("app"), sessions.begin() as session:
        session.execute(insert(Customer), rows)
    return rows


@pytest.fixture(scope="session")
def forked() -> Iterator[Sequence[str]]:
    """The command that forks reading processes."""
    with forking() as command:
        yield command


@pytest.fixture
def reader(home: Path, url: URL, forked: Sequence[str]) -> BulkReader:
    """What reads that database, in batches of ten rows."""
    with (home / "lacre.toml").open("a", encoding="utf-8") as config:
        config.write("\n[bulk]\nbatch = 10\nrows = 1000\n")
    return BulkReader(config=home / "lacre.toml", database=url, command=forked)


@pytest.fixture
def analyst() -> Iterator[acting_as]:
    """The role `app` acts, for the purpose of a reading."""
    with acting_as("svc:churn", roles={"app"}, purpose="churn model", across_yield=True) as found:
        yield found


Recorded = Callable[..., list[dict[str, Any]]]
Application = Lacre
