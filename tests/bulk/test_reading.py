# SPDX-License-Identifier: Apache-2.0
"""Readings in bulk: what comes out, who gets it, and what is recorded."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, insert, select

from lacre import AccessDenied, EvidenceUnavailable, Lacre, PlaintextFound, Tampered, acting_as
from lacre.bulk import BulkReader
from lacre.errors import RowBudgetExceeded
from tests.bulk.conftest import CANARY, Acting, Recorded, Sessions
from tests.sqlalchemy import raw
from tests.sqlalchemy.conftest import on_sqlite
from tests.sqlalchemy.models import Citizen, Customer
from tests.sqlalchemy.test_tenants import NORTH, SOUTH, Ticket

People = list[dict[str, Any]]
EVERYBODY = select(Customer.id, Customer.email, Customer.name, Customer.city).order_by(Customer.id)


def _as_read(people: People) -> People:
    return [row | {"id": str(row["id"])} for row in people]


@pytest.mark.usefixtures("analyst")
def test_values_come_out_as_they_were_written(people: People, reader: BulkReader) -> None:
    """Encrypted and plain columns, NULLs too, in the order asked for."""
    table = reader.to_arrow(EVERYBODY, rows=25)

    assert table.to_pylist() == _as_read(people)
    assert table.schema.metadata[b"lacre-purpose"] == b"churn model"


@pytest.mark.usefixtures("analyst")
def test_a_parquet_file_holds_the_same(people: People, reader: BulkReader, tmp_path: Path) -> None:
    """It is its owner's only, nothing else is left beside it, and it names its evidence."""
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "people.parquet"

    report = reader.to_parquet(EVERYBODY, path, rows=25)

    assert pq.read_table(path).to_pylist() == _as_read(people)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert (report.rows, report.batches) == (25, 3)
    assert pq.read_schema(path).metadata[b"lacre-reading"] == report.reading.encode()


@on_sqlite
@pytest.mark.usefixtures("people", "analyst")
def test_each_batch_is_one_record_of_evidence(reader: BulkReader, recorded: Recorded) -> None:
    """It says who, why, which columns under which rules, how many rows, which, and by which keys."""
    reader.to_arrow(EVERYBODY, rows=30)
    events = recorded("bulk")

    assert [(event["batch"], event["count"]) for event in events] == [(1, 10), (2, 10), (3, 5)]
    assert len({event["reading"] for event in events}) == 1
    first = events[0]
    assert (first["principal"], first["purpose"], first["tenant"], first["table"]) == (
        "svc:churn",
        "churn model",
        "default",
        "customers",
    )
    assert [column["column"] for column in first["columns"]] == ["email", "name"]
    assert {column["rule"] for column in first["columns"]} == {"classes.pii.rights.app: decrypt"}
    assert first["rows"] == [UUID(int=number + 1).hex for number in range(10)]
    assert (first["budget"], len(first["keys"])) == (30, 1)
    assert recorded("look") == []


@on_sqlite
@pytest.mark.usefixtures("people")
def test_who_sees_masks_reads_masks(reader: BulkReader, recorded: Recorded) -> None:
    """The columns are text, NULL stays NULL, and the evidence says what was shown."""
    with acting_as("user:bia", roles={"support"}, purpose="report"):
        table = reader.to_arrow(EVERYBODY, rows=30)

    assert CANARY not in str(table.to_pylist())
    assert table.column("email")[0].as_py() == "***"
    assert table.column("name")[0].as_py() is None
    assert {event["columns"][0]["outcome"] for event in recorded("bulk")} == {"masked"}


@on_sqlite
@pytest.mark.usefixtures("people")
def test_who_may_read_nothing_is_refused_before_anything_is_read(
    reader: BulkReader, recorded: Recorded, tmp_path: Path
) -> None:
    """One class that is denied refuses the whole reading; there is no file and no batch."""
    path = tmp_path / "people.parquet"
    with (
        acting_as("user:bia", roles={"stranger"}, purpose="report"),
        pytest.raises(AccessDenied, match=r"customers\.email"),
    ):
        reader.to_parquet(EVERYBODY, path, rows=30)

    assert not path.exists()
    assert recorded("bulk") == []
    assert {event["outcome"] for event in recorded("look")} == {"denied"}


