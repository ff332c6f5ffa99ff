# SPDX-License-Identifier: Apache-2.0
"""However a process ends, it loses the looks that the threat model says, and no others."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.deployment.exits import KEEPS, LOSES


def test_what_each_end_loses(home: Path) -> None:
    """A normal exit, Ctrl-C, a handled SIGTERM, and `os._exit` after `close` or `flush` lose nothing; the others a second at most."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.deployment.exits"],
        cwd=home,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    log = (home / "lacre" / "audit.jsonl").read_text(encoding="utf-8")
    events = [json.loads(line) for line in log.splitlines()]
    looks = [event["principal"] for event in events if event["action"] == "look"]

    assert json.loads(done.stdout) == {
        "return": 0,
        "exception": 1,
        "sys.exit": 3,
        "ctrl-c": -2,
        "handled sigterm": 143,
        "closed os._exit": 0,
        "flushed os._exit": 0,
        "sigterm": -15,
        "sigkill": -9,
        "os._exit": 0,
    }
    wanted = {f"{how}: early" for how in (*KEEPS, *LOSES)}
    wanted |= {f"{how}: late" for how in KEEPS} | {"parent"}
    assert wanted <= set(looks)
    assert len(looks) == len(set(looks))
