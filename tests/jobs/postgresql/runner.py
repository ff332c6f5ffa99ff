# SPDX-License-Identifier: Apache-2.0
"""A job in a process of its own, to be killed: DIRECTION DSN STATES TABLE COLUMNS."""

import sys
from pathlib import Path

from lacre.context import acting_as
from lacre.jobs.pace import Pace
from lacre.jobs.postgresql.protect import protect
from lacre.jobs.postgresql.unprotect import unprotect
from tests.jobs.double import authority, fields_as_planned, requests


def main() -> None:
    direction, dsn, states, table, columns = sys.argv[1:]
    job = {"protect": protect, "unprotect": unprotect}[direction]
    print("ready", flush=True)
    with acting_as("operator", roles={"operator"}, purpose="protect"):
        job(
            dsn,
            table,
            requests(columns),
            fields=fields_as_planned,
            authority=authority(Path(states)),
            pace=Pace(batch=40, workers=2),
        )


if __name__ == "__main__":
    main()
