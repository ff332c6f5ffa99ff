# SPDX-License-Identifier: Apache-2.0
"""Candidates: whoever may search and not decrypt gets the hits of a short index marked, or not at all."""

import asyncio
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, ForeignKey, delete, func, not_, or_, select, text, update
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    joinedload,
    mapped_column,
    selectinload,
    sessionmaker,
)

from lacre import AccessDenied, Lacre, UnsupportedQuery
from lacre.errors import EvidenceUnavailable, MisuseError
from lacre.fields.stored import IndexToken
from lacre.sqlalchemy import BlindIndex, Candidate, candidates, encrypted
from tests.components.postgresql import Database
from tests.sqlalchemy import tenanted
from tests.sqlalchemy.conftest import Acting, on_sqlite
from tests.sqlalchemy.models import Citizen, Customer, Order
from tests.sqlalchemy.test_evidence import Failing

ROWS, SHARING = 8, 3


@pytest.fixture
def sharing(session: Session) -> set[str]:
    """Eight names by an index of 8 bits; returns "name 0" and two that share its token, as by chance."""
    rows = [Customer(name=f"name {n}", city=str(n % 3)) for n in range(ROWS)]
    session.add_all([*rows, Customer(name=None, city="none")])
    session.commit()
    # Which names collide is the key's business; so tokens are put there by hand.
    token = rows[0].name_bidx  # type: ignore[attr-defined]
    tokens = [token, bytes([token[0] ^ 1])]
    table: Any = Customer.__table__
    for n, row in enumerate(rows):
        given = table.update().where(table.c.id == row.id)
        changed = given.values(name_bidx=IndexToken(tokens[n >= SHARING]))
        session.connection().execute(changed)
    session.commit()
    session.expunge_all()
    return {f"name {n}" for n in range(SHARING)}


def _found(session: Session, statement: Any) -> list[Candidate[Any]]:
    return list(session.scalars(candidates(statement)))


def test_search_alone_finds_every_row_of_the_token_marked(
    session: Session, sharing: set[str], acting: Acting
) -> None:
    """All rows that share the token come, each a candidate that says it is not certain; no other row does."""
    wanted = min(sharing)
    with acting("searcher"):
        found = _found(session, select(Customer).where(Customer.name == wanted))

    assert {type(each) for each in found} == {Candidate}
    assert not any(each.certain for each in found)
    assert {each.possible.name for each in found} == sharing


@on_sqlite
def test_nobody_gets_them_unasked(session: Session, sharing: set[str], acting: Acting) -> None:
    """Without the mark it is refused as before, and the error says what there is."""
    with acting("searcher"), pytest.raises(AccessDenied) as refused:
        session.scalars(select(Customer).where(Customer.name == min(sharing))).all()
    assert "candidates(statement)" in refused.value.hint

    with acting("searcher"), pytest.raises(AccessDenied):
        session.scalars(
            select(Customer).where(Customer.name == min(sharing)),
            execution_options={"lacre_marked": True},
        ).all()


@on_sqlite
def test_whoever_may_decrypt_gets_certain_ones(session: Session, sharing: set[str]) -> None:
    """The hits are re-checked as ever, and the results have the same shape."""
    wanted = min(sharing)
    (found,) = _found(session, select(Customer).where(Customer.name == wanted))
    assert (found.certain, found.possible.name) == (True, wanted)

    count = session.scalar(candidates(_count().where(Customer.name == wanted)))
    assert count == Candidate(1, True)


def test_answers_of_a_long_index_are_certain(
    session: Session, sharing: set[str], acting: Acting
) -> None:
    """96 bits need no re-check, so whoever may only search has answers; without any condition too."""
    session.add(Customer(email="ana@example.org", name=min(sharing)))
    session.commit()
    with acting("searcher"):
        (found,) = _found(session, select(Customer).where(Customer.email == "ana@example.org"))
        both = select(Customer).where(
            Customer.email == "ana@example.org", Customer.name == min(sharing)
        )
        (possible,) = _found(session, both)
        everything = session.scalar(candidates(_count()))

    assert (found.certain, possible.certain) == (True, False)
    assert found.possible is possible.possible
    assert everything == Candidate(ROWS + 2, True)


