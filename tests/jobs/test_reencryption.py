# SPDX-License-Identifier: Apache-2.0
"""Values that are moved to the key that encrypts now, on SQLite and on PostgreSQL."""

import datetime as dt
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from lacre import Lacre
from lacre.context import acting_as
from lacre.errors import AccessDenied, KeyDisabled, MisuseError, Tampered
from lacre.jobs.coverage import Standing
from lacre.jobs.pace import Pace
from lacre.keys.hierarchy import KeyState
from tests.components.postgresql import Database
from tests.jobs.sealed_models import Patient, Person
from tests.jobs.sweeping import Shop, key_ids

COLUMNS = [
    ("people", "email"),
    ("people", "born"),
    ("people", "badge"),
    ("employees", "salary"),
    ("savings", "goal"),
    ("readings", "value"),
]


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, operator: Lacre, tmp_path: Path) -> Iterator[Shop]:
    """Every model with rows of two tenants, while the operator acts."""
    if request.param == "sqlite":
        path = tmp_path / "shop.db"
        made = Shop(operator, sa.make_url(f"sqlite:///{path}"), f"sqlite:///{path}")
    else:
        database: Database = request.getfixturevalue("database")
        made = Shop(operator, database.url(), database.dsn())
    made.fill()
    yield made
    made.engine.dispose()


def tokens(shop: Shop) -> list[Any]:
    with shop.engine.connect() as connection:
        return sorted(connection.execute(sa.text("SELECT email_bidx FROM people WHERE email_bidx IS NOT NULL")).scalars())  # fmt: skip


def test_every_value_is_moved_and_reads_as_before(shop: Shop) -> None:
    """After a rotation every value of every shape of model is under the new key, reads as before, and keeps its token."""
    before, indexed = shop.clear(), tokens(shop)
    fresh = {tenant: shop.rotate(tenant=tenant).key_id for tenant in ("default", "acme", "globex")}
    outcomes = shop.reencrypt()

    assert shop.clear() == before
    assert tokens(shop) == indexed
    for table, column in COLUMNS:
        expected = {fresh["acme"]} if table == "savings" else {fresh["default"]}
        assert key_ids(shop, table, column) == expected
    assert not any(outcome.failures for outcome in outcomes)
    assert all(covered.share == 1.0 for outcome in outcomes for covered in outcome.coverage)
    assert {outcome.table: outcome.moved for outcome in outcomes} == {
        "accounts": 0, "employees": 4, "members": 0, "patients": 0, "people": 9 + 12 + 4, "readings": 12, "savings": 6,
    }  # fmt: skip


def test_a_second_run_writes_nothing(shop: Shop) -> None:
    """What is under the active key already is not written again."""
    shop.rotate()
    shop.reencrypt()
    again = shop.reencrypt()

    assert [outcome.rows for outcome in again] == [0] * 7


def test_one_tenant_is_moved_alone(shop: Shop) -> None:
    """With a tenant named, values of the others stay under their keys."""
    shop.rotate("banking", "acme")
    fresh = {shop.rotate("banking", "globex").key_id}
    before = key_ids(shop, "accounts", "iban")
    shop.reencrypt("accounts", tenant="globex")
    after = key_ids(shop, "accounts", "iban")

    assert len(before) == 2
    assert after == {*(before & after), *fresh}
    assert len(before & after) == 1
    assert len(shop.clear()["accounts"]) == 12


def test_values_of_another_tenant_in_a_table_that_names_none_stay(shop: Shop) -> None:
    """Where rows say nothing of tenants, values of another tenant's key are neither moved nor counted as missing."""
    with (
        acting_as("operator", roles={"operator"}, purpose="reencrypt", tenant="acme"),
        shop.sessions() as session,
    ):
        session.add(Person(id=UUID(int=99), email="acme@example.org"))
        session.commit()
    shop.rotate(tenant="acme")
    shop.rotate()
    [outcome] = shop.reencrypt("people")

    email = outcome.coverage[0]
    assert (email.of(Standing.ELSEWHERE), email.share) == (1, 1.0)
    assert not outcome.failures


def test_values_of_a_compromised_key_are_moved_and_counted(shop: Shop) -> None:
    """A compromised key decrypts for nobody but the job, which says how many values came from under it."""
    before = shop.clear()
    [old] = key_ids(shop, "readings", "value")
    shop.rotate()
    shop.step(old, KeyState.COMPROMISED)
    with pytest.raises(KeyDisabled):
        shop.clear()
    outcomes = shop.reencrypt()

    assert shop.clear() == before
    assert {outcome.table: outcome.suspect for outcome in outcomes} == {
        "accounts": 0, "employees": 4, "members": 0, "patients": 0, "people": 25, "readings": 12, "savings": 0,
    }  # fmt: skip


