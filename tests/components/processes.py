# SPDX-License-Identifier: Apache-2.0
"""What the servers of the tests have in common: a port, an environment, an end. Nothing of any one server."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

__all__ = [
    "dies_with_us",
    "ended",
    "environment",
    "forget_the_developer",
    "free_port",
    "started",
    "wait_until",
]

_SECONDS = 30
# What a developer's shell may hold, and a server of the tests must not see.
_SERVICES = ("AWS_", "BAO_", "BOTO_", "MOTO_", "VAULT_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_GIVEN: set[int] = set()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, and that was not given before."""
    while True:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            port = int(listening.getsockname()[1])
        if port not in _GIVEN:
            _GIVEN.add(port)
            return port


def _foreign(name: str) -> bool:
    return name.startswith(_SERVICES) or name.lower() in _PROXIES


def environment(**settings: str) -> dict[str, str]:
    """Return the environment for a server: ours without settings of key services and of Python, and *settings*."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not _foreign(name) and not name.startswith("PYTHON")
    }
    return {**kept, **settings}


def forget_the_developer() -> None:
    """Take from this process what names a key service, an account or a proxy of whoever runs the tests."""
    for name in [name for name in os.environ if _foreign(name)]:
        del os.environ[name]
    # boto3 reads these files, and asks an address of the network for credentials, unless it is told not to.
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


def dies_with_us(signal: str = "KILL") -> list[str]:
    """Return what to put before a command so that it ends with us: a test process that is killed runs no `finally`."""
    return ["setpriv", "--pdeathsig", signal] if shutil.which("setpriv") else []


def started(command: list[str | Path], *, log: Path, **settings: str) -> "subprocess.Popen[bytes]":
    """Start *command*, which writes to the end of *log*, with *settings* in its environment."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [*dies_with_us(), *command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment(**settings),
        )  # fmt: skip


def ended(process: "subprocess.Popen[bytes] | None") -> None:
    """End *process* at once. What it held is thrown away with its folder."""
    if process is None or process.poll() is not None:
        return
    process.kill()
    process.wait()


def wait_until(
    ready: Callable[[], bool], process: "subprocess.Popen[bytes]", what: str, log: Path
) -> None:
    """Return when *ready* does; fail, with what *process* wrote, where it ended or took too long."""
    until = time.monotonic() + _SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > until:
            import pytest

            pytest.fail(f"{what} did not start:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.02)
