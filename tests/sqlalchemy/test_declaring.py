# SPDX-License-Identifier: Apache-2.0
"""Declaring encrypted columns: types, tables, and what is refused."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Boolean, Engine, Enum, ForeignKey, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, Session, mapped_column
from sqlalchemy.schema import CreateIndex, CreateTable

from lacre import BlindIndex, ConfigurationError, Lacre
from lacre.sqlalchemy import EncryptedType, IndexType, encrypted, row_id
from tests.sqlalchemy.conftest import on_sqlite
from tests.sqlalchemy.models import CPF, Colour, Customer, Numbered, Person, Shop, Typed
from tests.sqlalchemy.raw import only, rows

VALUES: dict[str, Any] = {
    "text": "ação 𝒜",
    "number": -(10**30),
    "amount": Decimal("1.50"),
    "born": dt.date(1990, 1, 2),
    "seen": dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC),
    "blob": b"\x00\xff\xc1",
    "flag": True,
    "data": {"a": [1, None, {"b": "ç"}]},
    "token": UUID(int=7),
    "colour": Colour.BLUE,
}
EMPTY: dict[str, Any] = {
    "text": "",
    "number": 0,
    "amount": Decimal(0),
    "blob": b"",
    "flag": False,
    "data": {},
}


def base() -> Any:
    class Base(DeclarativeBase):
        pass

    return Base


@pytest.mark.parametrize("key", VALUES)
def test_each_type_comes_back_as_it_was(session: Session, key: str) -> None:
    """A value of each type comes back equal and of its own type."""
    session.add(Typed(**{key: VALUES[key]}))
    session.commit()
    session.expunge_all()
    found = getattr(session.scalars(select(Typed)).one(), key)

    assert found == VALUES[key]
    assert type(found) is type(VALUES[key])


@pytest.mark.parametrize("key", EMPTY)
def test_empty_values_are_not_null(session: Session, engine: Engine, key: str) -> None:
    """An empty string, 0 and False are encrypted like any value, and are not NULL."""
    session.add(Typed(**{key: EMPTY[key]}))
    session.commit()
    session.expunge_all()
    found = getattr(session.scalars(select(Typed)).one(), key)

    assert found == EMPTY[key]
    assert type(found) is type(EMPTY[key])
    assert len(only(engine, f"SELECT {key} FROM typed")) > 90


def test_null_is_not_encrypted(session: Session, engine: Engine) -> None:
    """None is NULL in the database, in every type."""
    session.add(Typed())
    session.commit()

    assert rows(engine, f"SELECT {', '.join(VALUES)} FROM typed") == [(None,) * len(VALUES)]
    assert all(getattr(session.scalars(select(Typed)).one(), key) is None for key in VALUES)


def test_the_annotation_gives_nullability() -> None:
    """`Mapped[str]` is NOT NULL, in both columns; `Mapped[str | None]` is not."""

    class Model(base()):  # type: ignore[misc]
        __tablename__ = "models"
        id: Mapped[UUID] = mapped_column(primary_key=True)
        must: Mapped[str] = encrypted("pii", index=BlindIndex("exact"))
        may: Mapped[str | None] = encrypted("pii", index=BlindIndex("exact"))

    columns = Model.__table__.c

    assert not columns.must.nullable
    assert not columns.must_bidx.nullable
    assert columns.may.nullable
    assert columns.may_bidx.nullable


def test_the_tables_are_made_with_their_constraints(engine: Engine) -> None:
    """A unique index is a constraint of the database, another an index; columns are binary."""
    table: Any = Customer.__table__
    made = str(CreateTable(table).compile(engine))
    indexes = [str(CreateIndex(index).compile(engine)) for index in table.indexes]

    binary = "BYTEA" if engine.dialect.name == "postgresql" else "BLOB"
    assert f"email {binary}" in made
    assert f"email_bidx {binary}" in made
    assert "UNIQUE (cpf_bidx)" in made
    assert indexes == ["CREATE INDEX ix_customers_name_bidx ON customers (name_bidx)"]
    assert "UNIQUE (lacre_rid)" in str(CreateTable(Numbered.__table__).compile(engine))  # type: ignore[arg-type]


def test_types_print_names_only() -> None:
    """The types' repr and cache key hold a class's name, a size and whether there are subjects, and nothing else."""
    column = Customer.__table__.c.email

    assert repr(column.type) == "EncryptedType('pii')"
    assert repr(Customer.__table__.c.email_bidx.type) == "IndexType(12)"
    kind, *parts = EncryptedType("pii")._static_cache_key
    assert kind is EncryptedType
    assert sorted(parts) == [("class_", "pii"), ("subjects", False)]
    assert IndexType(12)._static_cache_key == (IndexType, ("size", 12))


def test_a_mixin_gives_each_model_columns_of_its_own(
    session: Session, engine: Engine, lacre: Lacre
) -> None:
    """Two models of one mixin have their own columns, and their values are bound to their tables."""

    class WithEmail:
        email: Mapped[str | None] = encrypted("pii", index=BlindIndex("email", unique=True))

    declared = base()

    class One(WithEmail, declared):  # type: ignore[misc]
        __tablename__ = "ones"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)

    class Two(WithEmail, declared):  # type: ignore[misc]
        __tablename__ = "twos"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)

    declared.metadata.create_all(engine)
    session.add_all([One(email="a@example.org"), Two(email="a@example.org")])
    session.commit()

    assert One.__table__.c.email is not Two.__table__.c.email
    assert session.scalars(select(One).where(One.email == "a@example.org")).one().email
    assert session.scalars(select(Two).where(Two.email == "a@example.org")).one().email
    assert only(engine, "SELECT email_bidx FROM ones") != only(
        engine, "SELECT email_bidx FROM twos"
    )


def test_inherited_columns_are_bound_to_the_table_they_are_in(
    session: Session, engine: Engine
) -> None:
    """Under joined and single-table inheritance values open from parent and child, and are found."""
    person = Person(phone="1", cpf=CPF)
    session.add_all([person, Shop(phone="2", taxid="77")])
    session.commit()
    session.expunge_all()

    assert session.scalars(select(Person).where(Person.cpf == CPF)).one().phone == "1"
    assert session.scalars(select(Person).where(Person.phone == "1")).one().cpf == CPF
    assert session.scalars(select(Shop).where(Shop.taxid == "77")).one().phone == "2"
    assert only(engine, "SELECT count(*) FROM parties WHERE phone IS NOT NULL") == 2


def test_inherited_columns_change(session: Session) -> None:
    """Assigning on a subclass encrypts the parent's column and the child's."""
    session.add(Person(phone="1", cpf=CPF))
    session.commit()
    person = session.scalars(select(Person)).one()
    person.phone, person.cpf = "2", "111.444.777-35"
    session.commit()

    assert (person.phone, person.cpf) == ("2", "111.444.777-35")
    assert session.scalars(select(Person).where(Person.phone == "1")).all() == []


def test_a_default_is_for_objects_that_assign_nothing(session: Session, engine: Engine) -> None:
    """A default, a value or a callable, is encrypted; an explicit None stays NULL."""
    declared = base()

    class Model(declared):  # type: ignore[misc]
        __tablename__ = "models"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        lacre_rid: Mapped[UUID] = row_id()
        plan: Mapped[str | None] = encrypted("pii", default="basic")
        code: Mapped[str | None] = encrypted("pii", default=lambda: "made")

    declared.metadata.create_all(engine)
    session.add_all([Model(id=1), Model(id=2, plan=None, code="given")])
    session.commit()
    first, second = session.scalars(select(Model).order_by(Model.id)).all()

    assert (first.plan, first.code) == ("basic", "made")
    assert (second.plan, second.code) == (None, "given")


def test_a_dataclass_neither_prints_nor_compares_its_values(
    session: Session, engine: Engine, acting: Any
) -> None:
    """As a dataclass a model works, and its repr and equality look at nothing."""

    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    class Model(Base):
        __tablename__ = "models"
        id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid4, kw_only=True)
        email: Mapped[str] = encrypted("pii")
        plan: Mapped[str | None] = encrypted("pii", default=None)
        level: Mapped[str] = encrypted("pii", default="one")

    Base.metadata.create_all(engine)
    model = Model(email="canary@example.org")
    before = repr(model)
    session.add(model)
    session.commit()

    assert "canary" not in before
    assert "canary" not in repr(model)
    assert (model.email, model.plan, model.level) == ("canary@example.org", None, "one")
    with acting("support"):
        assert model == model
        assert "***" not in repr(model)


def test_a_type_without_a_codec_is_refused_where_it_is_declared() -> None:
    """A float has no exact form, so the class statement itself says so."""
    with pytest.raises(ConfigurationError, match="no codec for values of type float"):

        class Model(base()):  # type: ignore[misc]
            __tablename__ = "models"
            id: Mapped[UUID] = mapped_column(primary_key=True)
            ratio: Mapped[float] = encrypted("pii")


def test_an_index_that_does_not_fit_its_type_is_refused_where_it_is_declared() -> None:
    """The normaliser of e-mail addresses takes no numbers."""
    with pytest.raises(ConfigurationError, match="takes text"):

        class Model(base()):  # type: ignore[misc]
            __tablename__ = "models"
            id: Mapped[UUID] = mapped_column(primary_key=True)
            number: Mapped[int] = encrypted("pii", index=BlindIndex("email"))


def test_an_unknown_mask_is_refused_where_it_is_declared() -> None:
    """A mask that does not exist is an error of the declaration, not of the first look."""
    with pytest.raises(ConfigurationError, match="no mask is called"):

        class Model(base()):  # type: ignore[misc]
            __tablename__ = "models"
            id: Mapped[UUID] = mapped_column(primary_key=True)
            name: Mapped[str] = encrypted("pii", mask="no-such")


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (lambda: encrypted("nothing"), "no class 'nothing'"),
        (lambda: encrypted("pii", store="nowhere"), "no store 'nowhere'"),
        (lambda: encrypted("credentials", index=BlindIndex("exact")), "allows no blind index"),
    ],
)
def test_what_the_policy_lacks_is_refused_before_anything_is_sent(
    session: Session, engine: Engine, column: Any, said: str
) -> None:
    """An unknown class or store, and an index its class forbids, are configuration errors."""
    declared = base()

    class Model(declared):  # type: ignore[misc]
        __tablename__ = "models"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        value: Mapped[str] = column()

    declared.metadata.create_all(engine)
    session.add(Model(value="x"))
    with pytest.raises(ConfigurationError, match=said):
        session.flush()
    session.rollback()

    assert only(engine, "SELECT count(*) FROM models") == 0


def test_constraints_on_plaintext_are_not_made(engine: Engine) -> None:
    """The CHECK that Enum and Boolean bring along is not put on ciphertext."""

    class Model(base()):  # type: ignore[misc]
        __tablename__ = "models"
        id: Mapped[UUID] = mapped_column(primary_key=True)
        colour: Mapped[Colour] = encrypted("pii", Enum(Colour, create_constraint=True))
        flag: Mapped[bool] = encrypted("pii", Boolean(create_constraint=True))

    text = str(CreateTable(Model.__table__).compile(engine))
    assert text.count("CHECK") == text.count("_lacre CHECK") == 2


def model_with(id_column: Any, kind: Any) -> Any:
    declared = base()
    declared.registry.update_type_annotation_map({})

    class Parent(declared):  # type: ignore[misc,valid-type]
        __tablename__ = "parents"
        id: Mapped[UUID] = mapped_column(primary_key=True)

    class Model(declared):  # type: ignore[misc,valid-type]
        __tablename__ = "models"
        id: Mapped[kind] = id_column
        value: Mapped[str | None] = encrypted("pii")

    return Model


@pytest.mark.parametrize(
    ("column", "kind", "given"),
    [
        (lambda: mapped_column(primary_key=True), int, None),
        (lambda: mapped_column(primary_key=True), int, 5),
        (lambda: mapped_column(String(collation="NOCASE"), primary_key=True), str, "a"),
        (
            lambda: mapped_column(ForeignKey("parents.id", onupdate="CASCADE"), primary_key=True),
            UUID,
            UUID(int=1),
        ),
        (lambda: mapped_column(primary_key=True), bytes, b"a"),
        (lambda: mapped_column(primary_key=True), UUID, None),
    ],
    ids=["rowid", "rowid-given", "nocase", "on-update-cascade", "binary", "not-known"],
)
def test_a_primary_key_that_is_no_row_id_is_refused(
    session: Session, engine: Engine, column: Any, kind: Any, given: Any
) -> None:
    """A key that may be reused, respelt, changed unseen or not known is refused, with the way out."""
    if engine.dialect.name == "postgresql" and (kind is int or kind is str):
        pytest.skip("sequences give no key twice, and there is no such collation")
    model = model_with(column(), kind)
    model.metadata.create_all(engine)
    session.add(model(value="x") if given is None else model(id=given, value="x"))
    with pytest.raises(ConfigurationError) as raised:
        session.flush()
    session.rollback()

    assert "row_id()" in raised.value.hint
    assert only(engine, "SELECT count(*) FROM models") == 0


@on_sqlite
def test_an_autoincremented_key_is_not_known_before_its_insert(
    session: Session, engine: Engine
) -> None:
    """SQLite does not reuse AUTOINCREMENT keys, but they are given by the INSERT."""
    declared = base()

    class Model(declared):  # type: ignore[misc]
        __tablename__ = "models"
        __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012
        id: Mapped[int] = mapped_column(primary_key=True)
        value: Mapped[str | None] = encrypted("pii")

    declared.metadata.create_all(engine)
    session.add(Model(value="x"))
    with pytest.raises(ConfigurationError, match="not known before its INSERT"):
        session.flush()
    session.rollback()
    session.add(Model(id=4, value="x"))
    session.commit()

    assert session.scalars(select(Model)).one().value == "x"


def test_annotated_types_resolve(session: Session) -> None:
    """A type given by `Annotated` or a type map resolves as for any mapped column."""
    short = Annotated[str, 30]

    class Base(DeclarativeBase):
        type_annotation_map = {short: String(30)}  # noqa: RUF012

    class Model(Base):
        __tablename__ = "models"
        id: Mapped[UUID] = mapped_column(primary_key=True)
        value: Mapped[short] = encrypted("pii")  # type: ignore[valid-type]

    assert repr(Model.__table__.c.value.type) == "EncryptedType('pii')"
