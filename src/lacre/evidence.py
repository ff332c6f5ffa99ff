# SPDX-License-Identifier: Apache-2.0
"""
Where the evidence of an application goes, and who sequences it, as its `[audit]` says.

Composes; does not record (`lacre.audit.recorder`), store or sign. What needs SQLAlchemy is imported
where `[audit] url` names a log.
"""

import os
import re
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lacre.audit.entries import Stamp
from lacre.audit.event import Event
from lacre.audit.governing import PolicyChanged
from lacre.audit.recorder import Sink
from lacre.audit.several import Kept, Several
from lacre.errors import ConfigurationError
from lacre.policy.digests import digest_of
from lacre.policy.giving import gained, given_by
from lacre.policy.model import PolicyFile
from lacre.sinks.jsonl import JsonLinesSink
from lacre.stores.log.opening import open_log

if TYPE_CHECKING:
    from lacre.audit.alerts import Channel
    from lacre.audit.delivery import Deliverer
    from lacre.fields.budgets import Budgets
    from lacre.stores.log.anchoring import AnchorThread
    from lacre.stores.log.log import AuditLog
    from lacre.stores.log.sequencer import Sequencer
    from lacre.stores.log.sink import Notified

__all__ = ["KEY_STORE", "Kept", "keep_key_evidence", "open_anchoring", "open_channels", "open_deliverer", "open_sequencer", "open_sink", "policy_met", "sequence_once", "share_budgets", "signed_last", "stamp_of"]  # fmt: skip

KEY_STORE = "key-store"  # among the outboxes: not a store of data
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:-]{0,63}", re.ASCII)


def stamp_of(settings: PolicyFile, version: str | None = None) -> Stamp:
    """
    Return what every entry of this application says.

    Args:
        version: of its code; what ``LACRE_CODE_VERSION`` says by default.

    Raises:
        ConfigurationError: it is no version.
    """
    code = os.environ.get("LACRE_CODE_VERSION", "") if version is None else version
    if code and not _VERSION.fullmatch(code):
        raise ConfigurationError(
            "the version of the code is 1 to 64 letters, digits, '.', '_', '+', ':' or '-'",
            hint="the commit, or what the build calls itself",
        )
    return Stamp(app=settings.app, env=settings.env, service=settings.service, code=code)


def open_sink(settings: PolicyFile, base: Path, *, version: str | None = None) -> Kept:
    """
    Return the sink that `[audit]` names: the log, a file of lines, or both.

    Args:
        base: what paths of the file are relative to.
        version: `stamp_of`'s.

    Raises:
        ConfigurationError: the log is sequenced here, and nobody is named who signs it.
    """
    stamp = stamp_of(settings, version)
    sinks: list[Kept] = []
    if settings.audit.url is not None:
        from lacre.stores.log.running import SequencerThread
        from lacre.stores.log.sink import LogSink

        log = open_log(settings, base)
        running: Notified | None = None
        if settings.audit.sequencer == "here":
            sequencer = open_sequencer(settings, base, log, stamp)
            running = SequencerThread(sequencer)
            running = (
                open_anchoring(settings, base, log, stamp, sequencer, beside=running) or running
            )
        sinks.append(LogSink(log, stamp, notified=running))
    if settings.audit.path is not None:
        sinks.append(JsonLinesSink(base / settings.audit.path, stamp))
    if settings.audit.opentelemetry:
        from lacre.sinks.opentelemetry import OpenTelemetrySink

        sinks.append(OpenTelemetrySink(stamp))  # last: it tells of what is kept
    return sinks[0] if len(sinks) == 1 else Several(sinks)


def open_sequencer(
    settings: PolicyFile,
    base: Path,
    log: "AuditLog",
    stamp: Stamp,
    *,
    environ: Mapping[str, str] | None = None,
) -> "Sequencer":
    """
    Return the sequencer of *log*. Who signs is opened when the first checkpoint is due.

    Raises:
        ConfigurationError: nobody is named who signs, or whose signature is believed.
    """
    from lacre.kms.signing import believed, open_signer, operators
    from lacre.stores.log.outboxes import open_outboxes
    from lacre.stores.log.remembered import Remembered
    from lacre.stores.log.sequencer import Sequencer

    audit = settings.audit
    if audit.identity is None or not audit.signers:
        raise ConfigurationError(
            "[audit] does not say who signs the evidence log, or whose signature is believed",
            hint='identity = "lacre/identities/svc-audit.key" and signers = ["its public text"]; or sequencer = "apart", where `lacre audit sequence` runs elsewhere',
        )
    environ = os.environ if environ is None else environ
    return Sequencer(
        log,
        stamp,
        signer=partial(open_signer, settings, base, environ=environ),
        verifiers=believed(settings),
        heartbeat=audit.heartbeat,
        outboxes=open_outboxes(audit.outboxes, base),
        operators=operators(settings),
        remembered=None if (path := signed_last(settings, base)) is None else Remembered(path, f"lacre-audit/{stamp.app}/{stamp.env}/"),
    )  # fmt: skip


