# SPDX-License-Identifier: Apache-2.0
"""`startswith`, `contains` and `endswith`: what the plaintext would answer, and nothing else."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, event, func, insert, not_, or_, select, text, update
from sqlalchemy.orm import Session, aliased, with_loader_criteria

from lacre import AccessDenied, InvalidValue, Lacre, UnsupportedQuery
from lacre.fields.normalisers import normaliser
from tests.sqlalchemy.conftest import Acting, Sessions, on_postgresql, on_sqlite, one_each
from tests.sqlalchemy.models import Citizen

NAMES = [
    "Maria da Silva",
    "MÁRIO Silveira",
    "Ana Souza",
    "João Sá",
    "Li",
    "",
    "山田太郎",
    "😀 smile 😀",
]
SILVAS = ["Maria da Silva", "MÁRIO Silveira"]
LONG = " ".join(f"word{n} and{n}" for n in range(60))

_names = st.one_of(
    st.sampled_from([*NAMES, LONG]),
    st.text(alphabet="abá AB s\u0301ß漢😀", max_size=12),
    st.text(max_size=30),
)


@pytest.fixture
def people(session: Session) -> Session:
    """A few names, one of them NULL."""
    session.add_all(
        [Citizen(name=name, nick=name, city=str(n % 2)) for n, name in enumerate(NAMES)]
    )
    session.add(Citizen())
    session.commit()
    return session


def names(session: Session, condition: Any) -> list[str]:
    found = session.scalars(select(Citizen).where(condition)).all()
    return sorted(str(citizen.name) for citizen in found)


def test_what_the_text_contains(people: Session) -> None:
    """Accents, case and spaces make no difference with the normaliser `name`."""
    assert names(people, Citizen.name.contains("silv")) == SILVAS
    assert names(people, Citizen.name.contains("A  S")) == ["Ana Souza", "Maria da Silva"]
    assert names(people, Citizen.name.contains("山田太")) == ["山田太郎"]
    assert names(people, Citizen.name.contains("nobody")) == []
    assert names(people, Citizen.name.endswith("souza")) == ["Ana Souza"]
    assert names(people, Citizen.name.endswith("sa")) == ["João Sá"]


def test_what_the_text_begins_with(people: Session) -> None:
    """The longest declared length that the query has is asked, and the rest is re-checked."""
    assert names(people, Citizen.name.startswith("mar")) == SILVAS
    assert names(people, Citizen.name.startswith("Maria da S")) == ["Maria da Silva"]
    assert names(people, Citizen.name.startswith("Silva")) == []
    assert names(people, Citizen.name == "MARIA DA SILVA") == ["Maria da Silva"]


def test_other_spellings_of_the_same_questions(people: Session) -> None:
    """LIKE with a text between per cent signs is `contains`; case counts where the index says so."""
    for condition in (
        Citizen.name.like("%silv%"),
        Citizen.name.ilike("%SILV%"),
        Citizen.name.icontains("SILV"),
        Citizen.name.contains("silv", autoescape=True),
        Citizen.name.like("%s/ilv%", escape="/"),
    ):
        assert names(people, condition) == SILVAS
    assert names(people, Citizen.name.like("mar%")) == SILVAS
    assert names(people, Citizen.name.istartswith("MAR")) == SILVAS
    assert names(people, Citizen.name.like("%souza")) == ["Ana Souza"]
    assert names(people, Citizen.nick.contains("Silv")) == SILVAS
    assert names(people, Citizen.nick.contains("silv")) == []
    assert names(people, Citizen.nick.startswith("Ma")) == ["Maria da Silva"]
    for refused in (
        lambda: Citizen.nick.icontains("silv"),
        lambda: Citizen.name.like("m%s"),
        lambda: Citizen.name.like("mar_"),
        lambda: Citizen.name.like("maria"),
        lambda: Citizen.name.contains("a%", escape="/"),
        lambda: Citizen.name.like("%silv/%", escape="/"),
        lambda: Citizen.name.regexp_match("m.*"),
        lambda: Citizen.name.not_like("%silv%"),
    ):
        with pytest.raises(UnsupportedQuery):
            refused()


def test_pages_and_counts_are_those_of_the_plaintext(people: Session) -> None:
    """Limits, offsets, counts and further conditions see re-checked rows only."""
    silva = Citizen.name.contains("silv")
    count = select(func.count()).select_from(Citizen)
    assert people.scalar(count.where(silva)) == 2
    assert people.scalar(count.where(silva, Citizen.name.startswith("maria"))) == 1
    assert (
        people.scalar(count.where(silva & Citizen.nick.contains("Silv"), Citizen.city == "0")) == 1
    )
    paged = select(Citizen).where(silva).order_by(Citizen.city)
    assert [row.city for row in people.scalars(paged.limit(1).offset(1))] == ["1"]
    assert people.scalars(paged.limit(1).offset(2)).all() == []
    other = aliased(Citizen)
    joined = select(Citizen.city).join(other, other.id == Citizen.id)
    assert len(people.scalars(joined.where(other.name.contains("silv"), silva)).all()) == 2


@on_postgresql
def test_the_first_of_each(people: Session) -> None:
    """DISTINCT ON keeps the first of the true hits, in the order that was asked for."""
    people.execute(
        update(Citizen), [{"id": n, "city": "0"} for n in people.scalars(select(Citizen.id))]
    )
    silva = Citizen.name.contains("silv")
    for order in (Citizen.id.asc(), Citizen.id.desc()):
        whole = people.scalars(select(Citizen.id).where(silva).order_by(order)).all()
        asked = one_each(select(Citizen.id), Citizen.city).where(silva)

        assert people.scalars(asked.order_by(Citizen.city, order)).all() == whole[:1]


def test_where_hits_cannot_be_rechecked(people: Session) -> None:
    """Under OR and NOT, in subqueries, in UPDATE and DELETE a false hit could not be taken out."""
    silva = Citizen.name.contains("silv")
    for statement in (
        select(Citizen).where(or_(silva, Citizen.city == "0")),
        select(Citizen).where(not_(silva)),
        select(Citizen).where(Citizen.id.in_(select(Citizen.id).where(silva))),
        update(Citizen).where(silva).values(city="x"),
        delete(Citizen).where(silva),
        select(Citizen).options(with_loader_criteria(Citizen, silva)),
    ):
        with pytest.raises(UnsupportedQuery, match="re-checked"):
            people.execute(statement)
        people.rollback()


def test_too_short_to_ask(people: Session) -> None:
    """What no token is made of is an error that says how much is needed, and not an empty answer."""
    for condition, least in (
        (Citizen.name.contains("si"), "3 characters"),
        (Citizen.name.contains(""), "3 characters"),
        (Citizen.name.startswith("m"), "2 characters"),
        (Citizen.name.endswith("a"), "2 characters"),
    ):
        with pytest.raises(UnsupportedQuery, match=least) as refused:
            people.execute(select(Citizen).where(condition))
        assert "si" not in str(refused.value).split()


def test_a_question_without_an_index() -> None:
    """The error names the index that would answer."""
    from tests.sqlalchemy.models import Customer

    with pytest.raises(UnsupportedQuery) as refused:
        Customer.name.contains("x")

    assert "ContainsIndex" in refused.value.hint


def test_too_many_candidates(
    people: Session, lacre: Lacre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard stops a search before it opens everybody, and says where it is set."""
    bounded = lacre.policy.file.search.model_copy(update={"candidates": 1})
    monkeypatch.setitem(lacre.policy.file.__dict__, "search", bounded)
    with pytest.raises(UnsupportedQuery, match="more than 1 rows") as refused:
        people.execute(select(Citizen).where(Citizen.name.contains("silv")))

    assert "candidates" in refused.value.hint


