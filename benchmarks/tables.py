# SPDX-License-Identifier: Apache-2.0
"""
A table of customers on PostgreSQL: inserted, loaded, looked at, searched.

    PYTHONPATH=. python benchmarks/tables.py [--peers PYTHON] [--rows N] [--rounds N]

Three encrypted columns, one of them indexed, against the same plaintext table in one run. Prints
a table and writes `results/<date>-tables.json`. How it is measured: `README.md`. Ends with
status 1 where a bar is missed.
"""

import argparse
import hmac
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from measuring import (
    Bar,
    Peer,
    Timings,
    bars_table,
    judged,
    machine,
    rounds,
    say,
    table,
    write_results,
)
from models import Base, Customer, Plain
from setting import application
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker
from workload import Workload, customers

from lacre import Lacre
from lacre._core.canonical import FieldPlace
from lacre._core.derive import FIELD
from lacre.sqlalchemy.constraints import CiphertextCheck, TogetherCheck
from tests.components.postgresql import postgresql_server

HERE = Path(__file__).parent
SIZES = {10_000: 9, 100_000: 3}  # rows, rounds
PEER_ROWS = 10_000  # at most: they take minutes for more, and it changes little
PEERS = ("sqlalchemy-utils", "pydantic-encryption")
BARS = {
    "unit-of-work insert": 1.9,
    "bulk insert": 3.0,
    "load": 1.4,
    "load and look": 4.0,
    "look-up": 1.6,
}
BARE_BAR = 1.3


class BareColumns:
    """The columns that lacre's table has, for ciphertext that a loop makes."""

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[bytes]
    email_bidx: Mapped[bytes] = mapped_column(unique=True)
    phone: Mapped[bytes]
    address: Mapped[bytes]


class Bare(BareColumns, Base):
    """The same table as lacre's: with its CHECKs."""

    __tablename__ = "bench_bare"
    __table_args__ = (
        *(CiphertextCheck(name) for name in ("email", "phone", "address")),
        TogetherCheck("email", "email_bidx"),
    )


class Unchecked(BareColumns, Base):
    """A table that takes whatever comes."""

    __tablename__ = "bench_unchecked"


def bare_insert(
    sessions: "sessionmaker[Session]", model: type[Base], rows: list[dict[str, Any]]
) -> Callable[[], float]:
    """
    The bulk insert into *model* with nothing but the construction inlined: what one would write.

    One urandom, one HMAC-SHA-512 that binds row and column, one AES-256-GCM for each value; one
    HMAC-SHA-512 for the token. No padding, no policy, no evidence.
    """
    key, index_key, head = os.urandom(32), os.urandom(32), b"\xc1\x01\x00" + os.urandom(16)
    places = {
        name: FieldPlace(
            column=name, store="main", table=model.__tablename__, tenant="default", type="str"
        )
        for name in ("email", "phone", "address")
    }

    def sealed(row: str, column: str, value: str) -> bytes:
        salt = os.urandom(24)
        info = FIELD + head + salt + places[column].at(row) + b"\x01"
        derived = hmac.digest(key, info, "sha512")
        body = AESGCM(derived[:32]).encrypt(bytes(12), value.encode(), None)
        return head + salt + derived[32:] + body

    def run() -> float:
        with sessions() as session:
            session.execute(sa.text(f"TRUNCATE {model.__tablename__}"))
            session.commit()
        start = time.perf_counter()
        with sessions() as session:
            made = []
            for row in rows:
                name = row["id"].hex
                made.append(
                    {
                        "id": row["id"],
                        "email": sealed(name, "email", row["email"]),
                        "email_bidx": hmac.digest(
                            index_key, row["email"].lower().encode(), "sha512"
                        )[:12],
                        "phone": sealed(name, "phone", row["phone"]),
                        "address": sealed(name, "address", row["address"]),
                    }
                )
            session.execute(sa.insert(model), made)
            session.commit()
        return (time.perf_counter() - start) / len(rows)

    return run


