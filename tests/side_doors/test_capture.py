# SPDX-License-Identifier: Apache-2.0
"""Change data capture: what logical decoding hands to whoever follows the database."""

from collections.abc import Iterator

import pytest
from sqlalchemy import select

from lacre import Lacre
from tests.side_doors.conftest import EMAIL, Shop, clean
from tests.sqlalchemy.models import Customer


@pytest.fixture
def slot(shop: Shop) -> Iterator[str]:
    """A replication slot, and old rows in full, as consumers of deletes ask for them."""
    name = f"slot_{shop.database.name}"
    with shop.database.connect() as connection:
        connection.execute("ALTER TABLE customers REPLICA IDENTITY FULL")
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", [name])
        yield name
        connection.execute("SELECT pg_drop_replication_slot(%s)", [name])


def test_changes_carry_ciphertext(shop: Shop, slot: str, lacre: Lacre) -> None:
    """Inserts, updates and deletes are decoded with ciphertext only, old rows included; who may, opens one."""
    with shop.act(), shop.sessions() as session:
        session.add(Customer(email="canary-two@example.org", account="canary-account-2"))
        session.commit()
        customer = session.scalars(select(Customer).where(Customer.email == EMAIL)).one()
        customer.account = "canary-account-3"
        session.commit()
        session.delete(customer)
        session.commit()
    with shop.database.connect() as connection:
        # Only what reached the log file is decoded, and the tests' server is in no hurry.
        connection.execute("SET synchronous_commit = on")
        connection.execute("CREATE TABLE flushed ()")
        changes = [
            row[2]
            for row in connection.execute(
                "SELECT * FROM pg_logical_slot_get_changes(%s, NULL, NULL)", [slot]
            )
            if "customers: " in row[2]
        ]

    kinds = [change.split(": ")[1] for change in changes]
    assert kinds == ["INSERT", "UPDATE", "DELETE"]
    assert clean("\n".join(changes))
    assert all(r"email[bytea]:'\xc101" in change for change in changes)
    payload = bytes.fromhex(changes[2].partition(r"account[bytea]:'\x")[2].partition("'")[0])
    field = lacre.field("banking", table="customers", column="account")
    with shop.act():
        assert field.decrypt(payload, row=shop.row) == "canary-account-3"
