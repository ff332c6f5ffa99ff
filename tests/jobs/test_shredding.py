# SPDX-License-Identifier: Apache-2.0
"""Shredding a subject: its keys, its index values, its certificate, its hold, and who else is untouched."""

import datetime as dt
import hashlib
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import typer
from typer.testing import CliRunner

from lacre import Lacre
from lacre.cli import holding
from lacre.cli.certificates import renew_certificate, verify_certificate
from lacre.cli.keys.destroying import destroy
from lacre.cli.models import load_models
from lacre.cli.operator import as_operator
from lacre.cli.program import app
from lacre.cli.sealing import sealer_of
from lacre.cli.shredding import shredder_of
from lacre.cli.sweeping import sweeper_of, tables_for
from lacre.cli.tenants import offboard_tenant
from lacre.errors import (
    ConfigurationError,
    KeyDestroyed,
    KeyNotFound,
    MisuseError,
    SubjectHeld,
    Tampered,
)
from lacre.jobs.pace import Pace
from lacre.jobs.shredding import Attempt, Shredder
from lacre.keys.hierarchy import KeyKind, subject_digest
from lacre.sqlalchemy import erasing
from lacre.sqlalchemy.erasing import subject_tables
from lacre.stores.sql import SQLKeyStore
from lacre.testing import FrozenClock
from tests.components.postgresql import Database
from tests.jobs.erasing import MODELS, Shop
from tests.jobs.erasing_models import Customer

NEVER = Attempt(values=0, refused=0, opened=0, denied=0)
ANA, BIA = "ana.canary@example.org", "bia@example.org"


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, home: Path) -> Shop:
    """A shop that seals, with two customers."""
    url = None
    if request.param == "postgresql":
        database: Database = request.getfixturevalue("database")
        url = database.url("psycopg")
        url = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    shop = Shop.made(home, url=url)
    shop.add(ANA, BIA)
    return shop


@pytest.fixture
def small(home: Path) -> Shop:
    """The same on SQLite only."""
    shop = Shop.made(home)
    shop.add(ANA, BIA)
    return shop


def hold(shop: Shop, subject: str) -> None:
    holding.place_hold(
        subject, tenant=None, reason="case 7", config=shop.config, passphrase_file=None
    )


def lift(shop: Shop, subject: str) -> None:
    holding.lift_hold(subject, tenant=None, reason="over", config=shop.config, passphrase_file=None)


def test_a_shredded_subject_is_read_by_nobody_and_others_are(shop: Shop) -> None:
    """Every class and table of the subject ends; its index values are written over; another's are as they were."""
    query = f"SELECT cpf_bidx, name_bidx FROM customers WHERE id = '{BIA}'"
    before = shop.stored(query)
    shop.shred(ANA)

    with pytest.raises(KeyDestroyed):
        shop.read(ANA)
    assert shop.read(BIA) == [f"cpf-canary-{BIA}", "Ana Canary", "acct-canary", "note canary"]
    assert shop.stored(query) == before
    ((cpf, name),) = shop.stored(f"SELECT cpf_bidx, name_bidx FROM customers WHERE id = '{ANA}'")
    assert bytes(name) == bytes(4)
    assert bytes(cpf) != bytes(before[0][0])
    ((several,),) = shop.stored(f"SELECT name_contains_bidx FROM customers WHERE id = '{ANA}'")
    assert several in ([], "[]")
    if shop.url.startswith("sqlite"):
        whose = shop.stored("SELECT DISTINCT id FROM customers_name_contains_bidx")
        assert whose == [(BIA,)]
    with shop.session() as session:
        session.get_one(Customer, ANA).name = "again"
        with pytest.raises(KeyDestroyed):
            session.commit()
    with shop.session() as session:
        found = session.scalars(
            sa.select(Customer).where(Customer.cpf == f"cpf-canary-{ANA}")
        ).all()
        assert found == []


