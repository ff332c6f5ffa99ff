# SPDX-License-Identifier: Apache-2.0
"""
Events of the evidence itself: that it is kept, by whom, until when, and what was found in it.

Does not keep it (`lacre.audit.recorder`, `lacre.stores.log`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lacre.audit.event import Event, Status

__all__ = [
    "Alerted",
    "Anchored",
    "BudgetSpent",
    "Explained",
    "Heartbeat",
    "HoneytokenPlanted",
    "LookingClosed",
    "LookingOpened",
    "Purged",
    "Reconciliation",
    "Recording",
    "Reported",
    "Sequencing",
    "Verification",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Event):
    """The sequencer was alive, and had nothing else to say."""

    action: ClassVar[str] = "heartbeat"

    def details(self) -> Mapping[str, object]:
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequencing(Event):
    """
    What became of sequencing (`step`).

    A shard was `opened`, as the first entry of it; a sequencer `began` after one that `rested`, or
    at the beginning of a log; or it `took-over` from one that had ended without a word. *epoch* is
    the fencing epoch it sequences under, *since* the moment of the last leaf before, RFC 3339, empty
    at the beginning of a log. An opened shard names the month *before* it (``2026-10``), the *size*
    of that shard's tree and its *root* in hex; they are empty and 0 where there was none, and in
    every other step.
    """

    action: ClassVar[str] = "sequencing"
    members: ClassVar[frozenset[str]] = frozenset(
        {"step", "epoch", "since", "before", "size", "root"}
    )

    step: str
    epoch: int
    since: str
    before: str = ""
    size: int = 0
    root: str = ""

    def details(self) -> Mapping[str, object]:
        return {
            "step": self.step,
            "epoch": self.epoch,
            "since": self.since,
            "before": self.before,
            "size": self.size,
            "root": self.root,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording(Event):
    """A process `began` to record, or `ended` (`step`); *events* are those it handed over, this one included."""

    action: ClassVar[str] = "recording"
    members: ClassVar[frozenset[str]] = frozenset({"step", "events"})

    step: str
    events: int

    def details(self) -> Mapping[str, object]:
        return {"step": self.step, "events": self.events}


@dataclass(frozen=True, slots=True, kw_only=True)
class LookingOpened(Event):
    """
    In mode `strict`, before keys are handed out: who may look, at which columns, how often at most, until when.

    *opening* names it; *columns* are ``store.table.column``; *until* is RFC 3339.
    """

    action: ClassVar[str] = "opening"
    members: ClassVar[frozenset[str]] = frozenset({"opening", "columns", "bound", "until"})

    opening: str
    columns: tuple[str, ...]
    bound: int
    until: str

    def details(self) -> Mapping[str, object]:
        return {
            "opening": self.opening,
            "columns": list(self.columns),
            "bound": self.bound,
            "until": self.until,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LookingClosed(Event):
    """An opening is over: *looks* were taken on it, and are all recorded before this."""

    action: ClassVar[str] = "closing"
    members: ClassVar[frozenset[str]] = frozenset({"opening", "looks"})

    opening: str
    looks: int

    def details(self) -> Mapping[str, object]:
        return {"opening": self.opening, "looks": self.looks}


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchored(Event):
    """A checkpoint was put where the log's database cannot reach: *anchor* names where, *root* is hex."""

    action: ClassVar[str] = "anchor"
    members: ClassVar[frozenset[str]] = frozenset({"anchor", "shard", "size", "root"})

    anchor: str
    shard: str
    size: int
    root: str

    def details(self) -> Mapping[str, object]:
        return {"anchor": self.anchor, "shard": self.shard, "size": self.size, "root": self.root}


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged(Event):
    """
    A whole shard is removed after its term, or put on legal hold, or let go (`step`). Its checkpoint stays.

    *statement* is the note in which an operator signed so.
    """

    action: ClassVar[str] = "retention"
    members: ClassVar[frozenset[str]] = frozenset({"step", "shard", "size", "root", "statement"})

    step: str
    shard: str
    size: int
    root: str
    statement: str

    def details(self) -> Mapping[str, object]:
        return {
            "step": self.step,
            "shard": self.shard,
            "size": self.size,
            "root": self.root,
            "statement": self.statement,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained(Event):
    """
    An operator explained what the log lacks: *what* (a moment, a writer, an opening) *about* names the kind of.

    *statement* is the note in which the operator signed so.
    """

    action: ClassVar[str] = "explanation"
    members: ClassVar[frozenset[str]] = frozenset({"about", "what", "statement"})

    about: str
    what: str
    statement: str

    def details(self) -> Mapping[str, object]:
        return {"about": self.about, "what": self.what, "statement": self.statement}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerted(Event):
    """A rule of detection fired, or somebody acknowledged that it did (`step`). *about* is the principal."""

    action: ClassVar[str] = "alert"
    members: ClassVar[frozenset[str]] = frozenset({"step", "alert", "rule", "severity", "about"})

    step: str
    alert: str
    rule: str
    severity: str
    about: str

    def details(self) -> Mapping[str, object]:
        return {
            "step": self.step,
            "alert": self.alert,
            "rule": self.rule,
            "severity": self.severity,
            "about": self.about,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class HoneytokenPlanted(Event):
    """A row that nobody has business with was `planted`, or `retired` (`step`). *token* names it; which row it is, is nowhere in the log."""

    action: ClassVar[str] = "honeytoken"
    members: ClassVar[frozenset[str]] = frozenset({"step", "token", "store", "table"})

    step: str
    token: str
    store: str
    table: str

    def details(self) -> Mapping[str, object]:
        return {
            "step": self.step,
            "token": self.token,
            "store": self.store,
            "table": self.table,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpent(Event):
    """A principal's decrypt budget of a class was spent: from here on it gets masks, until *until* (RFC 3339)."""

    action: ClassVar[str] = "budget"
    members: ClassVar[frozenset[str]] = frozenset({"class", "budget", "until"})
    status: ClassVar[Status] = Status.PREVENTED

    class_: str
    budget: int
    until: str

    def details(self) -> Mapping[str, object]:
        return {"class": self.class_, "budget": self.budget, "until": self.until}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation(Event):
    """
    The log was compared with those of key services, from *since* to *until* (RFC 3339).

    *calls* are the unwraps that they logged, *matched* those of them that the log has too, *unseen*
    those of the log that they do not have.
    """

    action: ClassVar[str] = "reconciliation"
    members: ClassVar[frozenset[str]] = frozenset({"since", "until", "calls", "matched", "unseen"})

    since: str
    until: str
    calls: int
    matched: int
    unseen: int

    def details(self) -> Mapping[str, object]:
        return {
            "since": self.since,
            "until": self.until,
            "calls": self.calls,
            "matched": self.matched,
            "unseen": self.unseen,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported(Event):
    """A compliance report was made of the evidence snapshot whose SHA-256 is *snapshot*."""

    action: ClassVar[str] = "report"
    members: ClassVar[frozenset[str]] = frozenset({"snapshot", "score"})

    snapshot: str
    score: int

    def details(self) -> Mapping[str, object]:
        return {"snapshot": self.snapshot, "score": self.score}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification(Event):
    """
    Somebody verified the log: whether its *integrity* and *completeness* hold, and whether what is *anchored* does.

    *anchored* is ``unasked`` where no anchor answered for it. *leaves* were read, and *problems*
    found. It is what the verifier said: nothing is believed because of it.
    """

    action: ClassVar[str] = "verification"
    members: ClassVar[frozenset[str]] = frozenset(
        {"integrity", "completeness", "anchored", "leaves", "problems"}
    )

    integrity: str
    completeness: str
    anchored: str
    leaves: int
    problems: int

    def details(self) -> Mapping[str, object]:
        return {
            "integrity": self.integrity,
            "completeness": self.completeness,
            "anchored": self.anchored,
            "leaves": self.leaves,
            "problems": self.problems,
        }
