# SPDX-License-Identifier: Apache-2.0
"""
How long detection takes over an evidence log, and how much memory.

    PYTHONPATH=. python benchmarks/evidence_detect.py [--events N]

A log of a million events in an SQLite file, of thirty principals in ninety days, gone through from
its beginning by every rule as it comes: read, parsed, evaluated, alerts and cursor written. Nothing
is compared with a bar: the figure is what ``docs/how-to/detect.md`` says it takes.
"""

import argparse
import resource
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from measuring import machine, say, write_results

from lacre.policy.detection import DetectionSettings
from lacre.stores.log.alerts import AlertStore
from lacre.stores.log.detecting import Detecting
from lacre.stores.log.log import AuditLog
from tests.evidence.filling import STAMP, fill


def main() -> int:
    """Fill a log, detect in it, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    given = parser.parse_args()
    with (
        TemporaryDirectory() as directory,
        closing(AuditLog(f"sqlite:///{Path(directory) / 'audit.db'}")) as log,
    ):
        log.upgrade()
        say(f"filling a log of {given.events:,} events")
        fill(log, events=given.events)
        alerts = AlertStore(log, stamp=STAMP)
        detecting = Detecting(log, DetectionSettings().effective(), alerts)
        begun, used = time.perf_counter(), time.process_time()
        found = detecting.turn()
        took, cpu = time.perf_counter() - begun, time.process_time() - used
    leaves = detecting.leaves
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{leaves:,} leaves in {took:.1f} s: {took / leaves * 1e6:.0f} us each, {cpu / leaves * 1e6:.0f} us of this processor; at most {memory:.0f} MB")  # fmt: skip
    path = write_results(
        "evidence-detect",
        {
            "machine": machine(("sqlalchemy",)),
            "events": given.events,
            "leaves": leaves,
            "seconds": round(took, 1),
            "processor seconds": round(cpu, 1),
            "megabytes": round(memory),
            "findings": dict(Counter(each.rule for each in found)),
        },
    )
    say(f"written: {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