def test_tokens_that_no_trigger_would_take_out_stop_the_erasure(small: Shop) -> None:
    """SQLite's table of them would keep the subject's: an error says how to make the triggers, and a second run ends it."""
    tokens = f"SELECT count(*) FROM customers_name_contains_bidx WHERE id = '{ANA}'"
    with small.engine() as engine, engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER customers_name_contains_bidx_update")

    with pytest.raises(ConfigurationError, match="lost the triggers") as refused:
        small.shred(ANA)
    assert small.stored(tokens) != [(0,)]
    again = str(refused.value.hint).split("anew: ")[1]
    with small.engine() as engine, engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        driver.executescript(again)
    small.shred(ANA)
    assert small.stored(tokens) == [(0,)]


def test_the_index_of_several_attributes_is_erased_as_well(shop: Shop) -> None:
    """Its tokens tell who of two values: nobody finds a shredded subject by them, and everybody else is found."""
    query = "SELECT id, name_and_cpf_bidx FROM customers"
    before = {str(id_): bytes(token) for id_, token in shop.stored(query)}

    shop.shred(ANA)
    shop.shred(BIA)

    after = {str(id_): bytes(token) for id_, token in shop.stored(query)}
    assert not set(before.values()) & set(after.values())
    with shop.session() as session:
        both = ("Ana Canary", f"cpf-canary-{ANA}")
        assert session.scalars(sa.select(Customer.id).where(Customer.name_and_cpf == both)).all() == []  # fmt: skip


def test_a_search_passes_over_a_subject_whose_index_values_are_still_there(small: Shop) -> None:
    """Between the end of its keys and that of its index values a subject is a candidate, and no hit; others are found."""

    def dies() -> int:
        raise MisuseError("killed")

    with as_operator(small.config, None, purpose="test") as operator:
        shredder = shredder_of(operator, "default")
        with pytest.raises(MisuseError, match="killed"):
            shredder.shred(ANA, reason="r", count=dies, erase=dict, attempt=lambda: NEVER)

    with small.session() as session:
        for condition in (Customer.name == "Ana Canary", Customer.name.contains("canary")):
            found = session.scalars(sa.select(Customer).where(condition)).all()
            assert [each.id for each in found] == [BIA], str(condition)


def test_making_tokens_anew_passes_over_a_shredded_subject(small: Shop) -> None:
    """It is no failure of a run that one of the rows was erased, and what was written over its tokens stays."""
    small.shred(ANA)
    query = "SELECT cpf_bidx, cpf_bidx2, name_bidx FROM customers ORDER BY id"
    before = small.stored(query)

    done = CliRunner().invoke(
        app,
        ["reencrypt", "--indexes", "--yes", "--models", MODELS[0], "--database", small.url, "--config", str(small.config)],
    )  # fmt: skip

    assert done.exit_code == 0, done.output
    assert small.stored(query) == before


def test_a_warm_key_makes_no_tokens_of_a_shredded_subject(shop: Shop) -> None:
    """A job that held the subject's key before the shredding asks the key store anew, page by page."""
    with as_operator(shop.config, None, purpose="reencrypt") as operator:
        tables, _ = tables_for(operator.lacre, load_models(MODELS), shop.url, "main", None)
        sweeper = replace(
            sweeper_of(operator.lacre, shop.url, tenant=None, before=None, pace=Pace()),
            forget=lambda: None,
        )
        before = [sweeper.reindex(each, write=False) for each in tables]
        shop.shred(ANA)
        names = "cpf_bidx, cpf_bidx2, name_and_cpf_bidx, name_bidx, name_contains_bidx"
        erased = shop.stored(f"SELECT {names} FROM customers ORDER BY id")
        after = [sweeper.reindex(each) for each in tables]

    assert {(each.stale, each.failures) for each in (*before, *after)} == {(0, ())}
    assert shop.stored(f"SELECT {names} FROM customers ORDER BY id") == erased


