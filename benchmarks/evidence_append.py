# SPDX-License-Identifier: Apache-2.0
"""
How fast one sequencer appends to an evidence log on PostgreSQL, and what an event takes of the disk.

A durable server of the benchmark's own, over TLS, on the same machine. Looks with everything an
application says (correlation id, address, user agent, a row and a subject) wait in the inbox; one
sequencer makes leaves of them: read, checked, hashed, into the tree, the tallies and the index of what was
touched, removed from the inbox, and a signed checkpoint after every 1000, all committed. Then the
same while ten writers hand over as fast as they can. Measures no look (`evidence_cost.py`) and no
verification.
"""

import argparse
import datetime as dt
import multiprocessing
import os
import time
from collections.abc import Iterator
from typing import Any

import psycopg

from benchmarks.measuring import machine, table, verdict, write_results
from lacre.audit.entries import Stamp
from lacre.audit.event import Outcome, Place
from lacre.audit.events import Looked
from lacre.context import Origin
from lacre.kms.local import Identity
from lacre.kms.local.signing import IdentitySigner, verifier_of
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import CHECKPOINT, INBOX, LEAF, TALLY, TILE, TOUCHED
from lacre.stores.log.sequencer import Sequencer
from lacre.stores.log.sink import LogSink
from tests.components.postgresql import postgresql_server

__all__ = ["main"]

_BAR = 10_000  # events a second
_WRITERS = 10
_STAMP = Stamp(app="shop", env="prod", service="shop", code="4f1c2d9")
_PLACES = [Place("main", "customers", name, "pii") for name in ("email", "cpf", "address", "phone")]


def _looks(count: int) -> Iterator[Looked]:
    for number in range(count):
        yield Looked(
            time=time.time(), principal=f"user:{number % 30:02}", roles=("support",), purpose="ticket", tenant="default",
            origin=Origin(correlation=os.urandom(16).hex(), ip="10.0.3.17", agent="Mozilla/5.0 (X11; Linux x86_64)"),
            place=_PLACES[number % 4], outcome=Outcome.ALLOWED, rule="classes.pii.rights.support",
            rows=(os.urandom(16).hex(),), count=1, key="ab" * 16,
        )  # fmt: skip


def _hand_over(url: str, events: int) -> None:
    log = AuditLog(url)
    sink = LogSink(log, _STAMP)
    for _ in range(0, events, 1000):
        sink.append(list(_looks(1000)))
    sink.close()


def _writers(url: str, events: int) -> list[Any]:
    context = multiprocessing.get_context("spawn")
    made = [
        context.Process(target=_hand_over, args=(url, events // _WRITERS)) for _ in range(_WRITERS)
    ]
    for writer in made:
        writer.start()
    return made


def _sizes(connection: "psycopg.Connection[Any]", leaves: int) -> dict[str, float]:
    found = {}
    for kept in (LEAF, TOUCHED, TILE, TALLY, CHECKPOINT):
        name = f"lacre_audit.{kept.name}"
        row = connection.execute(
            "SELECT pg_table_size(%s), pg_indexes_size(%s)", (name, name)
        ).fetchone()
        assert row is not None
        found[kept.name] = row[0] / leaves
        found[f"{kept.name}, indexes"] = row[1] / leaves
    entry = connection.execute("SELECT avg(length(entry)) FROM lacre_audit.lacre_leaf").fetchone()
    assert entry is not None
    return {"an entry itself": float(entry[0])} | found


def main() -> None:
    """Measure, print, write the results; exit with an error where the bar is missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=200_000)
    events = arguments.parse_args().events
    identity = Identity.create("svc:audit")
    with postgresql_server(durable=True) as server, server.database() as database:
        url = database.text_url()
        log = AuditLog(url)
        log.upgrade()
        sequencer = Sequencer(
            log, _STAMP, signer=lambda: IdentitySigner(identity), verifiers=[verifier_of(identity.public)]
        )  # fmt: skip
        sequencer.turn()
        for writer in _writers(url, events):
            writer.join()
        cpu, started = time.process_time(), time.perf_counter()
        waited = sequencer.turn()
        seconds, busy = time.perf_counter() - started, time.process_time() - cpu

        writers = _writers(url, events)
        together, started = 0, 0.0
        while any(writer.is_alive() for writer in writers) or together < events:
            begun = time.perf_counter()
            together += sequencer.turn()
            started = started or (begun if together else 0.0)
        beside = time.perf_counter() - started
        sequencer.rest()
        with database.connect() as connection:
            connection.execute("ANALYZE")
            counted = connection.execute(f"SELECT count(*) FROM lacre_audit.{LEAF.name}").fetchone()
            signed = connection.execute(
                f"SELECT count(*) FROM lacre_audit.{CHECKPOINT.name}"
            ).fetchone()
            left = connection.execute(f"SELECT count(*) FROM lacre_audit.{INBOX.name}").fetchone()
            assert counted is not None
            assert signed is not None
            sizes = _sizes(connection, counted[0])
        log.close()
    if left != (0,) or counted[0] < 2 * events:
        raise SystemExit(f"not every event is a leaf: {counted[0]:,} leaves, {left} left")
    rate, met = waited / seconds, waited / seconds >= _BAR
    whole = sum(size for name, size in sizes.items() if name != "an entry itself")
    print(
        f"{waited:,} events that waited: {seconds:.1f} s, {rate:,.0f} events/s (bar: >= {_BAR:,}; {verdict(met)})"
    )
    print(f"of the sequencer's own processor time: {busy / waited * 1e6:.0f} us an event")
    print(
        f"{together:,} events while {_WRITERS} writers hand over: {together / beside:,.0f} events/s"
    )
    print(f"{signed[0]:,} signed checkpoints\n")
    print(
        table(
            ["bytes an event", ""],
            [[name, f"{size:,.0f}"] for name, size in (*sizes.items(), ("together", whole))],
        )
    )
    write_results(
        "evidence-append",
        {
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "machine": machine(["lacre", "cryptography", "psycopg", "SQLAlchemy"]),
            "figures": {
                "events": waited, "seconds": round(seconds, 2), "events_per_second": round(rate),
                "cpu_us_per_event": round(busy / waited * 1e6, 1), "events_per_second_beside_ten_writers": round(together / beside),
                "checkpoints": signed[0], "bytes_per_event": {name: round(size) for name, size in sizes.items()} | {"together": round(whole)},
            },
            "bars": [{"what": "events/s, one sequencer", "figure": f"{rate:,.0f}", "bar": f">= {_BAR:,}", "met": met}],
        },
    )  # fmt: skip
    if not met:
        raise SystemExit("the bar was missed")


if __name__ == "__main__":
    main()