def _count() -> Any:
    return select(func.count()).select_from(Customer)


def test_counts_columns_and_pages_are_those_of_candidates(
    session: Session, sharing: set[str], acting: Acting
) -> None:
    """Whatever is computed from chance hits is marked too, cell by cell; NULL as well."""
    wanted = min(sharing)
    condition = Customer.name == wanted
    with acting("searcher"):
        assert session.scalar(candidates(_count().where(condition))) == Candidate(
            len(sharing), False
        )
        assert session.scalar(candidates(_count().where(condition, Customer.city == "none"))) == (
            Candidate(0, False)
        )
        rows = session.execute(candidates(select(Customer.city, Customer).where(condition))).all()
        assert {type(cell) for row in rows for cell in row} == {Candidate}
        assert rows[0].city.possible == rows[0].Customer.possible.city
        ordered = candidates(select(Customer).where(condition).order_by(Customer.id))
        whole = session.scalars(ordered).all()
        pages = [
            session.scalars(ordered.limit(1).offset(n)).one().possible for n in range(len(sharing))
        ]
        assert pages == [each.possible for each in whole]
        assert session.scalars(ordered).first() == whole[0]
        assert session.scalars(ordered.where(Customer.city == "none")).one_or_none() is None
        nothing = session.scalars(candidates(select(Customer.email).where(condition)).limit(1))
        assert nothing.one() == Candidate(None, False)
        parts = session.scalars(ordered.execution_options(yield_per=2)).partitions()
        assert [each for part in parts for each in part] == whole
        (mapping,) = session.execute(ordered.limit(1)).mappings()
        assert mapping["Customer"] == whole[0]


@on_sqlite
def test_joins_and_loaders(session: Session, sharing: set[str], acting: Acting) -> None:
    """What is joined or loaded along belongs to the candidate; one object has one mark."""
    condition = Customer.name == min(sharing)
    with acting("searcher"):
        rows = [each.possible for each in _found(session, select(Customer).where(condition))]
    session.add_all([Order(customer=row) for row in rows for _ in range(2)])
    session.commit()
    session.expunge_all()
    with acting("searcher"):
        orders = _found(session, select(Order).join(Order.customer).where(condition))
        assert len(orders) == 2 * len(sharing)
        for loader in (joinedload, selectinload):
            statement = candidates(select(Customer).where(condition)).options(
                loader(Customer.orders)
            )
            whole = session.scalars(statement).unique().all()
            assert [len(each.possible.orders) for each in whole] == [2] * len(sharing)


@on_sqlite
def test_the_mark_is_on_the_result_and_not_on_the_object(
    session: Session, sharing: set[str], acting: Acting
) -> None:
    """An object that came as a candidate is the one that an exact query returns, unmarked."""
    wanted = min(sharing)
    with acting("searcher"):
        found = _found(session, select(Customer).where(Customer.name == wanted))
    exact = session.scalars(select(Customer).where(Customer.name == wanted)).one()

    assert exact in [each.possible for each in found]
    assert not any(each.certain for each in found)


def _refused() -> list[Any]:
    condition = Customer.name == "x"
    inner = candidates(select(Customer.id).where(condition))
    cities = candidates(select(Customer.city).where(condition))
    return [
        candidates(select(Customer).where(or_(condition, Customer.city == "0"))),
        candidates(select(Customer).where(not_(condition))),
        candidates(select(Customer).where(Customer.id.in_(inner))),
        select(Customer).where(Customer.id.in_(inner)),
        candidates(select(Order).where(Order.customer.has(condition))),
        candidates(select(Customer).where(condition, Customer.city.in_(cities))),
        inner.union(inner),
        update(Customer).where(Customer.id.in_(inner)).values(city="x"),
        delete(Customer).where(Customer.id.in_(inner)),
        candidates(select(Order).join(Order.customer.and_(condition))),
        candidates(select(Customer).where(condition)).with_for_update(),
        candidates(select(Customer.__table__.c.city)),
    ]


