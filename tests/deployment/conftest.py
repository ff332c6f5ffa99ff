# SPDX-License-Identifier: Apache-2.0
"""One deployment for all tests: files, keys, and a PostgreSQL database of customers."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.components.postgresql import Server
from tests.deployment.serving import Deployed


@pytest.fixture(scope="session")
def deployed(
    _made_once: Path, tmp_path_factory: pytest.TempPathFactory, postgresql: Server
) -> Iterator[Deployed]:
    """The page's modules, `lacre init`, and customers."""
    directory = tmp_path_factory.mktemp("deployed") / "app"
    shutil.copytree(_made_once, directory)
    with postgresql.database() as database:
        yield Deployed.into(directory, database.text_url())
