# SPDX-License-Identifier: Apache-2.0
"""Writing encrypted attributes: what is encrypted anew, what is left alone, what is refused."""

import os
import pickle
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, String, TypeDecorator, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    make_transient,
    mapped_column,
    validates,
)

from lacre import (
    AccessDenied,
    AlreadyEncrypted,
    ConfigurationError,
    DuplicateValue,
    InvalidValue,
    Lacre,
    MaskWritten,
    NoPrincipal,
    UnsupportedQuery,
)
from lacre.sqlalchemy import encrypted
from lacre.sqlalchemy.types import SealedValue
from tests.sqlalchemy.conftest import Acting, Sessions, on_sqlite
from tests.sqlalchemy.models import (
    CPF,
    EMAIL,
    OTHER_CPF,
    OTHER_EMAIL,
    Customer,
    Numbered,
    Paired,
    Typed,
    Versioned,
)
from tests.sqlalchemy.raw import execute, only, rows


def stored(engine: Engine) -> tuple[Any, ...]:
    [row] = rows(engine, "SELECT email, email_bidx, cpf, cpf_bidx, name, account FROM customers")
    return row


def one(session: Session) -> Customer:
    customer = Customer(email=EMAIL, cpf=CPF, name="Ana", account="123", city="x")
    session.add(customer)
    session.commit()
    return customer


@pytest.mark.parametrize("loaded", [True, False])
def test_the_same_value_assigned_is_not_encrypted_anew(
    session: Session, engine: Engine, loaded: bool
) -> None:
    """Assigning what is there leaves every byte, whether the attribute was loaded or expired."""
    customer = one(session)
    before = stored(engine)
    if loaded:
        session.refresh(customer)
    customer.email, customer.account, customer.city = EMAIL, "123", "y"
    session.commit()

    assert stored(engine) == before


def test_an_object_with_the_same_values_is_not_modified(session: Session) -> None:
    """Looking, and assigning the same, is no change to the unit of work."""
    customer = one(session)
    customer.email = customer.email

    assert not session.is_modified(customer)


def test_updating_one_field_leaves_the_others(session: Session, engine: Engine) -> None:
    """Only what was assigned is encrypted; the others stay byte for byte, whoever writes."""
    customer = one(session)
    before = stored(engine)
    customer.email = OTHER_EMAIL
    session.commit()
    after = stored(engine)

    assert after[0] != before[0]
    assert after[1] != before[1]
    assert after[2:] == before[2:]


def test_merging_the_same_values_encrypts_nothing(session: Session, engine: Engine) -> None:
    """A merged object with the row's own values, detached or new, leaves every byte."""
    customer = one(session)
    session.refresh(customer)
    before = stored(engine)
    session.expunge_all()
    session.merge(customer)
    session.commit()
    session.merge(Customer(id=customer.id, email=EMAIL, cpf=CPF, name="Ana", account="123"))
    session.commit()

    assert stored(engine) == before


def test_none_clears_ciphertext_and_token(session: Session, engine: Engine) -> None:
    """None leaves NULL in both columns, and the value is free for another row."""
    customer = one(session)
    customer.email = None
    session.commit()

    assert stored(engine)[:2] == (None, None)
    session.add(Customer(email=EMAIL))
    session.commit()


@pytest.mark.parametrize(
    "text",
    ["x", "\U0001d49c\U0010ffff", "e\u0301", "\u00e9", "\x00", " padded ", "A" * 100_000],
    ids=["short", "non-bmp", "nfd", "nfc", "nul", "spaces", "long"],
)
def test_text_comes_back_code_point_for_code_point(session: Session, text: str) -> None:
    """No normal form is applied to what is stored."""
    session.add(Typed(text=text))
    session.commit()
    session.expunge_all()

    assert session.scalars(select(Typed)).one().text == text


def test_sixteen_mebibytes_are_the_most(session: Session) -> None:
    """16 MiB survive; one byte more is refused, and nothing is sent."""
    blob = os.urandom(16 * 1024 * 1024)
    session.add(Typed(blob=blob))
    session.commit()
    session.expunge_all()
    assert session.scalars(select(Typed)).one().blob == blob
    session.add(Typed(blob=blob + b"x"))

    with pytest.raises(InvalidValue, match="16 MiB"):
        session.flush()


