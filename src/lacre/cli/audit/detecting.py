# SPDX-License-Identifier: Apache-2.0
"""
`lacre audit detect` and `lacre audit rules`: the rules of detection over the evidence log.

Explains what was found: which rule, from where on, what to do, and where in the log. Sends nothing
(`lacre alerts send`).
"""

import datetime as dt
import json
import os
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import typer

from lacre.audit.detection.finding import Finding, Severity
from lacre.audit.detection.rule import Rule
from lacre.audit.detection.wording import measure
from lacre.audit.entries import Entry
from lacre.audit.honeytokens import KEY_SIZE, touched
from lacre.cli.operator import Config
from lacre.cli.terminal import DUE, data, out, say, shown, table, warn
from lacre.errors import ConfigurationError
from lacre.evidence import stamp_of
from lacre.kms.local.files import read_private
from lacre.policy.loading import load_policy
from lacre.policy.model import PolicyFile
from lacre.stores.log.alerts import AlertStore
from lacre.stores.log.detecting import Detecting, Touching, replayed
from lacre.stores.log.honeytokens import HoneytokenStore
from lacre.stores.log.log import AuditLog
from lacre.stores.log.opening import open_log

__all__ = ["detect", "rules"]

_POSITIONS = 6  # of the evidence, in text


def detect(
    follow: bool = typer.Option(False, "--follow", help="go on until the process is told to end"),
    every: float = typer.Option(
        5.0, min=0.1, max=3600, help="with --follow: seconds between two looks"
    ),
    since: str | None = typer.Option(
        None, "--since", help="replay the log since this day or moment (2026-11-20); raise nothing"
    ),
    anew: bool = typer.Option(
        False, "--anew", help="forget what was learned; begin at the log's beginning"
    ),
    severity: Severity = typer.Option(
        Severity.LOW, help="show findings from this severity on; all are raised"
    ),
    config: Path = Config,
    as_json: bool = typer.Option(
        False, "--json", help="for a program to read; with --follow one line each"
    ),
) -> None:
    """Look for what is suspicious in what is new in the log, and raise alerts. Exits with 10 where something was found."""
    policy = load_policy(config, os.environ)
    effective = policy.detection.effective(heartbeat=policy.audit.heartbeat)
    base = config.resolve().parent
    with closing(open_log(policy, base)) as log:
        touching = _touching(policy, base, log)
        if since is not None:
            if follow or anew:
                raise ConfigurationError(
                    "--since replays: neither --follow nor --anew goes with it"
                )
            found = list(replayed(log, effective, since=_moment(since), touching=touching))
            _show(found, effective, severity, as_json=as_json)
            raise typer.Exit(DUE if found else 0)
        alerts = AlertStore(log, stamp=stamp_of(policy))
        detecting = Detecting(log, effective, alerts, touching=touching, anew=anew)
        if follow:
            _follow(detecting, effective, severity, every, as_json=as_json)
            return
        found = detecting.turn()
        detecting.rest()
        _show(found, effective, severity, as_json=as_json, forgotten=detecting.forgotten)
        say(f"{detecting.leaves:,} entries gone through, up to {_where(detecting.position)}")
    raise typer.Exit(DUE if found else 0)


def rules(
    config: Path = Config,
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
) -> None:
    """List the rules of detection as they are here: thresholds, what is off and who is exempt, and why."""
    policy = load_policy(config, os.environ)
    effective = policy.detection.effective(heartbeat=policy.audit.heartbeat)
    if as_json:
        data([_rule(rule) for rule in effective.values()])
        return
    rows = [
        [
            rule.id,
            "asleep" if rule.asleep else str(rule.severity),
            rule.title,
        ]
        for rule in effective.values()
    ]
    out.print(table(["rule", "severity", "title"], rows))
    _say_what_is_left_out(effective)


def _touching(policy: PolicyFile, base: Path, log: AuditLog) -> Touching:
    """Return what knows the planted rows, where the key of their marks is; without it nothing is touched."""
    path = base / policy.honeytokens.key_file
    store = HoneytokenStore(log)
    key = read_private(path) if path.exists() else b""
    if key and len(key) != KEY_SIZE:
        raise ConfigurationError(f"{path} is no key of honeytokens", hint="[honeytokens] key_file")
    if not key and store.all():
        warn(f"there are honeytokens, and none is recognised here: there is no {path}")

    def look() -> Callable[[Entry], Sequence[str]]:
        marks = store.marks(key) if key else None
        if marks is None or not marks.planted:
            return lambda entry: ()
        return lambda entry: touched(entry, marks)

    return look


