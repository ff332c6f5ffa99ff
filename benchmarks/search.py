# SPDX-License-Identifier: Apache-2.0
"""
Searching a table on PostgreSQL: by equality, by a beginning, by any part.

    PYTHONPATH=. python benchmarks/search.py [--rows N] [--rounds N]

Every question has at most 50 matches, and is asked of the same names in plaintext in the same run:
by a btree, a btree of `text_pattern_ops` and `pg_trgm`. Nothing is looked at: what is measured is
the search, its re-check included. Fails where a plan does not use the index. Prints a table and
writes `results/<date>-search.json`. Ends with status 1 where a bar is missed.
"""

import argparse
import random
import sys
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from measuring import Bar, bars_table, judged, machine, rounds, say, table, timed, write_results
from setting import application
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from lacre.sqlalchemy import BlindIndex, ContainsIndex, PrefixIndex, encrypted
from tests.components.postgresql import postgresql_server

BARS = {"equality": 1.6, "prefix": 3.0, "contains": 10.0}
ASKED = 50  # questions of a kind in a round
MATCHES = 25  # rows of one family name, on average
SYLLABLES = [a + b for a in "bcdfghjlmnprstvz" for b in "aeiou"]
GIVEN = ("ana", "bia", "caio", "davi", "eva", "ines", "joao", "livia", "otto", "rui")


class Base(DeclarativeBase):
    pass


class Plain(Base):
    __tablename__ = "search_plain"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    __table_args__ = (
        sa.Index("search_plain_prefix", "name", postgresql_ops={"name": "text_pattern_ops"}),
        sa.Index(
            "search_plain_contains",
            "name",
            postgresql_using="gin",
            postgresql_ops={"name": "gin_trgm_ops"},
        ),
    )


class Sealed(Base):
    __tablename__ = "search_lacre"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[str] = encrypted("pii", index=BlindIndex("email", unique=True))
    name: Mapped[str] = encrypted("pii", index=[PrefixIndex("name"), ContainsIndex("name")])


INDEXES = {
    "plain equality": "search_plain_email_key",
    "plain prefix": "search_plain_prefix",
    "plain contains": "search_plain_contains",
    "lacre equality": "search_lacre_email_bidx_key",
    "lacre prefix": "ix_search_lacre_name_prefix_bidx",
    "lacre contains": "ix_search_lacre_name_contains_bidx",
}


