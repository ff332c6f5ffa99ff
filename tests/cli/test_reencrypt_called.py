# SPDX-License-Identifier: Apache-2.0
"""`lacre reencrypt`, called as a function: of one tenant's rows, and how `--indexes` ends."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
import typer
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from lacre import BlindIndex, Lacre
from lacre.cli.keys.destroying import destroy
from lacre.cli.operator import as_operator
from lacre.cli.reencryption import reencrypt
from lacre.errors import MisuseError
from lacre.fields.column_state import ColumnState, move
from lacre.keys.hierarchy import KeyKind, KeyRow
from lacre.sqlalchemy import compound, encrypted

TENANTS = ("acme", "globex")


class Base(DeclarativeBase):
    pass


class Lead(Base):
    __tablename__ = "leads"
    __lacre_tenant__ = "owner"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    owner: Mapped[str]
    email: Mapped[str] = encrypted("pii", index=BlindIndex("email", unique=True))
    city: Mapped[str] = encrypted("pii")
    both = compound("email", "city", normalisers={"email": "email"})


class Note(Base):
    """Does not say whose it is: whoever acts for a tenant writes under its keys."""

    __tablename__ = "notes"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    text: Mapped[str] = encrypted("pii", index=BlindIndex("exact"))


@pytest.fixture
def factory(operator: Lacre, home: Path) -> Iterator[sessionmaker[Session]]:
    """A lead and a note of each of two tenants."""
    engine = sa.create_engine(f"sqlite:///{home / 'shop.db'}", poolclass=sa.NullPool)
    made = operator.sqlalchemy(sessionmaker(engine))
    fill(operator, engine, made)
    yield made
    engine.dispose()


def fill(operator: Lacre, engine: sa.Engine, made: sessionmaker[Session]) -> None:
    Base.metadata.create_all(engine)
    for tenant in TENANTS:
        with operator.acting_as("operator", roles={"operator"}, purpose="t"):
            operator.create_keys(tenant, "pii")
        with operator.acting_as("svc:app", roles={"app"}, purpose="t", tenant=tenant), made() as session:  # fmt: skip
            session.add_all([Lead(owner=tenant, email="a@example.org", city="Lund"), Note(text="x")])  # fmt: skip
            session.commit()


def rotated(lacre: Lacre, kind: KeyKind) -> list[KeyRow]:
    """Rotate both tenants' keys; return those of before."""
    before = []
    with lacre.acting_as("operator", roles={"operator"}, purpose="t"):
        for tenant in TENANTS:
            scope = lacre.scope(tenant, "pii", kind)
            before += lacre.store.versions(scope)
            replace(lacre.provisioner, now=lambda: "2026-01-01T00:00:00Z", settle=0.0).rotate(scope)
    lacre.resolver.forget()
    return before


def run(home: Path, model: type[Base], **options: Any) -> int:
    """`lacre reencrypt`; return its exit code."""
    given = {
        "models": [f"{__name__}:{model.__name__}"], "database": f"sqlite:///{home / 'shop.db'}",
        "tenant": None, "class_": None, "store": "main", "older_than": None, "workers": 1,
        "batch": 500, "throttle": None, "max_lag": None, "coverage": False, "check": False,
        "indexes": False, "dry_run": False, "yes": True, "as_json": False,
        "config": home / "lacre.toml", "passphrase_file": None,
    }  # fmt: skip
    try:
        reencrypt(**(given | options))
    except typer.Exit as ended:
        return ended.exit_code
    return 0


def stored(factory: sessionmaker[Session], query: str) -> list[tuple[Any, ...]]:
    with factory() as session:
        return [tuple(row) for row in session.connection().exec_driver_sql(query)]


