# SPDX-License-Identifier: Apache-2.0
"""What is usually asked next: each answer is that of a plaintext twin of the column."""

import datetime as dt
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import (
    CompoundSelect,
    Engine,
    ForeignKey,
    Row,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    lambda_stmt,
    literal,
    literal_column,
    not_,
    or_,
    select,
    text,
    true,
    tuple_,
    union,
)
from sqlalchemy.ext.hybrid import hybrid_method
from sqlalchemy.orm import (
    DeclarativeBase,
    FromStatement,
    Mapped,
    Session,
    aliased,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
    synonym,
    with_loader_criteria,
)

from lacre import UnsupportedQuery
from lacre.sqlalchemy import BlindIndex, ContainsIndex, PrefixIndex, compound, encrypted

NAMES = ["maria da silva", "maria souza", "mariana", "joão maria", "ana", "anamaria", None]
NONE: Any = None
BORN = [dt.date(1990, 1, 1), dt.date(1991, 2, 2), None]


class Base(DeclarativeBase):
    pass


class Class(Base):
    __tablename__ = "classes"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    title: Mapped[str]
    pupils: Mapped[list["Pupil"]] = relationship(back_populates="of", order_by="Pupil.n")


class Pupil(Base):
    """A short index, indexes in parts, a unique one, a compound one, and a twin of each column."""

    __tablename__ = "pupils"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    n: Mapped[int]
    of_id: Mapped[UUID | None] = mapped_column(ForeignKey("classes.id"))
    of: Mapped[Class | None] = relationship(back_populates="pupils")
    name: Mapped[str | None] = encrypted(
        "pii",
        index=[BlindIndex("exact", bits=8), PrefixIndex("exact"), ContainsIndex("exact", bits=12)],
    )
    name_twin: Mapped[str | None]
    code: Mapped[str | None] = encrypted("pii", index=BlindIndex("exact", unique=True))
    code_twin: Mapped[str | None]
    born: Mapped[dt.date | None] = encrypted("pii", index=BlindIndex("exact", bits=96))
    born_twin: Mapped[dt.date | None]
    both = compound("code", "born")
    nickname = synonym("name")
    nickname_twin = synonym("name_twin")

    @hybrid_method
    def is_called(self, name: str) -> Any:
        return self.name == name

    @hybrid_method
    def is_called_twin(self, name: str) -> Any:
        return self.name_twin == name


class Of:
    """Attributes of an entity: the encrypted ones, or their twins."""

    def __init__(self, entity: Any, *, twin: bool) -> None:
        self._entity, self._twin = entity, twin

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entity, f"{name}_twin" if self._twin else name)


@pytest.fixture
def school(session: Session, engine: Engine) -> Session:
    Base.metadata.create_all(engine)
    classes = [Class(title=title) for title in "ab"]
    for n in range(21):
        name, code, born = NAMES[n % 7], f"c{n}" if n % 5 else None, BORN[n % 3]
        held: dict[str, Any] = {"name": name, "code": code, "born": born}
        twins = {f"{key}_twin": value for key, value in held.items()}
        session.add(Pupil(n=n, of=[*classes, None][n % 3], **held, **twins))
    session.commit()
    return session


def told(row: Any) -> str:
    parts = row if isinstance(row, Row | tuple) else (row,)
    return ",".join(str(getattr(part, "n", getattr(part, "id", part))) for part in parts)