def test_search_alone_is_not_enough(people: Session, sessions: Sessions, acting: Acting) -> None:
    """Whoever may not decrypt gets no candidates either: part by part they would tell the value."""
    with acting("searcher"), sessions() as session:
        for condition in (Citizen.name.contains("silv"), Citizen.name.startswith("maria")):
            with pytest.raises(AccessDenied):
                session.execute(select(Citizen).where(condition))
        with pytest.raises(AccessDenied) as denied:
            session.execute(select(Citizen).where(Citizen.name == "li"))

    assert "bits=96" in denied.value.hint


def test_the_search_is_recorded_once(
    people: Session, recorded: Callable[..., list[dict[str, Any]]]
) -> None:
    """One search, by the name of its index, and no look at the candidates."""
    looks = len(recorded("look"))
    people.scalars(select(Citizen).where(Citizen.name.contains("silv"))).all()

    assert [event["index"] for event in recorded("search")] == ["contains"]
    assert len(recorded("look")) == looks


def test_tokens_follow_every_write(session: Session, engine: Engine) -> None:
    """Flushes, bulk statements, deletes and NULLs: what is found is what is there."""
    known, other = uuid4(), uuid4()
    session.execute(
        insert(Citizen), [{"id": known, "name": "first"}, {"id": other, "name": "first"}]
    )
    assert len(names(session, Citizen.name.contains("irs"))) == 2
    session.execute(update(Citizen), [{"id": known, "name": "second"}])
    assert names(session, Citizen.name.contains("irs")) == ["first"]
    session.get_one(Citizen, known).name = "third"
    session.flush()
    assert names(session, Citizen.name.contains("eco")) == []
    assert names(session, Citizen.name.startswith("thi")) == ["third"]
    session.get_one(Citizen, known).name = None
    session.execute(delete(Citizen).where(Citizen.id == other))
    session.commit()
    assert names(session, Citizen.name.contains("irs")) == []
    if engine.dialect.name == "sqlite":
        left = session.execute(text("SELECT count(*) FROM citizens_name_contains_bidx"))
        assert left.scalar() == 0


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(values=st.lists(_names, min_size=1, max_size=8), start=st.integers(0, 40), data=st.data())
def test_as_the_plaintext_answers(
    session: Session, values: list[str], start: int, data: st.DataObject
) -> None:
    """Every question about any text: the same rows as a search of the normalised plaintexts."""
    session.rollback()
    rule = normaliser("name").normalise
    kept = []
    for value in values:
        try:
            rule(value)
        except InvalidValue:
            continue
        kept.append(value)
    session.add_all([Citizen(name=value) for value in kept])
    session.flush()
    source = data.draw(_names)
    if kept and data.draw(st.booleans()):
        source = data.draw(st.sampled_from(kept))[start:]
    length = data.draw(st.integers(1, 12))
    wanted = source[:length]
    for question in ("contains", "startswith", "endswith"):
        condition = getattr(Citizen.name, question)(wanted)
        try:
            found = names(session, condition)
        except (UnsupportedQuery, InvalidValue):
            assert len(rule(wanted)) < 3 if _valid(wanted) else True
            continue
        plain = {
            "contains": lambda held: rule(wanted) in held,
            "startswith": lambda held: held.startswith(rule(wanted)),
            "endswith": lambda held: held.endswith(rule(wanted)),
        }[question]
        assert found == sorted(value for value in kept if plain(rule(value)))