def signed_last(settings: PolicyFile, base: Path) -> Path | None:
    """Return the file beside `[audit] identity` that says what it signed last; None of a KMS key, which has no place here."""
    from lacre.stores.log.remembered import remembered_beside

    identity = settings.audit.identity
    if identity is None or "://" in identity:
        return None
    return remembered_beside(base / identity, settings.app, settings.env)


def open_anchoring(
    settings: PolicyFile,
    base: Path,
    log: "AuditLog",
    stamp: Stamp,
    sequencer: "Sequencer",
    *,
    beside: "Notified | None" = None,
) -> "AnchorThread | None":
    """Return what puts checkpoints of *log* into the anchors of `[audit.anchors]` while *sequencer* sequences; None without any."""
    if not settings.audit.anchors:
        return None
    from lacre.sinks.anchors.opening import open_anchors
    from lacre.stores.log.anchoring import Anchoring, AnchorThread

    anchoring = Anchoring(log, open_anchors(settings.audit, base), stamp)
    return AnchorThread(anchoring, sequencer, every=settings.audit.anchor_every * 60, beside=beside)


def sequence_once(settings: PolicyFile, base: Path, log: "AuditLog", stamp: Stamp) -> bool:
    """
    Sequence what waits in *log* where nobody else does; return whether that is so.

    False where this process may not, or cannot sign: what waits is sequenced by who does.
    """
    if settings.audit.sequencer != "here":
        return False
    try:
        sequencer = open_sequencer(settings, base, log, stamp)
        try:
            sequencer.rest()
        finally:
            sequencer.close()
    except ConfigurationError:
        return False
    return True


def share_budgets(budgets: "Budgets", settings: PolicyFile, base: Path) -> None:
    """Have *budgets*, where there are some, count with other processes in the log that `[audit] url` names."""
    if budgets and settings.audit.url is not None:
        from lacre.stores.log.spent import SpentLooks

        budgets.share(SpentLooks(open_log(settings, base)))


def keep_key_evidence(store: Any, settings: PolicyFile, stamp: Stamp) -> None:
    """
    Have *store* record what is changed in it in its own outbox, where `[audit.outboxes]` names the key store.

    Raises:
        ConfigurationError: it is a store of somebody's own, and has none.
    """
    if KEY_STORE in settings.audit.outboxes:
        if not hasattr(store, "keep_evidence"):
            raise ConfigurationError(
                f"this key store has no outbox, and [audit.outboxes] names {KEY_STORE}",
                hint="leave it out: changes of keys are recorded before they are made",
            )
        store.keep_evidence(stamp)


def policy_met(sink: Sink, settings: PolicyFile) -> list[Event]:
    """
    Return the event of a policy that is new to the log, if it is.

    A sink that cannot say which policy it met last (`known_policy`) is told of none.
    """
    known = getattr(sink, "known_policy", None)
    if known is None:
        return []
    met, digest, gives = known(), digest_of(settings), given_by(settings)
    before, gave = ("", gives) if met is None else met
    if before == digest:
        return []
    return [
        PolicyChanged(
            time=time.time(),
            principal="lacre",
            roles=(),
            purpose="policy",
            tenant="",
            policy=digest,
            before=before,
            gives=gives,
            widened=gained(gave, gives),
        )
    ]


def open_channels(
    settings: PolicyFile, base: Path, environ: Mapping[str, str]
) -> "dict[str, Channel]":
    """
    Return the channels that `[alerts.NAME]` describe, by name; paths are relative to *base*.

    Raises:
        ConfigurationError: a secret is missing, or is not what it should be.
    """
    from lacre.sinks.channels.opening import open_channel

    aws = settings.aws
    return {
        name: open_channel(
            name, each, base=base, environ=environ,
            endpoint_url=None if aws is None else aws.endpoint_url,
            profile=None if aws is None else aws.profile,
        )
        for name, each in settings.alerts.items()
    }  # fmt: skip


def open_deliverer(
    settings: PolicyFile, base: Path, log: "AuditLog", *, environ: Mapping[str, str]
) -> "Deliverer":
    """Return what sends the alerts in *log* through the channels of `[alerts.NAME]`; raises as `open_channels`."""
    from lacre.audit.delivery import Deliverer
    from lacre.sinks.channels.opening import rules_of
    from lacre.stores.log.alerts import AlertStore
    from lacre.stores.log.deliveries import Deliveries

    stamp = stamp_of(settings)
    rules = {name: rules_of(each) for name, each in settings.alerts.items()}
    return Deliverer(
        Deliveries(log, rules),
        open_channels(settings, base, environ),
        stamp=stamp,
        raise_=AlertStore(log, stamp=stamp).raise_,
    )
