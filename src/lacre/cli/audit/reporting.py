# SPDX-License-Identifier: Apache-2.0
"""
`lacre audit snapshot` and `lacre audit report`: facts gathered and signed, and rendered.

A report of a snapshot that is there opens no database and no key: it can be made anywhere.
"""

import datetime as dt
import os
import sys
import time
from collections import Counter
from enum import StrEnum
from pathlib import Path

import typer

from lacre.audit.controls.snapshot import Snapshot
from lacre.audit.event import who
from lacre.audit.keeping import Reported
from lacre.audit.verification import Expected
from lacre.cli.audit.signing import Reporter, as_reporter, believed
from lacre.cli.audit.verifying import read_anchors
from lacre.cli.models import load_models
from lacre.cli.operator import Config, PassphraseFile
from lacre.cli.reading import named
from lacre.cli.sweeping import sweeper_of, tables_for
from lacre.cli.terminal import out, say, warn
from lacre.context import current
from lacre.errors import MisuseError
from lacre.jobs.coverage import Coverage
from lacre.jobs.pace import Pace
from lacre.kms.signing import believed as signers_of
from lacre.kms.signing import operators
from lacre.policy.loading import load_policy
from lacre.policy.model import PolicyFile
from lacre.reporting.content import report_of
from lacre.reporting.gathering import Period, Sources, gather
from lacre.reporting.html import html_report
from lacre.reporting.markdown import markdown_report
from lacre.reporting.snapshots import history_in, keep_snapshot, read_snapshot
from lacre.reporting.structured import written
from lacre.stores.log.log import AuditLog
from lacre.stores.log.opening import open_log

__all__ = ["report", "snapshot"]

_FAILED = 6
_SECOND = 1_000_000


class Format(StrEnum):
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"
    PDF = "pdf"


_SUFFIXES = {".json": Format.JSON, ".md": Format.MARKDOWN, ".html": Format.HTML, ".pdf": Format.PDF}

_Days = typer.Option(
    None, "--days", min=1, max=3660, help="how long it looks back; [report] period without it"
)
_Until = typer.Option(
    None, "--until", formats=["%Y-%m-%d"], help="the last day, in UTC; until now without it"
)
_Models = typer.Option(
    [],
    "--models",
    help="MODULE:NAME of your declarative base: count the values of its columns too; once for each",
)
_Database = typer.Option("", "--database", help="the database of these models, which is read")
_Store = typer.Option("main", "--store", help="the database's logical name, of [stores.NAME]")
_Identity = typer.Option(
    None,
    "--identity",
    help="sign as the identity in this file, which has no passphrase, instead of the operator",
)
_Verify = typer.Option(True, "--verify/--no-verify", help="verify the whole evidence log first; without, its control is not assessed")  # fmt: skip