@pytest.mark.parametrize("loaded", [True, False])
def test_a_changed_primary_key_binds_the_values_anew(session: Session, loaded: bool) -> None:
    """Every value opens under the new key, and is found."""
    customer = one(session)
    if loaded:
        session.refresh(customer)
    customer.id = uuid4()
    customer.account = "456"
    session.commit()
    session.expunge_all()
    found = session.scalars(select(Customer).where(Customer.cpf == CPF)).one()

    assert (found.email, found.cpf, found.name, found.account) == (EMAIL, CPF, "Ana", "456")


def test_a_changed_part_of_a_composite_key_binds_anew(session: Session) -> None:
    """Composite keys are row ids too."""
    row = Paired(shop="a", number=1, email=EMAIL)
    session.add(row)
    session.commit()
    row.number = 2
    session.commit()
    session.expunge_all()

    assert session.get_one(Paired, ("a", 2)).email == EMAIL


def test_who_may_not_decrypt_does_not_move_rows(
    session: Session, engine: Engine, acting: Acting
) -> None:
    """A key change by a principal that cannot read is refused, and the row stays as it was."""
    customer = one(session)
    before = stored(engine)
    session.refresh(customer)
    customer.id = uuid4()
    with acting("writer"), pytest.raises(AccessDenied):
        session.flush()
    session.rollback()

    assert stored(engine) == before


def test_a_row_id_makes_key_changes_harmless(session: Session, engine: Engine) -> None:
    """With `row_id()` the primary key may change: nothing is encrypted anew."""
    row = Numbered(email=EMAIL)
    session.add(row)
    session.commit()
    before = only(engine, "SELECT email FROM numbered")
    row.id = 77
    session.commit()
    session.expunge_all()

    assert session.get_one(Numbered, 77).email == EMAIL
    assert only(engine, "SELECT email FROM numbered") == before


def test_a_row_id_that_changes_loses_nothing(session: Session) -> None:
    """Assigning another row id, which nobody should, binds the values anew."""
    row = Numbered(email=EMAIL)
    session.add(row)
    session.commit()
    row.lacre_rid = uuid4()
    session.commit()
    session.expunge_all()

    assert session.scalars(select(Numbered)).one().email == EMAIL


@on_sqlite
def test_a_reused_rowid_does_not_reopen_a_deleted_row(session: Session, engine: Engine) -> None:
    """The next row with the same integer key has another row id: an old ciphertext is refused."""
    first = Numbered(email=EMAIL)
    session.add(first)
    session.commit()
    old = only(engine, "SELECT email FROM numbered")
    session.delete(first)
    session.commit()
    session.add(Numbered(email=OTHER_EMAIL))
    session.commit()
    assert only(engine, "SELECT id FROM numbered") == 1
    execute(engine, "UPDATE numbered SET email = ?", old)
    session.expire_all()

    from lacre import Tampered

    with pytest.raises(Tampered):
        session.scalars(select(Numbered)).one().email


def test_a_copy_made_transient_is_refused_under_a_new_key(session: Session, engine: Engine) -> None:
    """A ciphertext does not follow its object to another row."""
    customer = one(session)
    session.refresh(customer)
    make_transient(customer)
    customer.id = uuid4()
    session.add(customer)
    with pytest.raises(AlreadyEncrypted, match="another row"):
        session.flush()
    session.rollback()

    assert only(engine, "SELECT count(*) FROM customers") == 1


def test_an_object_rolled_back_is_added_again(session: Session, recorded: Any) -> None:
    """After a refused flush the same object, corrected, is written whole, and recorded once."""
    session.add(Customer(email=EMAIL))
    session.commit()
    customer = Customer(email=EMAIL, cpf=CPF, account="123")
    session.add(customer)
    with pytest.raises(DuplicateValue):
        session.commit()
    session.rollback()
    customer.email = OTHER_EMAIL
    session.add(customer)
    session.commit()
    session.expunge_all()
    found = session.scalars(select(Customer).where(Customer.cpf == CPF)).one()

    assert (found.email, found.account) == (OTHER_EMAIL, "123")
    assert [e["count"] for e in recorded("encrypt", column="cpf")] == [1]


