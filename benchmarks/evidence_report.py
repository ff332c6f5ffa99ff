# SPDX-License-Identifier: Apache-2.0
"""
A compliance report over an evidence log of 1,000,000 events: gathered, signed, rendered.

On SQLite, and on a PostgreSQL server of the benchmark's own. The log is filled by
`tests.evidence.filling`; each report is a process of its own, whose time and peak memory count.
Once without verifying the log first, which the bar is for, and once with it, which is printed beside it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measuring import machine, say, table, verdict, write_results

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lacre.audit.notes import Checkpoint, origin_of, sign_checkpoint  # noqa: E402
from lacre.cli.initialise import initialise  # noqa: E402
from lacre.kms.local import Identity  # noqa: E402
from lacre.kms.local.signing import IdentitySigner  # noqa: E402
from lacre.stores.log.log import AuditLog  # noqa: E402
from tests.components.postgresql import postgresql_server  # noqa: E402
from tests.evidence.filling import fill  # noqa: E402

SECONDS, MEGABYTES = 20.0, 500
_RUN = """
import resource, sys, time
from lacre.cli import main
sys.argv = ["lacre", *sys.argv[1:]]
begin = time.perf_counter()
try:
    main()
except SystemExit as ended:
    if ended.code:
        raise
finally:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{time.perf_counter() - begin} {peak}", file=sys.stderr)
"""


@contextmanager
def place(kind: str) -> Iterator[str]:
    """The URL of an empty database."""
    if kind == "sqlite":
        yield "sqlite:///lacre/filled.db"
        return
    with postgresql_server() as server, server.database() as database:
        yield database.text_url()


def measured(kind: str, events: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures of one kind of database: without verification, and with it."""
    with tempfile.TemporaryDirectory() as directory, place(kind) as url:
        home = Path(directory) / "home"
        initialise(home, app="shop", env="test")
        config = home / "lacre.toml"
        config.write_text(config.read_text().replace("sqlite:///lacre/audit.db", url))
        log = AuditLog(url.replace("sqlite:///", f"sqlite:///{home}/"))
        begin = time.perf_counter()
        signer = IdentitySigner(Identity.load(home / "lacre" / "identities" / "svc-audit.key"))

        def note(shard: int, size: int, root: bytes) -> str:
            origin = origin_of("shop", "test", shard)
            return sign_checkpoint(Checkpoint(origin=origin, size=size, root=root), signer)

        filled = fill(log, events=events, note=note)
        log.close()
        say(f"{kind}: filled with {filled.leaves:,} leaves in {time.perf_counter() - begin:.0f} s")
        plain, whole = (_reported(home, more) for more in (["--no-verify"], []))
        about = {"database": kind, "leaves": filled.leaves}
        met = plain["seconds"] <= SECONDS and plain["peak_megabytes"] <= MEGABYTES
        return about | plain | {"met": met}, about | whole


def _reported(home: Path, more: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _RUN, "audit", "report", "--out", "report.html", *more],
        cwd=home, stderr=subprocess.PIPE, text=True, check=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("LACRE_")},
    )  # fmt: skip
    seconds, peak = done.stderr.splitlines()[-1].split()
    return {"seconds": round(float(seconds), 2), "peak_megabytes": int(peak)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--kinds", nargs="+", default=["sqlite", "postgresql"])
    given = parser.parse_args()
    found = [measured(kind, given.events) for kind in given.kinds]
    lines = [
        (one["database"], f"{one['leaves']:,}", f"{one['seconds']:.1f} s", f"{one['peak_megabytes']} MB", verdict(one["met"]))
        for one, _ in found
    ] + [
        (f"{one['database']}, verified", f"{one['leaves']:,}", f"{one['seconds']:.1f} s", f"{one['peak_megabytes']} MB", "")
        for _, one in found
    ]  # fmt: skip
    print(table(("database", "leaves", "report", "peak", f"<= {SECONDS:g} s, {MEGABYTES} MB"), lines))  # fmt: skip
    facts = machine(["lacre", "sqlalchemy", "psycopg"])
    write_results(
        "evidence-report",
        {
            "machine": facts,
            "reports": [one for one, _ in found],
            "reports with verification": [one for _, one in found],
        },
    )
    if not all(one["met"] for one, _ in found):
        raise SystemExit("a bar is missed")


if __name__ == "__main__":
    main()
