# SPDX-License-Identifier: Apache-2.0
"""Looking at encrypted attributes: decided and recorded, whatever state the object is in."""

import gc
import pickle
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, event, inspect, select
from sqlalchemy.orm import Session, defer, load_only, make_transient, sessionmaker

from lacre import (
    AccessDenied,
    ActingEnded,
    ConfigurationError,
    Lacre,
    Mask,
    NoPrincipal,
)
from lacre.context import acting_as
from lacre.errors import DuplicateValue, MisuseError, PlaintextFound
from lacre.sqlalchemy import ciphertext_of
from lacre.sqlalchemy.types import EncryptedType, SealedValue
from tests.sqlalchemy.conftest import Acting, Sessions
from tests.sqlalchemy.models import CPF, EMAIL, Customer, Numbered, Order
from tests.sqlalchemy.raw import execute, only

Recorded = Callable[..., list[dict[str, Any]]]


def counted(recorded: Recorded, **wanted: str) -> int:
    return sum(event["count"] for event in recorded("look", **wanted))


def test_every_look_is_recorded(session: Session, recorded: Recorded) -> None:
    """A pending value, a flushed one, and a second look at the same: each is an event."""
    customer = Customer(email=EMAIL)
    session.add(customer)

    assert [customer.email, customer.email] == [EMAIL, EMAIL]
    assert counted(recorded, column="email") == 2
    session.commit()
    assert [customer.email, customer.email] == [EMAIL, EMAIL]
    assert counted(recorded, column="email") == 4
    assert recorded("look")[-1]["rows"][-1] == customer.id.hex


def test_loading_looks_at_nothing(session: Session, recorded: Recorded) -> None:
    """Neither loading an object nor its repr is a look."""
    session.add(Customer(email=EMAIL))
    session.commit()
    session.expunge_all()
    repr(session.scalars(select(Customer)).one())

    assert counted(recorded) == 0


def test_two_principals_on_one_object_get_two_decisions(
    session: Session, acting: Acting, recorded: Recorded
) -> None:
    """What one principal looked at is not there for the next."""
    customer = Customer(email=EMAIL, account="12345")
    session.add(customer)
    session.commit()

    assert customer.email == EMAIL
    with acting("support", "user:sue"):
        assert type(customer.email) is Mask
    with acting("searcher", "user:sam"), pytest.raises(AccessDenied):
        customer.email
    assert customer.email == EMAIL
    outcomes = [(e["principal"], e["outcome"]) for e in recorded("look", column="email")]
    assert set(outcomes) == {
        ("svc:app", "allowed"),
        ("user:sue", "masked"),
        ("user:sam", "denied"),
    }


def test_a_pending_value_is_decided_too(
    session: Session, acting: Acting, recorded: Recorded
) -> None:
    """A value that one principal assigned and nobody flushed is masked and denied like any other."""
    customer = Customer(email=EMAIL, account="1234567890123")
    session.add(customer)

    with session.no_autoflush:
        with acting("support"):
            assert str(customer.account) == "***0123"
            assert type(customer.email) is Mask
        with acting("writer"), pytest.raises(AccessDenied):
            customer.email
    assert {e["outcome"] for e in recorded("look", column="email")} == {"masked", "denied"}


def test_a_value_no_session_has_seen_is_decided_too(
    lacre: Lacre, acting: Acting, recorded: Recorded
) -> None:
    """Read back from an object before it is added: by the policy of whoever acts, and recorded."""
    customer = Customer(email=EMAIL, account="1234567890123")

    with acting("app"):
        assert customer.email == EMAIL
    with acting("support"):
        assert str(customer.account) == "***0123"
        assert type(customer.email) is Mask
    with acting("writer"), pytest.raises(AccessDenied):
        customer.email
    with pytest.raises(NoPrincipal):
        customer.email
    with (
        acting_as("svc:other", roles={"app"}, purpose="test"),  # of no application
        pytest.raises(ConfigurationError, match="belongs to no session"),
    ):
        customer.email
    outcomes = [event["outcome"] for event in recorded("look", column="email")]
    assert outcomes == ["allowed", "masked", "denied"]


