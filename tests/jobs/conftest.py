"""Jobs run as the operator, as the command line runs them."""

from collections.abc import Iterator

import pytest

from lacre.context import acting_as


@pytest.fixture(autouse=True)
def _operator() -> Iterator[None]:
    with acting_as("operator", roles={"operator"}, purpose="protect", across_yield=True):
        yield