def test_a_compromised_key_opens_nothing_else_after_the_job(shop: Shop) -> None:
    """That the job opened values of a compromised key does not let others read them from its cache."""
    [old] = key_ids(shop, "readings", "value")
    shop.rotate()
    with shop.engine.begin() as connection:
        kept = connection.execute(
            sa.text("SELECT value FROM readings WHERE meter = 'm1'")
        ).scalar_one()
    shop.step(old, KeyState.COMPROMISED)
    shop.reencrypt("readings")
    with shop.engine.begin() as connection:
        connection.execute(sa.text("UPDATE readings SET value = :value WHERE meter = 'm1'"), {"value": kept})  # fmt: skip

    with pytest.raises(KeyDisabled):
        shop.clear()


def test_what_does_not_open_stops_nothing(shop: Shop) -> None:
    """A value that does not open stays as it is, is named by its row, and every other value is moved."""
    with shop.engine.begin() as connection:
        value = connection.execute(sa.text("SELECT email FROM people WHERE email IS NOT NULL LIMIT 1")).scalar_one()  # fmt: skip
        broken = bytes(value[:-1]) + bytes([value[-1] ^ 1])
        connection.execute(
            sa.text("UPDATE people SET email = :broken WHERE email = :value"),
            {"broken": broken, "value": bytes(value)},
        )
    shop.rotate()
    [outcome] = shop.reencrypt("people")

    [failure] = outcome.failures
    assert (failure.column, failure.reason, failure.values, len(failure.rows)) == ("email", "Tampered", 1, 1)  # fmt: skip
    assert outcome.moved == 9 + 12 + 4 - 1
    assert outcome.coverage[0].left == 1
    with shop.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM people WHERE email = :broken"), {"broken": broken}).scalar() == 1  # fmt: skip
    with pytest.raises(Tampered):
        shop.clear()


def test_values_of_young_rotations_are_left_alone(shop: Shop) -> None:
    """With `before`, values of a key that was replaced after that moment stay, and count as not covered."""
    shop.rotate()
    an_hour_ago = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    [left] = shop.reencrypt("readings", before=an_hour_ago)
    [moved] = shop.reencrypt("readings", before=dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1))

    assert (left.rows, left.coverage[0].left) == (0, 12)
    assert (moved.rows, moved.coverage[0].left) == (12, 0)


def test_the_job_needs_both_rights(shop: Shop) -> None:
    """A principal that may only encrypt moves nothing."""
    shop.rotate()
    with acting_as("svc:app", roles={"support"}, purpose="reencrypt"), pytest.raises(AccessDenied):
        shop.reencrypt("readings")

    assert len(key_ids(shop, "readings", "value")) == 1


def test_the_job_is_evidence(shop: Shop, home: Path) -> None:
    """Each batch leaves an event that names who, which rows, the key before and the key after."""
    [old] = key_ids(shop, "people", "born")
    fresh = shop.rotate()
    shop.reencrypt("people")
    path = home / shop.lacre.policy.file.audit.path
    events = [json.loads(line) for line in path.read_text().splitlines()]
    told = [e for e in events if e["action"] == "reencrypt" and e["column"] == "born"]

    assert sum(event["count"] for event in told) == 12
    assert {event["principal"] for event in told} == {"operator"}
    assert {(event["key"], *event["before"]) for event in told} == {(fresh.key_id.hex(), old.hex())}
    assert len({row for event in told for row in event["rows"]}) == 12


def test_an_estimate_changes_nothing(shop: Shop) -> None:
    """An estimate says how many rows and values, measures a sample, and leaves the table alone."""
    before = key_ids(shop, "people", "email")
    shop.rotate()
    sweeper, table = shop.sweeper(), shop.tables()["people"]
    estimate = sweeper.estimate(table, sweeper.survey(table), cache_age=300)

    assert (estimate.rows, estimate.values) == (12, 25)
    assert estimate.sample > 0
    assert estimate.calls == 1
    assert key_ids(shop, "people", "email") == before