def test_a_ciphertext_of_another_row_is_refused(session: Session, engine: Engine) -> None:
    """The state of one object, or the bytes it or a Core row holds, assigned to another, is not written."""
    first, second = Customer(email=EMAIL), Customer(email=OTHER_EMAIL)
    session.add_all([first, second])
    session.commit()
    session.refresh(first)
    held = first.__dict__["email"]
    from_core = session.execute(
        select(Customer.__table__.c.email).where(Customer.__table__.c.id == first.id)
    ).scalar_one()
    from lacre.fields.stored import Sealed

    for taken, error in (
        (SealedValue(held), AlreadyEncrypted),
        (Sealed(held), AlreadyEncrypted),
        (held, InvalidValue),
        (from_core, InvalidValue),
    ):
        second.email = taken
        with pytest.raises(error):
            session.flush()
        session.rollback()
    assert second.email == OTHER_EMAIL


def test_a_ciphertext_is_not_encrypted_again(session: Session, lacre: Lacre) -> None:
    """Its text form for a str column, and its bytes for a bytes column, are recognised."""
    field = lacre.field("pii", table="customers", column="email")
    text, raw = field.encrypt_text("x", row="1"), field.encrypt("x", row="1")
    for row in (Typed(text=text), Typed(blob=bytes(raw or b""))):
        session.add(row)
        with pytest.raises(AlreadyEncrypted):
            session.flush()
        session.rollback()


def test_an_older_ciphertext_of_the_same_row_brings_its_token(session: Session) -> None:
    """A value taken back by its state is found by what it is, and not by what it was."""
    customer = one(session)
    session.refresh(customer)
    older = pickle.dumps(customer)
    customer.email = OTHER_EMAIL
    session.commit()
    session.merge(pickle.loads(older))
    session.commit()

    assert session.scalars(select(Customer).where(Customer.email == EMAIL)).one() is customer
    assert session.scalars(select(Customer).where(Customer.email == OTHER_EMAIL)).all() == []


def test_a_mask_written_back_is_refused(session: Session, engine: Engine, acting: Acting) -> None:
    """What a masked reader got is not written over what it hides."""
    customer = one(session)
    before = stored(engine)
    with acting("maskwriter"):
        seen: Any = customer.email
        for written in (customer, Customer()):
            with pytest.raises(MaskWritten):
                written.email = seen
        with pytest.raises(MaskWritten):
            Customer(email=seen)
        # As a form sends it back that was filled with it: no `Mask` any more.
        with pytest.raises(MaskWritten):
            customer.email = str(seen)
    session.commit()

    assert stored(engine) == before


def test_who_may_not_read_writes_without_learning(
    session: Session, engine: Engine, acting: Acting
) -> None:
    """For a principal without `decrypt` the same value is encrypted anew: no bytes tell equality."""
    customer = one(session)
    session.refresh(customer)
    before = stored(engine)
    with acting("writer"):
        customer.email = EMAIL
        session.commit()
    after = stored(engine)

    assert after[0] != before[0]
    assert after[1] == before[1]


def test_who_may_not_encrypt_writes_nothing(
    session: Session, engine: Engine, acting: Acting, recorded: Any
) -> None:
    """The policy decides a flush, and records the refusal."""
    session.add(Customer(email=EMAIL))
    with acting("searcher"), pytest.raises(AccessDenied):
        session.flush()
    session.rollback()

    assert only(engine, "SELECT count(*) FROM customers") == 0
    assert [e["outcome"] for e in recorded("encrypt", column="email")] == ["denied"]


def test_a_flush_of_nobody_sends_nothing(sessions: Sessions, engine: Engine) -> None:
    """Outside `acting_as` nothing is written, not even the row without its values."""
    with sessions() as session:
        session.add(Customer(email=EMAIL))
        with pytest.raises(NoPrincipal):
            session.commit()
        session.rollback()

    assert only(engine, "SELECT count(*) FROM customers") == 0


def test_a_token_is_not_assigned(session: Session, engine: Engine) -> None:
    """The index column follows its value only: no token is copied, planted or taken away."""
    first, second = Customer(email=EMAIL, cpf=CPF), Customer(email=OTHER_EMAIL)
    session.add_all([first, second])
    session.commit()
    before = rows(engine, "SELECT cpf_bidx FROM customers ORDER BY id")
    for change in (
        lambda: setattr(second, "cpf_bidx", first.cpf_bidx),  # type: ignore[attr-defined]
        lambda: setattr(first, "cpf_bidx", None),
        lambda: session.add(Customer(cpf_bidx=first.cpf_bidx)),  # type: ignore[attr-defined,call-arg]
    ):
        change()
        with pytest.raises(UnsupportedQuery, match="blind index"):
            session.flush()
        session.rollback()

    assert rows(engine, "SELECT cpf_bidx FROM customers ORDER BY id") == before


