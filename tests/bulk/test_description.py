# SPDX-License-Identifier: Apache-2.0
"""Statements as descriptions: they mean the same again, or they are refused."""

import json
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column, with_loader_criteria

from lacre import ConfigurationError, UnsupportedQuery
from lacre.bulk.description import Description, described
from lacre.bulk.models import Models, mapper_named
from lacre.errors import MisuseError
from tests.bulk.conftest import CANARY, Acting, Sessions
from tests.sqlalchemy.models import Colour, Customer, Numbered, Order, Paired, Person, Typed

C = Customer
ID = UUID(int=3)

CONDITIONS = {
    "none": [],
    "equal": [C.city == "Recife"],
    "not equal": [C.city != "Recife"],
    "compared": [C.city > "P", C.city <= "Z"],
    "two": [C.city == "Recife", C.id != ID],
    "and": [sa.and_(C.city == "Recife", C.id != ID)],
    "or": [sa.or_(C.city == "Recife", C.id == ID)],
    "nested": [sa.or_(C.id == ID, sa.and_(C.city == "Olinda", sa.not_(C.name.is_(None))))],
    "not": [~sa.and_(C.city == "Recife", C.id != ID)],
    "in": [C.id.in_([ID, UUID(int=5)])],
    "in nothing": [C.id.in_([])],
    "not in": [C.id.not_in([ID])],
    "is": [C.name.is_(None)],
    "is not": [C.name.is_not(None), C.city.is_not(None)],
    "like": [C.city.like("Re%"), C.city.not_like("%x"), C.city.ilike("re%")],
    "starts": [C.city.startswith("Re"), C.city.endswith("fe"), C.city.contains("ecif")],
    "between": [C.city.between("O", "P")],
    "not between": [~C.city.between("O", "P")],
    "encrypted": [C.email == f"{CANARY}3@example.org", C.name.is_(None)],
    "encrypted in": [C.email.in_([f"{CANARY}{n}@example.org" for n in (1, 2)]), C.id != ID],
    "encrypted not": [C.email != f"{CANARY}3@example.org"],
}


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.usefixtures("people")
def test_a_description_means_the_same(name: str, sessions: Sessions, acting: Acting) -> None:
    """Through JSON and back, a statement finds the rows that it found."""
    statement = select(C.id).where(*CONDITIONS[name]).order_by(C.city.desc(), C.id).limit(9)
    description = described(statement)
    again = Description.from_json(json.loads(json.dumps(description.to_json())))
    models = again.models()
    rebuilt = again.narrowed(select(C.id), models)
    with acting("app"), sessions() as session:
        wanted, found = (session.execute(each).all() for each in (statement, rebuilt))

    assert models.mappers == (C.__mapper__,)
    assert found == wanted
    assert (wanted == []) == (name == "in nothing")
    assert CANARY not in repr(description)


def test_a_model_is_all_its_attributes() -> None:
    """Without its blind indexes; of an inheritance with its parents'; names may be given."""
    assert [name for name, _ in described(select(Numbered)).columns] == ["id", "lacre_rid", "email"]
    assert {name for name, _ in described(select(Person)).columns} == {"id", "kind", "phone", "cpf"}
    labelled = select(C.id.label("customer"), C.email.label("mail"))
    assert described(labelled).columns == (("customer", "id"), ("mail", "email"))


def test_values_of_every_type_cross() -> None:
    """An enum's member by its name, and whatever else has an exact text."""
    statement = select(Typed.id).where(Typed.number == 2**70, Typed.id == ID)
    again = Description.from_json(json.loads(json.dumps(described(statement).to_json())))

    assert again.where == {
        "and": [
            {"attribute": "number", "in": [2**70]},
            {"attribute": "id", "==": {"uuid": str(ID)}},
        ]
    }
    assert again.narrowed(select(Typed.id), Models([Typed.__mapper__])).whereclause is not None


O = aliased(Customer)  # noqa: E741 - another one

