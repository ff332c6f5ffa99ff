# SPDX-License-Identifier: Apache-2.0
"""History tables: SQLAlchemy-Continuum's, and those that a trigger of the database fills."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lacre import Lacre
from tests.components.postgresql import Database
from tests.side_doors.conftest import ACCOUNT, Shop, clean
from tests.sqlalchemy.models import Customer

_APPLICATION = Path(__file__).with_name("history.py")


@pytest.fixture
def home(home: Path) -> Path:
    """`home`, with a role that writes and may not read."""
    config = home / "lacre.toml"
    text = config.read_text(encoding="utf-8")
    rights = '[classes.pii]\nrights.writer = ["encrypt"]\n'
    config.write_text(text.replace("[classes.pii]\n", rights), encoding="utf-8")
    return home


def versioned(home: Path, database: Database, mode: str) -> dict[str, Any]:
    """What the application with Continuum says; the tables it leaves hold no plaintext."""
    done = subprocess.run(
        [sys.executable, _APPLICATION, home, database.text_url(), mode],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert done.returncode == 0, done.stderr
    with database.connect() as connection:
        for table in ("patients", "patients_version"):
            with connection.cursor().copy(f"COPY {table} TO STDOUT") as copy:
                assert clean(b"".join(bytes(chunk) for chunk in copy))
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_continuum_as_it_is_refuses_to_write(home: Path, database: Database) -> None:
    """Continuum copies attributes, which would be plaintext: the flush is refused, unsent, and says so."""
    said = versioned(home, database, "plain")

    assert said["cities"] == []
    assert "without being encrypted" in said["said"]
    assert clean(said["said"])


def test_continuum_without_the_encrypted_columns(home: Path, database: Database) -> None:
    """With them excluded everything else is versioned."""
    said = versioned(home, database, "excluded")

    assert said["said"] == ""
    assert said["cities"] == ["Faro", "Porto", "Lisboa", "Braga"]
    assert not {"email", "email_bidx"} & set(said["columns"])


def test_continuum_with_ciphertext(home: Path, database: Database) -> None:
    """A plugin of a few lines keeps the ciphertext of each version, which opens as the live cell's value."""
    said = versioned(home, database, "ciphertext")

    assert said["said"] == ""
    assert said["opened"] == [
        "canary@example.org",
        "canary@example.org",
        "canary-two@example.org",
        None,
    ]


def test_a_trigger_copies_ciphertext(shop: Shop, lacre: Lacre) -> None:
    """A history table filled by a trigger holds ciphertext, which its field opens under the row it was made for."""
    with shop.engine.begin() as connection:
        for statement in (
            "CREATE TABLE customers_history AS SELECT now() AS changed, * FROM customers LIMIT 0",
            """CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN INSERT INTO customers_history SELECT now(), OLD.*; RETURN NEW; END'""",
            "CREATE TRIGGER history BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION keep()",
        ):
            connection.execute(sa.text(statement))
    with shop.act(), shop.sessions() as session:
        customer = session.scalars(sa.select(Customer)).one()
        customer.account = "canary-account-2"
        session.commit()
    with shop.engine.connect() as connection:
        [row] = connection.execute(sa.text("SELECT * FROM customers_history")).all()
    field = lacre.field("banking", table="customers", column="account")

    assert clean(repr(row))
    with shop.act():
        assert field.decrypt(row.account, row=row.id) == ACCOUNT