def _valid(value: str) -> bool:
    try:
        normaliser("name").normalise(value)
    except InvalidValue:
        return False
    return True


def test_long_texts_are_found(session: Session) -> None:
    """A text with more trigrams than are kept is a candidate for every question, and found by any part."""
    session.add_all([Citizen(name=LONG), Citizen(name="short")])
    session.flush()

    assert names(session, Citizen.name.contains("and59")) == [LONG]
    assert names(session, Citizen.name.contains("nowhere")) == []


@on_postgresql
def test_storage_is_bounded(session: Session) -> None:
    """A name of 28 characters has at most 70 tokens, in at most 400 bytes of an array."""
    name = "Maria Aparecida dos Santos S"
    assert len(name) == 28
    session.add(Citizen(name=name))
    session.flush()
    for column in ("name_contains_bidx", "name_prefix_bidx"):
        query = f"SELECT cardinality({column}), pg_column_size({column}) FROM citizens"
        count, size = session.execute(text(query)).one()

        assert count <= 70
        assert size <= 400


@on_postgresql
def test_the_plan_uses_the_index(session: Session, engine: Engine) -> None:
    """On a table of some rows PostgreSQL answers by the GIN index."""
    session.execute(insert(Citizen), [{"name": f"name{n} of{n * 7}"} for n in range(3000)])
    session.commit()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE citizens"))
    sent: list[tuple[str, Any]] = []

    @event.listens_for(engine, "before_cursor_execute")
    def executed(_c: Any, _cursor: Any, statement: str, given: Any, *_: Any) -> None:
        sent.append((statement, given))

    for condition, column in (
        (Citizen.name.contains("name271"), "name_contains_bidx"),
        (Citizen.name.startswith("name2712"), "name_prefix_bidx"),
    ):
        sent.clear()
        session.scalars(select(Citizen).where(condition)).all()
        statement, given = sent[0]
        plan = session.connection().exec_driver_sql(f"EXPLAIN {statement}", given).scalars()

        assert f"ix_citizens_{column}" in "\n".join(plan)


@on_sqlite
def test_the_plan_uses_the_table_of_tokens(session: Session) -> None:
    """SQLite finds tokens by the primary key of their table."""
    plan = session.execute(
        text(
            "EXPLAIN QUERY PLAN SELECT id FROM citizens WHERE id IN"
            " (SELECT id FROM citizens_name_contains_bidx WHERE lacre_token IN (1, 2)"
            " GROUP BY id HAVING count(*) = 2)"
        )
    )
    said = json.dumps([list(row) for row in plan])

    assert "SEARCH citizens_name_contains_bidx USING PRIMARY KEY" in said
    assert "SEARCH citizens USING" in said


def test_eager_loads_and_refreshes_ask_nothing_again(people: Session) -> None:
    """Objects that were found are ordinary: expired and refreshed like others."""
    found = people.scalars(select(Citizen).where(Citizen.name.contains("souza"))).one()
    people.expire(found)
    people.refresh(found)

    assert found.name == "Ana Souza"
