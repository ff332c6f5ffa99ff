# SPDX-License-Identifier: Apache-2.0
"""Mistakes that the type checker reports, each on the line that says so."""

from tests.typing.model import Customer


def use(customer: Customer) -> None:
    customer.email = None  # reported
    customer.born = "1990-01-02"  # reported
    abs(customer.email)  # reported
    len(customer.cpf)  # reported
