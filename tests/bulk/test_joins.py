# SPDX-License-Identifier: Apache-2.0
"""Readings of several models at once: which joins have a description, who decides, what is recorded."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import insert, select
from sqlalchemy.orm import aliased

from lacre import AccessDenied, UnsupportedQuery, acting_as
from lacre.bulk import BulkReader
from lacre.bulk.description import Description, described
from lacre.errors import MisuseError
from tests.bulk.conftest import CANARY, Acting, Recorded, Sessions
from tests.sqlalchemy.conftest import on_sqlite
from tests.sqlalchemy.models import Citizen, Customer, Order, Party, Person

C, O = Customer, Order  # noqa: E741 - as tables are called in SQL
People = list[dict[str, Any]]
Make = Callable[[], Any]


@pytest.fixture
def orders(people: People, sessions: Sessions, acting: Acting) -> list[dict[str, Any]]:
    """Two orders of each of the first ten people, one of which nobody noted anything about."""
    rows = [
        {
            "id": UUID(int=1000 + number),
            "customer_id": people[number // 2]["id"],
            "note": f"{CANARY} note {number}" if number % 4 else None,
        }
        for number in range(20)
    ]
    with acting("app"), sessions.begin() as session:
        session.execute(insert(Order), rows)
    return rows


JOINS: dict[str, Make] = {
    "relationship": lambda: select(C.id, O.note).join(C.orders),
    "back": lambda: select(C.city, O.id).join(O.customer),
    "foreign key": lambda: select(C.id, O.note).join(O),
    "both": lambda: select(C.email, O.id).join(O, C.orders),
    "condition": lambda: select(C.email, O.id.label("o")).join(O, O.customer_id == C.id),
    "more of it": lambda: select(C.id, O.id.label("o")).join(
        O, sa.and_(O.customer_id == C.id, C.city == "Recife")
    ),
    "outer": lambda: select(C.id, O.note, O.id.label("o")).outerjoin(C.orders),
    "from": lambda: select(C.id, O.note).select_from(C).join(O),
    "join from": lambda: select(O.note, C.city).join_from(C, O),
    "joined only": lambda: select(C.id, C.name).join(C.orders).where(O.id == UUID(int=1003)),
    "of the joined": lambda: select(O.note).select_from(C).join(C.orders).where(C.city == "Olinda"),
    "encrypted": lambda: select(O.id).join(O.customer).where(C.email == f"{CANARY}3@example.org"),
    "short": lambda: (
        select(O.id).join(O.customer).where(C.name == f"{CANARY} 4", O.note.is_not(None))
    ),
    "of both": lambda: (
        select(O.id).join(O.customer).where(C.name == f"{CANARY} 4", O.note == f"{CANARY} note 9")
    ),
    "asked in on": lambda: select(C.id, O.id.label("o")).join(
        O, sa.and_(O.customer_id == C.id, C.email == f"{CANARY}3@example.org"), isouter=True
    ),
    "compared": lambda: select(O.id).join(O.customer).where(O.id > C.id, C.city != C.id),
}


@on_sqlite
@pytest.mark.usefixtures("orders")
def test_a_description_joins_the_same(sessions: Sessions, acting: Acting) -> None:
    """Through JSON and back, a statement of two models finds the rows that it found."""
    with acting("app"), sessions() as session:
        for name, make in JOINS.items():
            statement = make()
            found = described(statement)
            again = Description.from_json(json.loads(json.dumps(found.to_json())))
            models = again.models()
            columns = [models.attribute(of).label(label) for label, of in again.columns]
            rebuilt = again.narrowed(select(*columns), models)
            wanted, read = (session.execute(each).all() for each in (statement, rebuilt))

            assert again == found, name
            assert sorted(map(str, read)) == sorted(map(str, wanted)), name
            assert len(wanted) > 0, name
            assert CANARY not in repr(found)


REFUSED: dict[str, Make] = {
    "twice": lambda: select(C.id).join(C.orders).join(O, O.customer_id == C.id),
    "itself": lambda: select(C.id).join(C, C.id == C.id),
    "alias": lambda: select(C.id).join(aliased(O)),
    "table": lambda: select(C.id).join(O.__table__),
    "full": lambda: select(C.id).join(O, full=True),
    "more than a relationship": lambda: select(C.id).join(C.orders.and_(O.id != UUID(int=1))),
    "of a type": lambda: select(C.id).join(C.orders.of_type(aliased(O))),
    "computed": lambda: select(C.id).join(O, sa.func.lower(O.id) == C.id),
    "text": lambda: select(C.id).join(O, sa.text("1 = 1")),
    "subquery": lambda: select(C.id).join(select(O.id).subquery(), sa.true()),
    "joined before": lambda: select(C.id).select_from(sa.orm.join(C, O)),
    "lock": lambda: select(C.id).join(O).with_for_update(),
    "a parent": lambda: select(Person.cpf, Party.phone).join(Party, Party.id == Person.id),
}
TOKENS: dict[str, Make] = {
    "token": lambda: select(C.id).where(C.email_bidx == b"token"),
    "token in": lambda: select(C.id).where(C.name_bidx.in_([b"a", b"b"])),
    "token is": lambda: select(C.id).where(C.email_bidx2.is_(None)),
    "token of the table": lambda: select(C.id).where(C.__table__.c.email_bidx == b"token"),
    "negated": lambda: select(C.id).where(sa.not_(sa.or_(C.email_bidx == b"t", C.city == "x"))),
    "order": lambda: select(C.id).order_by(C.email_bidx),
    "order down": lambda: select(C.id).order_by(C.__table__.c.name_bidx.desc()),
    "two tokens": lambda: select(C.id).where(C.email_bidx == C.cpf_bidx),
    "join": lambda: select(C.id).join(O, O.note_bidx == C.name_bidx),
    "join and": lambda: select(C.id).join(O, sa.and_(O.customer_id == C.id, C.email_bidx > b"a")),
    "compound": lambda: select(Citizen.id).where(Citizen.name_and_birth.is_(None)),
    "of a compound": lambda: select(Citizen.id).where(
        Citizen.__table__.c.name_and_birth_bidx == b"t"
    ),
    "part": lambda: select(Citizen.id).where(Citizen.__table__.c.nick_contains_bidx == [1]),
    "ciphertext": lambda: select(C.id).where(C.__table__.c.email == b"sealed"),
    "ciphertexts": lambda: select(C.id).where(C.__table__.c.email == C.__table__.c.cpf),
    "ciphertext order": lambda: select(C.id).order_by(C.__table__.c.email),
}


@pytest.mark.parametrize("name", REFUSED | TOKENS)
def test_what_a_description_does_not_join_is_refused(name: str) -> None:
    """Nor are tokens and ciphertexts compared or ordered by: that is what the right to search is for."""
    with pytest.raises(UnsupportedQuery, match="bulk reading cannot describe") as caught:
        described((REFUSED | TOKENS)[name]())

    assert "join()" in caught.value.hint


CRAFTED: list[dict[str, Any]] = [
    {"where": {"attribute": "email_bidx", "==": {"bytes": "dG9rZW4="}}},
    {"where": {"attribute": "email_bidx", "is": None}},
    {"where": {"not": {"attribute": "name_bidx", "in": [{"bytes": "dG9rZW4="}]}}},
    {"where": {"attribute": "city", "==": {"attribute": "email_bidx"}}},
    {"where": {"attribute": "city", "==": {"attribute": "email"}}},
    {"where": {"attribute": "city", "in": {"attribute": "id"}}},
    {"where": {"attribute": "1.note_bidx", "==": "x"}},
    {"where": {"attribute": "2.note", "==": "x"}},
    {"where": {"attribute": "0.city", "==": "x"}},
    {"where": {"attribute": "-1.note", "==": "x"}},
    {"order": [["email_bidx", "asc"]]},
    {"order": [["email", "asc"]]},
    {"order": [["1.note_bidx", ""]]},
    {"joins": [{"by": "city"}]},
    {"joins": [{"by": "1.customer"}]},
    {"joins": [{"on": {"attribute": "1.note_bidx", "==": {"attribute": "name_bidx"}}}]},
    {"joins": [{"left": 1}]},
    {"joins": [{"left": "x"}]},
    {"joins": [{"model": "tests.sqlalchemy.models:Customer"}]},
    {"joins": None},
]


@pytest.mark.parametrize("number", range(len(CRAFTED)))
def test_the_reading_process_takes_no_more_from_a_request(number: int) -> None:
    """Whatever made it: it names no token, no ciphertext and no model that is not there."""
    good = described(select(C.id, O.note).join(O)).to_json()
    wrong = dict(CRAFTED[number])
    if wrong.get("joins"):
        wrong["joins"] = [dict(good["joins"][0]) | wrong["joins"][0]]
    again = Description.from_json(good)
    assert again.narrowed(select(C.id), again.models()) is not None

    def read() -> None:
        crafted = Description.from_json(good | wrong)
        crafted.narrowed(select(C.id), crafted.models())

    with pytest.raises(MisuseError):
        read()


@pytest.mark.usefixtures("analyst")
def test_two_models_are_read_at_once(
    people: People, orders: People, reader: BulkReader, recorded: Recorded
) -> None:
    """Each value under its own class's right, keys and row, and each table has its own evidence of a batch."""
    statement = (
        select(C.email, O.note, O.id.label("order"))
        .join(C.orders, isouter=True)
        .order_by(C.id, O.id)
    )
    table = reader.to_arrow(statement, rows=35)
    of_people = {
        row["id"]: [each for each in orders if each["customer_id"] == row["id"]] for row in people
    }

    assert table.to_pylist() == [
        {"email": row["email"], "note": each["note"], "order": each["id"] and str(each["id"])}
        for row in people
        for each in of_people[row["id"]] or [{"note": None, "id": None}]
    ]
    events = recorded("bulk")
    assert [(each["batch"], each["table"], each["joined"], each["count"]) for each in events] == [
        (1, "customers", ["orders"], 10),
        (1, "orders", ["customers"], 10),
        (2, "customers", ["orders"], 10),
        (2, "orders", ["customers"], 10),
        (3, "customers", ["orders"], 10),
        (4, "customers", ["orders"], 5),
    ]
    assert events[0]["rows"] == [row["id"].hex for row in people[:5]]
    assert events[1]["rows"] == [row["id"].hex for row in orders[:10]]
    assert [column["column"] for column in events[1]["columns"]] == ["note"]


