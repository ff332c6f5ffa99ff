# SPDX-License-Identifier: Apache-2.0
"""
Children that look, wait until that must be written, look again, and end in every way there is.

Run as a program in a directory with a `lacre.toml`; prints how each child ended, as JSON.
"""

import json
import os
import signal
import sys
import time

from lacre import Lacre

__all__ = ["KEEPS", "LOSES"]

# Ends after which nothing is lost, and ends that may lose the last second.
KEEPS = (
    "return",
    "exception",
    "sys.exit",
    "ctrl-c",
    "handled sigterm",
    "closed os._exit",
    "flushed os._exit",
)
LOSES = ("sigterm", "sigkill", "os._exit")


def look(lacre: Lacre, principal: str) -> None:
    """Look once, as *principal*."""
    box = lacre.field("pii", table="exits", column="value")
    with lacre.acting_as(principal, roles={"app"}, purpose="test"):
        box.decrypt(box.encrypt("x", row="1"), row="1")


def end(lacre: Lacre, how: str) -> None:
    """Look twice, then end."""
    if how == "handled sigterm":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    look(lacre, f"{how}: early")
    time.sleep(1.5)
    look(lacre, f"{how}: late")
    match how:
        case "exception":
            raise RuntimeError("meant")
        case "sys.exit":
            sys.exit(3)
        case "ctrl-c":
            # A shell starts what runs in its background with this signal ignored.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.raise_signal(signal.SIGINT)
        case "sigterm" | "handled sigterm":
            signal.raise_signal(signal.SIGTERM)
        case "sigkill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "closed os._exit":
            lacre.close()
            os._exit(0)
        case "flushed os._exit":
            lacre.flush()
            os._exit(0)
        case "os._exit":
            os._exit(0)


def run() -> None:
    """Fork a child for each end. The parent has looked: its thread runs and its keys are cached."""
    lacre = Lacre.load("lacre.toml")
    look(lacre, "parent")
    children = {}
    for how in (*KEEPS, *LOSES):
        pid = os.fork()
        if pid == 0:
            return end(lacre, how)
        children[pid] = how
    ended = {}
    for _ in children:
        pid, status = os.wait()
        ended[children[pid]] = os.waitstatus_to_exitcode(status)
    print(json.dumps(ended))
    return None


if __name__ == "__main__":
    run()
