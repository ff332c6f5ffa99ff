# SPDX-License-Identifier: Apache-2.0
"""
A reconciliation from end to end: the logs are read, matched, and what is left over is found.

Complete program::

    from lacre.reconciliation.reconciling import Sources, reconcile

    done = reconcile(lacre.policy, lacre.base, Sources(openbao=("/var/log/openbao/audit.log",)))
    for finding in done.findings:
        print(finding.summary)

Raises no alert itself: whoever has the log's `AlertStore` gives it the findings (`raise_new`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lacre.audit.detection.carried import carried
from lacre.audit.detection.finding import Finding, Severity
from lacre.audit.detection.rule import Rule
from lacre.audit.detection.rules import RULES
from lacre.errors import ConfigurationError
from lacre.policy.decisions import Policy
from lacre.reconciliation.calls import ServiceLogs, place_of
from lacre.reconciliation.matching import Group, Matched, Window, load_ours, match
from lacre.reconciliation.ours import recorded

if TYPE_CHECKING:
    from lacre.stores.log.alerts import AlertStore

__all__ = ["BYPASS", "UNSEEN", "Reconciled", "Sources", "findings_of", "raise_new", "reconcile"]

BYPASS, UNSEEN = "library-bypass", "unseen-unwrap"

_CLOUDTRAIL_DELAY = timedelta(minutes=15)  # AWS delivers within about five; it promises no number
_OWN_DELAY = timedelta(
    minutes=1
)  # until an event is in our log: a second, and a sequencer that starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """
    Where logs are: files, folders, or ``s3://BUCKET/PREFIX``.

    Args:
        also: our own evidence of other applications under the same KMS keys, as files of lines.
    """

    cloudtrail: tuple[str, ...] = ()
    openbao: tuple[str, ...] = ()
    also: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """
    What a reconciliation found.

    Args:
        window: what was judged.
        files: of key services' logs that were read.
        unreadable: what could not be; while there is any, nothing is known of what it held.
        matched: how many of which.
    """

    window: Window
    files: int
    unreadable: tuple[str, ...]
    matched: Matched
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Whether every file was read and every unwrap has its counterpart."""
        return not self.findings and not self.unreadable


def reconcile(
    policy: Policy,
    base: Path,
    sources: Sources,
    *,
    days: float = 7,
    delay: timedelta | None = None,
    skew: timedelta = timedelta(minutes=1),
    now: datetime | None = None,
    memory: int = 512,
) -> Reconciled:
    """
    Match every unwrap that key services logged with our evidence, both ways.

    Args:
        base: what paths of the policy are relative to.
        days: that are looked back.
        delay: that records may come late; what is younger is not judged yet. 15 minutes with
            CloudTrail, 1 with OpenBao's own file.
        skew: between the clocks of both logs, where calls are matched by their time.
        memory: that is used at most, in MiB; more goes to a private directory.

    Raises:
        ConfigurationError: a place or a file of ours cannot be read, or duckdb is not installed.
        EvidenceUnavailable: the evidence log does not answer.
    """
    if not sources.cloudtrail and not sources.openbao:
        raise ConfigurationError(
            "no log of a key service is named",
            hint="--cloudtrail FOLDER, --openbao FILE, or both",
        )
    now = now or datetime.now(UTC)
    if delay is None:
        delay = _CLOUDTRAIL_DELAY if sources.cloudtrail else _OWN_DELAY
    settings = policy.file
    namespace = settings.openbao.namespace if settings.openbao is not None else None
    since = now - timedelta(days=days)
    began, entries = recorded(settings, base, since=since, also=sources.also)
    window = Window.of(days=days, delay=delay, now=now, began=began)
    if skew != window.skew:
        window = Window(since=window.since, until=window.until, skew=skew)
    with ServiceLogs(since=since - timedelta(days=1), memory=memory) as logs, logs.in_memory():
        for place in sources.cloudtrail:
            logs.read_cloudtrail(place)
        for place in sources.openbao:
            logs.read_openbao(place)
        logs.settle()
        places = load_ours(logs, entries, namespace=namespace)
        places |= {place_of(each, namespace) for each in policy.named_kms_keys()}
        matched = match(logs, window, places)
        return Reconciled(
            window=window,
            files=logs.staging.files,
            unreadable=tuple(logs.unreadable),
            matched=matched,
            findings=findings_of(matched, settings.detection.effective()),
        )


def findings_of(matched: Matched, rules: Mapping[str, Rule] = RULES) -> tuple[Finding, ...]:
    """Return what is left over, as findings: one for what is alike; none that *rules* has off or exempts."""
    found = (
        *(_bypass(each, rules) for each in matched.bypass),
        *(_unseen(each, rules) for each in matched.unseen),
    )
    return tuple(each for each in found if each is not None)


def raise_new(findings: Sequence[Finding], alerts: "AlertStore") -> int:
    """Raise those *findings* that no alert tells of yet; return how many. Logs are read again and again."""
    known: dict[str, datetime] = {}
    for alert in alerts.list(limit=1000):
        if alert.rule in (BYPASS, UNSEEN):
            known[alert.fingerprint] = max(alert.last, known.get(alert.fingerprint, alert.last))
    new = [each for each in findings if known.get(each.fingerprint) != each.last]
    for finding in new:
        alerts.raise_(finding)
    return len(new)


def _bypass(group: Group, rules: Mapping[str, Rule]) -> Finding | None:
    did = "was refused" if group.refused else "was answered"
    found = carried(
        BYPASS,
        principal=group.principal,
        group=(group.source, group.kms_key, group.principal, group.name, str(group.refused)),
        first=group.first,
        last=group.last,
        summary=f"{group.name} under {group.kms_key} {did} {_times(group.count)}, and lacre recorded no such call",
        facts=_facts(group) | {"refused": group.refused, "addresses": list(group.addresses)},
        rules=rules,
    )
    # Nobody had a key of it, and somebody tried.
    return replace(found, severity=Severity.MEDIUM) if found and group.refused else found


def _unseen(group: Group, rules: Mapping[str, Rule]) -> Finding | None:
    return carried(
        UNSEEN,
        principal=group.principal,
        group=(group.kms_key, group.principal, group.name),
        first=group.first,
        last=group.last,
        summary=f"lacre recorded {group.name} under {group.kms_key} {_times(group.count)}, and the key service's log has no such call",
        facts=_facts(group) | {"events": group.count},
        evidence=group.evidence,
        rules=rules,
    )


def _facts(group: Group) -> dict[str, object]:
    return {
        "found": group.count,
        "source": group.source,
        "kms_key": group.kms_key,
        "operation": group.name,
        "requests": list(group.requests),
    }


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