def test_nobody_looks_at_nothing(session: Session, sessions: Sessions, acting: Acting) -> None:
    """Outside `acting_as`, and after it ended, a look is refused, pending and stored alike."""
    session.add(Customer(email=EMAIL))
    session.commit()
    import contextvars

    empty = contextvars.Context()
    customer = session.scalars(select(Customer)).one()
    pending = Customer(email="x@example.org")
    with session.no_autoflush:
        session.add(pending)
        for looked in (customer, pending):
            with pytest.raises(NoPrincipal):
                empty.run(lambda looked=looked: looked.email)  # type: ignore[misc]
        session.expunge(pending)
    with acting("app"):
        ended = contextvars.copy_context()
    with pytest.raises(ActingEnded):
        ended.run(lambda: customer.email)


def test_a_look_outlives_the_rollback(session: Session, recorded: Recorded) -> None:
    """Rolling back after a look does not take the evidence back."""
    session.add(Customer(email=EMAIL))
    session.commit()
    before = counted(recorded)
    session.scalars(select(Customer)).one().email
    session.rollback()

    assert counted(recorded) == before + 1


def test_a_read_only_database_can_be_looked_at(
    session: Session, lacre: Lacre, engine: Engine, recorded: Recorded
) -> None:
    """Looking writes nothing to the application's database."""
    session.add(Customer(email=EMAIL))
    session.commit()
    session.close()

    @event.listens_for(engine, "begin")
    def read_only(connection: Any) -> None:
        connection.exec_driver_sql(
            "SET TRANSACTION READ ONLY"
            if engine.dialect.name == "postgresql"
            else "PRAGMA query_only = ON"
        )

    with lacre.sqlalchemy(sessionmaker(engine))() as reading:
        assert reading.scalars(select(Customer)).one().email == EMAIL
        reading.commit()
    assert counted(recorded) == 1


def test_objects_open_in_every_state(session: Session) -> None:
    """Expired, refreshed, expunged, detached by close, deleted, merged: the value opens."""
    customer = Customer(email=EMAIL, cpf=CPF)
    session.add(customer)
    session.commit()
    assert customer.email == EMAIL

    session.expire(customer, ["email"])
    assert customer.email == EMAIL
    session.refresh(customer, ["email"])
    assert customer.email == EMAIL
    session.rollback()
    assert customer.email == EMAIL
    session.expunge(customer)
    assert (customer.email, inspect(customer).detached) == (EMAIL, True)
    merged = session.merge(customer)
    assert (merged is customer, merged.email) == (False, EMAIL)
    session.close()
    assert (merged.email, merged.cpf) == (EMAIL, CPF)
    session.add(merged)
    session.delete(merged)
    session.commit()
    assert merged.email == EMAIL


def test_objects_that_leave_a_session_keep_their_tie(session: Session) -> None:
    """Deleted and committed, or expunged before any flush, an object is still looked at."""
    deleted, expunged = Customer(email=EMAIL), Customer(email="x@example.org")
    session.add(deleted)
    session.flush()
    session.delete(deleted)
    session.commit()
    session.add(expunged)
    session.expunge(expunged)

    assert inspect(deleted).detached
    assert deleted.email == EMAIL
    assert inspect(expunged).transient
    assert expunged.email == "x@example.org"


def test_an_object_rolled_back_before_it_existed_opens(session: Session) -> None:
    """Flushed, rolled back, and now without identity: its values open under the key it has."""
    customer = Customer(email=EMAIL)
    session.add(customer)
    session.flush()
    session.rollback()

    assert inspect(customer).transient
    assert customer.email == EMAIL
    customer.email = "new@example.org"
    assert customer.email == "new@example.org"