def snapshot(
    days: int | None = _Days,
    until: dt.datetime | None = _Until,
    models: list[str] = _Models,
    database: str = _Database,
    store: str = _Store,
    verify: bool = _Verify,
    identity: Path | None = _Identity,
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """
    Gather the facts of a report, sign them, and keep them in [report] snapshots.

    Example: lacre audit snapshot --models shop.models:Base --database postgresql://db/shop
    """
    with as_reporter(config, passphrase_file, identity=identity, purpose="report") as reporter:
        found, path = _made(reporter, days, until, models, database, store, verify=verify)
    out.print(str(path))
    out.print(f"SHA-256 {found.sha256}")


def report(
    snapshot: Path | None = typer.Option(None, "--snapshot", help="render this one, and gather nothing"),
    format: Format | None = typer.Option(None, "--format", help="without it, what --out ends in; markdown otherwise"),  # noqa: A002 - the option
    to: Path | None = typer.Option(None, "--out", help="a file, which is replaced; standard output without it"),
    signer: list[str] = typer.Option([], "--signer", help="with --snapshot: believe this public text, instead of those of lacre.toml; once for each"),
    check: bool = typer.Option(False, "--check", help="exit with 6 where a gate fails"),
    days: int | None = _Days,
    until: dt.datetime | None = _Until,
    models: list[str] = _Models,
    database: str = _Database,
    store: str = _Store,
    verify: bool = _Verify,
    identity: Path | None = _Identity,
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:  # fmt: skip
    """
    Make a compliance report: of a new snapshot, or of one that is there.

    Example: lacre audit report --out report.pdf
    """
    shape = format or (_SUFFIXES.get(to.suffix, Format.MARKDOWN) if to else Format.MARKDOWN)
    if shape is Format.PDF and to is None:
        raise MisuseError("a PDF goes to a file", hint="--out report.pdf")
    if snapshot is not None:
        policy = None if signer else load_policy(config, os.environ)
        found = read_snapshot(snapshot, believed(policy, signer))
        data, failed = _rendered(found, shape)
    else:
        if signer:
            raise MisuseError("--signer goes with --snapshot")
        with as_reporter(config, passphrase_file, identity=identity, purpose="report") as reporter:
            found, path = _made(reporter, days, until, models, database, store, verify=verify)
            data, failed = _rendered(found, shape)
            _record(reporter, found)
        say(f"snapshot: {path}")
    say(f"snapshot, SHA-256: {found.sha256}")
    if to is None:
        out.file.flush()
        sys.stdout.write(data.decode())
    else:
        _write(to, data)
        out.print(str(to))
    if failed:
        warn(f"gates failed: {', '.join(failed)}")
        if check:
            raise typer.Exit(_FAILED)


def _made(
    reporter: Reporter,
    days: int | None,
    until: dt.datetime | None,
    models: list[str],
    database: str,
    store: str,
    *,
    verify: bool,
) -> tuple[Snapshot, Path]:
    policy, now = reporter.policy, dt.datetime.now(dt.UTC)
    length = policy.report.period if days is None else dt.timedelta(days=days)
    period = Period.of(now, length, None if until is None else until.date())
    kept = reporter.base / policy.report.snapshots
    coverage = _coverage(reporter, models, database, store)
    reporter.lacre.recorder.flush()
    log = None if policy.audit.url is None else open_log(policy, reporter.base)
    try:
        sources = Sources(
            policy=policy,
            config=reporter.config,
            store=reporter.store,
            log=log,
            coverage=coverage,
            verification=_verified(log, policy, reporter.base)
            if verify and log is not None
            else None,
            rules=None if log is None else _rules(policy),
            history=history_in(kept, believed(policy, ()), app=policy.app, env=policy.env),
        )
        body = gather(sources, period, by=reporter.by(), now=now)
    finally:
        if log is not None:
            log.close()
    found = Snapshot.of(body)
    return found, keep_snapshot(found, reporter.signer, kept)


def _verified(log: AuditLog, policy: PolicyFile, base: Path) -> dict[str, object] | None:
    from lacre.stores.log.verifying import LogVerifier

    if not policy.audit.signers:
        return None
    verifier = LogVerifier(
        log,
        expected=Expected(
            app=policy.app, env=policy.env, quiet=int(2 * policy.audit.heartbeat * _SECOND)
        ),
        signers=signers_of(policy),
        operators=operators(policy),
        processes=min(4, os.cpu_count() or 1),
    )
    anchors = read_anchors(policy, base)
    verdict = verifier.verify(now=int(time.time() * _SECOND), anchors=anchors)
    found = Counter(f"{each.aspect}, {each.code}" for each in verdict.problems)
    return {
        "sound": verdict.right,
        "verified": sum(each.size for each in verdict.shards),
        "findings": [f"{what}: {number}" for what, number in sorted(found.items())],
    }


def _rules(policy: PolicyFile) -> list[dict[str, object]]:
    rules = policy.detection.effective(heartbeat=policy.audit.heartbeat)
    return [{"rule": name, "on": not rule.off, "why": rule.off} for name, rule in rules.items()]


def _coverage(
    reporter: Reporter, models: list[str], database: str, store: str
) -> list[Coverage] | None:
    if bool(models) != bool(database):
        raise MisuseError("--models and --database go together", hint="lacre audit snapshot --models shop.models:Base --database postgresql://db/shop")  # fmt: skip
    if not models:
        return None
    named(database)  # refuses a password
    lacre = reporter.lacre
    tables, _ = tables_for(lacre, load_models(models), database, store, None)
    sweeper = sweeper_of(lacre, database, tenant=None, before=None, pace=Pace())
    return [covered for each in tables for covered in sweeper.survey(each)]


def _rendered(found: Snapshot, shape: Format) -> tuple[bytes, list[str]]:
    document, judged = report_of(found)
    failed = [each.control.id for each in judged.gates]
    if shape is Format.PDF:
        from lacre.reporting.pdf import pdf_report

        return pdf_report(document), failed
    if shape is Format.JSON:
        return written(found, judged).encode(), failed
    text = html_report(document) if shape is Format.HTML else markdown_report(document)
    return text.encode(), failed


def _record(reporter: Reporter, found: Snapshot) -> None:
    _, judged = report_of(found)
    said = who(current(), time=dt.datetime.now(dt.UTC).timestamp(), tenant="")
    event = Reported(**said, snapshot=found.sha256, score=judged.tenths // 10)
    reporter.lacre.recorder.write([event])


def _write(path: Path, data: bytes) -> None:
    # As a whole: a report that was half written is none.
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.touch(mode=0o600)
    draft.write_bytes(data)
    draft.replace(path)
