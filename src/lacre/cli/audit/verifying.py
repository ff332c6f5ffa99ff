# SPDX-License-Identifier: Apache-2.0
"""`lacre audit verify`: integrity, completeness and anchored range of the log, told apart."""

import os
import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from lacre.audit.detection.carried import carried
from lacre.audit.keeping import Verification
from lacre.audit.leaves import shard_name
from lacre.audit.verdict import Verdict
from lacre.audit.verification import Aspect, Expected, Problem
from lacre.audit.verified import Verified
from lacre.cli.operator import Config
from lacre.cli.progress import progress_bar
from lacre.cli.terminal import data, out, say, shown, table, warn
from lacre.errors import ConfigurationError, EvidenceUnavailable, LacreError
from lacre.evidence import stamp_of
from lacre.jobs.pace import Progress
from lacre.kms.signing import believed, operators
from lacre.policy.loading import load_policy
from lacre.policy.model import PolicyFile
from lacre.sinks.anchors.opening import open_anchors
from lacre.stores.log.log import AuditLog
from lacre.stores.log.opening import open_log

__all__ = ["EXITS", "read_anchors", "verify"]

# The first that does not hold decides: what was changed is worse than what is missing.
EXITS = {Aspect.INTEGRITY: 6, Aspect.COMPLETENESS: 11, Aspect.ANCHORED: 12}
_SECOND = 1_000_000
_NAMED = 20  # leaves that an alert names at most


def verify(
    keep: Path | None = typer.Option(
        None,
        "--keep",
        help="the auditor's file: what it holds is not read again, and what is right is kept in it",
    ),
    full: bool = typer.Option(False, "--full", help="read everything, whatever --keep holds"),
    no_anchors: bool = typer.Option(False, "--no-anchors", help="do not read the anchors"),
    processes: int = typer.Option(
        min(4, os.cpu_count() or 1), "--processes", min=1, help="that read at once"
    ),
    alert: bool = typer.Option(
        False, "--alert", help="raise an alert where something does not hold"
    ),
    by: str = typer.Option("auditor", "--by", help="who verifies, as the log is told"),
    record: bool = typer.Option(
        True,
        "--record/--no-record",
        help="tell the log that it was verified, where this login may write to it",
    ),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
) -> None:
    """
    Verify the evidence log: that what is there was signed, that all of it is there, how far anchors confirm it.

    Exits 6 where integrity does not hold, 11 where completeness does not, 12 where an anchor contradicts.
    """  # fmt: skip
    from lacre.stores.log.verifying import LogVerifier

    settings, base = load_policy(config, os.environ), config.resolve().parent
    known = _known(keep, settings)
    log = open_log(settings, base)
    try:
        verifier = LogVerifier(
            log,
            expected=Expected(app=settings.app, env=settings.env, quiet=int(2 * settings.audit.heartbeat * _SECOND)),
            signers=believed(settings),
            operators=operators(settings),
            processes=processes,
        )  # fmt: skip
        anchors = {} if no_anchors else read_anchors(settings, base)
        with progress_bar() as advance:
            verdict = verifier.verify(
                now=int(time.time() * _SECOND),
                known=None if full else known,
                before=known if full else None,
                anchors=anchors,
                progress=lambda done, of: advance(
                    Progress(phase="verify", done=done, total=of, rate=None, remaining=None)
                ),
            )
        if alert and not verdict.right:
            _raise(log, verdict, settings)
        if record:
            _record(log, verdict, settings, by)
    finally:
        log.close()
    if as_json:
        data(_plain(verdict))
    else:
        _show(verdict, settings)
    for aspect, code in EXITS.items():
        if not verdict.holds(aspect):
            raise typer.Exit(code)
    if keep is not None and verdict.verified is not None:
        _write(keep, verdict.verified)


def _raise(log: AuditLog, verdict: Verdict, settings: PolicyFile) -> None:
    from lacre.stores.log.alerts import AlertStore

    now = datetime.now(UTC)
    kinds = Counter(f"{each.aspect} {each.code}" for each in verdict.problems)
    leaves = [(each.shard, each.seq) for each in verdict.problems if each.seq is not None]
    finding = carried(
        "log-tampered",
        first=now,
        last=now,
        # By what was found: a silence that is told already must not stand before an edit.
        group=tuple(sorted(kinds)),
        facts={"found": len(verdict.problems), "kinds": dict(sorted(kinds.items()))},
        evidence=leaves[:_NAMED],
        rules=settings.detection.effective(heartbeat=settings.audit.heartbeat),
    )
    if finding is None:
        return
    try:
        AlertStore(log, stamp=stamp_of(settings)).raise_(finding)
    except LacreError as error:
        # Who may only read the log verifies it all the same.
        warn(f"no alert was raised: {error}")


