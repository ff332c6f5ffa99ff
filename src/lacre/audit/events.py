# SPDX-License-Identifier: Apache-2.0
"""
The events of values and keys. A closed catalogue, with those beside it: there is no free-form event.

What never is in one: plaintext, a search term, an index token, a key, a salt, a credential, a
provider's exception text. Row ids are kept only where they are surrogates (`surrogates`), because a
text primary key may be an e-mail address or a national number.

Does not record, sign or ship anything (`lacre.audit.recorder`, `lacre.sinks`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from lacre.audit.event import (
    PLACED,
    Event,
    Outcome,
    Place,
    Status,
    Surrogate,
    placed,
    surrogates,
    who,
)
from lacre.context import Acting

__all__ = [
    "CACHE",
    "Answered",
    "BulkRead",
    "CandidatesGiven",
    "Erased",
    "Event",
    "KeyChanged",
    "KeyRewrapped",
    "KeyUnwrapped",
    "LegacyLooked",
    "Look",
    "Looked",
    "Outcome",
    "Place",
    "Protection",
    "Recovery",
    "Reencrypted",
    "Sealed",
    "Searched",
    "Surrogate",
    "Used",
    "Written",
    "surrogates",
    "told",
    "who",
]

# How a key was had: from the cache; for the first time since it was asked for; or from the cache past
# its age, while the key service did not answer.
CACHE = ("hit", "fetched", "stale")


def told(cache: Collection[str]) -> str:
    """Return what an event says of several uses of one key: the most that was done for one of them."""
    return max(cache, key=("", *CACHE).index, default="")


class Look(NamedTuple):
    """
    One use of one protected value, as it is recorded: in memory, without I/O.

    A tuple because it is made on every use; *event* names the event it becomes when drained.
    *key* is the id of the key used, empty where none was; *cache* says how it was had (`CACHE`).
    Of a value that has a subject, *subject* is the subject's pseudonym and *row* is empty.
    """

    event: "type[Looked | Written]"
    time: float
    acting: Acting
    tenant: str
    place: Place
    outcome: Outcome
    rule: str
    row: str
    key: bytes
    cache: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used(Event):
    """
    Values of one column were used, all with one outcome under one rule. Never made itself.

    *rows* are their rows, as often as they were used; of values that have a subject there is
    *subjects* instead: the random pseudonyms, which a shred erases. *cache* says how the key was had (`CACHE`), or is empty.
    """

    members: ClassVar[frozenset[str]] = PLACED | {
        "outcome",
        "rule",
        "count",
        "rows",
        "subjects",
        "key",
        "cache",
    }

    place: Place
    outcome: Outcome
    rule: str
    rows: tuple[str, ...]
    count: int
    key: str
    cache: str = ""
    subjects: tuple[str, ...] = ()

    def details(self) -> Mapping[str, object]:
        return placed(self.place) | {
            "outcome": str(self.outcome),
            "rule": self.rule,
            "count": self.count,
            "rows": surrogates(self.rows),
            "subjects": list(self.subjects),
            "key": self.key,
            "cache": self.cache,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked(Used):
    """Values were looked at."""

    action: ClassVar[str] = "look"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkRead(Event):
    """
    The rows of one table in one batch of a bulk reading, before it leaves; or that the reading ended `over-budget`.

    *reading* is the same for all batches of one. *joined* names the other tables of the statement;
    where columns of several are read there is an event of each. *count* counts rows of the result,
    *rows* names those of the table, each once. *columns* holds for each classified column its
    name, class, outcome and rule; *keys* the ids of the keys that opened values; *erased* counts
    the values whose subject was shredded, which left as NULL.
    """

    action: ClassVar[str] = "bulk"
    members: ClassVar[frozenset[str]] = frozenset(
        [
            "reading",
            "batch",
            "step",
            "store",
            "table",
            "joined",
            "columns",
            "budget",
            "count",
            "rows",
            "subjects",
            "keys",
            "erased",
        ]
    )

    reading: str
    batch: int
    step: str
    store: str
    table: str
    joined: tuple[str, ...]
    columns: tuple[tuple[str, str, Outcome, str], ...]
    budget: int
    count: int
    rows: tuple[str, ...]
    keys: tuple[str, ...]
    erased: int
    subjects: tuple[str, ...] = ()

    def details(self) -> Mapping[str, object]:
        names = ("column", "class", "outcome", "rule")
        return {
            "reading": self.reading,
            "batch": self.batch,
            "step": self.step,
            "store": self.store,
            "table": self.table,
            "joined": list(self.joined),
            "columns": [dict(zip(names, map(str, each), strict=True)) for each in self.columns],
            "budget": self.budget,
            "count": self.count,
            "rows": surrogates(self.rows),
            "subjects": list(self.subjects),
            "keys": list(self.keys),
            "erased": self.erased,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyLooked(Looked):
    """Values that another library had encrypted were looked at. The rule names the legacy reader."""

    action: ClassVar[str] = "legacy-look"
    status: ClassVar[Status] = Status.TRANSITIONAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Written(Used):
    """Values were encrypted."""

    action: ClassVar[str] = "encrypt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reencrypted(Used):
    """Values were moved to the key that encrypts now, or their tokens were made anew; *before* are the keys they were under."""

    action: ClassVar[str] = "reencrypt"
    members: ClassVar[frozenset[str]] = Used.members | {"before"}

    before: tuple[str, ...]

    def details(self) -> Mapping[str, object]:
        # Not `super()`: a slotted dataclass is another class than the one this was written in.
        return {**Used.details(self), "before": list(self.before)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched(Event):
    """A blind index was asked. Neither the term nor its token is in the event."""

    action: ClassVar[str] = "search"
    members: ClassVar[frozenset[str]] = PLACED | {"index", "outcome", "rule", "count"}

    place: Place
    index: str
    outcome: Outcome
    rule: str
    count: int

    def details(self) -> Mapping[str, object]:
        return placed(self.place) | {
            "index": self.index,
            "outcome": str(self.outcome),
            "rule": self.rule,
            "count": self.count,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Event):
    """
    Rows that searches found were read, or it was read that there are none; recorded before they leave.

    *searches* is how many were answered, *found* how many of them at most found something, *count*
    how many rows the statement's result has, and *excluded* how many more shared a token by chance. Of
    a result that is read in pieces there is an event of each, and *searches* is in the first. *rows* are those
    of the table whose objects the result holds; of values that have a subject there is *subjects* instead.
    """

    action: ClassVar[str] = "answer"
    members: ClassVar[frozenset[str]] = PLACED | {
        "index",
        "searches",
        "found",
        "count",
        "excluded",
        "rows",
        "subjects",
    }

    place: Place
    index: str
    searches: int
    found: int
    count: int
    excluded: int
    rows: tuple[str, ...]
    subjects: tuple[str, ...] = ()

    def details(self) -> Mapping[str, object]:
        return placed(self.place) | {
            "index": self.index,
            "searches": self.searches,
            "found": self.found,
            "count": self.count,
            "excluded": self.excluded,
            "rows": surrogates(self.rows),
            "subjects": list(self.subjects),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidatesGiven(Event):
    """
    Rows left that a short index found and nobody re-checked, marked as candidates.

    *count* is of rows of a result: of a count it is one. *bits* says how many of them are hits by chance.
    """

    action: ClassVar[str] = "candidates"
    members: ClassVar[frozenset[str]] = PLACED | {"index", "bits", "rule", "count"}

    place: Place
    index: str
    bits: int
    rule: str
    count: int

    def details(self) -> Mapping[str, object]:
        return placed(self.place) | {
            "index": self.index,
            "bits": self.bits,
            "rule": self.rule,
            "count": self.count,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChanged(Event):
    """A key was created, or its state changed."""

    action: ClassVar[str] = "key"
    members: ClassVar[frozenset[str]] = frozenset({"class", "kind", "key", "version", "state"})

    class_: str
    kind: str
    key: str
    version: int
    state: str

    def details(self) -> Mapping[str, object]:
        return {
            "class": self.class_,
            "kind": self.kind,
            "key": self.key,
            "version": self.version,
            "state": self.state,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRewrapped(KeyChanged):
    """A key was wrapped anew: under another KMS key, or a newer version of the same."""

    action: ClassVar[str] = "rewrap"
    members: ClassVar[frozenset[str]] = KeyChanged.members | {"from", "to"}

    parent: str
    to: str

    def details(self) -> Mapping[str, object]:
        # Not `super()`: a slotted dataclass is another class than the one this was written in.
        return {**KeyChanged.details(self), "from": self.parent, "to": self.to}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUnwrapped(Event):
    """
    A key service was asked to unwrap or rewrap a key (`operation`): one call, with all its attempts.

    *requests* are the ids under which it answered, which its own log has too; of *attempts* without
    one nobody knows whether they reached it. *digest* is the wrap context's `lacre-row`. The local
    keystore, which is no service and has no log, leaves none of these.
    """

    action: ClassVar[str] = "unwrap"
    members: ClassVar[frozenset[str]] = frozenset(
        [
            "kms_key",
            "key",
            "kind",
            "class",
            "operation",
            "digest",
            "outcome",
            "requests",
            "attempts",
        ]
    )

    kms_key: str
    key: str
    kind: str
    class_: str
    operation: str
    digest: str
    outcome: Outcome
    requests: tuple[str, ...]
    attempts: int

    def details(self) -> Mapping[str, object]:
        return {
            "kms_key": self.kms_key,
            "key": self.key,
            "kind": self.kind,
            "class": self.class_,
            "operation": self.operation,
            "digest": self.digest,
            "outcome": str(self.outcome),
            "requests": list(self.requests),
            "attempts": self.attempts,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection(Event):
    """A column was moved: towards encrypted by `protect`, back by `unprotect`."""

    action: ClassVar[str] = "protection"
    members: ClassVar[frozenset[str]] = PLACED | {"step", "count"}

    place: Place
    step: str
    count: int

    def details(self) -> Mapping[str, object]:
        return placed(self.place) | {"step": self.step, "count": self.count}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery(Event):
    """A key store was dumped, restored, or a restore rehearsed. *dump* is the SHA-256 of the dump."""

    action: ClassVar[str] = "recovery"
    members: ClassVar[frozenset[str]] = frozenset({"step", "keystore", "keys", "dump"})

    step: str
    keystore: str
    keys: int
    dump: str

    def details(self) -> Mapping[str, object]:
        return {
            "step": self.step,
            "keystore": self.keystore,
            "keys": self.keys,
            "dump": self.dump,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased(Event):
    """
    A subject was shredded, or held, or a tenant's keys were destroyed.

    *subject* is a pseudonym, or empty; *certificate* is a certificate's SHA-256.
    """

    action: ClassVar[str] = "erasure"
    members: ClassVar[frozenset[str]] = frozenset({"step", "subject", "keys", "certificate"})

    step: str
    subject: str
    keys: int
    certificate: str

    def details(self) -> Mapping[str, object]:
        return {
            "step": self.step,
            "subject": self.subject,
            "keys": self.keys,
            "certificate": self.certificate,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed(Event):
    """An epoch of sealing began, became the one in use, or ended. *dump* is the SHA-256 of its dump."""

    action: ClassVar[str] = "seal"
    members: ClassVar[frozenset[str]] = frozenset({"step", "epoch", "dump"})

    step: str
    epoch: int
    dump: str

    def details(self) -> Mapping[str, object]:
        return {"step": self.step, "epoch": self.epoch, "dump": self.dump}