def test_a_certificate_says_what_was_done_and_not_of_whom(shop: Shop) -> None:
    """Keys by id, when it is erased from live, that it waits for the sealing, where index values remain; never the id."""
    shop.shred(ANA)

    (body,) = shop.certificates()
    assert {key["class"] for key in body["keys"]} == {"pii", "banking"}
    assert body["verdict"] == "pending"
    assert body["irrecoverable_at"] is None
    assert body["waits_for"] == ["the next sealing: lacre seal"]
    live = dt.datetime.fromisoformat(body["erased_from_live_at"])
    assert live - dt.datetime.fromisoformat(body["shredded_at"]) == dt.timedelta(seconds=300)
    assert body["index_values"]["erased"] == {
        "customers.cpf_bidx": 1, "customers.cpf_bidx2": 0, "customers.name_and_cpf_bidx": 1, "customers.name_and_cpf_bidx2": 0,
        "customers.name_bidx": 1,
        "customers.name_contains_bidx": 1, "orders.note_bidx": 1,
    }  # fmt: skip
    assert body["index_values"]["in_backups_until"] is not None
    assert "remain linkable" in body["index_values"]["statement"]
    assert body["verification"] == {"values": 4, "refused": 4, "opened": 0, "denied": 0, "outcome": "unreadable"}  # fmt: skip
    said = shop.files()[0].read_text() + json.dumps(shop.events())
    assert "canary" not in said
    assert ANA not in str(shop.keys("SELECT * FROM lacre_subject")) + str(
        list(shop.home.rglob("*"))
    )


def test_it_is_irrecoverable_once_its_epoch_ended_and_its_backups_are_gone(small: Shop) -> None:
    """After the sealing the certificate names the day; before that day it is pending, and says so."""
    small.shred(ANA)
    small.seal()
    (file,) = small.files()

    renew_certificate(file, config=small.config, passphrase_file=None)

    body = small.certificates()[-1]
    days = dt.datetime.fromisoformat(body["irrecoverable_at"]) - dt.datetime.now(dt.UTC)
    assert days.days in (9, 10)  # the snapshots_kept of the policy
    assert (body["verdict"], body["waits_for"]) == ("pending", [])

    text = small.config.read_text().replace('snapshots_kept = "10 days"', "")
    small.config.write_text(text)
    small.add("caio@example.org")
    small.shred("caio@example.org")
    small.seal()
    newest = max(small.files(), key=lambda path: path.stat().st_mtime_ns)
    renew_certificate(newest, config=small.config, passphrase_file=None)
    body = small.certificates()[-1]
    assert (body["irrecoverable_at"], body["verdict"]) == (None, "pending")
    assert "snapshots" in body["waits_for"][0]


@pytest.mark.parametrize("clock", ["2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"])
def test_a_clock_that_is_wrong_keeps_no_certificate_waiting(small: Shop, clock: str) -> None:
    """Behind the sealer's or ahead of it: the next sealing ends the bucket keys that were around the subject, and no others after that."""
    with as_operator(small.config, None, purpose="test") as operator:
        shredder = replace(shredder_of(operator, "default"), now=lambda: clock)
        done = shredder.shred(ANA, reason="r", count=int, erase=dict, attempt=lambda: NEVER)
        assert done.body["shredded_at"] == clock
        assert done.body["waits_for"] == ["the next sealing: lacre seal"]
        sealer = sealer_of(operator)
        assert sealer.status(every=None).shredded == 2
        sealer.seal()
        assert sealer.status(every=None).shredded == 0
    (file,) = small.files()

    renew_certificate(file, config=small.config, passphrase_file=None)

    body = small.certificates()[-1]
    assert body["waits_for"] == []
    assert body["irrecoverable_at"] is not None


def test_a_bucket_that_somebody_wrote_into_a_key_makes_nothing_irrecoverable(small: Shop) -> None:
    """Whoever writes the key store names a bucket key that ended long ago; the certificate waits all the same."""
    small.shred(BIA)
    ended = {key["sealed_by"] for key in small.certificates()[-1]["keys"]}
    small.seal()
    with as_operator(small.config, None, purpose="test") as operator:
        for key in operator.store.subject_keys_by_id(after=b"", limit=10):
            assert key.wrapped is not None
            named = bytes.fromhex(next(iter(ended)))
            lies = replace(key, wrapped=key.wrapped[:3] + named + key.wrapped[19:])
            operator.store.change(replace=[(key, lies)])

    small.shred(ANA)

    body = small.certificates()[-1]
    assert {key["sealed_by"] for key in body["keys"]} <= ended
    assert (body["irrecoverable_at"], body["waits_for"]) == (None, ["the next sealing: lacre seal"])