@on_sqlite
@pytest.mark.usefixtures("orders")
def test_one_class_that_is_denied_refuses_the_join(reader: BulkReader, recorded: Recorded) -> None:
    """The policy is asked for every class of every model before anything is read."""
    with (
        acting_as("user:bia", roles={"stranger"}, purpose="report"),
        pytest.raises(AccessDenied, match=r"customers\.account"),
    ):
        reader.to_arrow(select(O.id, C.account).join(O.customer), rows=99)

    assert recorded("bulk") == []


@on_sqlite
def test_a_compound_index_is_asked(
    sessions: Sessions, acting: Acting, reader: BulkReader, recorded: Recorded
) -> None:
    """By its values, which cross, and never by its token, which the reading process makes."""
    import datetime as dt

    born = [dt.date(1990, 1, day) for day in (1, 2, 3)]
    with acting("app"), sessions.begin() as session:
        session.execute(
            insert(Citizen),
            [{"id": UUID(int=n), "name": CANARY, "born": each} for n, each in enumerate(born, 1)],
        )
    both = Citizen.name_and_birth
    with acting_as("svc:churn", roles={"app"}, purpose="churn model"):
        found = [
            reader.to_arrow(select(Citizen.born).where(asked), rows=9).column("born").to_pylist()
            for asked in (both == (CANARY, born[1]), both != (CANARY, born[1]))
        ]

    assert [sorted(each) for each in found] == [[born[1]], [born[0], born[2]]]
    assert CANARY not in json.dumps(recorded("search") + recorded("bulk"))