def _follow(
    detecting: Detecting,
    effective: Mapping[str, Rule],
    severity: Severity,
    every: float,
    *,
    as_json: bool,
) -> None:
    stop = threading.Event()
    for ends in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ends, lambda *_: stop.set())
    say(f"detecting from {_where(detecting.position)} on, every {every:g} s")
    _say_what_is_left_out(effective)
    told: dict[str, int] = {}
    while not stop.is_set():
        for finding in _above(detecting.turn(), severity):
            if as_json:
                out.file.write(json.dumps(_record(finding, effective[finding.rule])) + "\n")
            else:
                _print(finding, effective[finding.rule])
        out.file.flush()
        if dict(detecting.forgotten) != told:
            told = dict(detecting.forgotten)
            _warn_forgotten(told)
        stop.wait(every)
    detecting.rest()


def _show(
    found: Sequence[Finding],
    effective: Mapping[str, Rule],
    severity: Severity,
    *,
    as_json: bool,
    forgotten: Mapping[str, int] | None = None,
) -> None:
    shown_ = _above(found, severity)
    if as_json:
        data(
            {
                "findings": [_record(finding, effective[finding.rule]) for finding in shown_],
                "asleep": {rule.id: rule.asleep for rule in effective.values() if rule.asleep},
                "exempt": {
                    rule.id: dict(rule.exempt) for rule in effective.values() if rule.exempt
                },
                "forgotten": dict(forgotten or {}),
            }
        )
        return
    for finding in shown_:
        _print(finding, effective[finding.rule])
    _say_what_is_left_out(effective)
    _warn_forgotten(forgotten or {})
    say(f"{len(found)} findings" if len(found) != 1 else "1 finding")


def _above(found: Iterable[Finding], severity: Severity) -> list[Finding]:
    return [finding for finding in found if finding.severity.rank >= severity.rank]


def _print(finding: Finding, rule: Rule) -> None:
    positions = [_where(each) for each in finding.evidence]
    if len(positions) > _POSITIONS:
        half = _POSITIONS // 2
        positions = [*positions[:half], "...", *positions[-half:]]
    first, last = (each.strftime("%Y-%m-%d %H:%M:%S") for each in (finding.first, finding.last))
    out.print(shown(f"{finding.severity}: {finding.rule}: {finding.summary}"))
    out.print(f"  when      {first} to {last} UTC" if first != last else f"  when      {first} UTC")
    out.print(f"  rule      {rule.title}: {measure(rule)}")
    out.print(f"  may mean  {rule.means}")
    out.print(f"  do first  {rule.do}")
    out.print(f"  evidence  {' '.join(positions)} ({finding.facts.get('events', len(finding.evidence)):,} entries)")  # fmt: skip


def _record(finding: Finding, rule: Rule) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "severity": str(finding.severity),
        "principal": finding.principal,
        "fingerprint": finding.fingerprint,
        "first": finding.first.isoformat(),
        "last": finding.last.isoformat(),
        "summary": finding.summary,
        "facts": dict(finding.facts),
        "evidence": [list(each) for each in finding.evidence],
        "means": rule.means,
        "do": rule.do,
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "rule": rule.id,
        "title": rule.title,
        "finding": measure(rule),
        "source": rule.source,
        "severity": str(rule.severity),
        "threshold": rule.threshold,
        "within": rule.within,
        "least": rule.least,
        "after": rule.after,
        "means": rule.means,
        "do": rule.do,
        "misses": rule.misses,
        "asleep": rule.asleep or None,
        "exempt": dict(rule.exempt),
    }


def _say_what_is_left_out(effective: Mapping[str, Rule]) -> None:
    for rule in effective.values():
        if rule.asleep:
            say(shown(f"{rule.id} is not evaluated: {rule.asleep}"))
        for principal, why in rule.exempt.items():
            say(shown(f"{rule.id} does not count {principal}: {why}"))


def _warn_forgotten(forgotten: Mapping[str, int]) -> None:
    for name, number in forgotten.items():
        warn(f"{name} forgot the {number:,} groups seen longest ago: there are more than it keeps")


def _where(position: tuple[int, int]) -> str:
    shard, seq = position
    return f"{shard // 100:04}-{shard % 100:02}/{seq}" if shard else "the beginning"


def _moment(text: str) -> dt.datetime:
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            "--since is no day and no moment", hint="--since 2026-11-20, or 2026-11-20T08:00Z"
        ) from None
    return when if when.tzinfo is not None else when.replace(tzinfo=dt.UTC)
