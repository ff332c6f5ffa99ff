# SPDX-License-Identifier: Apache-2.0
"""A function's environment is started cold, frozen between calls, and killed while it is frozen."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from lacre import Lacre
from lacre.keys.hierarchy import KeyKind, KeyState
from tests.components.postgresql import Server
from tests.deployment.serving import Deployed

RUNTIME = Path(__file__).with_name("runtime.py")
_FILE = "sqlite:///lacre/keys.db"  # of the directory itself


class Environment:
    """One environment of a function."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.cold = self._line()["imported"]

    def call(self, row: str) -> dict[str, Any]:
        """The answer to one event."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"id": row}) + "\n")
        self.process.stdin.flush()
        return self._line()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        while Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2][1] != "T":
            time.sleep(0.01)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr and self.process.stderr.read()
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def environment(deployed: Deployed, *before: str, **environ: str) -> Iterator[Environment]:
    """Start one; kill it with the block."""
    process = subprocess.Popen(
        [*before, sys.executable, str(RUNTIME)],
        cwd=deployed.directory, env=deployed.environ | environ, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Environment(process)
    finally:
        process.kill()
        process.communicate()


def test_what_was_answered_is_in_the_evidence_before_the_freeze(deployed: Deployed) -> None:
    """An environment that is killed while frozen, right after its answer, lost nothing."""
    with environment(deployed) as function:
        answers = [function.call(row) for row in deployed.customers[:3]]
        function.freeze()
        function.process.kill()
        function.process.wait()
    looks = [look for look in deployed.looks() if look[0] == "fn:lookup"]
    print(
        f"cold start {function.cold:.2f} s, then",
        *(f"{answer['took']:.4f} s" for answer in answers),
    )

    assert [answer["answer"] for answer in answers] == [
        {"email": f"{number}@example.org"} for number in range(3)
    ]
    assert looks == [("fn:lookup", row.replace("-", "")) for row in deployed.customers[:3]]


def test_a_thawed_environment_uses_no_key_past_its_age(deployed: Deployed, tmp_path: Path) -> None:
    """A key that was disabled while it was frozen for longer than the cache age opens nothing."""
    home = tmp_path / "app"
    shutil.copytree(deployed.directory, home, ignore=shutil.ignore_patterns("broker", "*.log"))
    thawed = Deployed(directory=home, environ=deployed.environ, customers=deployed.customers)
    with (
        Lacre.load(
            home / "lacre.toml", environ={}, identity="lacre/identities/operator.key"
        ) as operator,
        operator.acting_as("operator", roles={"operator"}, purpose="test"),
        environment(
            thawed,
            PYTHONPATH=_first(home, deployed),
            LACRE_CACHE__AGE="1",
            LACRE_KEY_STORE__URL=_FILE,
        ) as function,
    ):
        (row,) = operator.store.versions(operator.scope("default", "pii", KeyKind.DATA))
        before = function.call(deployed.customers[0])
        function.freeze()
        operator.provisioner.step(row.key_id, KeyState.DISABLED)
        time.sleep(1.1)
        function.thaw()
        refused = function.call(deployed.customers[0])
        operator.provisioner.enable(row.key_id)
        after = function.call(deployed.customers[0])

    assert before["answer"] == after["answer"] == {"email": "0@example.org"}
    assert refused["error"] == "KeyDisabled"


def test_a_read_only_file_system_is_enough(
    deployed: Deployed, tmp_path: Path, postgresql: Server
) -> None:
    """Where nothing may be written but the evidence: reading works, and is in the evidence."""
    home, writable = tmp_path / "app", tmp_path / "writable"
    shutil.copytree(deployed.directory, home, ignore=shutil.ignore_patterns("broker", "*.log"))
    shutil.copy(postgresql.certificate, home / "server.crt")
    url = deployed.environ["DATABASE_URL"].replace(
        quote(str(postgresql.certificate), safe=""), quote(str(home / "server.crt"), safe="")
    )
    writable.mkdir()
    (home / "lacre" / "audit.db").rename(writable / "audit.db")
    for path in home.rglob("*"):
        path.chmod(0o500 if path.is_dir() else 0o400)
    home.chmod(0o500)
    frozen = Deployed(directory=home, environ=deployed.environ, customers=deployed.customers)
    environ = {
        "PYTHONPATH": _first(home, deployed),
        "LACRE_AUDIT__URL": f"sqlite:///{writable / 'audit.db'}",
        "LACRE_AUDIT__PATH": str(writable / "audit.jsonl"),
        "LACRE_KEY_STORE__URL": _FILE,
        "DATABASE_URL": url,
    }
    try:
        with environment(frozen, *_bound_by_modes(), **environ) as function:
            answer = function.call(deployed.customers[0])
            probe = subprocess.run(
                [*_bound_by_modes(), "touch", str(home / "lacre" / "new")],
                capture_output=True,
                check=False,
            )
    finally:
        for path in [home, *home.rglob("*")]:
            path.chmod(0o700)

    assert probe.returncode != 0
    assert answer.get("answer") == {"email": "0@example.org"}, answer
    assert '"fn:lookup"' in (writable / "audit.jsonl").read_text()


def _first(home: Path, deployed: Deployed) -> str:
    # The modules of this directory before those of the one it was copied from.
    return os.pathsep.join([str(home), deployed.environ["PYTHONPATH"]])


def _bound_by_modes() -> list[str]:
    # Root may write any file. Without these two capabilities it may do what an owner may.
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.fail("setpriv is missing (util-linux)")
    return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