@on_sqlite
@pytest.mark.usefixtures("people")
def test_a_class_that_answers_with_masks_does_so_here(
    reader: BulkReader, home: Path, recorded: Recorded
) -> None:
    """A denied reader of such a class gets one mask for every value; no key is used for it."""
    config = home / "lacre.toml"
    text = config.read_text("utf-8").replace("[classes.pii]\n", '[classes.pii]\ndenied = "mask"\n')
    config.write_text(text, "utf-8")
    with acting_as("user:bia", roles={"stranger"}, purpose="report"):
        table = reader.to_arrow(select(Customer.email), rows=30)

    assert set(table.column("email").to_pylist()) == {"***"}
    assert {tuple(event["keys"]) for event in recorded("bulk")} == {()}


@pytest.mark.usefixtures("people", "analyst")
def test_the_budget_ends_a_reading(reader: BulkReader, recorded: Recorded, tmp_path: Path) -> None:
    """One row too many: nothing comes back, no file is left, the one before stays, and it is recorded."""
    path = tmp_path / "out" / "people.parquet"
    path.parent.mkdir()
    path.write_text("of yesterday")
    for read in (
        lambda: reader.to_arrow(EVERYBODY, rows=24),
        lambda: reader.to_parquet(EVERYBODY, path, rows=24),
    ):
        with pytest.raises(RowBudgetExceeded, match="more than 24 rows"):
            read()

    assert [entry.read_text() for entry in path.parent.iterdir()] == ["of yesterday"]
    steps = [event["step"] for event in recorded("bulk")]
    assert steps == ["batch", "batch", "over-budget"] * 2


@on_sqlite
@pytest.mark.usefixtures("people", "analyst")
def test_the_policy_bounds_the_budget(reader: BulkReader, recorded: Recorded) -> None:
    """`[bulk] rows` of the reading process's lacre.toml is what one reading may ask for at most."""
    with pytest.raises(AccessDenied) as caught:
        reader.to_arrow(EVERYBODY, rows=1001)

    assert "[bulk] rows" in caught.value.hint
    assert recorded("bulk") == []


@on_sqlite
@pytest.mark.usefixtures("people", "analyst")
def test_without_evidence_no_batch_leaves(reader: BulkReader, home: Path, tmp_path: Path) -> None:
    """A recorder that cannot write ends the reading before the first value is handed on."""
    log = home / "lacre" / "audit.jsonl"
    log.unlink(missing_ok=True)
    log.mkdir()
    path = tmp_path / "people.parquet"
    with pytest.raises(EvidenceUnavailable):
        next(reader.batches(EVERYBODY, rows=30))
    with pytest.raises(EvidenceUnavailable):
        reader.to_parquet(EVERYBODY, path, rows=30)

    assert not path.exists()


@pytest.mark.usefixtures("people", "analyst")
def test_a_value_that_does_not_open_ends_the_reading(
    reader: BulkReader, engine: Engine, recorded: Recorded, tmp_path: Path
) -> None:
    """A ciphertext of another row is refused like everywhere, recorded, and leaves no file."""
    raw.execute(
        engine,
        "UPDATE customers SET name = (SELECT email FROM customers WHERE city = 'Olinda' LIMIT 1)"
        " WHERE city = 'Recife'",
    )
    path = tmp_path / "people.parquet"
    with pytest.raises(Tampered):
        reader.to_parquet(EVERYBODY, path, rows=30)

    assert not path.exists()
    assert {event["outcome"] for event in recorded("look", column="name")} == {"failed"}


