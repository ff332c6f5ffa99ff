# SPDX-License-Identifier: Apache-2.0
"""
A move of tenants that is killed: CONFIG DATABASE NUMBER...

For each number a child moves rows and is killed by SIGKILL before its statement of that number, or
ends. Prints for each whether it was killed.
"""

import os
import signal
import sys
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.orm import sessionmaker

from lacre import Lacre
from lacre.sqlalchemy.tenants import TenantMove
from tests.sqlalchemy.tenanted import NORTH, SOUTH, Client


def move(config: str, database: str, number: int) -> None:
    engine = create_engine(database)
    left = [number]

    @event.listens_for(engine, "before_cursor_execute")
    @event.listens_for(engine, "commit")
    def count(*_: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with Lacre.load(config, environ={}) as lacre:
        sessions = lacre.sqlalchemy(sessionmaker(engine))
        with lacre.acting_as("svc:mover", roles={"app"}, purpose="merge"):
            move = TenantMove(sessions, Client, source=NORTH, target=SOUTH, batch=2)
            plan = move.plan()
            left[0] = number
            move.run(plan=plan)
            left[0] = 0


def main() -> None:
    config, database, *numbers = sys.argv[1:]
    for number in numbers:
        child = os.fork()
        if not child:
            move(config, database, int(number))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else f"ended {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
