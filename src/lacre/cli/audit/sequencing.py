# SPDX-License-Identifier: Apache-2.0
"""`lacre audit sequence` and `lacre audit status`: the evidence log at work, and how it is."""

import datetime as dt
import os
import signal
import threading
from pathlib import Path
from typing import Any

import typer

from lacre.cli.operator import Config
from lacre.cli.terminal import DUE, data, out, say, warn
from lacre.evidence import open_anchoring, open_sequencer, stamp_of
from lacre.policy.loading import load_policy
from lacre.stores.log.opening import open_log
from lacre.stores.log.running import run
from lacre.stores.log.status import LogStatus, status_of

__all__ = ["sequence", "status"]


def sequence(
    once: bool = typer.Option(False, "--once", help="what waits now, and rest"),
    config: Path = Config,
) -> None:
    """Sequence the evidence log and sign it, until SIGTERM: where `[audit] sequencer` is `apart`. A second one stands by."""
    settings, base = load_policy(config, os.environ), config.resolve().parent
    log = open_log(settings, base)
    stamp = stamp_of(settings)
    sequencer = open_sequencer(settings, base, log, stamp)
    anchoring = open_anchoring(settings, base, log, stamp, sequencer)
    stop = threading.Event()
    before = {each: signal.signal(each, lambda *_: stop.set()) for each in (signal.SIGTERM, signal.SIGINT)}  # fmt: skip
    try:
        log.check()
        if once:
            sequencer.rest()
        else:
            say(f"sequencing {log.where}")
            if anchoring is not None:
                anchoring.notify()
            run(sequencer, stop)
        if sequencer.passed:
            warn(f"{sequencer.passed} entries that wait are none that lacre writes; they were left")
        for store in dict.fromkeys(sequencer.away):
            warn(f"the outbox of the store {store} could not be read or emptied")
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        if anchoring is not None:
            anchoring.close()
        sequencer.close()
        log.close()


def status(
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
) -> None:
    """Say how the evidence log is: its months, who sequences, what waits. Exits 10 where something needs attention."""
    settings = load_policy(config, os.environ)
    log = open_log(settings, config.resolve().parent)
    try:
        found = status_of(log, now=dt.datetime.now(dt.UTC), heartbeat=settings.audit.heartbeat)
    finally:
        log.close()
    if as_json:
        data(_plain(found))
    else:
        _show(found)
    for each in found.attention:
        warn(each)
    if found.attention:
        raise typer.Exit(DUE)


def _plain(found: LogStatus) -> dict[str, Any]:
    return {
        "log": found.where,
        "shards": [
            {"shard": each.name, "state": each.state, "hold": each.hold, "leaves": each.leaves, "signed": each.signed}
            for each in found.shards
        ],
        "last_leaf": found.last,
        "last_checkpoint": found.signed,
        "waiting": found.waiting,
        "sequencer": {"holder": found.holder, "epoch": found.epoch},
        "attention": list(found.attention),
    }  # fmt: skip


def _show(found: LogStatus) -> None:
    out.print(found.where, markup=False)
    for each in found.shards:
        held = f", on hold: {each.hold}" if each.hold else ""
        out.print(f"  {each.name}  {each.state}, {each.leaves} leaves, {each.signed} of them signed{held}", markup=False)  # fmt: skip
    for name, text in (
        ("last leaf", found.last or "none"),
        ("last checkpoint", found.signed or "none"),
        ("waiting", f"{found.waiting} entries"),
        ("sequencer", found.holder or "rests"),
    ):
        out.print(f"  {name:<16} {text}", markup=False)
