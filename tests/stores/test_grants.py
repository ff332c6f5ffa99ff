"""Grants in SQL: rows are added and never changed, two acts at one moment are one, and evidence is in the same transaction."""

import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
import sqlalchemy as sa

from lacre.audit.entries import Stamp
from lacre.audit.governing import GrantChanged
from lacre.errors import MisuseError
from lacre.policy.grants import steps
from lacre.policy.grants.judging import Standing, judge
from lacre.policy.grants.request import GrantAct, GrantRecord
from lacre.stores.roles import Roles
from lacre.stores.sql import SQLKeyStore
from tests.components.key_stores import KeptInPostgreSQL, KeptInSQLite, KeyStorePlace
from tests.components.postgresql import Database
from tests.policy.grants.parts import NOW, asked, person, rules, with_
from tests.stores.test_roles import As, login

__all__ = ["login"]
pytestmark = pytest.mark.any_sqlalchemy


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path) -> KeyStorePlace:  # type: ignore[no-untyped-def]
    if request.param == "sqlite":
        return KeptInSQLite(path=tmp_path / "keys.db")
    return KeptInPostgreSQL(database=request.getfixturevalue("database"))


@pytest.fixture
def store(place: KeyStorePlace) -> Iterator[SQLKeyStore]:
    opened = place.open()
    opened.upgrade()
    yield opened
    opened.close()


def approval(record: GrantRecord, name: str) -> GrantAct:
    return steps.approve(record, rules(), by=person(name), now=NOW)


def test_what_was_kept_is_what_was_signed(store: SQLKeyStore) -> None:
    """A request and its acts come back to the letter, and an approved grant is approved."""
    first, second = with_(asked(), "ana", "rui"), asked(tenant="acme", right="decrypt")
    store.add_grant(first.request)
    store.add_grant_acts([first.acts[0]])
    store.add_grant_acts([first.acts[1]])
    store.add_grant(second.request)
    found = {each.request.id: each for each in store.grant_records()}

    assert found == {first.request.id: first, second.request.id: second}
    assert judge(found[first.request.id], rules(), now=NOW).standing is Standing.APPROVED
    assert store.grant_records(after=first.request.until) == []
    assert store.grant_records(beginning=second.request.id[:12]) == [second]
    with pytest.raises(MisuseError, match="with this id"):
        store.add_grant(first.request)


def test_two_approvers_who_race_are_one_after_the_other(
    place: KeyStorePlace, store: SQLKeyStore
) -> None:
    """Of approvals, or an approval and a revocation, made of what both saw, one is kept and the other is told."""
    record = asked()
    store.add_grant(record.request)
    revoked = steps.revoke(record, rules(), by=person("kyc"), now=NOW, note="not needed")
    rivals = [approval(record, "ana"), approval(record, "rui"), revoked]
    stores = [place.open() for _ in rivals]
    together, told = threading.Barrier(len(rivals)), list[str]()

    def put(own: SQLKeyStore, act: GrantAct) -> None:
        own.grant_records()
        together.wait(30)
        try:
            own.add_grant_acts([act])
        except MisuseError as error:
            told.append(str(error))

    threads = [threading.Thread(target=put, args=each) for each in zip(stores, rivals, strict=True)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for each in stores:
        each.close()
    (kept,) = store.grant_records()

    assert len(kept.acts) == 1
    assert len(told) == 2
    assert all("nothing was done" in each for each in told)


def test_evidence_is_in_the_same_transaction(store: SQLKeyStore) -> None:
    """An act that loses its race leaves no event; one that is kept leaves its own."""
    record = asked()
    store.keep_evidence(Stamp(app="a", env="e", service="s", code=""))
    store.add_grant(record.request)

    def event() -> GrantChanged:
        return GrantChanged(time=NOW, principal="person:ana", roles=(), purpose="grant", tenant="", step="approved", grant=record.request.id, beneficiary="agent:bia", class_="banking", right="decrypt", until=record.request.until)  # fmt: skip

    for name, kept in (("ana", True), ("rui", False)):
        try:
            with store.recording([event()]):
                store.add_grant_acts([approval(record, name)])
        except MisuseError:
            assert not kept
    with store._reading() as connection:
        outbox = connection.execute(sa.text(f"SELECT entry FROM {'lacre.' if connection.dialect.name == 'postgresql' else ''}lacre_outbox")).all()  # fmt: skip

    assert len(outbox) == 1


def test_a_row_that_is_replayed_gives_nothing(store: SQLKeyStore, place: KeyStorePlace) -> None:
    """Somebody with a SQL prompt moves approvals to another request, or changes the request: it is refused."""
    done, other = with_(asked(), "ana", "rui"), asked()
    for each in (done.request, other.request):
        store.add_grant(each)
    store.add_grant_acts(done.acts)
    place.sql('UPDATE lacre_grant_act SET "grant" = ?', other.request.id)
    moved = next(e for e in store.grant_records() if e.request.id == other.request.id)
    place.sql('UPDATE lacre_grant_act SET "grant" = ?', done.request.id)
    place.sql("UPDATE lacre_grant SET until = '2027-02-01T00:00:00Z'")
    changed = next(e for e in store.grant_records() if e.request.id == done.request.id)

    assert judge(moved, rules(), now=NOW).approvers == ()
    assert judge(changed, rules(), now=NOW).standing is Standing.REFUSED


def test_an_act_of_another_release_gives_nothing(store: SQLKeyStore, place: KeyStorePlace) -> None:
    """What this release does not know stands there; the rest of the grant is read, and it can be revoked."""
    record = with_(asked(), "ana", "rui")
    store.add_grant(record.request)
    store.add_grant_acts(record.acts)
    place.sql("UPDATE lacre_grant_act SET act = 'bless', number = 2147483647 WHERE number = 2")
    (found,) = store.grant_records()
    act = steps.revoke(found, rules(), by=person("kyc"), now=NOW, note="odd")
    store.add_grant_acts([act])

    assert judge(found, rules(), now=NOW).approvers == ("person:ana",)
    assert act.number == 2
    assert judge(store.grant_records()[0], rules(), now=NOW).standing is Standing.REVOKED


def test_nobody_changes_or_removes_a_grant(database: Database, login: Callable[[str], As]) -> None:
    """The operator adds; the run time and the auditor read; no role updates or deletes."""
    owner = KeptInPostgreSQL(database=database).open()
    owner.upgrade(roles=Roles())
    record = with_(asked(), "ana")
    operator, runtime = login("lacre_operator"), login("lacre_runtime")
    operator.store.add_grant(record.request)
    operator.store.add_grant_acts(record.acts)
    for role in (operator, runtime, login("lacre_auditor")):
        for table in ("lacre_grant", "lacre_grant_act"):
            for statement in (
                f"DELETE FROM lacre.{table}",
                f"UPDATE lacre.{table} SET signer = ''",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    role.sql(statement)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        runtime.sql('INSERT INTO lacre.lacre_grant_act ("grant", number) VALUES (%s, 9)', "x")

    assert list(runtime.store.grant_records()) == [record]
    owner.close()


def test_a_grants_columns_are_the_requests() -> None:
    """What is signed is what is kept: a request that gains a member is not kept without it."""
    from dataclasses import fields

    from lacre.policy.grants.request import GrantRequest
    from lacre.stores.schema import GRANT

    assert {c.name for c in GRANT.c} == {f.name.removesuffix("_") for f in fields(GrantRequest)}