def test_a_transient_object_without_its_key_does_not_open(session: Session) -> None:
    """Made transient and given no key, there is no row it could be bound to."""
    customer = Customer(email=EMAIL)
    session.add(customer)
    session.commit()
    session.refresh(customer)
    make_transient(customer)
    assert customer.email == EMAIL
    customer.id = None

    with pytest.raises(ConfigurationError, match="not known"):
        customer.email


def test_a_detached_object_that_was_assigned_to_is_looked_at(session: Session) -> None:
    """Assigning to a detached object keeps its tie to the application."""
    customer = Customer(email=EMAIL)
    session.add(customer)
    session.commit()
    session.refresh(customer)
    session.expunge(customer)
    customer.email = "new@example.org"

    assert customer.email == "new@example.org"


def test_deferred_attributes_load_when_looked_at(session: Session) -> None:
    """`load_only` and `defer` leave a value out until the look; also of a table with a row id."""
    session.add_all([Customer(email=EMAIL, cpf=CPF), Numbered(id=1, email=EMAIL)])
    session.commit()
    session.expunge_all()
    only_email = session.scalars(select(Customer).options(load_only(Customer.email))).one()
    assert "cpf" not in only_email.__dict__
    assert (only_email.email, only_email.cpf) == (EMAIL, CPF)
    session.expunge_all()
    deferred = session.scalars(select(Customer).options(defer(Customer.email))).one()
    assert deferred.email == EMAIL
    numbered = session.scalars(select(Numbered).options(load_only(Numbered.email))).one()
    assert numbered.email == EMAIL


def test_related_objects_are_looked_at(session: Session) -> None:
    """Objects reached by a relationship, lazily or joined, open like others."""
    session.add(Customer(email=EMAIL, orders=[Order(note="first")]))
    session.commit()
    order = session.scalars(select(Order)).one()

    assert order.customer.email == EMAIL
    assert order.customer.orders[0].note == "first"


def test_inspection_is_a_look_or_shows_nothing(session: Session, recorded: Recorded) -> None:
    """`inspect(obj).attrs` decides for `value`; `loaded_value` and `history` hold no plaintext."""
    customer = Customer(email=EMAIL)
    session.add(customer)
    state = inspect(customer).attrs.email
    assert EMAIL not in repr(state.loaded_value)
    assert EMAIL not in repr(state.history)
    session.commit()
    before = counted(recorded)

    assert state.value == EMAIL
    assert counted(recorded) == before + 1
    assert type(state.loaded_value) is bytes
    assert EMAIL.encode() not in state.loaded_value


def test_a_loaded_ciphertext_is_its_bytes(session: Session) -> None:
    """A loaded object holds what the collector does not visit, and its look is decided as before."""
    session.add(Customer(email=EMAIL))
    session.commit()
    session.expire_all()
    customer = session.scalars(select(Customer)).one()
    held = customer.__dict__["email"]

    assert type(held) is bytes
    assert not gc.is_tracked(held)
    assert EMAIL.encode() not in held
    assert customer.email == EMAIL


def test_a_driver_may_return_any_binary(session: Session, lacre: Lacre) -> None:
    """A ciphertext is held as bytes, whatever it comes as; what is none stays wrapped, and does not print."""
    sealed = bytes(
        lacre.field("pii", table="t", column="c", type=str).encrypt(EMAIL, row="1") or b""
    )
    held = EncryptedType("pii").result_processor(session.get_bind().dialect, None)

    for returned in (sealed, bytearray(sealed), memoryview(sealed)):
        assert type(held(returned)) is bytes
        assert held(returned) == sealed
    for planted in (EMAIL, EMAIL.encode(), memoryview(EMAIL.encode()), sealed[:90], 42):
        assert isinstance(held(planted), SealedValue)
        assert repr(held(planted)).startswith("<sealed")


def test_no_plaintext_stays_on_a_flushed_object(session: Session) -> None:
    """After the flush and after any look the object's own dictionary holds ciphertext only."""
    customer = Customer(email=EMAIL)
    session.add(customer)
    session.flush()
    assert customer.email == EMAIL
    held = customer.__dict__["email"]

    assert type(held) is bytes
    assert EMAIL.encode() not in held


