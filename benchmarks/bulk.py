# SPDX-License-Identifier: Apache-2.0
"""
Reading in bulk: a table of customers on PostgreSQL to a Parquet file.

    PYTHONPATH=. python benchmarks/bulk.py [--rows N] [--rounds N]

Three encrypted columns of 200,000 rows, beside the same table in plaintext, read by the same path
in the same run: the reading process, its start included, the pipe, Arrow and Parquet are in both
figures; deciding, decrypting and evidence in one. Prints a table and writes
`results/<date>-bulk.json`. No bar is set: the ratio is shown.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from measuring import Timings, machine, rounds, say, table, write_results
from models import Base, Customer, Plain
from sqlalchemy.orm import sessionmaker
from workload import customers

from lacre import Lacre, acting_as
from lacre.bulk import BulkReader
from lacre.cli.initialise import initialise
from tests.components.postgresql import postgresql_server

CHUNK = 10_000


def filled(engine: sa.Engine, config: Path, count: int) -> None:
    """Make both tables and write the same *count* customers to each."""
    Base.metadata.create_all(engine)
    rows = customers(count)
    with Lacre.load(config, environ={}) as lacre:
        sessions = lacre.sqlalchemy(sessionmaker(engine))
        for start in range(0, count, CHUNK):
            with sessions.begin() as session:
                for model in (Plain, Customer):
                    session.execute(sa.insert(model), rows[start : start + CHUNK])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


def reading(reader: BulkReader, model: Any, path: Path, count: int) -> float:
    """Return the seconds of one row, of a reading of all."""
    statement = sa.select(model.email, model.phone, model.address)
    start = time.perf_counter()
    report = reader.to_parquet(statement, path, rows=count)
    seconds = time.perf_counter() - start
    if report.rows != count:
        raise SystemExit(f"{report.rows} rows were read, not {count}")
    return seconds / count


def measured(count: int, turns: int) -> tuple[dict[str, Timings], float, int]:
    """Return the figures, the largest reading process's memory in MiB, and the evidence's bytes a row."""
    with (
        tempfile.TemporaryDirectory(prefix="lacre-bench-") as directory,
        postgresql_server() as server,
        server.database() as database,
        acting_as("svc:bench", roles={"app"}, purpose="bench"),
    ):
        made = initialise(Path(directory))
        say(f"filling two tables with {count:,} rows")
        engine = sa.create_engine(database.url())
        filled(engine, made.config, count)
        engine.dispose()
        reader = BulkReader(config=made.config, database=database.url())
        candidates: dict[str, Callable[[], float]] = {
            name: partial(reading, reader, model, Path(directory, f"{name}.parquet"), count)
            for name, model in (("plaintext", Plain), ("lacre", Customer))
        }
        figures = rounds(candidates, turns, warm=1)
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        lines = (made.config.parent / "lacre" / "audit.jsonl").read_bytes().splitlines()
        batches = [len(line) for line in lines if b'"action":"bulk"' in line]
        return figures, memory, sum(batches) // ((turns + 1) * count)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    figures, memory, evidence = measured(options.rows, options.rounds)
    ratio = figures["lacre"].median / figures["plaintext"].median
    lines = [
        [name, f"{1 / each.median:,.0f}", f"{each.median * options.rows:.1f}"]
        for name, each in figures.items()
    ]
    print(table(("to Parquet", "rows/s", "seconds"), lines))
    print(f"lacre / plaintext: {ratio:.2f}x; largest child process {memory:.0f} MiB; evidence {evidence} bytes a row")  # fmt: skip
    path = write_results(
        "bulk",
        {
            "rows": options.rows,
            "columns": 3,
            "machine": machine(["lacre", "pyarrow", "sqlalchemy", "psycopg"]),
            "rows_per_second": {name: 1 / each.median for name, each in figures.items()},
            "seconds": {
                name: [each * options.rows for each in timings.seconds]
                for name, timings in figures.items()
            },
            "ratio": ratio,
            "child_mib": memory,
            "evidence_bytes_a_row": evidence,
        },
    )
    say(f"written to {path.name}")


if __name__ == "__main__":
    main()