def test_a_value_written_while_the_job_runs_stays(shop: Shop) -> None:
    """A program that writes values all the time loses none of them to the job."""
    over = threading.Event()
    written: dict[UUID, str] = {}
    failures: list[BaseException] = []

    def write() -> None:
        try:
            with acting_as("svc:app", roles={"app"}, purpose="writing"):
                number = 0
                while not over.is_set():
                    row = UUID(int=number % 12 + 1)
                    number += 1
                    with shop.sessions() as session:
                        _, person = session.begin(), session.get(Person, row)
                        assert person is not None
                        person.email = f"new{number}@example.org"
                        session.commit()
                    written[row] = f"new{number}@example.org"
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(100):
            shop.rotate()
            shop.reencrypt("people", pace=Pace(batch=3))
            if len(written) == 12 or failures:
                break
    finally:
        over.set()
        writer.join()
    shop.reencrypt("people")

    assert failures == []
    with shop.sessions() as session:
        found = {person.id: person.email for person in session.scalars(sa.select(Person))}
    assert {row: found[row] for row in written} == written
    assert len(written) == 12


def test_sqlite_takes_one_worker(operator: Lacre, tmp_path: Path) -> None:
    """Two workers of one SQLite file are refused before anything is read."""
    path = tmp_path / "shop.db"
    shop = Shop(operator, sa.make_url(f"sqlite:///{path}"), f"sqlite:///{path}")
    with shop.sessions() as session:
        session.add(Person(id=UUID(int=1), email="a@example.org"))
        session.commit()
    shop.rotate()

    with pytest.raises(MisuseError):
        shop.reencrypt("people", pace=Pace(workers=2))


def test_values_of_subjects_are_moved_to_their_keys(shop: Shop) -> None:
    """A value of a subject goes to that subject's active key, one from under the class's key too; erased ones are left out."""
    names = ["ana", "bia", "eva"]
    with shop.sessions() as session:
        session.add_all(Patient(id=UUID(int=n + 1), doctor="dr", diagnosis=name, note=name) for n, name in enumerate(names))  # fmt: skip
        session.commit()
    before = key_ids(shop, "patients", "diagnosis")
    box = shop.lacre.field("pii", table="patients", column="diagnosis")
    plain = bytes(box.encrypt("ana, from before", row=UUID(int=1)))  # type: ignore[arg-type]
    with shop.engine.begin() as connection:
        wanted = UUID(int=1) if shop.engine.dialect.name == "postgresql" else UUID(int=1).hex
        connection.execute(sa.text("UPDATE patients SET diagnosis = :v WHERE id = :id"), {"v": plain, "id": wanted})  # fmt: skip
    [outcome] = shop.reencrypt("patients")
    indexed = shop.sweeper().reindex(shop.tables()["patients"])

    assert outcome.failures == ()
    assert (outcome.moved, outcome.coverage[0].share) == (1, 1.0)
    assert len(before) == 3
    assert key_ids(shop, "patients", "diagnosis") == before
    assert (indexed.rows, indexed.stale, indexed.failures) == (1, 0, ())
    with shop.sessions() as session:
        found = session.scalars(sa.select(Patient).order_by(Patient.id)).all()
        assert [each.diagnosis for each in found] == ["ana, from before", "bia", "eva"]


def test_values_from_before_subjects_get_keys_made_together(shop: Shop) -> None:
    """What `protect` put under the class's key goes to a key of each subject: made in few statements, and read without the class's key."""
    count = 40
    with shop.sessions() as session:
        session.add_all(Patient(id=UUID(int=n + 1), doctor=f"dr {n}", diagnosis="x") for n in range(count))  # fmt: skip
        session.commit()
    box = shop.lacre.field("pii", table="patients", column="note")
    ids = [UUID(int=n + 1) for n in range(count)]
    plain = box.encrypt_many([(each, f"note {n}") for n, each in enumerate(ids)])
    on_postgresql = shop.engine.dialect.name == "postgresql"
    with shop.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE patients SET note = :v WHERE id = :id"),
            [{"v": bytes(v), "id": each if on_postgresql else each.hex} for v, each in zip(plain, ids, strict=True)],
        )  # fmt: skip
    statements: list[str] = []

    def count_one(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "lacre_key" in statement or "lacre_subject" in statement:
            statements.append(statement)

    engines = {shop.lacre.store._database.engine, shop.lacre.store._database.writer}  # type: ignore[attr-defined]
    for engine in engines:
        sa.event.listen(engine, "before_cursor_execute", count_one)
    [outcome] = shop.reencrypt("patients", pace=Pace(batch=500))
    for engine in engines:
        sa.event.remove(engine, "before_cursor_execute", count_one)

    assert (outcome.moved, outcome.failures) == (count, ())
    assert len(key_ids(shop, "patients", "note")) == count
    assert len(statements) < count
    with shop.sessions() as session:
        found = session.scalars(sa.select(Patient).order_by(Patient.id)).all()
        assert [each.note for each in found] == [f"note {n}" for n in range(count)]
