# SPDX-License-Identifier: Apache-2.0
"""
`lacre reencrypt` on a table of PostgreSQL, after a rotation of its data key.

    PYTHONPATH=. python benchmarks/reencrypt_postgresql.py [--rows N] [--batch N] [--threads N]

Two columns of text, one of them with a unique blind index, on a durable server. Once by one worker
process, once by two at the same time, each a process of its own that is given the same command.
Counts how often each row was written, and compares the most memory that a worker had held after a
quarter of its rows with the most at its end. Prints a table and writes `results/<date>-reencrypt.json`. Ends with status 1 where a bar is missed.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from measuring import machine, say, table, write_results
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lacre import BlindIndex
from lacre.cli.initialise import initialise
from lacre.cli.operator import as_operator
from lacre.cli.sweeping import sweeper_of, tables_for
from lacre.jobs.pace import Pace, Progress
from lacre.keys.hierarchy import KeyKind
from lacre.sqlalchemy import encrypted
from tests.components.postgresql import Database, postgresql_server

RATE = 10_000  # rows a second with one worker, at least
MEMORY = 1.1  # the most that was resident at the end, over the most at a quarter, at most
_AT_ONCE = 5_000  # rows of a COPY
_TOLD = 100_000  # rows between two lines of progress


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    city: Mapped[str | None]
    email: Mapped[str] = encrypted("pii", index=BlindIndex("email", unique=True))
    cpf: Mapped[str | None] = encrypted("pii")


def made(config: Path, database: Database, rows: int) -> None:
    """Fill the table with rows under the first data key."""
    import sqlalchemy as sa

    engine = sa.create_engine(database.url())
    Base.metadata.create_all(engine)
    engine.dispose()
    with (
        as_operator(config, None, purpose="benchmark") as operator,
        database.connect() as connection,
    ):
        lacre = operator.lacre
        email = lacre.field(
            "pii", table="customers", column="email", index=BlindIndex("email", unique=True)
        )
        cpf = lacre.field("pii", table="customers", column="cpf")
        for first in range(0, rows, _AT_ONCE):
            ids = [
                UUID(int=(number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % (1 << 128))
                for number in range(first + 1, min(first + _AT_ONCE, rows) + 1)
            ]
            emails = email.prepare_many(
                [(row, f"person.{row.int % 10**12}@example.org") for row in ids], recorded=False
            )
            cpfs = cpf.prepare_many(
                [(row, f"{row.int % 10**11:011}") for row in ids], recorded=False
            )
            with connection.cursor().copy(
                "COPY customers (id, city, email, email_bidx, cpf) FROM STDIN (FORMAT BINARY)"
            ) as copy:
                copy.set_types(["uuid", "varchar", "bytea", "bytea", "bytea"])
                for row, one, other in zip(ids, emails, cpfs, strict=True):
                    copy.write_row(
                        (
                            row,
                            f"city {row.int % 500}",
                            bytes(one.value),
                            bytes(one.tokens[0]),
                            bytes(other.value),
                        )
                    )
            if first and not first % _TOLD:
                say(f"  {first:,}")
        connection.execute("VACUUM (ANALYZE) customers")
        connection.execute("CHECKPOINT")


def peak() -> int:
    """Return the most bytes that were resident in this process so far."""
    # Not getrusage's: that counts what the process was before it became this program.
    [line] = [
        line
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        if line.startswith("VmHWM:")
    ]
    return int(line.split()[1]) * 1024


def worker(config: Path, dsn: str, pace: dict[str, Any], results: Any, ready: Any) -> None:
    """One worker: the command, without its terminal."""
    seen: list[tuple[int, int]] = []

    def advance(position: Progress) -> None:
        if seen and position.done // _TOLD > seen[-1][0] // _TOLD:
            say(f"  {position.done:,}")
        seen.append((position.done, peak()))

    with as_operator(config, None, purpose="reencrypt") as operator:
        [held], _ = tables_for(operator.lacre, [Base], dsn, "main", None)
        sweeper = sweeper_of(
            operator.lacre, dsn, tenant=None, before=None, pace=Pace(progress=advance, **pace)
        )
        ready.wait()
        began, used = time.perf_counter(), time.process_time()
        outcome = sweeper.run(held)
        taken, used = time.perf_counter() - began, time.process_time() - used
    quarter = next(size for done, size in seen if done >= seen[-1][0] / 4)
    results.put(
        {
            "rows": outcome.rows,
            "values": outcome.moved,
            "seconds": round(taken, 2),
            "cpu_seconds": round(used, 2),
            "lost_races": outcome.lost_races,
            "passes": outcome.passes,
            "failures": len(outcome.failures),
            "left": sum(covered.left for covered in outcome.coverage),
            "peak_at_a_quarter": quarter,
            "peak_at_the_end": peak(),
        }
    )


def measured(
    config: Path, database: Database, workers: int, pace: dict[str, Any]
) -> dict[str, Any]:
    """Rotate the data key, have *workers* processes re-encrypt, and return what they say together."""
    with as_operator(config, None, purpose="rotation") as operator:
        operator.lacre.provisioner.rotate(operator.lacre.scope("default", "pii", KeyKind.DATA))
    with database.connect() as connection:
        connection.execute("VACUUM (ANALYZE) customers")
        connection.execute("CHECKPOINT")
        before = connection.execute(
            "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'customers'"
        ).fetchone()
    context = multiprocessing.get_context("spawn")
    results, ready = context.Queue(), context.Barrier(workers)
    running = [
        context.Process(target=worker, args=(config, database.dsn(), pace, results, ready))
        for _ in range(workers)
    ]
    for process in running:
        process.start()
    found = [results.get(timeout=3600) for _ in running]
    for process in running:
        process.join()
    time.sleep(1.5)  # the statistics come a moment later
    with database.connect() as connection:
        after = connection.execute(
            "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'customers'"
        ).fetchone()
    assert before is not None
    assert after is not None
    rows = sum(each["rows"] for each in found)
    seconds = max(each["seconds"] for each in found)
    return {
        "workers": workers,
        "rows": rows,
        "row_versions_written": after[0] - before[0],
        "seconds": seconds,
        "rows_per_second": round(rows / seconds),
        "left": max(each["left"] for each in found),
        "each": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--threads", type=int, default=1, help="--workers of the command")
    given = parser.parse_args()
    pace = {"batch": given.batch, "workers": given.threads}
    settings = {"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "15min"}
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        postgresql_server(durable=True, **settings) as server,
        server.database() as database,
        tempfile.TemporaryDirectory(prefix="lacre-bench-", dir=memory) as directory,
    ):
        config = initialise(Path(directory)).config
        say(f"{given.rows:,} rows ...")
        made(config, database, given.rows)
        figures = []
        for workers in (1, 2):
            say(f"reencrypt, {workers} worker{'s' if workers > 1 else ''} ...")
            figures.append(measured(config, database, workers, pace))
    one, two = figures
    grown = max(
        each["peak_at_the_end"] / each["peak_at_a_quarter"]
        for found in figures
        for each in found["each"]
    )
    exact = all(
        found["rows"] == found["row_versions_written"] == given.rows and not found["left"]
        for found in figures
    )
    lines = [
        (
            "rows/s, one worker",
            f"{one['rows_per_second']:,}",
            f">= {RATE:,}",
            one["rows_per_second"] >= RATE,
        ),
        ("rows/s, two workers", f"{two['rows_per_second']:,}", "reported", True),
        ("rows lost or written twice", "0" if exact else "some", "0", exact),
        ("peak memory, end over a quarter", f"{grown:.2f}x", f"<= {MEMORY:g}x", grown <= MEMORY),
    ]
    print(
        table(
            ("what", "figure", "bar", "met"),
            [(*line[:3], "yes" if line[3] else "NO") for line in lines],
        )
    )
    for found in figures:
        say(str(found))
    bars = [
        {"what": what, "figure": figure, "bar": bar, "met": met} for what, figure, bar, met in lines
    ]
    packages = ["lacre", "cryptography", "psycopg", "SQLAlchemy"]
    path = write_results(
        "reencrypt", {"machine": machine(packages), "figures": figures, "pace": pace, "bars": bars}
    )
    say(f"written to {path.name}")
    if not all(line[3] for line in lines):
        sys.exit(1)


if __name__ == "__main__":
    main()