def test_an_object_whose_flush_failed_holds_ciphertext(session: Session) -> None:
    """It travels as mere bytes, is looked at where it was bound, and is encrypted anew when it is added again."""
    session.add(Customer(email="other@example.org", cpf=CPF))
    session.commit()
    customer = Customer(id=uuid4(), email=EMAIL, cpf=CPF)
    session.add(customer)
    with pytest.raises(DuplicateValue):
        session.flush()
    session.rollback()
    held = customer.__dict__["email"]
    assert isinstance(held, bytes)
    assert EMAIL.encode() not in held
    assert type(pickle.loads(pickle.dumps(customer)).__dict__["email"]) is bytes
    customer.cpf = None
    session.add(customer)
    assert customer.email == EMAIL
    session.commit()

    assert customer.__dict__.get("email") != held
    assert customer.email == EMAIL


def test_pickles_hold_ciphertext(session: Session) -> None:
    """An object travels as ciphertext, and is looked at again once a session has it."""
    customer = Customer(email=EMAIL)
    session.add(customer)
    session.commit()
    assert customer.email == EMAIL
    pickled = pickle.dumps(customer)
    assert EMAIL.encode() not in pickled
    session.expunge_all()
    loaded = pickle.loads(pickled)

    with pytest.raises(ConfigurationError, match="belongs to no session"):
        loaded.email
    session.add(loaded)
    assert loaded.email == EMAIL


def test_an_object_with_a_pending_value_does_not_pickle(session: Session) -> None:
    """What was assigned and not flushed would travel as plaintext, so it does not travel."""
    with pytest.raises(MisuseError, match="not flushed"):
        pickle.dumps(Customer(email=EMAIL))


def test_a_plain_session_opens_nothing(session: Session, engine: Engine) -> None:
    """Objects of a sessionmaker that lacre was not given are neither opened nor written."""
    session.add(Customer(email=EMAIL))
    session.commit()
    with sessionmaker(engine)() as plain:
        found = plain.scalars(select(Customer)).one()
        with pytest.raises(ConfigurationError, match="belongs to no session"):
            found.email
        plain.add(Customer(email="x@example.org"))
        with pytest.raises(ConfigurationError, match="belongs to no session"):
            plain.flush()

    assert only(engine, "SELECT count(*) FROM customers") == 1


def test_a_json_value_is_read_anew_at_each_look(session: Session) -> None:
    """Changing a looked-at structure in place changes nothing; it is assigned to be written."""
    from tests.sqlalchemy.models import Typed

    row = Typed(data={"a": [1]})
    session.add(row)
    session.commit()
    row.data["a"].append(2)
    session.commit()
    assert row.data == {"a": [1]}
    row.data = {"a": [1, 2]}
    session.commit()
    assert row.data == {"a": [1, 2]}


def test_the_ciphertext_of_an_attribute(
    session: Session, recorded: Recorded, engine: Engine
) -> None:
    """It is what the row holds, without a look; a value that was not flushed has none."""
    customer = Customer(email=EMAIL)
    with pytest.raises(MisuseError, match="no ciphertext yet") as raised:
        ciphertext_of(customer, "email")
    assert EMAIL not in str(raised.value)
    session.add(customer)
    session.commit()
    session.refresh(customer)

    assert ciphertext_of(customer, "email") == only(engine, "SELECT email FROM customers")
    assert ciphertext_of(customer, "cpf") is None
    assert not recorded("look")


def test_plaintext_is_no_ciphertext(session: Session, engine: Engine) -> None:
    """What somebody put into the column in the clear is not handed out as a ciphertext."""
    session.add(Customer(email=EMAIL))
    session.commit()
    execute(engine, "UPDATE customers SET email = ?", b"in the clear")

    with pytest.raises(PlaintextFound):
        ciphertext_of(session.scalars(select(Customer)).one(), "email")