def _shapes(session: Session) -> dict[str, Callable[[Of], Any]]:
    Q, other = session.query, aliased(Pupil)
    return {
        "order by a name": lambda o: (
            select(Pupil.n)
            .join(Pupil.of)
            .where(o.name.contains("aria"), o.code != "c7")
            .order_by("title")
        ),
        "part": lambda o: select(Pupil.n).where(o.name.contains("aria")),
        "part+exact": lambda o: select(Pupil.n).where(o.name.contains("aria"), o.code == "c7"),
        "and true": lambda o: select(Pupil.n).where(and_(true(), o.name.contains("aria"))),
        "self_group": lambda o: select(Pupil.n).where(o.name.contains("aria").self_group()),
        "short ==": lambda o: select(Pupil.n).where(o.name == "ana"),
        "short in": lambda o: select(Pupil.n).where(o.name.in_(["ana", "mariana", "x"])),
        "short in []": lambda o: select(Pupil.n).where(o.name.in_([])),
        "code !=": lambda o: select(Pupil.n).where(o.code != "c7"),
        "code not in": lambda o: select(Pupil.n).where(o.code.not_in(["c7", "c8"])),
        "code not in []": lambda o: select(Pupil.n).where(o.code.not_in([])),
        "code in []": lambda o: select(Pupil.n).where(o.code.in_([])),
        "not code in []": lambda o: select(Pupil.n).where(not_(o.code.in_([]))),
        "born in []": lambda o: select(Pupil.n).where(o.born.in_([])),
        "born not in []": lambda o: select(Pupil.n).where(o.born.not_in([])),
        "not or born in []": lambda o: select(Pupil.n).where(
            not_(or_(o.born.in_([]), Pupil.n == 3))
        ),
        "code none": lambda o: select(Pupil.n).where(o.code.is_(None)),
        "code == NONE": lambda o: select(Pupil.n).where(o.code == NONE),
        "code not none": lambda o: select(Pupil.n).where(o.code.is_not(None)),
        "or exact": lambda o: select(Pupil.n).where(or_(o.code == "c7", o.born == BORN[0])),
        "not or exact": lambda o: select(Pupil.n).where(
            not_(or_(o.code == "c7", o.born == BORN[0]))
        ),
        "not and exact": lambda o: select(Pupil.n).where(
            not_(and_(o.code == "c7", o.born == BORN[0]))
        ),
        "or none": lambda o: select(Pupil.n).where(or_(o.code == "c7", o.code.is_(None))),
        "xor": lambda o: select(Pupil.n).where((o.code == "c7") != (Pupil.n == 3)),
        "is true": lambda o: select(Pupil.n).where((o.code == "c7").is_(True)),
        "is false": lambda o: select(Pupil.n).where((o.code == "c7").is_(False)),
        "is not true": lambda o: select(Pupil.n).where((o.code == "c7").is_not(True)),
        "born is not true": lambda o: select(Pupil.n).where((o.born == BORN[0]).is_not(True)),
        "case": lambda o: select(Pupil.n, case((o.code == "c7", 1), else_=0)),
        "case none": lambda o: select(Pupil.n, case((not_(o.code == "c7"), 1), else_=0)),
        "select cond": lambda o: select(Pupil.n, o.code == "c7"),
        "order by cond": lambda o: (
            select(Pupil.n).order_by((o.code == "c7").desc(), Pupil.n).limit(2)
        ),
        "sum case": lambda o: select(func.sum(case((o.born == BORN[0], 1), else_=0))),
        "filter agg": lambda o: select(func.count(Pupil.id).filter(o.born == BORN[0])),
        "group": lambda o: (
            select(Pupil.of_id, func.count()).where(o.name.contains("aria")).group_by(Pupil.of_id)
        ),
        "having": lambda o: (
            select(Pupil.of_id, func.count())
            .where(o.name.startswith("mari"))
            .group_by(Pupil.of_id)
            .having(func.count() > 0)
        ),
        "window": lambda o: select(Pupil.n, func.row_number().over(order_by=Pupil.n)).where(
            o.name.contains("aria")
        ),
        "count over": lambda o: select(Pupil.n, func.count().over()).where(o.name.contains("aria")),
        "distinct": lambda o: select(Pupil.of_id).where(o.name.contains("aria")).distinct(),
        "limit": lambda o: (
            select(Pupil).where(o.name.contains("aria")).order_by(Pupil.n).limit(3).offset(1)
        ),
        "joinedload limit": lambda o: (
            select(Class)
            .join(Class.pupils)
            .options(joinedload(Class.pupils))
            .where(o.name.contains("aria"))
            .order_by(Class.title)
            .limit(1)
        ),
        "joinedload limit2": lambda o: (
            select(Pupil)
            .options(joinedload(Pupil.of))
            .where(o.name.contains("aria"))
            .order_by(Pupil.n)
            .limit(2)
        ),
        "selectinload": lambda o: (
            select(Class)
            .join(Class.pupils)
            .options(selectinload(Class.pupils))
            .where(o.name.contains("joão"))
        ),
        "subqueryload exact": lambda o: (
            select(Class)
            .join(Class.pupils)
            .options(subqueryload(Class.pupils))
            .where(o.code == "c7")
        ),
        "any exact": lambda o: select(Class).where(Class.pupils.any(o.code == "c7")),
        "not any": lambda o: select(Class).where(~Class.pupils.any(o.code == "c7")),
        "any not": lambda o: select(Class).where(Class.pupils.any(o.code != "c7")),
        "has": lambda o: select(Pupil.n).where(
            Pupil.of.has(Class.title == "a"), o.name.contains("aria")
        ),
        "exists exact": lambda o: select(exists().where(o.code == "c7")),
        "select exists": lambda o: select(select(Pupil.id).where(o.code == "c7").exists()),
        "scalar subq": lambda o: select(
            select(func.count()).where(o.born == BORN[0]).scalar_subquery()
        ),
        "in subq": lambda o: select(Pupil.n).where(
            Pupil.id.in_(select(Pupil.id).where(o.code == "c7"))
        ),
        "from subq": lambda o: select(func.count()).select_from(
            select(Pupil.id).where(o.code == "c7").subquery()
        ),
        "cte": lambda o: select(func.count()).select_from(
            select(Pupil.id).where(o.born == BORN[0]).cte()
        ),
        "union": lambda o: union(
            select(Pupil.n).where(o.code == "c7"), select(Pupil.n).where(o.born == BORN[0])
        ),
        "with subq elsewhere": lambda o: select(Pupil.n).where(
            o.name.contains("aria"), Pupil.of_id.in_(select(Class.id).where(Class.title == "a"))
        ),
        "correlated elsewhere": lambda o: select(Pupil.n).where(
            o.name.contains("aria"), exists().where(Class.id == Pupil.of_id)
        ),
        "scalar col": lambda o: select(
            Pupil.n, select(Class.title).where(Class.id == Pupil.of_id).scalar_subquery()
        ).where(o.name.contains("aria")),
        "outer join": lambda o: (
            select(Pupil.n, Class.title).outerjoin(Pupil.of).where(o.name.contains("aria"))
        ),
        "outer join other": lambda o: (
            select(Class.title, Pupil.n).outerjoin(Class.pupils).where(o.name.contains("aria"))
        ),
        "outer join on exact": lambda o: select(Class.title, Pupil.n).outerjoin(
            Pupil, and_(Pupil.of_id == Class.id, o.code == "c7")
        ),
        "full join": lambda o: (
            select(Class.title, Pupil.n)
            .join(Pupil, Pupil.of_id == Class.id, full=True)
            .where(o.name.contains("aria"))
        ),
        "compound ==": lambda o: select(Pupil.n).where(
            and_(Pupil.code_twin == "c7", Pupil.born_twin == BORN[1])
            if o._twin
            else Pupil.both == ("c7", BORN[1])
        ),
        "compound in": lambda o: select(Pupil.n).where(
            tuple_(Pupil.code_twin, Pupil.born_twin).in_([("c7", BORN[1]), ("c1", BORN[1])])
            if o._twin
            else Pupil.both.in_([("c7", BORN[1]), ("c1", BORN[1])])
        ),
        "compound in gen": lambda o: select(Pupil.n).where(
            tuple_(Pupil.code_twin, Pupil.born_twin).in_([("c7", BORN[1])])
            if o._twin
            else Pupil.both.in_(t for t in [("c7", BORN[1])])
        ),
        "compound or": lambda o: select(Pupil.n).where(
            or_(
                and_(Pupil.code_twin == "c7", Pupil.born_twin == BORN[1])
                if o._twin
                else Pupil.both == ("c7", BORN[1]),
                o.code == "c8",
            )
        ),
        "compound none": lambda o: select(Pupil.n).where(
            or_(Pupil.code_twin == NONE, Pupil.born_twin == NONE) if o._twin else Pupil.both == NONE
        ),
        "compound not none": lambda o: select(Pupil.n).where(
            and_(Pupil.code_twin != NONE, Pupil.born_twin != NONE)
            if o._twin
            else Pupil.both != NONE
        ),
        "synonym": lambda o: select(Pupil.n).where(o.nickname == "ana"),
        "synonym part": lambda o: select(Pupil.n).where(o.nickname.contains("aria")),
        "hybrid": lambda o: select(Pupil.n).where(o.is_called("ana")),
        "alias": lambda o: select(other.n).where(Of(other, twin=o._twin).name.contains("aria")),
        "alias self join": lambda o: (
            select(Pupil.n, other.n)
            .join(other, other.of_id == Pupil.of_id)
            .where(o.name == "ana", Of(other, twin=o._twin).name.contains("maria"))
        ),
        "loader criteria": lambda o: select(Pupil.n).options(
            with_loader_criteria(Pupil, o.code == "c7")
        ),
        "loader criteria elsewhere": lambda o: (
            select(Pupil.n)
            .where(o.name.contains("aria"))
            .options(with_loader_criteria(Class, Class.title == "a"))
        ),
        "loader criteria own": lambda o: (
            select(Pupil.n)
            .where(o.name.contains("aria"))
            .options(with_loader_criteria(Pupil, Pupil.n > 5))
        ),
        "count loader criteria own": lambda o: (
            select(func.count())
            .where(o.name.contains("aria"))
            .options(with_loader_criteria(Pupil, Pupil.n > 5))
        ),
        "for update": lambda o: (
            select(Pupil).where(o.name.contains("aria")).with_for_update(of=Pupil)
        ),
        "Q filter": lambda o: Q(Pupil.n).filter(o.name.contains("aria")),
        "Q first": lambda o: [Q(Pupil).filter(o.name.contains("aria")).order_by(Pupil.n).first()],
        "Q one_or_none": lambda o: [Q(Pupil).filter(o.code == "c7").one_or_none()],
        "Q slice": lambda o: Q(Pupil).filter(o.name.contains("aria")).order_by(Pupil.n)[1:3],
        "Q count exact": lambda o: [Q(Pupil).filter(o.code == "c7").count()],
        "Q scalar": lambda o: [Q(func.count(Pupil.id)).filter(o.name.contains("aria")).scalar()],
        "Q exists": lambda o: [Q(Q(Pupil).filter(o.code == "c7").exists()).scalar()],
        "Q join": lambda o: Q(Class.title).join(Class.pupils).filter(o.name.contains("aria")),
        "Q values": lambda o: Q(Pupil).filter(o.name.contains("aria")).with_entities(Pupil.n),
        "Q yield_per": lambda o: Q(Pupil).filter(o.name.contains("aria")).yield_per(2),
        "Q distinct": lambda o: Q(Pupil.of_id).filter(o.name.contains("aria")).distinct(),
        "Q subq": lambda o: Q(Pupil.n).filter(Pupil.id.in_(Q(Pupil.id).filter(o.code == "c7"))),
        "yield_per": lambda o: session.execute(
            select(Pupil).where(o.name.contains("aria")).execution_options(yield_per=2)
        ),
        "yield_per partitions": lambda o: [
            r
            for part in session.execute(
                select(Pupil).where(o.name.contains("aria")).execution_options(yield_per=2)
            ).partitions()
            for r in part
        ],
        "stream": lambda o: session.execute(
            select(Pupil).where(o.name.contains("aria")), execution_options={"stream_results": True}
        ),
        "populate": lambda o: session.execute(
            select(Pupil).where(o.name.contains("aria")),
            execution_options={"populate_existing": True},
        ),
        "from_statement": lambda o: select(Pupil).from_statement(
            select(Pupil).where(o.code == "c7")
        ),
        "aliased subq": lambda o: select(
            aliased(Pupil, select(Pupil).where(o.code == "c7").subquery()).n
        ),
        "literal col": lambda o: select(Pupil.n, literal_column("1")).where(
            o.name.contains("aria")
        ),
        "text": lambda o: select(Pupil.n).where(o.name.contains("aria"), text("n > 5")),
        "prefix": lambda o: select(Pupil.n).where(o.name.startswith("mari")),
        "prefix+contains": lambda o: select(Pupil.n).where(
            o.name.startswith("mari"), o.name.contains("silv"), o.name.endswith("va")
        ),
        "slice": lambda o: (
            select(Pupil.n).where(o.name.contains("aria")).order_by(Pupil.n).slice(1, 3)
        ),
        "no from": lambda o: select(literal(1)).where(o.name.contains("silv")),
        "all entities": lambda o: select(Pupil, Class).where(
            o.name.contains("aria"), Pupil.of_id == Class.id
        ),
    }