@pytest.mark.parametrize(
    ("model", "query"),
    [
        (Lead, "SELECT email_bidx, email_bidx2, both_bidx FROM leads ORDER BY rowid"),
        (Note, "SELECT text_bidx FROM notes ORDER BY rowid"),
    ],
)
def test_indexes_of_one_tenant(
    operator: Lacre,
    home: Path,
    factory: sessionmaker[Session],
    capsys: pytest.CaptureFixture[str],
    model: type[Base],
    query: str,
) -> None:
    """Its rows get their tokens and its root is named; the other tenant's are as they were, until it is asked for."""
    acme, globex = rotated(operator, KeyKind.INDEX)
    before = stored(factory, query)
    first = run(home, model, indexes=True, tenant="acme")
    half, told = stored(factory, query), capsys.readouterr()
    second = run(home, model, indexes=True, tenant="globex")
    after = stored(factory, query)

    assert (first, second) == (0, 0)
    assert "1 rows written, 0 rows lack" in told.out
    assert acme.key_id.hex()[:8] in told.err
    assert globex.key_id.hex()[:8] not in told.err
    assert half[0] != before[0]
    assert half[1] == before[1]
    assert (after[0], after[1] != before[1]) == (half[0], True)


@pytest.mark.parametrize(("model", "query"), [(Lead, "SELECT email FROM leads ORDER BY rowid"), (Note, "SELECT text FROM notes ORDER BY rowid")])  # fmt: skip
def test_values_of_one_tenant(
    operator: Lacre, home: Path, factory: sessionmaker[Session], model: type[Base], query: str
) -> None:
    """Its values are moved, and no other's."""
    rotated(operator, KeyKind.DATA)
    before = stored(factory, query)
    code = run(home, model, tenant="acme")
    after = stored(factory, query)

    assert code == 0
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_a_root_is_not_named_for_rows_that_nobody_saw(
    operator: Lacre,
    home: Path,
    factory: sessionmaker[Session],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without `--tenant` a table that names none is gone over for the default tenant: other tenants' roots are not said to be free."""
    acme, globex = rotated(operator, KeyKind.INDEX)
    code = run(home, Note, indexes=True)
    told = capsys.readouterr().err

    assert code == 0
    assert acme.key_id.hex()[:8] not in told
    assert globex.key_id.hex()[:8] not in told


def test_indexes_end_unfinished_while_the_root_is_young(
    operator: Lacre,
    home: Path,
    factory: sessionmaker[Session],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One cache age after the activation it exits 10 and names no root: a process may still make tokens under the one before."""
    with operator.acting_as("operator", roles={"operator"}, purpose="t"):
        root, *_ = before = operator.store.versions(operator.scope("acme", "pii", KeyKind.INDEX))
        replace(operator.provisioner, settle=0.0).rotate(root.scope)
    first = run(home, Lead, indexes=True)
    young = capsys.readouterr()
    checked = run(home, Lead, indexes=True, check=True)

    assert len(before) == 1
    assert (first, checked) == (10, 10)
    assert "1 rows written, 0 rows lack" in young.out
    assert "running processes may make tokens under the root before until" in young.err
    assert root.key_id.hex()[:8] not in young.err


def test_indexes_end_unfinished_while_a_column_is_not_encrypted(
    operator: Lacre,
    home: Path,
    factory: sessionmaker[Session],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A column in `dual` is left alone and named: it exits 10 and names no root, nor is one destroyed."""
    acme, _ = rotated(operator, KeyKind.INDEX)
    with as_operator(home / "lacre.toml", None, purpose="protect") as acting:
        move(
            acting.store, acting.identity, keystore=acting.store.keystore_id, store="main",
            table="leads", column="city", class_="pii", to=ColumnState.DUAL, changed="2026-01-01T00:00:00Z",
        )  # fmt: skip
    code = run(home, Lead, indexes=True)
    told = capsys.readouterr()
    with pytest.raises(
        MisuseError, match=r"leads\.city.*which is in state dual; nothing was destroyed"
    ):
        destroy(
            acme.key_id.hex(), models=[f"{__name__}:Lead"], database=[f"sqlite:///{home / 'shop.db'}"],
            with_what_it_protects=False, yes=True, config=home / "lacre.toml", passphrase_file=None,
        )  # fmt: skip

    assert code == 10
    assert "left alone: " in told.err
    assert "leads.city is in state dual" in " ".join(told.err.split())
    assert "2 rows written, 0 rows lack" in told.out
    assert acme.key_id.hex()[:8] not in told.err
    assert len(stored(factory, "SELECT 1 FROM leads WHERE email_bidx2 IS NOT NULL")) == 2
