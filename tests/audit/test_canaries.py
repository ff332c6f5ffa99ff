# SPDX-License-Identifier: Apache-2.0
"""What must never be in evidence is in none, by whatever path it might have come."""

import asyncio
import base64
import datetime as dt
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from fastapi import FastAPI
from sqlalchemy import Engine, create_engine, insert, select, update
from sqlalchemy.orm import Session, sessionmaker
from typer.testing import CliRunner

from lacre import AccessDenied, BlindIndex, Lacre, LacreError
from lacre.bulk import BulkReader
from lacre.cli.program import app as program
from lacre.context import Acting
from lacre.errors import KeyServiceUnreachable
from lacre.fastapi import TokenActing, install
from lacre.legacy import FernetReader, Reading
from lacre.stores.log.schema import OUTBOX
from tests.bulk.forking import forking
from tests.fastapi.issuer import Issuer
from tests.jobs.erasing import Shop
from tests.sqlalchemy.models import Base, Customer

CANARY = "canary.wxyz@example.org"  # a value, a term, an id, a password, somebody's error text
MARK = "wxyz"
CPF = "529.982.247-25"
ISSUER = Issuer()


@pytest.fixture
def home(home: Path) -> Path:
    """`home`, whose outbox has a password in its URL."""
    with (home / "lacre.toml").open("a", encoding="utf-8") as config:
        config.write(f'\n[audit.outboxes]\nmain = "postgresql+psycopg://log:{MARK}@nowhere/shop"\n')
    return home


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database with an outbox."""
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    Base.metadata.create_all(engine)
    OUTBOX.create(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def session(lacre: Lacre, engine: Engine) -> Iterator[Session]:
    """A session, in which the role `app` acts."""
    with (
        lacre.acting_as("svc:app", roles={"app"}, purpose="test", across_yield=True),
        lacre.sqlalchemy(sessionmaker(engine))() as session,
    ):
        yield session


def keys(lacre: Lacre) -> list[bytes]:
    """Every key that the process holds."""
    return [bytes(key.material.reveal()) for key in lacre.resolver._entries.values()]


def clean(home: Path, engine: Engine | None = None, secrets: Any = (), *, told: str) -> str:
    """Return the evidence, in which action *told* is, and nothing that must not be."""
    text = (home / "lacre" / "audit.jsonl").read_text("utf-8")
    if engine is not None:
        with engine.connect() as connection:
            found = connection.execute(select(OUTBOX.c.entry)).scalars()
            text += "".join(bytes(entry).decode() for entry in found)
    assert f'"action":"{told}"' in text
    for never in (MARK, CPF, "52998224725"):
        assert never not in text
    for secret in secrets:
        for form in (secret.hex(), base64.b64encode(secret).decode(), base64.urlsafe_b64encode(secret).decode().rstrip("=")):  # fmt: skip
            assert form not in text
    return text


def test_of_objects_statements_and_searches(
    lacre: Lacre, home: Path, engine: Engine, session: Session
) -> None:
    """Written, updated, looked at, searched for, refused by the database: by sessions."""
    session.add(Customer(email=CANARY, cpf=CPF, name=CANARY, account=CANARY))
    session.commit()
    customer = session.scalars(select(Customer).where(Customer.email == CANARY)).one()
    looked = (customer.email, customer.name)
    customer.name = f"{CANARY} again"
    session.execute(insert(Customer), [{"email": f"b{CANARY}"}])
    session.execute(update(Customer), [{"id": customer.id, "account": f"c{CANARY}"}])
    session.commit()
    session.add(Customer(email=CANARY))
    with pytest.raises(LacreError):
        session.commit()
    session.rollback()
    lacre.flush()
    with engine.connect() as connection:
        tokens = connection.exec_driver_sql("SELECT email_bidx, name_bidx FROM customers").all()
    secrets = [*keys(lacre), *(bytes(one) for row in tokens for one in row if one is not None and len(one) > 8)]  # fmt: skip

    assert looked == (CANARY, CANARY)
    assert len(secrets) > 4
    for told in ("look", "search", "encrypt"):
        clean(home, engine, secrets, told=told)


def test_of_fields_without_an_orm(lacre: Lacre, home: Path) -> None:
    """Ids that are texts, values of another field, plaintext in place of a value, and who may not."""
    box = lacre.field(
        "pii", table="people", column="cpf", type=str, index=BlindIndex("cpf", bits=96)
    )
    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        stored = box.prepare(CPF, row=CANARY)
        box.decrypt(stored.value, row=CANARY)
        box.search_tokens(CPF)
        for wrong in (CANARY, CANARY.encode(), stored.value[:-1] + b"x"):
            with pytest.raises(LacreError):
                box.decrypt(wrong, row=CANARY)
    with (
        lacre.acting_as("user:eve", roles={"guest"}, purpose="curiosity"),
        pytest.raises(AccessDenied),
    ):
        box.decrypt(stored.value, row=CANARY)
    lacre.flush()

    clean(home, secrets=[*keys(lacre), *map(bytes, stored.tokens)], told="look")


def test_of_a_key_service_that_fails(lacre: Lacre, home: Path) -> None:
    """Its words are in the error that the application gets, and not in the evidence."""
    box = lacre.field("pii", table="people", column="cpf", type=str)
    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        sealed = box.encrypt(CPF, row=1)
        lacre.resolver.forget()

        class Failing:
            def __getattr__(self, name: str) -> Any:
                raise KeyServiceUnreachable(CANARY)

        lacre.resolver._loader._services = {"local": Failing()}  # type: ignore[dict-item]
        with pytest.raises(KeyServiceUnreachable):
            box.decrypt(sealed, row=1)
    lacre.flush()

    assert '"outcome":"failed"' in clean(home, told="look")


def test_of_a_library_that_was_before(lacre: Lacre, home: Path) -> None:
    """A legacy reader's values and keys, those that do not open included."""
    key = Fernet.generate_key()
    old = Fernet(key).encrypt(CANARY.encode()).decode()
    reader = FernetReader(name="old", keys=[key])
    field = lacre.field("pii", table="patients", column="cpf", type=str)
    day = dt.date(2027, 1, 31)
    reading = Reading(field, reader, until=day, day=lambda: day, moved=False)
    with lacre.acting_as("svc:desk", roles={"app"}, purpose="test"):
        assert reading.decrypt(old, row=CANARY) == CANARY
        for wrong in (old[:-4] + "AAAA", CANARY):
            with pytest.raises(LacreError):
                reading.decrypt(wrong, row=CANARY)
    lacre.flush()

    clean(home, secrets=[base64.urlsafe_b64decode(key)], told="legacy-look")


