"""Jobs run as the operator, as the command line runs them."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lacre.context import acting_as


@pytest.fixture(autouse=True)
def _operator() -> Iterator[None]:
    with acting_as("operator", roles={"operator"}, purpose="protect", across_yield=True):
        yield


@pytest.fixture
def volatile() -> Iterator[Path]:
    """
    A directory in memory, where there is one, for what is killed and not switched off.

    What a killed process wrote stays either way, and waiting for a disk is most of such a test's time.
    """
    memory = "/dev/shm"
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as path:
        yield Path(path)
