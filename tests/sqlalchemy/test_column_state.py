# SPDX-License-Identifier: Apache-2.0
"""A session writes, reads and searches a column only while its signed state is `encrypted`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker

from lacre import ConfigurationError, Lacre, LacreError, Tampered
from lacre.fields.column_state import ColumnState, ColumnStateRow, move
from lacre.kms.local import Identity
from tests.sqlalchemy.conftest import Acting, Sessions
from tests.sqlalchemy.models import CPF, EMAIL, OTHER_EMAIL, Customer
from tests.sqlalchemy.raw import only

Move = Callable[..., ColumnStateRow]


@pytest.fixture
def moved(lacre: Lacre, home: Path) -> Move:
    """Move customers.email to a state, signed by the operator as `lacre protect` does, or by another."""

    def to(state: ColumnState, *, signer: str = "operator.key") -> ColumnStateRow:
        return move(
            lacre.store,
            Identity.load(home / "lacre/identities" / signer),
            keystore=lacre.store.keystore_id,
            store="main",
            table="customers",
            column="email",
            class_="pii",
            to=state,
            changed="2026-01-02T03:04:05Z",
        )

    return to


def forged(lacre: Lacre, row: ColumnStateRow) -> None:
    """Write the next row with the signature of the one before."""
    lacre.store.put(replace(row, state=ColumnState.ENCRYPTED, revision=row.revision + 1))


def refusals(sessions: Sessions, acting: Acting) -> list[LacreError]:
    """What inserting, changing, looking and searching raise, in a session each."""

    def insert(session: Session) -> None:
        session.add(Customer(email=OTHER_EMAIL))
        session.flush()

    def change(session: Session) -> None:
        session.scalars(select(Customer)).one().email = OTHER_EMAIL
        session.flush()

    def look(session: Session) -> None:
        _ = session.scalars(select(Customer)).one().email

    def search(session: Session) -> None:
        session.scalars(select(Customer).where(Customer.email == EMAIL)).all()

    raised: list[LacreError] = []
    for use in (insert, change, look, search):
        with acting("app"), sessions() as session, pytest.raises(LacreError) as refused:
            use(session)
        raised.append(refused.value)
    return raised


@pytest.fixture
def later(sessions: Sessions, acting: Acting, lacre: Lacre, engine: Engine) -> Sessions:
    """The sessions of a process that starts when there is a customer: a state is asked for once."""
    with acting("app"), sessions() as session:
        session.add(Customer(email=EMAIL, cpf=CPF))
        session.commit()
    return lacre.sqlalchemy(sessionmaker(engine))


@pytest.mark.parametrize("state", [ColumnState.PLAINTEXT, ColumnState.DUAL])
def test_a_column_that_may_hold_plaintext_is_not_used(
    later: Sessions, acting: Acting, engine: Engine, moved: Move, state: ColumnState
) -> None:
    """Not written, not looked at, not searched; the error names the column and its state."""
    moved(state)
    raised = refusals(later, acting)

    for error in raised:
        assert isinstance(error, ConfigurationError)
        assert f"present state is {state}" in str(error)
        assert "lacre protect" in error.hint
    assert only(engine, "SELECT count(*) FROM customers") == 1


@pytest.mark.parametrize("state", [ColumnState.PLAINTEXT, ColumnState.DUAL])
def test_other_columns_of_the_table_are_used(
    later: Sessions, acting: Acting, moved: Move, state: ColumnState
) -> None:
    """The state is one column's: its neighbours are read as ever."""
    moved(state)
    with acting("app"), later() as session:
        found = session.scalars(select(Customer).where(Customer.cpf == CPF)).one()

        assert found.cpf == CPF


def test_a_column_moved_to_encrypted_is_used(later: Sessions, acting: Acting, moved: Move) -> None:
    """A rightly signed row that says `encrypted` is as good as none."""
    moved(ColumnState.DUAL)
    moved(ColumnState.ENCRYPTED)
    with acting("app"), later() as session:
        assert session.scalars(select(Customer)).one().email == EMAIL


def test_a_state_nobody_signed_is_refused(
    later: Sessions, acting: Acting, lacre: Lacre, engine: Engine, moved: Move
) -> None:
    """A row that says `encrypted` under another row's signature opens nothing and writes nothing."""
    forged(lacre, moved(ColumnState.DUAL))
    raised = refusals(later, acting)

    assert all(isinstance(error, Tampered) for error in raised), raised
    assert only(engine, "SELECT count(*) FROM customers") == 1


def test_a_service_does_not_sign_states(
    later: Sessions, acting: Acting, home: Path, moved: Move
) -> None:
    """A row signed by an identity that is no operator's is refused, whatever it says."""
    assert (home / "lacre" / "identities" / "svc-app.key").is_file()
    moved(ColumnState.ENCRYPTED, signer="svc-app.key")

    assert all(isinstance(error, Tampered) for error in refusals(later, acting))
