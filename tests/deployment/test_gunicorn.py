# SPDX-License-Identifier: Apache-2.0
"""gunicorn forks workers, recycles and stops them, and no look is lost or somebody else's."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.serving import HTTP, Deployed, Server, asked

# The page's configuration, with what makes a fork hard: the parent has looked, so that its keys
# are cached, its recorder's thread runs and its connections are open when it forks.
_BUSY_PARENT = """
exec(open("gunicorn.conf.py").read())
preload_app = {preload}
max_requests, max_requests_jitter = 10, 3
timeout = 60
threads = 1 if preload_app else 4  # another kind of worker

def when_ready(server):
    if preload_app:
        from sqlalchemy import select
        from shop import Customer, Session, lacre
        with lacre.acting_as("svc:parent", roles={{"app"}}, purpose="test"), Session() as session:
            session.scalars(select(Customer)).first().email
            session.close()
"""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(True, id="preload"),
        pytest.param(False, id="no preload, threads", marks=pytest.mark.long),
    ],
)
def server(request: pytest.FixtureRequest, deployed: Deployed) -> Iterator[Server]:
    """Two workers that are replaced after about ten requests."""
    config = deployed.directory / "busy.conf.py"
    config.write_text(_BUSY_PARENT.format(preload=request.param), encoding="utf-8")
    with deployed.serving(
        "gunicorn", "web:app", "--config", str(config), "--bind", "127.0.0.1:{port}"
    ) as server:
        yield server


def booted(server: Server) -> list[int]:
    """The workers' process ids, in the order they were started."""
    return [
        int(line.rpartition(" ")[2])
        for line in server.text().splitlines()
        if "Booting worker with pid: " in line
    ]


def test_every_answer_is_in_the_evidence_once(deployed: Deployed, server: Server) -> None:
    """Forty requests of forty users, through workers that end and begin meanwhile."""
    requests = [(f"{server.port}-{n}", row) for n, row in enumerate(deployed.customers[:40])]
    answered = asked(server, "/customers", requests)
    # Forty requests end two workers at least, however they are shared out.
    server.wait_for(lambda: len(booted(server)) > 3)
    # What is still in a living worker's memory is written within a second.
    wanted = sorted(answered)
    mine = f"user:{server.port}-"
    server.wait_for(lambda: len([1 for who, _ in deployed.looks() if who.startswith(mine)]) >= 40)

    assert len(answered) == 40
    assert sorted(look for look in deployed.looks() if look[0].startswith(mine)) == wanted


def test_a_worker_that_is_killed_loses_a_second_at_most(deployed: Deployed, server: Server) -> None:
    """What was looked at more than a second before the SIGKILL is there; the service goes on."""
    older = [(f"{server.port}-old-{n}", deployed.customers[n]) for n in range(4)]
    answered = asked(server, "/customers", older)
    time.sleep(1.5)
    newer = [(f"{server.port}-new-{n}", deployed.customers[n]) for n in range(4)]
    latest = asked(server, "/customers", newer)
    workers = [pid for pid in booted(server) if Path(f"/proc/{pid}").exists()]
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    server.wait_until_ready()
    looks = deployed.looks()

    assert len(workers) == 2
    assert set(answered) <= set(looks)
    assert len(looks) == len(set(looks))
    assert set(looks) & {(f"user:{user}", row) for user, row in newer} <= set(latest)
    assert asked(server, "/customers", [(f"{server.port}-after", deployed.customers[0])])


def test_the_endpoint_says_nothing_that_names_this_deployment(
    deployed: Deployed, server: Server
) -> None:
    """No tenant, path, address or password; the status is 503 while evidence cannot be written."""
    log = deployed.directory / "lacre" / "audit.jsonl"
    kept = log.rename(log.with_name("kept"))
    log.mkdir()
    try:
        failing = HTTP.get(f"{server.url}/ready", timeout=30)
    finally:
        log.rmdir()
        kept.rename(log)

    assert failing.status_code == 503
    assert '"evidence"' in failing.text
    assert "default" not in failing.text
    assert str(deployed.directory) not in failing.text
    time.sleep(1)  # each worker tries again five times a second


def test_sigterm_loses_nothing(deployed: Deployed, server: Server) -> None:
    """Requests are sent until the server is gone: whatever was answered is in the evidence."""
    answered: list[tuple[str, str]] = []
    stopped = threading.Event()

    def ask() -> None:
        number = 0
        while not stopped.is_set() and server.process.poll() is None:
            number += 1
            row = deployed.customers[number % 64]
            answered.extend(asked(server, "/customers", [(f"{server.port}-term-{number}", row)]))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.5)
    code = server.end()
    stopped.set()
    asking.join()
    looks = deployed.looks()

    assert code == 0, server.text()
    assert len(answered) > 3
    assert set(answered) <= set(looks)
    assert len(looks) == len(set(looks))
    assert "Traceback" not in server.text()
