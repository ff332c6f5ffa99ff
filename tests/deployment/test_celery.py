# SPDX-License-Identifier: Apache-2.0
"""A Celery worker's children act as the task they run, and lose nothing when they are replaced."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.deployment.serving import Deployed, Server

_CONFIG = """\
broker_url = "filesystem://"
broker_transport_options = {{"data_folder_in": "{0}", "data_folder_out": "{0}", "control_folder": "{0}/control"}}
task_ignore_result = True
worker_prefetch_multiplier = 1
worker_max_tasks_per_child = 3
broker_connection_retry_on_startup = True
"""

_SEND = """\
import sys
from tasks import send
for row in sys.argv[1:]:
    send.delay(row)
"""


@pytest.fixture(scope="module")
def worker(deployed: Deployed) -> Iterator[Server]:
    """Two children, each replaced after three tasks; the broker is a directory."""
    folder = deployed.directory / "broker"
    folder.mkdir()
    config = deployed.directory / "celery_settings.py"
    config.write_text(_CONFIG.format(folder), encoding="utf-8")
    with deployed.running(
        "celery", "--app", "tasks", "worker", "--concurrency", "2", "--without-gossip",
        "--without-mingle", "--without-heartbeat", "--loglevel", "INFO", CELERY_CONFIG_MODULE="celery_settings",
    ) as worker:  # fmt: skip
        worker.wait_for(lambda: " ready." in worker.text())
        yield worker


def test_every_task_acts_as_itself_and_is_in_the_evidence(
    deployed: Deployed, worker: Server
) -> None:
    """Twelve tasks through children that end by `os._exit`, and a warm shutdown: twelve looks."""
    rows = deployed.customers[:12]
    subprocess.run(
        [sys.executable, "-c", _SEND, *rows],
        cwd=deployed.directory,
        env=deployed.environ | {"CELERY_CONFIG_MODULE": "celery_settings"},
        timeout=60,
        check=True,
    )
    worker.wait_for(lambda: worker.text().count(" succeeded in ") == 12)
    code = worker.end()
    looks = sorted(look for look in deployed.looks() if look[0].startswith("task:"))

    assert code == 0, worker.text()
    assert looks == sorted(("task:tasks.send", row.replace("-", "")) for row in rows)
    assert "Traceback" not in worker.text()