def _record(log: AuditLog, verdict: Verdict, settings: PolicyFile, by: str) -> None:
    from lacre.stores.log.telling import tell

    word = {True: "holds", False: "broken"}
    holds = {aspect: word[verdict.holds(aspect)] for aspect in Aspect}
    if holds[Aspect.ANCHORED] == "holds" and not verdict.anchors:
        holds[Aspect.ANCHORED] = "unasked"
    event = Verification(
        principal=by,
        roles=("auditor",),
        purpose="evidence",
        tenant="",
        time=time.time(),
        integrity=holds[Aspect.INTEGRITY],
        completeness=holds[Aspect.COMPLETENESS],
        anchored=holds[Aspect.ANCHORED],
        leaves=verdict.events,
        problems=len(verdict.problems) + verdict.untold,
    )
    try:
        with log.writing() as connection:
            tell(connection, event, stamp_of(settings))
    except LacreError:
        # Who may only read the log verifies it all the same. The entry is news, not evidence.
        say("not recorded: this login may not write to the log")


def _known(keep: Path | None, settings: PolicyFile) -> Verified | None:
    if keep is None or not keep.exists():
        return None
    try:
        known = Verified.from_text(keep.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{keep} cannot be read ({type(error).__name__})") from None
    if (known.app, known.env) != (settings.app, settings.env):
        raise ConfigurationError(f"{keep} is of another log", hint="keep one file for each log")
    return known


def _write(keep: Path, verified: Verified) -> None:
    # Whole or not at all: a file that was cut would have the next verification begin anew.
    made = keep.with_name(keep.name + ".new")
    made.write_text(verified.to_text(), "utf-8")
    made.replace(keep)


def read_anchors(settings: PolicyFile, base: Path) -> dict[str, tuple[int, list[str]] | None]:
    """Return what each anchor says, and when it was asked; None of one that does not answer."""
    found: dict[str, tuple[int, list[str]] | None] = {}
    for anchor in open_anchors(settings.audit, base):
        at = int(time.time() * _SECOND)
        try:
            found[anchor.name] = (at, anchor.read())
        except EvidenceUnavailable as error:
            warn(str(error))
            found[anchor.name] = None
    return found


def _show(verdict: Verdict, settings: PolicyFile) -> None:
    for each in verdict.problems:
        # Lines and not a table: what was found is read whole, however narrow the window is.
        line = f"{each.aspect:<13}{_where(each):<22}{each.code:<11}{each.said}"
        out.print(shown(line), markup=False, highlight=False, soft_wrap=True)
    if verdict.untold:
        warn(f"{verdict.untold} problems more, of the same kinds")
    for each in verdict.explained:
        say(f"explained: {_where(each)} {each.said}: {each.explained}")
    for statement in verdict.purged:
        say(f"purged: {statement.about.partition(' ')[0]} at {statement.at}: {statement.reason}")
    out.print(
        table(
            ("month", "state", "#signed", "#anchored", "root"),
            [
                [shard_name(each.shard) + (" (held)" if each.held else ""), each.state, f"{each.size:,}", f"{each.anchored:,}", each.root[:16]]
                for each in verdict.shards
            ],
        )
    )  # fmt: skip
    for aspect in Aspect:
        out.print(f"{aspect:<13}{_word(verdict, aspect, settings)}", markup=False)
    say(f"{verdict.events:,} events read, {verdict.pending} not signed yet")
    if not verdict.summed:
        say("the sums that pages and reports read were not compared: --full does")
    if verdict.writers:
        say(
            f"{verdict.writers} processes have not said that they ended: they run, or were killed within a day"
        )


def _word(verdict: Verdict, aspect: Aspect, settings: PolicyFile) -> str:
    count = sum(1 for each in verdict.problems if each.aspect == aspect)
    if count:
        return f"DOES NOT HOLD: {count} problem{'' if count == 1 else 's'}"
    if aspect is not Aspect.ANCHORED:
        return "holds"
    if not settings.audit.anchors:
        return (
            "not anchored: what rewrites the whole log with its key is not found ([audit.anchors])"
        )
    reached = [
        f"{name} to leaf {size} of {shard_name(shard)}"
        for name, (shard, size) in sorted(verdict.anchors.items())
    ]
    return f"confirmed by {', '.join(reached)}" if reached else "nothing new is anchored"


def _where(problem: Problem) -> str:
    if not problem.shard:
        return ""
    name = shard_name(problem.shard)
    return name if problem.seq is None else f"{name} leaf {problem.seq}"


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {
        **{str(aspect): verdict.holds(aspect) for aspect in Aspect},
        # Nothing contradicts where nothing was asked.
        "unanchored": not verdict.anchors,
        "problems": [_problem(each) for each in verdict.problems],
        "explained": [_problem(each) for each in verdict.explained],
        "untold": verdict.untold,
        "events": verdict.events,
        "pending": verdict.pending,
        "writers": verdict.writers,
        "summed": verdict.summed,
        "shards": [asdict(each) | {"shard": shard_name(each.shard)} for each in verdict.shards],
        "anchors": {name: {"shard": shard_name(shard), "size": size} for name, (shard, size) in verdict.anchors.items()},
        "purged": [{"about": each.about, "at": each.at, "reason": each.reason} for each in verdict.purged],
    }  # fmt: skip


def _problem(each: Problem) -> dict[str, Any]:
    subject = (
        None if each.subject is None else {"about": each.subject.about, "what": each.subject.what}
    )
    return {
        "aspect": each.aspect,
        "code": each.code,
        "said": each.said,
        "shard": shard_name(each.shard) if each.shard else None,
        "seq": each.seq,
        "explain": subject,
        "explained": each.explained or None,
    }
