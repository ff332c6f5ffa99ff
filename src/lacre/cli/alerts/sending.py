# SPDX-License-Identifier: Apache-2.0
"""`lacre alerts send | test`: through the channels of `[alerts.NAME]`."""

import os
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path

import typer

from lacre.audit.alerts import Alert, AlertState, Message
from lacre.audit.detection.finding import Severity, fingerprint
from lacre.audit.event import new_id
from lacre.cli.alerts.opening import watched
from lacre.cli.operator import Config
from lacre.cli.terminal import say, warn
from lacre.errors import ConfigurationError
from lacre.evidence import open_channels, open_deliverer, stamp_of
from lacre.policy.loading import load_policy
from lacre.policy.model import PolicyFile

__all__ = ["send", "try_channel"]


def send(
    follow: bool = typer.Option(False, "--follow", help="go on until the process is told to end"),
    config: Path = Config,
) -> None:
    """Send the alerts that are due: once, or as they are raised."""
    with watched(config) as opened:
        _need_channels(opened.policy)
        deliverer = open_deliverer(opened.policy, opened.base, opened.log, environ=os.environ)
        opened.log.check()
        if follow:
            stop = threading.Event()
            for ends in (signal.SIGTERM, signal.SIGINT):
                signal.signal(ends, lambda *_: stop.set())
            say(f"sending through {', '.join(opened.policy.alerts)}")
            deliverer.follow(stop)
            return
        for name, number in deliverer.send().items():
            say(f"{name}: {number} sent")
        for health in deliverer.health():
            if health.failures:
                warn(f"{health.name} has failed {health.failures} times in a row, and {health.waiting} alerts wait")  # fmt: skip


def try_channel(
    channel: str = typer.Argument(help="the NAME of [alerts.NAME]"),
    config: Path = Config,
) -> None:
    """Send a message that says it is a test, now."""
    policy = load_policy(config, os.environ)
    _need_channels(policy)
    if channel not in policy.alerts:
        raise ConfigurationError(
            f"lacre.toml has no channel {channel!r}",
            hint=f"it has {', '.join(sorted(policy.alerts))}",
        )
    opened = open_channels(policy, config.resolve().parent, os.environ)[channel]
    now = datetime.now(UTC)
    alert = Alert(
        id=new_id(), rule="test", severity=Severity.LOW, fingerprint=fingerprint("test"), principal="",
        first=now, last=now, raised=now, times=1, facts={}, evidence=(), state=AlertState.OPEN,
        summary=f"a test of the channel {channel}: nothing happened",
    )  # fmt: skip
    opened.send(Message(alerts=(alert,), stamp=stamp_of(policy), test=True))
    say(f"{channel} took it")


def _need_channels(policy: PolicyFile) -> None:
    if not policy.alerts:
        raise ConfigurationError(
            "lacre.toml names no channel", hint='[alerts.ops] kind = "slack", say'
        )
