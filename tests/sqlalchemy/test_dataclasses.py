# SPDX-License-Identifier: Apache-2.0
"""Mapped dataclasses with encrypted columns."""

import dataclasses
import inspect
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import JSON, Engine, orm, select
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.orm.decl_api import DCTransformDeclarative

from lacre import BlindIndex, ConfigurationError
from lacre.sqlalchemy import MappedAsDataclass, encrypted, row_id
from tests.sqlalchemy.conftest import Acting

EMAIL, SECRET = "canary@example.org", "canary-two"


class Base(MappedAsDataclass, DeclarativeBase):
    pass


class Audited(MappedAsDataclass):
    """A mixin that is a dataclass itself."""

    author: Mapped[str | None] = encrypted("pii", default=None, kw_only=True)


class Member(Audited, Base):
    __tablename__ = "members"

    id: Mapped[int] = mapped_column(primary_key=True)
    lacre_rid: Mapped[UUID] = row_id()
    email: Mapped[str] = encrypted("pii", index=BlindIndex("email", unique=True))
    plan: Mapped[str | None] = encrypted("pii", default=None)
    level: Mapped[str] = encrypted("pii", default="one")
    code: Mapped[str] = encrypted("pii", default=lambda: "made")
    tags: Mapped[Any] = encrypted("pii", JSON(), default_factory=list)
    note: Mapped[str] = encrypted("pii", default=SECRET, init=False)
    city: Mapped[str] = encrypted("pii", kw_only=True)


@pytest.fixture
def engine(engine: Engine) -> Engine:
    Base.metadata.create_all(engine)
    return engine


def member(**given: Any) -> Member:
    return Member(**{"id": 1, "email": EMAIL, "city": "Faro", **given})


def test_it_is_the_one_of_sqlalchemy() -> None:
    """At run time there is one `MappedAsDataclass`, of the metaclass that type checkers are told of."""
    assert MappedAsDataclass is orm.MappedAsDataclass
    assert type(MappedAsDataclass) is DCTransformDeclarative


def test_the_initialiser_has_the_fields_as_declared() -> None:
    """Order, defaults, keywords only and `init=False` are a dataclass's; a row id is not asked for."""
    parameters = inspect.signature(Member).parameters
    optional = [name for name, found in parameters.items() if found.default is not found.empty]
    keyword_only = [name for name, found in parameters.items() if found.kind is found.KEYWORD_ONLY]

    assert list(parameters) == ["id", "email", "plan", "level", "code", "tags", "author", "city"]
    assert optional == ["plan", "level", "code", "tags", "author"]
    assert keyword_only == ["author", "city"]


def test_defaults_are_there_before_and_after_the_flush(session: Session, engine: Engine) -> None:
    """A default, a callable and a factory give an object its value at once, encrypted when flushed."""
    first, second = member(), member(id=2, email="b@example.org", tags=["x"], plan="gold")
    session.add_all([first, second])

    def seen() -> list[tuple[Any, ...]]:
        return [
            (one.plan, one.level, one.code, one.tags, one.note, one.author, one.city)
            for one in (first, second)
        ]

    wanted = [
        (None, "one", "made", [], SECRET, None, "Faro"),
        ("gold", "one", "made", ["x"], SECRET, None, "Faro"),
    ]
    assert seen() == wanted
    session.commit()
    session.expire_all()
    assert seen() == wanted
    assert session.scalars(select(Member).where(Member.email == EMAIL)).one() is first


def test_each_object_has_a_factory_s_value_of_its_own(session: Session, engine: Engine) -> None:
    """`default_factory` is called for each object."""
    first, second = member(), member(id=2)
    session.add_all([first, second])

    assert first.tags == second.tags
    assert first.tags is not second.tags


def test_repr_and_comparison_do_not_look(
    session: Session, engine: Engine, acting: Acting, recorded: Any
) -> None:
    """Pending or loaded, `repr`, `==` and `!=` show and read no encrypted value, and record none."""
    one, same, other = member(), member(email="b@example.org"), member(id=2)
    pending = repr(one)
    session.add(one)
    session.commit()
    loaded = repr(session.scalars(select(Member)).one())
    with acting("support"):
        masked = repr(one)

    for text in (pending, loaded, masked):
        assert "canary" not in text
        assert "***" not in text
        assert "Faro" not in text
        assert "email" not in text
    assert one == same  # what is compared is the id: the values are not
    assert one != other
    assert recorded("look") == []


def test_a_copy_by_replace_looks_as_whoever_acts(
    session: Session, engine: Engine, recorded: Any
) -> None:
    """`dataclasses.replace` reads what it copies, and those looks are recorded."""
    one = member()
    session.add(one)
    session.commit()
    copied = dataclasses.replace(one, id=2, email="b@example.org")
    session.add(copied)
    session.commit()

    assert copied.city == "Faro"
    assert recorded("look", column="city") != []


@pytest.mark.parametrize(
    "arguments", [{"default_factory": list}, {"init": False}, {"kw_only": True}], ids=str
)
def test_a_plain_class_does_not_take_the_arguments_of_a_dataclass(
    arguments: dict[str, Any],
) -> None:
    """`default_factory`, `init` and `kw_only` on a model that is no dataclass are refused by SQLAlchemy."""

    class Plain(DeclarativeBase):
        pass

    with pytest.raises(ArgumentError, match="dataclass"):

        class Model(Plain):
            __tablename__ = "models"
            id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
            value: Mapped[str] = encrypted("pii", **arguments)


def test_a_default_is_given_once() -> None:
    """`default` beside `default_factory` is refused."""
    with pytest.raises(ConfigurationError, match="not both"):
        encrypted("pii", default="x", default_factory=str)