def test_as_the_plaintext_twin_answers(school: Session) -> None:
    """Rows, counts, groups and pages, by select() and by Query, whole and in chunks."""
    differ = {}
    for shape, asked in _shapes(school).items():
        answers = []
        for twin in (False, True):
            found = asked(Of(Pupil, twin=twin))
            if isinstance(found, Select | CompoundSelect | FromStatement):
                found = school.execute(found).unique()
            answers.append(sorted(told(row) for row in found))
        if answers[0] != answers[1]:
            differ[shape] = answers

    assert differ == {}


def _refused(session: Session) -> list[Callable[[], Any]]:
    part, value = Pupil.name.contains("aria"), "c7"
    run = session.execute
    return [
        lambda: run(select(Pupil).where(part.is_(True))),
        lambda: run(select(Pupil).where(part == true())),
        lambda: run(select(Class).where(Class.pupils.any(part))),
        lambda: run(select(Class).outerjoin(Pupil, and_(Pupil.of_id == Class.id, part))),
        lambda: run(select(Pupil).from_statement(select(Pupil).where(part))),
        lambda: run(
            select(Class).join(Class.pupils).options(subqueryload(Class.pupils)).where(part)
        ).all(),
        lambda: session.query(Pupil).filter(part).count(),
        lambda: session.query(session.query(Pupil).filter(part).exists()).scalar(),
        lambda: run(select(Pupil).order_by(Pupil.name)),
        # By the ciphertexts, of which no two are equal.
        lambda: run(select(func.count()).select_from(Pupil).group_by("name")),
        lambda: run(select(Class.title).join(Class.pupils).order_by("name")),
        lambda: run(select(Pupil).where(func.lower(Pupil.code) == value)),
        lambda: run(select(Pupil).where(tuple_(Pupil.code, Pupil.n).in_([(value, 7)]))),
        lambda: run(select(Pupil).where(Pupil.code == bindparam("c")), {"c": value}),
        # SQLAlchemy would keep the statement with the first value in it.
        lambda: run(select(Pupil).where(lambda: Pupil.code == value)),
        lambda: run(select(Pupil).where(lambda: Pupil.name.contains(value))),
        lambda: run(lambda_stmt(lambda: select(Pupil).where(Pupil.code == value))),
        lambda: run(lambda_stmt(lambda: select(Pupil).where(Pupil.code.in_(value)))),
        lambda: run(
            select(Pupil).options(with_loader_criteria(Pupil, lambda of: of.code == value))
        ),
    ]


def test_what_is_not_answered_is_refused(school: Session) -> None:
    """By an error of lacre's with a way out, and never by rows that the twin would not have."""
    for ask in _refused(school):
        with pytest.raises(UnsupportedQuery) as refused:
            ask()
        school.rollback()

        assert refused.value.hint
