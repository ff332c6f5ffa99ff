# SPDX-License-Identifier: Apache-2.0
"""Mistakes that both type checkers report, each on the line that says so, and nothing else."""

from lacre import Lacre
from lacre.sqlalchemy import BlindIndex, encrypted, row_id
from tests.typing.dataclass_model import Member
from tests.typing.model import Customer


def assignments(customer: Customer) -> None:
    customer.email = None  # reported
    customer.born = "1990-01-02"  # reported
    customer.cpf = 52998224725  # reported


def looks(customer: Customer) -> None:
    abs(customer.email)  # reported
    len(customer.cpf)  # reported
    customer.data.append("x")  # reported


def subjects(customer: Customer, lacre: Lacre) -> None:
    customer.note = None  # reported
    encrypted("pii", subject=True)  # reported
    encrypted("pii", subject=Customer.id)  # reported
    lacre.field("pii", table="t", column="c", subject="id")  # reported
    lacre.field("pii", table="t", column="c").encrypt("x", row=1, subject=1.5)  # reported


def constructors() -> None:
    Member("ana@example.org", 1)  # reported
    Member(email=1, shop_id=1, city="Faro")  # reported
    Member("ana@example.org", 1, "Faro")  # reported
    Member("ana@example.org", 1, city="Faro", note="x")  # reported
    Member("ana@example.org", 1, city="Faro", lacre_rid=None)  # reported
    Member("ana@example.org", 1, city="Faro", phone="x")  # reported


def conditions() -> None:
    print(Customer.mail == "x")  # reported


def declarations() -> None:
    encrypted()  # reported
    encrypted("pii", index="email")  # reported
    encrypted("pii", unique=True)  # reported
    encrypted("pii", index=BlindIndex(unique=True))  # reported
    row_id(init=True)  # reported