def test_a_certificate_is_not_issued_anew_while_one_of_its_keys_lives(small: Shop) -> None:
    """A key store from before the shredding, put back, has the key again, and a sealing takes it along."""
    keys = small.home / "lacre" / "keys.db"
    before = keys.read_bytes()
    small.shred(ANA)
    keys.write_bytes(before)
    small.seal()
    (file,) = small.files()

    with pytest.raises(MisuseError, match="lives"):
        renew_certificate(file, config=small.config, passphrase_file=None)

    small.shred(ANA)
    small.seal()
    newest = max(small.files(), key=lambda path: path.stat().st_mtime_ns)
    renew_certificate(newest, config=small.config, passphrase_file=None)
    assert small.certificates()[-1]["waits_for"] == []


def test_without_sealing_only_the_end_of_backups_makes_it_irrecoverable(home: Path) -> None:
    """A certificate of a class that is not sealed waits for the policy's word, and then for the backups' end."""
    shop = Shop.made(home, more='\n[erasure]\nkey_store_backups_kept = "20 days"\n')
    shop.add(ANA)
    shop.shred(ANA)

    (body,) = shop.certificates()
    days = dt.datetime.fromisoformat(body["irrecoverable_at"]) - dt.datetime.now(dt.UTC)
    assert days.days in (19, 20)
    assert body["verdict"] == "pending"


def test_a_forged_certificate_is_refused(small: Shop, tmp_path: Path) -> None:
    """One that is changed, cut, signed by somebody else or followed by anything does not verify."""
    small.shred(ANA)
    (file,) = small.files()
    good = file.read_bytes()
    verify_certificate(file, as_json=False, config=small.config)
    body, signature, _ = good.split(b"\n")
    stranger = Shop.made(_initialised(tmp_path), more="")

    for forged in (
        good.replace(b"pending", b"irrecoverable"),
        good + b"\n",
        body + b"\n",
        body + b"\n" + signature[:-2] + b"AA\n",
        good.replace(b'","', b'", "', 1),
    ):
        file.write_bytes(forged)
        with pytest.raises(Tampered, match="not what its signer signed"):
            verify_certificate(file, as_json=False, config=small.config)
    file.write_bytes(good)
    with pytest.raises(ConfigurationError, match=r"as its signer, whom lacre\.toml does not trust"):
        verify_certificate(file, as_json=False, config=stranger.config)
    for other in (b"", b"{}", b"\xff\n", good[:40], small.config.read_bytes()):
        file.write_bytes(other)
        with pytest.raises(ConfigurationError, match="no certificate of erasure"):
            verify_certificate(file, as_json=False, config=small.config)
    file.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        renew_certificate(file, config=small.config, passphrase_file=None)


def _initialised(directory: Path) -> Path:
    from lacre.cli.initialise import initialise

    made = directory / "stranger"
    initialise(made, env="test")
    return made


def test_a_held_subject_is_not_shredded(shop: Shop) -> None:
    """A hold refuses shredding and retention, names who placed it, and nothing of the subject is touched."""
    shop.add("caio@example.org", closed=dt.date(2020, 1, 1))
    for subject in (ANA, "caio@example.org"):
        hold(shop, subject)

    with pytest.raises(SubjectHeld, match="placed by operator"):
        shop.shred(ANA)
    shop.shred(None)
    assert shop.files() == []
    assert shop.read(ANA)
    assert shop.read("caio@example.org")
    with pytest.raises(MisuseError):
        hold(shop, ANA)
    with pytest.raises(SubjectHeld):
        offboard_tenant("default", reason="bye", dry_run=False, yes=True, as_json=False, config=shop.config, passphrase_file=None)  # fmt: skip
    assert shop.read(BIA)

    lift(shop, ANA)
    shop.shred(ANA)
    with pytest.raises(KeyDestroyed):
        shop.read(ANA)
    steps = [event["step"] for event in shop.events() if event.get("action") == "erasure"]
    assert steps.count("hold placed") == 2
    assert steps.count("hold lifted") == 1
    assert "refused" in steps


