# SPDX-License-Identifier: Apache-2.0
"""
Reading in bulk: a table of customers on PostgreSQL to a Parquet file.

    PYTHONPATH=. python benchmarks/bulk.py [--rows N] [--rounds N]

Three encrypted columns of 200,000 rows, beside the same table in plaintext, read by the same path
in the same run: the reading process, its start included, the pipe, Arrow and Parquet are in both
figures; deciding, decrypting and evidence in one. Prints a table and writes
`results/<date>-bulk.json`. No bar is set: the ratio is shown.

Memory is to be flat: the peaks of both processes, the one that asks for batches and the one that
reads, are taken at `--memory-rows` and at four times as many.
"""

import argparse
import json
import subprocess
import sys
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
ASKING = """
import json, pathlib, sys
import sqlalchemy as sa
from lacre import acting_as
from lacre.bulk import BulkReader
from models import Customer

def peak(pid):
    # `ru_maxrss` may be of the process that forked this one.
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

told = json.load(sys.stdin)
noting = f"import os, pathlib; pathlib.Path({told['pid']!r}).write_text(str(os.getpid()))"
serving = "from lacre.bulk.process import serve; serve()"
reader = BulkReader(
    config=told["config"],
    database=told["database"],
    command=[sys.executable, "-c", f"{noting}; {serving}"],
)
statement = sa.select(Customer.email, Customer.phone, Customer.address).limit(told["rows"])
rows = reading = 0
with acting_as("svc:bench", roles={"app"}, purpose="bench"):
    for batch in reader.batches(statement, rows=told["rows"]):
        rows += batch.num_rows
        reading = peak(pathlib.Path(told["pid"]).read_text())
print(json.dumps({"rows": rows, "asking": peak("self"), "reading": reading}))
"""


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
    statement = sa.select(model.email, model.phone, model.address).limit(count)
    start = time.perf_counter()
    report = reader.to_parquet(statement, path, rows=count)
    seconds = time.perf_counter() - start
    if report.rows != count:
        raise SystemExit(f"{report.rows} rows were read, not {count}")
    return seconds / count


def peaks(config: Path, database: str, rows: int) -> dict[str, float]:
    """Return the largest resident set of both processes of a reading of *rows*, in MiB."""
    with tempfile.TemporaryDirectory(prefix="lacre-bench-") as directory:
        pid = str(Path(directory, "pid"))
        told = {"config": str(config), "database": database, "rows": rows, "pid": pid}
        answer = subprocess.run(
            [sys.executable, "-c", ASKING],
            input=json.dumps(told).encode(),
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent,
            check=True,
        )
    found = json.loads(answer.stdout)
    if found["rows"] != rows:
        raise SystemExit(f"{found['rows']} rows were read, not {rows}")
    return {name: found[name] / 1024 for name in ("asking", "reading")}


def measured(
    count: int, turns: int, few: int
) -> tuple[dict[str, Timings], dict[int, dict[str, float]], int]:
    """Return the figures, the memory of both processes by rows, and the evidence's bytes a row."""
    with (
        tempfile.TemporaryDirectory(prefix="lacre-bench-") as directory,
        postgresql_server() as server,
        server.database() as database,
        acting_as("svc:bench", roles={"app"}, purpose="bench"),
    ):
        made = initialise(Path(directory))
        most = max(count, 4 * few)
        say(f"filling two tables with {most:,} rows")
        engine = sa.create_engine(database.url())
        filled(engine, made.config, most)
        engine.dispose()
        reader = BulkReader(config=made.config, database=database.url())
        candidates: dict[str, Callable[[], float]] = {
            name: partial(reading, reader, model, Path(directory, f"{name}.parquet"), count)
            for name, model in (("plaintext", Plain), ("lacre", Customer))
        }
        figures = rounds(candidates, turns, warm=1)
        lines = (made.config.parent / "lacre" / "audit.jsonl").read_bytes().splitlines()
        batches = [len(line) for line in lines if b'"action":"bulk"' in line]
        say("measuring memory")
        memory = {rows: peaks(made.config, database.text_url(), rows) for rows in (few, 4 * few)}
        return figures, memory, sum(batches) // ((turns + 1) * count)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-rows", type=int, default=100_000)
    options = parser.parse_args()
    figures, memory, evidence = measured(options.rows, options.rounds, options.memory_rows)
    ratio = figures["lacre"].median / figures["plaintext"].median
    lines = [
        [name, f"{1 / each.median:,.0f}", f"{each.median * options.rows:.1f}"]
        for name, each in figures.items()
    ]
    print(table(("to Parquet", "rows/s", "seconds"), lines))
    print(f"lacre / plaintext: {ratio:.2f}x; evidence {evidence} bytes a row")
    print(table(("rows", "MiB of whoever asks", "MiB of the reading process"), [[f"{rows:,}", *(f"{each:.0f}" for each in of.values())] for rows, of in memory.items()]))  # fmt: skip
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
            "peak_mib": memory,
            "peak_growth": {
                name: memory[4 * options.memory_rows][name] / memory[options.memory_rows][name]
                for name in ("asking", "reading")
            },
            "evidence_bytes_a_row": evidence,
        },
    )
    say(f"written to {path.name}")


if __name__ == "__main__":
    main()
