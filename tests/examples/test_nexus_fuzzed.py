# SPDX-License-Identifier: Apache-2.0
"""
What the example's OpenAPI document says, held against it by schemathesis.

Requests that fit the document and requests that do not; every answer must be one that the document
describes, none a failure, and none may hold what only another person may see.
"""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from tests.examples.conftest import Nexus, make_cpf

FEW, MANY = 5, 60  # for each route

SECRET = {
    "email": "secret.person@example.org",
    "phone": "+55 11 90000 1111",
    "address": "Secret Street 4",
    "cpf": make_cpf(),
}


@pytest.fixture(scope="session")
def api(nexus: Nexus) -> Any:
    """The document, of a service in which somebody is who nobody may see."""
    nexus.sign_up(name="Secret Person", **SECRET)
    return schemathesis.openapi.from_url(f"{nexus.http.base_url}/openapi.json")


def checked(case: Any, nexus: Nexus, who: str) -> None:
    headers = {} if who == "nobody" else {"Authorization": f"Bearer {nexus.token(who)}"}
    # A CPF's check digits are no pattern of JSON Schema, so a body that fits may be refused.
    refused = CHECKS.get_by_names(["positive_data_acceptance"])
    response = case.call_and_validate(headers=headers, excluded_checks=refused)

    if not (who == "admin" and case.path == "/users/{user_id}"):
        assert not [value for value in SECRET.values() if value in response.text]


@pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("who", ["support", "admin", "nobody"])
def test_every_answer_is_one_that_the_document_describes(
    api: Any, nexus: Nexus, who: str, mode: GenerationMode, examples: int
) -> None:
    """No 500, no undocumented status, type or body, and no value of somebody else's."""
    tried = set()
    for found in api.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def fits(case: Any) -> None:
            tried.add(case.path)
            checked(case, nexus, who)

        fits()

    assert tried == {
        "/users", "/users/search", "/users/{user_id}", "/tokens", "/me", "/me/report",
    }  # fmt: skip