@on_sqlite
@pytest.mark.usefixtures("people", "analyst")
def test_planted_plaintext_is_refused(reader: BulkReader, engine: Engine) -> None:
    """What somebody put into an encrypted column is not handed on as its value."""
    raw.execute(engine, f"UPDATE customers SET name = '{CANARY}' WHERE city = 'Recife'")
    with pytest.raises(PlaintextFound) as caught:
        reader.to_arrow(EVERYBODY, rows=30)

    assert CANARY not in repr(caught.value) + str(caught.value)


@pytest.mark.usefixtures("people", "analyst")
def test_an_encrypted_attribute_is_asked_by_its_index(
    people: People, reader: BulkReader, recorded: Recorded
) -> None:
    """The reading process makes the tokens; a short index is re-checked, and the search is recorded."""
    exact = select(Customer.id).where(Customer.email == people[7]["email"])
    short = select(Customer.id).where(Customer.name == people[7]["name"], Customer.city == "Olinda")
    found = [reader.to_arrow(each, rows=30).to_pylist() for each in (exact, short)]

    assert found == [[{"id": str(people[7]["id"])}]] * 2
    assert len(recorded("search")) == 2
    assert CANARY not in json.dumps(recorded("bulk") + recorded("search"))


def test_encrypted_text_is_asked_in_part(
    sessions: Sessions, acting: Acting, reader: BulkReader, recorded: Recorded
) -> None:
    """What begins with, or contains, a text; the tokens of an index are no column of the result."""
    names = ["Maria da Silva", "Mario Souza", "Ana Silveira"]
    with acting("app"), sessions.begin() as session:
        session.execute(
            insert(Citizen), [{"id": UUID(int=n), "name": name} for n, name in enumerate(names, 1)]
        )
        assert {column.key for column in Citizen.__mapper__.column_attrs} > {"id", "name", "nick"}
    asked = [
        Citizen.name.contains("silv"),
        Citizen.name.startswith("Mari"),
        Citizen.name.icontains("SOU"),
    ]
    with acting_as("svc:churn", roles={"app"}, purpose="churn model"):
        found = [reader.to_arrow(select(Citizen.name).where(each), rows=9) for each in asked]
        whole = reader.to_arrow(select(Citizen), rows=9)

    assert [sorted(each.column("name").to_pylist()) for each in found] == [
        ["Ana Silveira", "Maria da Silva"],
        ["Maria da Silva", "Mario Souza"],
        ["Mario Souza"],
    ]
    assert not [name for name in whole.schema.names if "bidx" in name]
    assert "silv" not in json.dumps(recorded("search") + recorded("bulk")).lower()


@on_sqlite
def test_rows_name_their_tenants(
    sessions: Sessions,
    acting: Acting,
    operator: Lacre,
    engine: Engine,
    reader: BulkReader,
    recorded: Recorded,
) -> None:
    """Each tenant's rows open under its keys, and each tenant has its own evidence of a batch."""
    Ticket.metadata.create_all(engine)
    with operator.acting_as("operator", roles={"operator"}, purpose="set up"):
        for tenant in (NORTH, SOUTH):
            operator.create_keys(tenant.hex, "pii")
    with acting("app"), sessions.begin() as session:
        session.add_all(
            Ticket(tenant_id=(NORTH, SOUTH)[number % 2], email=f"{number}@example.org")
            for number in range(6)
        )
    statement = select(Ticket.email, Ticket.tenant_id)
    with acting_as("svc:churn", roles={"app"}, purpose="churn model"):
        table = reader.to_arrow(statement, rows=10)
    events = recorded("bulk")
    with acting_as("svc:churn", roles={"app"}, purpose="churn model", tenant=NORTH.hex):
        own = reader.to_arrow(statement.where(Ticket.tenant_id == NORTH), rows=10)
        with pytest.raises(AccessDenied, match="another tenant"):
            reader.to_arrow(statement, rows=10)

    assert sorted(table.column("email").to_pylist()) == [f"{n}@example.org" for n in range(6)]
    assert {(event["tenant"], event["count"]) for event in events} == {
        (NORTH.hex, 3),
        (SOUTH.hex, 3),
    }
    assert len({tuple(event["keys"]) for event in events}) == 2
    assert own.num_rows == 3
