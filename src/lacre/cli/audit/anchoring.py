# SPDX-License-Identifier: Apache-2.0
"""`lacre audit anchor`: the newest checkpoints, put where who writes the log cannot write."""

import os
from pathlib import Path

import typer

from lacre.audit.leaves import shard_name
from lacre.cli.operator import Config
from lacre.cli.terminal import out, say, warn
from lacre.errors import ConfigurationError
from lacre.evidence import sequence_once, stamp_of
from lacre.policy.loading import load_policy
from lacre.sinks.anchors.opening import open_anchors
from lacre.stores.log.opening import open_log

__all__ = ["anchor"]

_AWAY = 7


def anchor(config: Path = Config) -> None:
    """Put the newest checkpoint of each month into every anchor of lacre.toml. Exits 7 where one could not be reached."""
    from lacre.stores.log.anchoring import Anchoring

    settings, base = load_policy(config, os.environ), config.resolve().parent
    anchors = open_anchors(settings.audit, base)
    if not anchors:
        raise ConfigurationError(
            "lacre.toml names no anchor",
            hint='[audit.anchors.outside] kind = "file", path = "/mnt/elsewhere/anchors.jsonl"',
        )
    log = open_log(settings, base)
    try:
        stamp = stamp_of(settings)
        done = Anchoring(log, anchors, stamp).put()
        if done:
            sequence_once(settings, base, log, stamp)
    finally:
        log.close()
    for each in done:
        if not each.failed:
            out.print(f"{each.anchor}: {shard_name(each.shard)}, {each.size} leaves", markup=False)
    if not done:
        say("nothing is new since the last time")
    failed = [each for each in done if each.failed]
    for each in failed:
        warn(each.failed)
    if failed:
        raise typer.Exit(_AWAY)
