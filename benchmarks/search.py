# SPDX-License-Identifier: Apache-2.0
"""
Searching a table on PostgreSQL: by equality, by a beginning, by any part.

    PYTHONPATH=. python benchmarks/search.py [--rows N] [--rounds N]

Every question has at most 50 matches, and is asked of the same names in plaintext in the same run,
by the same statement of the ORM: by a btree, a btree of `text_pattern_ops` and `pg_trgm`. Each is
written anew, as a program does. Nothing is looked at: what is measured is the search, its re-check
included. Fails where a plan does not use the index, where a table was read from end to end in the
rounds, or where other rows are found than in plaintext. Prints a table and writes
`results/<date>-search.json`. Ends with status 1 where a bar is missed.
"""

import argparse
import random
import sys
import time
from collections import Counter
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
MATCHES = 25  # rows of one family name in either place, on average
MOST = 50  # matches of a question
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


def askable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows whose family names no more than so many have, in both places together."""
    having = Counter(family for row in rows for family in row["name"].split()[::2])
    return [row for row in rows if all(having[each] <= MOST for each in row["name"].split()[::2])]


def questions(asked: list[dict[str, Any]]) -> dict[str, list[Callable[[Any], Any]]]:
    """Return what is asked of a model: of each row its address, its first family name, and its last."""
    families = [str(row["name"]).split() for row in asked]
    return {
        "equality": [partial(_by_address, row["email"]) for row in asked],
        "prefix": [partial(_beginning, first) for first, _, _ in families],
        "contains": [partial(_containing, last[1:9]) for _, _, last in families],
    }


def _by_address(email: str, model: Any) -> Any:
    return sa.select(model).where(model.email == email)


def _beginning(text: str, model: Any) -> Any:
    return sa.select(model).where(model.name.startswith(text))


def _containing(text: str, model: Any) -> Any:
    return sa.select(model).where(model.name.contains(text))


def asking(sessions: Any, model: Any, asked: list[Callable[[Any], Any]]) -> Callable[[], float]:
    def run() -> float:
        with sessions() as session:
            return timed(
                lambda: [session.scalars(question(model)).all() for question in asked], len(asked)
            )

    return run


def check(
    engine: sa.Engine, sessions: Any, model: Any, question: Callable[[Any], Any], index: str
) -> set[UUID]:
    """Raise unless the queries of a search use *index*; return which rows it finds."""
    sent: list[tuple[str, Any]] = []

    def executed(_c: Any, _cursor: Any, statement: str, given: Any, *_: Any) -> None:
        sent.append((statement, given))

    sa.event.listen(engine, "before_cursor_execute", executed)
    try:
        with sessions() as session:
            found = {row.id for row in session.scalars(question(model))}
    finally:
        sa.event.remove(engine, "before_cursor_execute", executed)
    statement, given = sent[0]
    with engine.connect() as connection:
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", given).scalars())
    if index not in plan:
        raise SystemExit(f"the plan does not use {index}:\n{plan}")
    if not 1 <= len(found) <= MOST:
        raise SystemExit(f"{len(found)} rows were found by {index}")
    return found


def read_whole(engine: sa.Engine) -> dict[str, int]:
    """Return how often each table was read from end to end, by whichever plan a server chose."""
    engine.dispose()  # a server process says so by the time it ends
    time.sleep(2)
    query = "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE relname LIKE 'search%'"
    with engine.connect() as connection:
        return {name: int(count) for name, count in connection.execute(sa.text(query))}


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
        asked = chance.sample(askable(rows), ASKED)
        found, matches = {}, {}
        for who, model in models.items():
            for kind, each in questions(asked).items():
                name = f"{who} {kind}"
                matches[name] = [
                    check(engine, sessions[who], model, question, INDEXES[name])
                    for question in each
                ]
                found[name] = asking(sessions[who], model, each)
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
        before = read_whole(engine)
        figures = rounds(found, given.rounds, warm=2)
        if read_whole(engine) != before:
            raise SystemExit("a table was read from end to end: a prepared plan uses no index")
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
            "most_matches": {name: max(map(len, rows)) for name, rows in matches.items()},
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