REFUSED = {
    "two models": lambda: select(C.id, Order.id.label("order")),
    "two models by where": lambda: select(C.id, Order.id.label("order")).where(
        Order.customer_id == C.id
    ),
    "where on another": lambda: select(C.id).where(Order.customer_id == C.id),
    "alias": lambda: select(O.id),
    "computed": lambda: select(func.lower(C.city)),
    "count": lambda: select(func.count()),
    "beside": lambda: select(C.id, func.lower(C.city)),
    "distinct": lambda: select(C.id).distinct(),
    "group": lambda: select(C.id).group_by(C.id),
    "having": lambda: select(C.id).group_by(C.id).having(func.count() > 1),
    "lock": lambda: select(C.id).with_for_update(),
    "option": lambda: select(C).options(with_loader_criteria(C, C.city == "x")),
    "from": lambda: select(C.id).select_from(Order),
    "prefix": lambda: select(C.id).prefix_with("ALL"),
    "cte": lambda: select(C.id).add_cte(select(Order.id).cte("q")),
    "subquery": lambda: select(C.id).where(C.id.in_(select(Order.customer_id))),
    "exists": lambda: select(C.id).where(C.orders.any()),
    "function": lambda: select(C.id).where(func.lower(C.city) == "x"),
    "text": lambda: select(C.id).where(sa.text("1 = 1")),
    "escape": lambda: select(C.id).where(C.city.like("a", escape="!")),
    "order": lambda: select(C.id).order_by(func.lower(C.city)),
    "nulls": lambda: select(C.id).order_by(C.city.desc().nulls_last()),
    "limit": lambda: select(C.id).limit(sa.literal_column("1")),
    "fetch": lambda: select(C.id).fetch(3),
    "union": lambda: sa.union(select(C.id), select(C.id)),
    "index": lambda: select(C.email_bidx),
    "twice": lambda: select(C.id, C.email.label("id")),
    "core": lambda: select(C.__table__.c.id),
    "insert": lambda: sa.insert(C),
    "schema": lambda: select(C.id).execution_options(schema_translate_map={None: "other"}),
    "own option": lambda: select(C.id).execution_options(include_deleted=True),
    "not a number": lambda: select(C.id).where(C.city == float("nan")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_description_does_not_say_is_refused(name: str) -> None:
    """Nothing of a statement is left out in silence."""
    with pytest.raises(UnsupportedQuery, match="bulk reading cannot describe") as caught:
        described(REFUSED[name]())

    assert "one model" in caught.value.hint


def test_a_model_that_cannot_be_imported_is_refused() -> None:
    """One of a function or of the program itself has no name elsewhere."""

    class Base(DeclarativeBase):
        pass

    class Local(Base):
        __tablename__ = "local"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(ConfigurationError, match="no module"):
        described(select(Local.id))
    with pytest.raises(ConfigurationError, match="no mapped class"):
        mapper_named("tests.sqlalchemy.models:Nobody")
    with pytest.raises(ConfigurationError, match="no mapped class"):
        mapper_named("os:getcwd")


GOOD: dict[str, Any] = {
    "model": "m:N",
    "columns": [["id", "id"]],
    "where": None,
    "order": [],
    "limit": None,
    "offset": None,
    "joins": [],
    "source": False,
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"columns": None},
        {"columns": [["id"]]},
        {"limit": "1"},
        {"limit": -1},
        {"order": [["id"]]},
        {"where": {"attribute": "id", "exec": 1}},
        {"where": {"attribute": "nothing", "==": 1}},
        {"where": {"attribute": "city", "==": {"pickle": "x"}}},
        {"where": {"attribute": "__class__", "==": 1}},
        {"where": [1]},
        {"order": [["nothing", "asc"]]},
        {"order": [["id", "sideways"]]},
    ],
)
def test_a_request_that_is_no_description_is_refused(wrong: dict[str, Any]) -> None:
    """The reading process takes nothing from a request but what a description may say."""
    assert Description.from_json(GOOD) is not None
    with pytest.raises(MisuseError):
        Description.from_json(GOOD | wrong).narrowed(select(C.id), Models([C.__mapper__]))


def test_enumerations_are_asked_by_name() -> None:
    """A member crosses by its name, and is the same member again."""
    described_ = {"attribute": "colour", "in": [{"enum": "RED"}]}
    description = Description.from_json(GOOD | {"where": {"attribute": "shop", "==": "a"}})

    assert description.narrowed(select(Paired.shop), Models([Paired.__mapper__])) is not None
    from lacre.bulk.conditions import _given

    assert _given(described_["in"][0], Typed.__mapper__.column_attrs["colour"]) is Colour.RED