@pytest.mark.parametrize("planted", ["text", 42, b"", b"\xc1\x01"])
def test_planted_plaintext_is_overwritten_by_an_assignment(
    session: Session, engine: Engine, planted: Any
) -> None:
    """An assignment heals a column that somebody wrote plaintext into."""
    if engine.dialect.name == "postgresql" and isinstance(planted, int):
        pytest.skip("a column of bytes takes no number there")
    customer = one(session)
    execute(engine, "UPDATE customers SET email = ?", planted)
    session.refresh(customer)
    assert "text" not in repr(customer.__dict__)
    customer.email = OTHER_EMAIL
    session.commit()

    assert customer.email == OTHER_EMAIL


def test_a_replaced_row_is_written_whole(session: Session) -> None:
    """Deleting a row and adding one of the same key in one flush leaves values that open."""
    customer = one(session)
    key = customer.id
    session.delete(customer)
    session.add(Customer(id=key, email=OTHER_EMAIL, cpf=OTHER_CPF))
    session.commit()
    found = session.scalars(select(Customer)).one()

    assert (found.email, found.cpf) == (OTHER_EMAIL, OTHER_CPF)


def test_a_version_column_counts_real_changes(session: Session) -> None:
    """With `version_id_col` the same value is no new version, another is one."""
    row = Versioned(email=EMAIL)
    session.add(row)
    session.commit()
    session.refresh(row)
    row.email = EMAIL
    session.commit()
    assert row.version == 1
    row.email = OTHER_EMAIL
    session.commit()
    assert (row.version, row.email) == (2, OTHER_EMAIL)


def test_an_integer_key_given_as_text_is_refused(session: Session) -> None:
    """SQLite would store "007" as 7, and the values would be bound to another row."""
    session.add(Paired(shop="a", number="007", email=EMAIL))

    with pytest.raises(InvalidValue, match="integer"):
        session.flush()


class Lower(TypeDecorator[str]):
    """A key type that stores two spellings as one."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return value and value.lower()


def test_a_key_that_comes_back_respelt_is_refused(session: Session, engine: Engine) -> None:
    """Values bound to a spelling that the database does not return would be lost."""

    class Base(DeclarativeBase):
        pass

    class Model(Base):
        __tablename__ = "models"
        id: Mapped[str] = mapped_column(Lower(), primary_key=True)
        value: Mapped[str] = encrypted("pii")

    Base.metadata.create_all(engine)
    session.add(Model(id="ABC", value="x"))
    with pytest.raises(ConfigurationError, match="another spelling"):
        session.flush()
    session.rollback()
    session.add(Model(id="abc", value="x"))
    session.commit()
    session.expunge_all()

    assert session.scalars(select(Model)).one().value == "x"


def test_a_uuid_kept_as_text_is_one_row_however_it_is_spelt(
    session: Session, engine: Engine
) -> None:
    """`Uuid(as_uuid=False)` takes any spelling of a UUID and returns one."""
    from sqlalchemy import Uuid

    class Base(DeclarativeBase):
        pass

    class Model(Base):
        __tablename__ = "models"
        id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
        value: Mapped[str] = encrypted("pii")

    Base.metadata.create_all(engine)
    session.add(Model(id=str(UUID(int=10)).upper(), value="x"))
    session.commit()
    assert session.scalars(select(Model)).one().value == "x"
    session.expunge_all()

    assert session.scalars(select(Model)).one().value == "x"


def test_validators_see_what_is_assigned(session: Session, engine: Engine) -> None:
    """SQLAlchemy's `validates` runs on the plaintext, before it is taken away."""

    class Base(DeclarativeBase):
        pass

    class Model(Base):
        __tablename__ = "models"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        value: Mapped[str] = encrypted("pii")

        @validates("value")
        def check(self, _key: str, value: str) -> str:
            return value.strip()

    Base.metadata.create_all(engine)
    session.add(Model(value=" x "))
    session.commit()

    assert session.scalars(select(Model)).one().value == "x"
