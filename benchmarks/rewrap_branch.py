# SPDX-License-Identifier: Apache-2.0
"""
`lacre keys rotate --kind branch` above many subject keys, on PostgreSQL.

    PYTHONPATH=src:. python benchmarks/rewrap_branch.py [--keys N]

Key store and data are in one database of a durable server: each subject has a row of data with a
value under the subject's own key. The branch key is rotated once, as the command does it, in one
process. What PostgreSQL counted says how many rows of data were written (none may be), and how
often each key row was. Afterwards a fresh process opens values of the first and last subjects.
Prints a table and writes `results/<date>-rewrap-branch.json`. Ends with status 1 where a bar is
missed. Does not measure a move between KMS keys (`rewrap.py`).
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from measuring import machine, say, table, write_results

from lacre import Lacre
from lacre.cli.initialise import initialise
from lacre.cli.operator import as_operator, key_store
from lacre.keys.below import Below
from lacre.keys.hierarchy import KeyKind
from tests.components.postgresql import Database, postgresql_server

RATE = 5_000  # key rows a second, at least
_AT_ONCE = 2_000


def made(directory: Path, database: Database, keys: int) -> Path:
    """Make an application with its key store in *database*, and *keys* subjects with a row each."""
    config = initialise(directory).config
    local, _ = key_store(config)
    url = database.text_url()
    config.write_text(config.read_text().replace("sqlite:///lacre/keys.db", url))
    store, _ = key_store(config)
    store.upgrade()
    # The very same keys, id of the store included: the local keystore is bound to it.
    store.restore(local.contents(), allow=lambda _: None)
    local.close()
    store.close()
    with (
        Lacre.load(config, environ={}) as lacre,
        lacre.acting_as("svc:app", roles={"app"}, purpose="benchmark"),
        database.connect() as connection,
    ):
        connection.execute("CREATE TABLE customers (id integer PRIMARY KEY, cpf bytea NOT NULL)")
        cpf = lacre.field("pii", table="customers", column="cpf", subject=True)
        for first in range(0, keys, _AT_ONCE):
            ids = list(range(first, min(first + _AT_ONCE, keys)))
            sealed = cpf.encrypt_many([(row, f"{row:011}") for row in ids], subjects=ids)
            with connection.cursor().copy("COPY customers FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int4", "bytea"])
                for row, value in zip(ids, sealed, strict=True):
                    assert value is not None
                    copy.write_row((row, bytes(value)))
        for name in ("customers", "lacre.lacre_key", "lacre.lacre_subject"):
            connection.execute(f"VACUUM (ANALYZE) {name}")
        connection.execute("CHECKPOINT")
    return config


def written(database: Database) -> dict[str, int]:
    """Return how many row versions of each table were written."""
    time.sleep(1.5)  # the statistics come a moment later
    with database.connect() as connection:
        found = connection.execute(
            "SELECT relname, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables"
        ).fetchall()
    return {str(name): int(number) for name, number in found}


def measured(config: Path, database: Database, keys: int) -> dict[str, float]:
    """Rotate the branch key, and return what it took."""
    before = written(database)
    with as_operator(config, None, purpose="rotation") as operator:
        lacre = operator.lacre
        scope = lacre.scope("default", "pii", KeyKind.BRANCH)
        began, used = time.perf_counter(), time.process_time()
        lacre.provisioner.rotate(scope)
        lacre.resolver.forget()
        done = Below(store=operator.store, resolver=lacre.resolver).take_over(scope)
        taken, used = time.perf_counter() - began, time.process_time() - used
    after = written(database)
    counted = {name: after[name] - before[name] for name in after}
    with (
        Lacre.load(config, environ={}) as lacre,
        lacre.acting_as("svc:app", roles={"app"}, purpose="benchmark"),
        database.connect() as connection,
    ):
        cpf = lacre.field("pii", table="customers", column="cpf", subject=True)
        rows = connection.execute(
            "SELECT id, cpf FROM customers WHERE id < 100 OR id >= %s", [keys - 100]
        ).fetchall()
        opened = cpf.decrypt_many(
            [(row, value) for row, value in rows], subjects=[row for row, _ in rows]
        )
    if opened != [f"{row:011}" for row, _ in rows]:
        raise SystemExit("a value does not open after the rotation")
    return {
        "keys": done.moved,
        "left": done.left,
        "data_rows_written": counted["customers"],
        "key_rows_written": counted["lacre_key"],
        "seconds": round(taken, 3),
        "cpu_seconds": round(used, 3),
        "keys_per_second": round(done.moved / taken),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    keys = parser.parse_args().keys
    settings = {"shared_buffers": "256MB", "max_wal_size": "4GB", "checkpoint_timeout": "15min"}
    with (
        postgresql_server(durable=True, **settings) as server,
        server.database() as database,
        tempfile.TemporaryDirectory(prefix="lacre-bench-") as place,
    ):
        say(f"{keys:,} subjects ...")
        config = made(Path(place), database, keys)
        say("rotating their branch key ...")
        figures = measured(config, database, keys)
    say(str(figures))
    every = figures["keys"] == keys and not figures["left"]
    data, rate = figures["data_rows_written"], figures["keys_per_second"]
    bars = [
        {"what": "key rows/s", "figure": f"{rate:,}", "bar": f">= {RATE:,}", "met": rate >= RATE},
        {"what": "data rows written", "figure": f"{data:,}", "bar": "0", "met": data == 0},
        {"what": "keys wrapped anew", "figure": f"{figures['keys']:,}", "bar": f"{keys:,}", "met": every},
    ]  # fmt: skip
    heads = ("what", "figure", "bar", "met")
    print(table(heads, [(*(str(bar[name]) for name in heads[:3]), "yes" if bar["met"] else "NO") for bar in bars]))  # fmt: skip
    packages = ["lacre", "cryptography", "psycopg", "SQLAlchemy"]
    path = write_results(
        "rewrap-branch", {"machine": machine(packages), "figures": figures, "bars": bars}
    )
    say(f"written to {path.name}")
    if not all(bar["met"] for bar in bars):
        sys.exit(1)


if __name__ == "__main__":
    main()