def test_of_a_reading_in_bulk(lacre: Lacre, home: Path, engine: Engine, session: Session) -> None:
    """Batches of values, in a process of its own."""
    session.add_all(Customer(email=f"{number}{CANARY}", name=CANARY) for number in range(5))
    session.commit()
    with forking() as command, lacre.acting_as("svc:churn", roles={"app"}, purpose="report"):
        reader = BulkReader(config=home / "lacre.toml", database=str(engine.url), command=command)
        table = reader.to_arrow(select(Customer.email, Customer.name), rows=10)

    assert table.num_rows == 5
    clean(home, engine, told="bulk")


def test_of_jobs(home: Path, tmp_path: Path) -> None:
    """Values that `lacre protect` found in plaintext."""
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE people (id TEXT PRIMARY KEY, email TEXT)")
        connection.execute("INSERT INTO people VALUES (?, ?)", ("0" * 32, CANARY))
    arguments = ["protect", "--database", str(path), "--table", "people", "--column", "email:pii:email", "--yes", "--config", str(home / "lacre.toml")]  # fmt: skip
    done = CliRunner().invoke(program, arguments)

    assert done.exit_code == 0, done.output
    assert MARK.encode() not in path.read_bytes()
    clean(home, told="protection")


def test_of_a_person_who_is_erased(home: Path) -> None:
    """An id that is an e-mail address: written about, looked at and shredded under a pseudonym, which goes too."""
    shop = Shop.made(home, more="")
    with shop.engine() as engine:
        OUTBOX.create(engine)
    shop.add(CANARY)
    assert shop.read(CANARY)[1] == "Ana Canary"
    with Lacre.load(shop.config, environ={}) as lacre:
        pseudonym = lacre.pseudonym(CANARY)
        assert pseudonym is not None
    with shop.engine() as engine:
        before = clean(home, engine, told="look")
        shop.shred(CANARY)
        after = clean(home, engine, told="erasure")
    with Lacre.load(shop.config, environ={}) as lacre:
        gone = lacre.pseudonym(CANARY)

    assert before.count(f'"subjects":["{pseudonym}"') >= 2
    assert pseudonym in after
    assert gone is None
    assert all(pseudonym not in str(row) for row in shop.keys("SELECT * FROM lacre_subject"))


def test_of_requests(lacre: Lacre, home: Path, engine: Engine) -> None:
    """A bearer's token, what a caller puts where it does not belong, and what is asked for."""
    acting = TokenActing(lacre, ISSUER.tokens())
    app = FastAPI()
    install(app)
    sessions: Callable[[], Session] = lacre.sqlalchemy(sessionmaker(engine))

    @app.get("/people/{email}")
    def find(email: str, who: Annotated[Acting, acting(purpose="support")]) -> int:
        with sessions() as session:
            found = session.scalars(select(Customer).where(Customer.email == email)).all()
            return len([one.email for one in found])

    headers = ISSUER.headers() | {
        "X-Correlation-ID": f"{CANARY} {CPF}", "X-Forwarded-For": CANARY, "Cookie": f"session={MARK}",
    }  # fmt: skip
    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"), sessions() as session:
        session.add(Customer(email=CANARY))
        session.commit()

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(app, client=(CANARY, 1), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            first = await client.get(f"/people/{CANARY}", headers=headers)
            reason = {"X-Reason": f"because of {CANARY}"}
            return [
                first.status_code,
                (await client.get(f"/people/{CANARY}", headers=headers | reason)).status_code,
            ]

    answers = asyncio.run(ask())
    lacre.flush()

    assert answers == [200, 422]
    text = clean(home, engine, told="search")
    for part in headers["Authorization"].removeprefix("Bearer ").split("."):
        assert part not in text


def test_of_a_database_that_fails(lacre: Lacre, home: Path, engine: Engine) -> None:
    """A statement that the database refuses, with its parameters in the driver's words."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER no BEFORE INSERT ON customers BEGIN SELECT RAISE(ABORT, 'x'); END"
        )
    with (
        lacre.acting_as("svc:app", roles={"app"}, purpose="test"),
        lacre.sqlalchemy(sessionmaker(engine))() as session,
    ):
        session.scalars(select(Customer).where(Customer.email == CANARY)).all()
        session.add(Customer(email=CANARY))
        with pytest.raises(sa.exc.IntegrityError):
            session.commit()
    lacre.flush()

    clean(home, engine, keys(lacre), told="search")
