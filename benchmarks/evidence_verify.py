# SPDX-License-Identifier: Apache-2.0
"""
How long the verification of an evidence log takes: the whole of it, and since the last time.

    PYTHONPATH=. python benchmarks/evidence_verify.py [--events N] [--rounds N] [--processes N]

A log of a million events on PostgreSQL, made with lacre's own entries, hashes, tiles, sums and signed
checkpoints, one for each thousand events. Verified as a whole, and from what an auditor kept a
thousand events before; proofs of events are made and checked.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

from measuring import machine, say, table, write_results

from lacre._core.merkle import leaf_hash
from lacre.audit.entries import Entry, Stamp, written
from lacre.audit.event import Event, Outcome, Place
from lacre.audit.events import Looked
from lacre.audit.keeping import Recording, Sequencing
from lacre.audit.leaves import Drawn, leaf_text
from lacre.audit.notes import Checkpoint, origin_of, sign_checkpoint
from lacre.audit.proofs import check_proof
from lacre.audit.summing import tally_key
from lacre.audit.verdict import Verdict
from lacre.audit.verification import Expected
from lacre.audit.verified import Verified
from lacre.context import Origin
from lacre.kms.local import Identity
from lacre.kms.local.signing import IdentitySigner, verifier_of
from lacre.stores.log import loading
from lacre.stores.log.log import AuditLog
from lacre.stores.log.proving import prove_event
from lacre.stores.log.schema import CHECKPOINT, LEAF, SHARD, TOUCHED
from lacre.stores.log.sink import OWN
from lacre.stores.log.tree import StoredTree
from lacre.stores.log.verifying import LogVerifier
from tests.components.postgresql import postgresql_server

STAMP = Stamp(app="shop", env="prod", service="shop", code="1.0")
SHARD_OF = 202611
BEGIN = 1_793_500_000_000_000  # 2026-11-01, and a bit
STEP = 100_000  # microseconds between two events
EACH = 1000
WRITER = "ab" * 16
PLACES = [Place("main", "customers", name, "pii") for name in ("email", "cpf", "address")]
FULL, LATEST = 10e-6, 1.0
SINCE = 1000  # events after the last verification
AUDIT = Identity.create("svc:audit")


def events(count: int, from_: int) -> list[tuple[int, Event, bool]]:
    """Return *count* events, each with its moment, and whether its writer numbers it."""
    found: list[tuple[int, Event, bool]] = []
    for number in range(from_, from_ + count):
        moment = BEGIN + number * STEP
        if number == 0:
            event: Event = Sequencing(
                step="opened",
                epoch=1,
                since="",
                before="",
                size=0,
                root="",
                time=moment / 1e6,
                **OWN,
            )
        elif number == 1:
            event = Sequencing(
                step="began",
                epoch=1,
                since="",
                before="",
                size=0,
                root="",
                time=moment / 1e6,
                **OWN,
            )
        elif number == 2:
            event = Recording(step="began", events=1, time=moment / 1e6, **OWN)
        else:
            event = Looked(
                time=moment / 1e6 - 0.2, principal=f"user:{number % 30:02}", roles=("support",), purpose="ticket", tenant="default",
                place=PLACES[number % 3], outcome=Outcome.ALLOWED, rule="classes.pii.rights.support", rows=(str(number % 90_000),),
                count=1, key="cd" * 16, origin=Origin(correlation=f"{number:032x}", ip="10.0.0.7", agent="Mozilla/5.0"),
            )  # fmt: skip
        found.append((moment, event, number >= 2))
    return found


def fill(log: AuditLog, count: int) -> None:
    """Let the log grow to *count* events: what a sequencer does, a thousand events at a time."""
    signer = IdentitySigner(AUDIT)
    with log.writing() as connection:
        tree = StoredTree.load(connection, SHARD_OF)
        if tree.size == 0:
            connection.execute(SHARD.insert().values(shard=SHARD_OF, state="open", hold=None))
    for begin in range(tree.size, count, EACH):
        rows, hashes = [], []
        touched: list[loading.Row] = []
        counts: dict[loading.Row, list[int]] = {}
        for moment, event, numbered in events(EACH, begin):
            line = written(
                event, STAMP, writer=WRITER if numbered else "", number=begin + len(rows) - 1
            )
            hashes.append(leaf_hash(leaf_text(moment, line)))
            drawn = Drawn.of(Entry.read(line))
            touched += loading.touched_rows(SHARD_OF, begin + len(rows), drawn)
            sums = counts.setdefault(tally_key(drawn), [0, 0])
            sums[0] += 1
            sums[1] += drawn.count
            rows.append(
                loading.leaf_row(
                    SHARD_OF,
                    begin + len(rows),
                    bytes.fromhex(event.id),
                    moment,
                    drawn,
                    hashes[-1],
                    line,
                )
            )
        with log.writing() as connection:
            loading.insert(connection, LEAF, rows)
            loading.insert(connection, TOUCHED, touched)
            loading.tally(connection, counts)
            tree.extend(connection, hashes)
            checkpoint = Checkpoint(
                origin=origin_of(STAMP.app, STAMP.env, SHARD_OF), size=tree.size, root=tree.root()
            )
            note = sign_checkpoint(checkpoint, signer)
            connection.execute(
                CHECKPOINT.insert().values(
                    shard=SHARD_OF,
                    size=tree.size,
                    time=rows[-1][3],
                    root=checkpoint.root,
                    note=note,
                )
            )


def verified(log: AuditLog, count: int, processes: int, known: Verified | None = None) -> Verdict:
    """Verify, at the moment of the last event."""
    verifier = LogVerifier(
        log, expected=Expected(app="shop", env="prod", quiet=120_000_000), signers=[verifier_of(AUDIT.public)],
        operators=[], processes=processes,
    )  # fmt: skip
    verdict = verifier.verify(now=BEGIN + count * STEP, known=known)
    if not verdict.right:
        raise SystemExit(f"the log does not verify: {verdict.problems[:3]}")
    return verdict


def timed(operation: Callable[[], object], rounds: int) -> list[float]:
    """Return the seconds of each round."""
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        operation()
        found.append(time.perf_counter() - start)
    return found


def main() -> int:
    arguments = argparse.ArgumentParser(description="how long verification takes")
    arguments.add_argument("--events", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--processes", type=int, default=2)
    given = arguments.parse_args()
    count = given.events
    with postgresql_server() as server, server.database() as database:
        log = AuditLog(database.text_url())
        log.upgrade()
        start = time.perf_counter()
        fill(log, count - SINCE)
        say(f"{count - SINCE} events in {time.perf_counter() - start:.0f} s")
        known = verified(log, count - SINCE, given.processes).verified
        fill(log, count)
        with log.reading() as connection:
            for each in (LEAF, TOUCHED):
                connection.exec_driver_sql(f"ANALYZE {log.schema}.{each.name}")
        full = timed(lambda: verified(log, count, given.processes), given.rounds)
        alone = timed(lambda: verified(log, count, 1), 1)
        since = timed(lambda: verified(log, count, given.processes, known), 9)
        with log.reading() as connection:
            ids = [
                bytes(each).hex()
                for each in connection.scalars(
                    LEAF.select()
                    .with_only_columns(LEAF.c.id)
                    .where(LEAF.c.seq % (count // 100) == 7)
                )
            ]
        signers = [verifier_of(AUDIT.public)]
        proofs = [prove_event(log, each, signers) for each in ids]
        proved = timed(lambda: [prove_event(log, each, signers) for each in ids], 3)
        checked = timed(lambda: [check_proof(each, signers) for each in proofs], 3)
        log.close()
    per_event = statistics.median(full) / count
    bars = [
        {
            "what": "full verification, per event",
            "seconds": per_event,
            "bar": FULL,
            "met": per_event <= FULL,
        },
        {
            "what": f"since the last verification, {SINCE} events later",
            "seconds": statistics.median(since),
            "bar": LATEST,
            "met": statistics.median(since) <= LATEST,
        },
    ]
    lines = [
        [
            str(each["what"]),
            f"{each['seconds']:.3g} s",
            f"{each['bar']:g} s",
            "yes" if each["met"] else "NO",
        ]
        for each in bars
    ]
    print(table(("what", "median", "bar", "met"), lines))
    path = write_results(
        "evidence-verify",
        {
            "machine": machine(("cryptography", "sqlalchemy", "psycopg")),
            "events": count,
            "events for each checkpoint": EACH,
            "processes": given.processes,
            "microseconds an event": {
                f"full, {given.processes} processes": [
                    round(each / count * 1e6, 2) for each in full
                ],
                "full, one process": [round(each / count * 1e6, 2) for each in alone],
            },
            "milliseconds": {
                "since the last verification": [round(each * 1e3, 1) for each in since],
                "proof of an event, made": round(statistics.median(proved) / len(ids) * 1e3, 2),
                "proof of an event, checked": round(statistics.median(checked) / len(ids) * 1e3, 2),
            },
            "bytes of a proof": max(len(each) for each in proofs),
            "bars": bars,
        },
    )
    say(f"written: {path.name}")
    return 0 if all(each["met"] for each in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
