# SPDX-License-Identifier: Apache-2.0
"""A job in a process of its own, to be killed: DIRECTION DATABASE STATES TABLE COLUMNS."""

import sys
from pathlib import Path

from lacre.context import acting_as
from lacre.jobs.pace import Pace
from lacre.jobs.sqlite.protect import protect
from lacre.jobs.sqlite.unprotect import unprotect
from tests.jobs.double import authority, fields, requests


def main() -> None:
    direction, database, states, table, columns = sys.argv[1:]
    job = {"protect": protect, "unprotect": unprotect}[direction]
    print("ready", flush=True)
    with acting_as("operator", roles={"operator"}, purpose="protect"):
        job(
            Path(database),
            table,
            requests(columns),
            fields=fields(table),
            authority=authority(Path(states)),
            pace=Pace(batch=40),
        )


if __name__ == "__main__":
    main()
