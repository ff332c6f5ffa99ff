# SPDX-License-Identifier: Apache-2.0
"""`lacre audit reconcile`: our evidence against the logs of key services. Asks no key service."""

import os
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import typer

from lacre.audit.detection.finding import Finding
from lacre.audit.keeping import Reconciliation
from lacre.cli.operator import Config
from lacre.cli.terminal import DUE, data, out, say, shown, table, warn
from lacre.evidence import stamp_of
from lacre.policy.decisions import Policy
from lacre.policy.loading import load_pins, load_policy
from lacre.policy.model import PolicyFile
from lacre.reconciliation.reconciling import Reconciled, Sources, raise_new, reconcile

__all__ = ["reconcile_logs"]


def reconcile_logs(
    cloudtrail: list[str] = typer.Option(
        [], "--cloudtrail", help="a file, a folder or s3://BUCKET/PREFIX of CloudTrail; repeatable"
    ),
    openbao: list[str] = typer.Option(
        [], "--openbao", help="an audit log of OpenBao or Vault, or a folder of them; repeatable"
    ),
    also: list[Path] = typer.Option(
        [], "--also", help="lines of evidence of another application under the same KMS keys"
    ),
    days: float = typer.Option(7.0, min=0.01, help="that are looked back"),
    delay: float | None = typer.Option(
        None, min=0, help="minutes that records may be late; 15 with CloudTrail, 1 without"
    ),
    skew: float = typer.Option(60.0, min=0, help="seconds that two clocks may be apart"),
    memory: int = typer.Option(512, min=64, help="MiB for DuckDB; more is on disk"),
    config: Path = Config,
    alerts: bool = typer.Option(True, "--alerts/--no-alerts", help="raise alerts of what is new"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
) -> None:
    """Match every unwrap that the key service logged with our evidence, both ways."""
    settings = load_policy(config, os.environ)
    base = config.resolve().parent
    done = reconcile(
        Policy(settings, pins=load_pins(config)),
        base,
        Sources(cloudtrail=tuple(cloudtrail), openbao=tuple(openbao), also=tuple(also)),
        days=days,
        delay=None if delay is None else timedelta(minutes=delay),
        skew=timedelta(seconds=skew),
        memory=memory,
    )
    raised = _told(settings, base, done, alerts=alerts)
    if as_json:
        data(_document(done) | {"raised": raised})
    else:
        _show(done, raised)
    if not done.clean:
        raise typer.Exit(DUE)


def _told(settings: PolicyFile, base: Path, done: Reconciled, *, alerts: bool) -> int:
    if settings.audit.url is None:
        warn("evidence is kept as lines only ([audit] url is not set): neither alerts nor what was compared is kept")  # fmt: skip
        return 0
    from lacre.stores.log.alerts import AlertStore
    from lacre.stores.log.opening import open_log
    from lacre.stores.log.sink import OWN
    from lacre.stores.log.telling import tell

    stamp, matched = stamp_of(settings), done.matched
    compared = Reconciliation(
        **OWN,
        time=time.time(),
        since=_moment(done.window.since),
        until=_moment(done.window.until),
        calls=matched.calls,
        matched=matched.by_id + matched.by_time,
        unseen=sum(each.count for each in matched.unseen),
    )
    with closing(open_log(settings, base)) as log:
        # Of a file that could not be read nothing is known: nothing was compared either.
        if not done.unreadable:
            with log.writing() as connection:
                tell(connection, compared, stamp)
        return raise_new(done.findings, AlertStore(log, stamp=stamp)) if alerts else 0


def _show(done: Reconciled, raised: int) -> None:
    window, matched = done.window, done.matched
    say(f"judged: {_moment(window.since)} to {_moment(window.until)}, {done.files} files")
    say(
        f"the key service logged {matched.calls} unwraps: {matched.by_id} ours by their id, "
        f"{matched.by_time} by their time, {matched.calls - matched.by_id - matched.by_time} of nobody we know"
    )
    say(
        f"we recorded {matched.recorded} that it should know: {sum(each.count for each in matched.unseen)} it does not"
    )
    if matched.unjudged:
        say(f"{matched.unjudged} are not judged: too young, or outside of what either log covers")
    for what in done.unreadable:
        warn(f"not read: {what}")
    if done.findings:
        out.print(table(["severity", "rule", "#calls", "principal", "from", "to"], map(_row, done.findings)))  # fmt: skip
        for finding in done.findings:
            say(shown(finding.summary))
    if raised:
        say(f"{raised} alerts raised")


def _row(finding: Finding) -> list[str]:
    return [
        str(finding.severity),
        finding.rule,
        str(finding.facts["found"]),
        finding.principal,
        _moment(finding.first),
        _moment(finding.last),
    ]


def _document(done: Reconciled) -> dict[str, object]:
    matched = done.matched
    return {
        "since": _moment(done.window.since),
        "until": _moment(done.window.until),
        "files": done.files,
        "unreadable": list(done.unreadable),
        "calls": matched.calls,
        "matched": {"id": matched.by_id, "time": matched.by_time},
        "refused": matched.refused,
        "recorded": matched.recorded,
        "unjudged": matched.unjudged,
        "findings": [
            {
                "rule": each.rule,
                "severity": str(each.severity),
                "principal": each.principal,
                "first": _moment(each.first),
                "last": _moment(each.last),
                "summary": each.summary,
                "facts": dict(each.facts),
                "evidence": [list(at) for at in each.evidence],
            }
            for each in done.findings
        ],
    }


def _moment(when: object) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"