@on_sqlite
def test_what_chance_hits_would_falsify_is_refused(session: Session, acting: Acting) -> None:
    """A mark around a statement, or inside one, allows nothing that hits without a re-check would make wrong."""
    for statement in _refused():
        with acting("searcher"), pytest.raises(UnsupportedQuery):
            session.execute(statement).all()


@pytest.mark.parametrize(
    "statement",
    [update(Customer).values(city="x"), delete(Customer), text("SELECT 1"), Customer, "SELECT 1"],
    ids=["update", "delete", "text", "class", "string"],
)
def test_only_a_select_has_candidates(statement: Any) -> None:
    """Nothing is written by chance hits, and a statement of text asks no index."""
    with pytest.raises(UnsupportedQuery, match="only a SELECT"):
        candidates(statement)


@on_sqlite
def test_an_index_in_parts_has_none(session: Session, acting: Acting) -> None:
    """Whoever could ask by parts unchecked would learn values part by part: that takes the right to decrypt."""
    session.add(Citizen(name="Maria da Silva"))
    session.commit()
    for condition in (Citizen.name.contains("silv"), Citizen.name.startswith("mar")):
        with acting("searcher"), pytest.raises(AccessDenied) as refused:
            session.scalars(candidates(select(Citizen).where(condition))).all()
        assert "candidates" not in refused.value.hint

        (found,) = session.scalars(candidates(select(Citizen).where(condition)))
        assert found.certain


def test_a_candidate_is_no_answer() -> None:
    """It is neither true nor false, prints nothing of what it holds, and keeps its mark when pickled."""
    found = Candidate("planted canary", False)
    with pytest.raises(MisuseError) as refused:
        bool(found)

    assert "canary" not in f"{found!r}{found}{refused.value}{refused.value.hint}"
    assert "certain=False" in repr(found)
    assert pickle.loads(pickle.dumps(found)) == found
    assert found != "planted canary"


@on_sqlite
def test_what_leaves_is_recorded(
    session: Session, sharing: set[str], acting: Acting, recorded: Callable[..., Any]
) -> None:
    """Of each reading one search, and how many rows left unchecked by how many bits; no term; nothing where nothing left."""
    with acting("searcher"):
        _found(session, select(Customer).where(Customer.name == min(sharing)))
        _found(session, select(Customer).where(Customer.name == min(sharing), Customer.city == "x"))
    _found(session, select(Customer).where(Customer.name == min(sharing)))

    (event,) = recorded("candidates")
    assert event["count"] == len(sharing)
    assert (event["index"], event["bits"], event["column"]) == ("exact", 8, "name")
    assert (event["principal"], event["roles"]) == ("svc:test", ["searcher"])
    assert len(recorded("search")) == 3
    assert recorded("look", outcome="denied") == []
    assert min(sharing) not in str(event)


@on_sqlite
def test_what_cannot_be_recorded_does_not_leave(
    session: Session, sharing: set[str], lacre: Lacre, acting: Acting
) -> None:
    """Where the recorder takes no more, no candidate is handed out."""
    statement = candidates(select(Customer).where(Customer.name == min(sharing)))
    with acting("searcher"):
        result = session.scalars(statement)
    sink, lacre.recorder._sink = lacre.recorder._sink, Failing()
    with pytest.raises(EvidenceUnavailable):
        lacre.recorder.flush()

    with pytest.raises(EvidenceUnavailable):
        result.all()
    lacre.recorder._sink = sink