def rows_of(count: int, chance: random.Random) -> list[dict[str, Any]]:
    """Return rows whose family names, of five syllables, are each those of a few."""
    families = ["".join(chance.choices(SYLLABLES, k=5)) for _ in range(max(count // MATCHES, 1))]
    return [
        {
            "id": uuid4(),
            "email": f"customer{n}@example.org",
            "name": f"{chance.choice(families)} {chance.choice(GIVEN)} {chance.choice(families)}",
        }
        for n in range(count)
    ]


def conditions(model: Any, asked: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return what is asked of *model*: of each row its address, its first family name, and its last."""
    families = [str(row["name"]).split() for row in asked]
    return {
        "equality": [model.email == row["email"] for row in asked],
        "prefix": [model.name.startswith(first) for first, _, _ in families],
        "contains": [model.name.contains(last[1:9]) for _, _, last in families],
    }


def asking(sessions: Any, model: Any, asked: list[Any]) -> Callable[[], float]:
    def run() -> float:
        with sessions() as session:
            return timed(
                lambda: [
                    session.scalars(sa.select(model).where(condition)).all() for condition in asked
                ],
                len(asked),
            )

    return run


def check(engine: sa.Engine, sessions: Any, model: Any, condition: Any, index: str) -> int:
    """Raise unless the first query of a search uses *index*; return how many rows it finds."""
    sent: list[tuple[str, Any]] = []

    def executed(_c: Any, _cursor: Any, statement: str, given: Any, *_: Any) -> None:
        sent.append((statement, given))

    sa.event.listen(engine, "before_cursor_execute", executed)
    try:
        with sessions() as session:
            found = session.scalars(sa.select(model).where(condition)).all()
    finally:
        sa.event.remove(engine, "before_cursor_execute", executed)
    statement, given = sent[0]
    with engine.connect() as connection:
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", given).scalars())
    if index not in plan:
        raise SystemExit(f"the plan does not use {index}:\n{plan}")
    if not 1 <= len(found) <= 50 + ASKED:
        raise SystemExit(f"{len(found)} rows were found by {index}")
    return len(found)


def main() -> int:
    arguments = argparse.ArgumentParser(description="searching a table on PostgreSQL")
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=9)
    given = arguments.parse_args()
    chance = random.Random(20)
    with (
        postgresql_server(durable=True, shared_buffers="512MB", max_wal_size="4GB") as server,
        server.database() as database,
        application() as lacre,
    ):
        engine = sa.create_engine(database.url())
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE EXTENSION pg_trgm"))
        Base.metadata.create_all(engine)
        plain = sessionmaker(engine)
        sessions = {"plain": plain, "lacre": lacre.sqlalchemy(plain)}
        models: dict[str, Any] = {"plain": Plain, "lacre": Sealed}
        rows = rows_of(given.rows, chance)
        say(f"inserting {given.rows:,} rows, twice")
        for start in range(0, len(rows), 5000):
            for who, model in models.items():
                with sessions[who]() as session:
                    session.execute(sa.insert(model), rows[start : start + 5000])
                    session.commit()
            lacre.recorder.flush()
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for model in models.values():
                connection.execute(sa.text(f"VACUUM ANALYZE {model.__tablename__}"))
        asked = chance.sample(rows, ASKED)
        found, matches = {}, {}
        for who, model in models.items():
            for kind, questions in conditions(model, asked).items():
                name = f"{who} {kind}"
                matches[name] = [
                    check(engine, sessions[who], model, question, INDEXES[name])
                    for question in questions
                ]
                found[name] = asking(sessions[who], model, questions)
        for kind in BARS:
            if matches[f"plain {kind}"] != matches[f"lacre {kind}"]:
                raise SystemExit(f"{kind}: other rows were found than in plaintext")
        with engine.connect() as connection:
            size = partial(connection.scalar)
            stored = {
                column: size(
                    sa.text(f"SELECT round(avg(pg_column_size({column})), 1) FROM search_lacre")
                )
                for column in ("name_prefix_bidx", "name_contains_bidx")
            }
        say(f"{given.rounds} rounds of {ASKED} questions of each kind, in turn")
        figures = rounds(found, given.rounds, warm=2)
        engine.dispose()
        facts = machine(("lacre", "cryptography", "sqlalchemy", "psycopg"))
        facts["postgresql"] = server.version()
    judgements = judged(
        [
            Bar(what=f"lacre {kind}", beside=f"plain {kind}", limit=limit)
            for kind, limit in BARS.items()
        ],
        figures,
    )
    lines = [
        (name, f"{taken.least * 1e6:,.0f}", f"{taken.median * 1e6:,.0f}")
        for name, taken in figures.items()
    ]
    print(
        table(("microseconds a search", "least", "median"), lines),
        bars_table(judgements),
        sep="\n\n",
    )
    path = write_results(
        "search",
        {
            "machine": facts,
            "rows": given.rows,
            "rounds": given.rounds,
            "most_matches": {name: max(counts) for name, counts in matches.items()},
            "bytes_of_an_array": {name: float(taken) for name, taken in stored.items()},
            "seconds": {
                name: {"least": taken.least, "median": taken.median}
                for name, taken in figures.items()
            },
            "bars": judgements,
        },
    )
    say(f"written to {path.name}")
    return 0 if all(judgement["met"] is not False for judgement in judgements) else 1


if __name__ == "__main__":
    sys.exit(main())
