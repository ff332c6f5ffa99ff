# SPDX-License-Identifier: Apache-2.0
"""
What evidence costs on PostgreSQL: a look-up and a look, and an update of three fields.

    PYTHONPATH=. python benchmarks/evidence_cost.py [--rounds N] [--operations N]

The same application and tables, with a sink that keeps nothing, in mode `bounded`, and in mode
`strict`, in turns. Both record into an evidence log of a database of its own on the same server;
writes go to an outbox in their transaction. Each operation has a session, and each request of it a
block, of its own. Handing over what was recorded is inside the figures; sequencing, which a process
of its own does, is not. Writes `results/<date>-evidence-cost.json`; ends with status 1 where a bar
is missed.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from measuring import Bar, bars_table, judged, machine, rounds, say, write_results
from models import Base, Customer
from sqlalchemy.orm import Session, sessionmaker
from workload import customers

from lacre import Lacre
from lacre.audit.entries import Stamp
from lacre.cli.initialise import initialise
from lacre.policy.decisions import Policy
from lacre.policy.loading import load_pins, load_policy
from lacre.sqlalchemy import outbox_table
from lacre.stores.log.log import AuditLog
from lacre.stores.log.sink import LogSink
from tests.components.postgresql import Database, postgresql_server

ROWS = 10_000
LIMIT = 1.4
WHAT = ("look-up and look", "three-field update")
STRICT = '[audit]\nmode = "strict"\n'
OUTBOX = '\n[audit.outboxes]\nmain = "postgresql+psycopg://read-by-the-sequencer/shop"\n'


class Nowhere:
    """Evidence that nobody keeps."""

    def append(self, events: Sequence[Any]) -> None:
        """Keep nothing."""


def applications(home: Path, kept: Database) -> dict[str, Lacre]:
    """The same application three times: over one key store, with other evidence."""
    config = initialise(home).config
    opened = Lacre.load(config, environ={})
    text = config.read_text(encoding="utf-8")
    variants = {
        "without": text,
        "bounded": text + OUTBOX,
        "strict": text.replace("[audit]\n", STRICT) + OUTBOX,
    }
    made = {}
    for name, variant in variants.items():
        path = home / f"{name}.toml"
        path.write_text(variant, encoding="utf-8")
        policy = Policy(load_policy(path, {}), pins=load_pins(config))
        sink: Any = Nowhere()
        if name != "without":
            log = AuditLog(kept.url().render_as_string(hide_password=False), schema=f"lacre_{name}")
            log.upgrade()
            sink = LogSink(log, Stamp(app="bench", env="dev", service="bench"))
        made[name] = Lacre(
            policy, store=opened.store, services=opened.services, sink=sink, signers=opened.signers
        )
    return made


def operations(
    lacre: Lacre, engine: sa.Engine, rows: list[dict[str, Any]], count: int
) -> dict[str, Callable[[], float]]:
    """What is measured of one application: seconds of an operation, *count* in a round."""
    sessions: sessionmaker[Session] = lacre.sqlalchemy(sessionmaker(engine))
    turn = 0

    def acting() -> Any:
        return lacre.acting_as("user:bench", roles={"app"}, purpose="bench")

    def look() -> float:
        start = time.perf_counter()
        for row in rows[:count]:
            with acting(), sessions() as session:
                asked = sa.select(Customer).where(Customer.email == row["email"])
                assert session.scalars(asked).one().address == row["address"]
        lacre.flush()
        return (time.perf_counter() - start) / count

    def update() -> float:
        nonlocal turn
        turn += 1
        start = time.perf_counter()
        for number, row in enumerate(rows[-count:]):
            with acting(), sessions() as session:
                customer = session.get_one(Customer, row["id"])
                customer.email = f"{turn}.{number}.{id(lacre)}@example.org"
                customer.phone = f"+55 11 {turn} {number}"
                customer.address = f"Rua {turn}, {number}"
                session.commit()
        lacre.flush()
        return (time.perf_counter() - start) / count

    return dict(zip(WHAT, (look, update), strict=True))


def main() -> int:
    arguments = argparse.ArgumentParser(description="what evidence costs")
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--operations", type=int, default=300, help="of a round")
    given = arguments.parse_args()
    rows = customers(ROWS)
    with (
        tempfile.TemporaryDirectory(prefix="lacre-bench-") as directory,
        postgresql_server(durable=True) as server,
        server.database() as data,
        server.database() as kept,
    ):
        engine = sa.create_engine(data.url())
        outbox_table(Base.metadata)
        Base.metadata.create_all(engine)
        found = applications(Path(directory), kept)
        with (
            found["without"].acting_as("svc:bench", roles={"app"}, purpose="bench"),
            found["without"].sqlalchemy(sessionmaker(engine))() as session,
        ):
            session.execute(sa.insert(Customer), rows)
            session.commit()
        named = {
            f"{what} {name}": operation
            for name, lacre in found.items()
            for what, operation in operations(lacre, engine, rows, given.operations).items()
        }
        say(f"{given.rounds} rounds of {given.operations} operations each")
        figures = rounds(named, given.rounds)
        for lacre in found.values():
            lacre.recorder.close()
        engine.dispose()
    bars = [
        Bar(what=f"{what} {name}", beside=f"{what} without", limit=limit)
        for name, limit in (("bounded", LIMIT), ("strict", None))
        for what in WHAT
    ]
    judgements = judged(bars, figures)
    print(bars_table(judgements))
    path = write_results(
        "evidence-cost",
        {
            "machine": machine(("cryptography", "sqlalchemy", "psycopg")),
            "rows": ROWS,
            "operations": given.operations,
            "rounds": given.rounds,
            "milliseconds": {
                name: round(timings.median * 1000, 3) for name, timings in figures.items()
            },
            "bars": judgements,
        },
    )
    say(f"written: {path.name}")
    return 0 if all(each["met"] is not False for each in judgements) else 1


if __name__ == "__main__":
    sys.exit(main())