def test_candidates_of_another_tenant_are_none(
    lacre: Lacre, engine: Engine, acting: Acting
) -> None:
    """Rows that name another tenant are hits by chance alone, and are not among the candidates."""
    tenanted.Base.metadata.create_all(engine)
    sessions = lacre.sqlalchemy(sessionmaker(engine))
    with acting("app", tenant="default"), sessions() as session:
        clients = [tenanted.Client(tenant="default", name="the same") for _ in range(2)]
        session.add_all(clients)
        session.commit()
        # A chance hit, made by hand.
        moved = tenanted.Client.__table__.update().where(tenanted.Client.id == clients[0].id)  # type: ignore[attr-defined]
        session.connection().execute(moved.values(tenant="north"))
        session.commit()
    counted = select(func.count()).select_from(tenanted.Client)
    with acting("searcher"), sessions() as session:
        found = session.scalar(candidates(counted.where(tenanted.Client.name == "the same")))
        everyone = session.scalar(counted)

    assert (found, everyone) == (Candidate(1, False), 2)


class Owned(DeclarativeBase):
    pass


class Asset(Owned):
    """The base of a joined inheritance, which names the tenant."""

    __tablename__ = "assets"
    __lacre_tenant__ = "tenant"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    kind: Mapped[str]
    tenant: Mapped[str]

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "asset"}  # noqa: RUF012


class House(Asset):
    __tablename__ = "houses"

    id: Mapped[UUID] = mapped_column(ForeignKey("assets.id"), primary_key=True)
    street: Mapped[str] = encrypted("pii", index=BlindIndex("exact", bits=8))

    __mapper_args__ = {"polymorphic_identity": "house"}  # noqa: RUF012


def test_the_tenant_of_a_joined_class_is_asked_for_where_it_is(
    lacre: Lacre, engine: Engine, acting: Acting
) -> None:
    """Where the base names the tenant, candidates of a child, counted or not, are this tenant's; under an alias too."""
    Owned.metadata.create_all(engine)
    sessions = lacre.sqlalchemy(sessionmaker(engine))
    with acting("app", tenant="default"), sessions() as session:
        houses = [House(tenant="default", street="the same") for _ in range(2)]
        session.add_all(houses)
        session.commit()
        moved = update(Asset.__table__).where(Asset.__table__.c.id == houses[0].id)  # type: ignore[arg-type]
        session.connection().execute(moved.values(tenant="north"))
        session.commit()
        kept = houses[1].id
    with acting("searcher"), sessions() as session:
        for house in (House, aliased(House)):
            condition = house.street == "the same"
            (found,) = session.scalars(candidates(select(house).where(condition)))
            counts = [select(func.count(house.id)), select(func.count()).select_from(house)]
            counted = [session.scalar(candidates(count.where(condition))) for count in counts]

            assert (found.possible.id, found.certain) == (kept, False)
            assert counted == [Candidate(1, False)] * 2


async def _searched(lacre: Lacre, url: Any, options: dict[str, Any]) -> None:
    engine = create_async_engine(url, **options)
    Sessions = lacre.sqlalchemy(async_sessionmaker(engine))
    statement = candidates(select(Customer).where(Customer.name == "Ana"))
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Customer.metadata.create_all)
        with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
            async with Sessions() as session:
                session.add(Customer(name="Ana", city="Porto"))
                await session.commit()
                (certain,) = await session.scalars(statement)
        with lacre.acting_as("svc:app", roles={"searcher"}, purpose="test"):
            async with Sessions() as session:
                (found,) = await session.scalars(statement)
                streamed = [each async for each in await session.stream_scalars(statement)]
    finally:
        await engine.dispose()

    assert (certain.certain, found.certain, streamed) == (True, False, [found])
    assert found.possible.city == "Porto"


@pytest.mark.parametrize("driver", ["aiosqlite", "asyncpg"])
def test_candidates_by_awaiting(
    lacre: Lacre, tmp_path: Path, request: pytest.FixtureRequest, driver: str
) -> None:
    """In an `AsyncSession` they are marked too, fetched at once or as they come."""
    if driver == "aiosqlite":
        asyncio.run(_searched(lacre, f"sqlite+aiosqlite:///{tmp_path / 'candidates.db'}", {}))
    else:
        database: Database = request.getfixturevalue("database")
        options = {"connect_args": database.server.tls()}
        asyncio.run(_searched(lacre, database.url("asyncpg"), options))