def candidates(lacre: Lacre, engine: sa.Engine, count: int) -> dict[str, Callable[[], float]]:
    rows = customers(count)
    sessions = sessionmaker(engine)
    plain = Workload(sessions, Plain, rows)
    ours = Workload(lacre.sqlalchemy(sessions), Customer, rows, finished=lacre.recorder.flush)
    return {
        **plain.operations("plain"),
        **ours.operations("lacre"),
        "bare bulk insert": bare_insert(sessions, Bare, rows),
        "bare bulk insert without checks": bare_insert(sessions, Unchecked, rows),
    }


def bars(count: int) -> list[Bar]:
    return [
        *(
            Bar(what=f"lacre {what} {count}", beside=f"plain {what} {count}", limit=limit)
            for what, limit in BARS.items()
        ),
        Bar(what=f"lacre bulk insert {count}", beside=f"bare bulk insert {count}", limit=BARE_BAR),
        # Shown, not judged: another table, which takes plaintext too.
        Bar(
            what=f"lacre bulk insert {count}",
            beside=f"bare bulk insert without checks {count}",
            limit=None,
        ),
    ]


def peer_bars(count: int) -> list[Bar]:
    # Shown, not judged.
    return [
        Bar(what=f"{peer} {what} {count}", beside=f"plain {what} {count}", limit=None)
        for what in BARS
        for peer in PEERS
    ]


def main() -> int:
    arguments = argparse.ArgumentParser(description="a table of customers on PostgreSQL")
    arguments.add_argument("--peers", type=Path, help="the Python that has the peers")
    arguments.add_argument(
        "--rows", type=int, action="append", help="instead of 10,000 and 100,000"
    )
    arguments.add_argument("--rounds", type=int, help="instead of 9 and 3")
    given = arguments.parse_args()
    sizes = {count: given.rounds or SIZES.get(count, 5) for count in given.rows or SIZES}

    figures: dict[str, Timings] = {}
    judged_bars: list[Bar] = []
    peer: Peer | None = None
    with (
        postgresql_server(durable=True) as server,
        server.database() as database,
        application() as lacre,
    ):
        engine = sa.create_engine(database.url())
        Base.metadata.create_all(engine)
        if given.peers:
            peer = Peer(
                given.peers,
                HERE / "table_peers.py",
                BENCH_DATABASE=database.text_url(),
                BENCH_ROWS=json.dumps([count for count in sizes if count <= PEER_ROWS]),
                PYTHONPATH=str(HERE),
            )
        for count, turns in sizes.items():
            found = {
                f"{name} {count}": run for name, run in candidates(lacre, engine, count).items()
            }
            judged_bars += bars(count)
            if peer is not None and count <= PEER_ROWS:
                for bar in peer_bars(count):
                    found[bar.what] = partial(peer.seconds, bar.what)
                judged_bars += peer_bars(count)
            say(f"{turns} rounds of {len(found)} candidates on {count} rows, in turn")
            figures |= rounds(found, turns, warm=1)
        engine.dispose()
        facts = machine(("lacre", "cryptography", "sqlalchemy", "psycopg"))
        facts["postgresql"] = server.version()
        if peer is not None:
            facts["peers"] = peer.versions
            peer.close()
    judgements = judged(judged_bars, figures)
    lines = [
        (name, f"{taken.least * 1e6:,.1f}", f"{taken.median * 1e6:,.1f}")
        for name, taken in figures.items()
    ]
    print(
        table(("microseconds a row", "least", "median"), lines), bars_table(judgements), sep="\n\n"
    )
    path = write_results(
        "tables",
        {
            "machine": facts,
            "rounds": {str(count): turns for count, turns in sizes.items()},
            "seconds": {
                name: {"least": taken.least, "median": taken.median}
                for name, taken in figures.items()
            },
            "bars": judgements,
        },
    )
    missed = sum(one["met"] is False for one in judgements)
    barred = sum(one["met"] is not None for one in judgements)
    print(f"\n{missed} of {barred} bars missed; written to benchmarks/results/{path.name}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