def test_a_hold_keeps_the_branch_key_above_it(small: Shop) -> None:
    """What a held subject's key is under is not destroyed either; once the hold is lifted it may be."""
    hold(small, ANA)
    ((key,),) = small.keys("SELECT hex(key_id) FROM lacre_key WHERE kind = 'branch' AND class = 'pii'")  # fmt: skip

    with pytest.raises(SubjectHeld, match="nothing was destroyed"):
        destroy(key, models=[], database=[], with_what_it_protects=True, yes=True, config=small.config, passphrase_file=None)  # fmt: skip
    assert small.read(ANA)[1] == "Ana Canary"
    lift(small, ANA)
    destroy(key, models=[], database=[], with_what_it_protects=True, yes=True, config=small.config, passphrase_file=None)  # fmt: skip

    with pytest.raises(KeyDestroyed):
        small.read(BIA)


def test_a_hold_that_nobody_signed_holds_all_the_same(
    small: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever writes the key store can hold a subject, and cannot do it in an operator's name."""
    hold(small, ANA)
    import sqlite3

    with sqlite3.connect(small.home / "lacre/keys.db") as connection:
        connection.execute("UPDATE lacre_subject SET hold = replace(hold, 'case 7', 'case 8') WHERE hold IS NOT NULL")  # fmt: skip
    connection.close()

    with pytest.raises(SubjectHeld, match="nobody who is trusted"):
        small.shred(ANA)
    holding.list_holds(as_json=True, config=small.config)
    assert json.loads(capsys.readouterr().out)[0]["by"] is None


def test_retention_shreds_those_that_are_due_and_no_others(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """Listed first, then shredded; whoever is open, or closed yesterday, stays; a second run finds nothing."""
    yesterday = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
    shop.add("old@example.org", closed=dt.date(2020, 1, 1))
    shop.add("new@example.org", closed=yesterday)

    with pytest.raises(typer.Exit) as listed:
        shop.shred(None, dry_run=True)
    assert listed.value.exit_code == 10
    assert capsys.readouterr().out.split() == ["old@example.org"]

    shop.shred(None)
    shop.shred(None)

    with pytest.raises(KeyDestroyed):
        shop.read("old@example.org")
    for subject in (ANA, BIA, "new@example.org"):
        assert shop.read(subject)
    assert len(shop.files()) == 1


def test_a_subject_that_nobody_knows_is_an_error_that_does_not_name_it(small: Shop) -> None:
    """Neither another tenant's nor a misspelt subject is shredded, and the error does not repeat the id."""
    with pytest.raises(KeyNotFound) as unknown:
        small.shred("canary-nobody@example.org")
    assert "canary" not in str(unknown.value) + unknown.value.hint
    with pytest.raises(KeyNotFound):
        small.shred(ANA, tenant="other")
    assert small.read(ANA)


def test_a_cached_reader_stops_within_the_bound(small: Shop) -> None:
    """A process that read the subject before reads on from its cache, until its age and no longer."""
    clock = FrozenClock()
    from lacre.policy.decisions import Policy  # noqa: F401 - what is loaded below is built of it

    with Lacre.load(small.config, environ={}) as lacre:
        lacre.resolver._clock = clock
        lacre.resolver._cache.clock = clock
        with small.session(lacre) as session:
            assert session.get_one(Customer, ANA).name == "Ana Canary"
        small.shred(ANA)
        bound = lacre.revocation_latency

        clock.advance(bound + 1)
        with pytest.raises(KeyDestroyed), small.session(lacre) as session:
            _ = session.get_one(Customer, ANA).name


def test_another_subjects_pseudonym_shreds_nobody_else(small: Shop) -> None:
    """Whoever may insert subjects gives a new one the pseudonym of somebody: shredding the one leaves the other's keys alone."""
    with as_operator(small.config, None, purpose="test") as operator:
        scope = operator.lacre.policy.scope(KeyKind.SUBJECT, "-", "default")
        ana = operator.store.subject(subject_digest(scope, ANA))
        assert ana is not None
        operator.store.add_subjects([replace(ana, digest=subject_digest(scope, "eva"))])
        shredder = shredder_of(operator, "default")
        done = shredder.shred("eva", reason="r", count=int, erase=dict, attempt=lambda: NEVER)

    assert done.body["keys"] == []
    assert small.read(ANA)[1] == "Ana Canary"


def test_shredding_twice_says_so_and_sweeps_again(
    small: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run says when it was erased, erases index values that came later, and certifies with the keys of the first certificate."""
    small.shred(ANA)
    with small.engine() as engine, engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE customers SET name_bidx = x'01020304' WHERE id = '{ANA}'"
        )
    (file,) = small.files()
    (first,) = small.certificates()
    assert "erased already" not in capsys.readouterr().err

    small.shred(ANA)

    ((name,),) = small.stored(f"SELECT name_bidx FROM customers WHERE id = '{ANA}'")
    assert bytes(name) == bytes(4)
    again = small.certificates()[-1]
    same = ("subject", "keys", "shredded_at", "erased_from_live_at", "waits_for", "verdict")
    assert [again[each] for each in same] == [first[each] for each in same]
    assert again["renews"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert f"erased already, on {first['shredded_at']}" in capsys.readouterr().err
    for each in small.files():
        each.unlink()
    small.shred(ANA)
    (alone,) = small.certificates()
    assert (alone["subject"], alone["keys"]) == ("", [])
    assert alone["waits_for"] == [
        f"nothing: the subject was erased already, on {first['shredded_at']}, and the certificate of that run names the keys"
    ]


def test_every_value_is_tried(small: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows are the subject's: they are read some at a time, and all of them."""
    monkeypatch.setattr(erasing, "_AT_ONCE", 10)
    query = "INSERT INTO orders (id, customer_id, note, note_bidx) SELECT lower(hex(randomblob(16))), customer_id, note, note_bidx FROM orders WHERE customer_id = :id"
    with small.engine() as engine, engine.begin() as connection:
        for _ in range(6):
            connection.execute(sa.text(query), {"id": ANA})
    with as_operator(small.config, None, purpose="test"), small.engine() as engine:
        [_, orders] = subject_tables(load_models(MODELS))
        with engine.connect() as connection:
            found = list(orders.sealed_values(connection, ANA, "default"))

    assert len(found) == len({each.row for each in found}) == 64


def test_two_shredders_at_once_leave_one_tombstone(shop: Shop) -> None:
    """Both end well, the keys are destroyed once, and at least one certificate names them."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            shop.shred(ANA)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert max(len(body["keys"]) for body in shop.certificates()) == 2
    rows = shop.keys("SELECT state, wrapped, digest FROM lacre_key WHERE kind = 'subject'")
    assert sorted(str(row[0]) for row in rows) == ["active", "active", "destroyed", "destroyed"]
    assert [row[1:] for row in rows if row[0] == "destroyed"] == [(None, None)] * 2


def test_the_key_store_must_be_apart_from_the_data(small: Shop) -> None:
    """With sealing on, shredding refuses where the key store is in the database that holds the data."""
    with pytest.raises(ConfigurationError, match="in the database that holds the data"):
        small.shred(ANA, database=f"sqlite:///{small.home}/lacre/keys.db")
    assert small.read(ANA)


def test_nobody_is_shredded_unasked(small: Shop) -> None:
    """Without --yes and without somebody to ask nothing is done; a dry run does nothing."""
    with pytest.raises(MisuseError, match="nobody can be asked"):
        small.shred(ANA, yes=False)
    with pytest.raises(typer.Exit):
        small.shred(ANA, dry_run=True)
    assert small.read(ANA)


def test_a_value_from_before_the_keys_of_subjects_is_told(small: Shop) -> None:
    """A value under the class's key still opens: the certificate says readable, and the command fails."""
    with Lacre.load(small.config, environ={}) as lacre, lacre.acting_as("svc:app", roles={"app"}, purpose="t"):  # fmt: skip
        old = lacre.field("banking", table="customers", column="account")
        sealed = bytes(old.encrypt("acct", row=ANA))
    with small.engine() as engine, engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE customers SET account = :sealed WHERE id = :id"),
            {"sealed": sealed, "id": ANA},
        )

    with pytest.raises(typer.Exit) as ended:
        small.shred(ANA)

    assert ended.value.exit_code == 6
    (body,) = small.certificates()
    assert body["verification"]["outcome"] == "readable"
    assert body["verification"]["opened"] == 1
    assert (body["verdict"], body["irrecoverable_at"]) == ("pending", None)


def test_off_boarding_ends_one_tenant_and_no_other(home: Path, lacre: Lacre) -> None:
    """A dry run does nothing; then every key of the tenant is destroyed, and another tenant reads on."""
    shop = Shop(home=home, url=f"sqlite:///{home}/shop.db")
    operated = Lacre.load(home / "lacre.toml", environ={}, identity="lacre/identities/operator.key")
    with operated, operated.acting_as("op", roles={"operator"}, purpose="t"):
        operated.create_keys("acme", "pii")

    def box(application: Lacre) -> object:
        return application.field("pii", table="t", column="c")

    with lacre.acting_as("svc:app", roles={"app"}, purpose="t"):
        sealed = {
            tenant: box(lacre).encrypt("x", row="1", tenant=tenant)
            for tenant in ("acme", "default")
        }  # type: ignore[attr-defined]
    given = {"reason": "left", "yes": True, "as_json": False, "config": shop.config, "passphrase_file": None}  # fmt: skip
    offboard_tenant("acme", dry_run=True, **given)  # type: ignore[arg-type]
    states = "SELECT state FROM lacre_key WHERE tenant = 'acme'"
    assert {state for (state,) in shop.keys(states)} == {"active"}

    offboard_tenant("acme", dry_run=False, **given)  # type: ignore[arg-type]

    assert {state for (state,) in shop.keys(states)} == {"destroyed"}
    with Lacre.load(shop.config, environ={}) as fresh, fresh.acting_as("svc:app", roles={"app"}, purpose="t"):  # fmt: skip
        assert box(fresh).decrypt(sealed["default"], row="1", tenant="default") == "x"  # type: ignore[attr-defined]
        with pytest.raises(KeyDestroyed):
            box(fresh).decrypt(sealed["acme"], row="1", tenant="acme")  # type: ignore[attr-defined]
    (body,) = shop.certificates()
    assert (body["kind"], body["tenant"], body["verdict"]) == ("tenant", "acme", "pending")
    assert sum(each["number"] for each in body["keys_destroyed"]) == 3
    with pytest.raises(KeyNotFound):
        offboard_tenant("nobody", dry_run=False, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_off_boarding_that_died_certifies_every_key(
    home: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Stopped before any of its changes, the next run destroys the rest, and its certificate counts all keys; so does one more."""
    shop = Shop(home=home, url=f"sqlite:///{home}/shop.db")
    operated = Lacre.load(home / "lacre.toml", environ={}, identity="lacre/identities/operator.key")
    with operated, operated.acting_as("op", roles={"operator"}, purpose="t"):
        operated.create_keys("acme", "pii")
    given = {"reason": "left", "yes": True, "dry_run": False, "as_json": False, "config": shop.config, "passphrase_file": None}  # fmt: skip
    change, left = SQLKeyStore.change, [at]

    def dying(store: SQLKeyStore, **what: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise InterruptedError("stopped")
        change(store, **what)

    with monkeypatch.context() as patched:
        patched.setattr(SQLKeyStore, "change", dying)
        with pytest.raises(InterruptedError, match="stopped"):
            offboard_tenant("acme", **given)  # type: ignore[arg-type]
    offboard_tenant("acme", **given)  # type: ignore[arg-type]
    offboard_tenant("acme", **given)  # type: ignore[arg-type]

    counted = [{each["kind"]: each["number"] for each in body["keys_destroyed"]} for body in shop.certificates()]  # fmt: skip
    # One file for both runs, where they are of the same second.
    assert counted
    assert all(each == {"branch": 1, "data": 1, "index": 1} for each in counted)


def test_a_run_that_died_is_finished_with_its_keys_named(
    small: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed right after the tombstone, the next run's certificate still names the keys: the journal knew them."""

    def dies(*_: object, **_more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Shredder, "_body", dies)
        with pytest.raises(KeyboardInterrupt):
            small.shred(ANA)
    assert small.files() == []

    small.shred(ANA)

    (body,) = small.certificates()
    assert len(body["keys"]) == 2
    assert list((small.home / "lacre/certificates").glob(".*")) == []
