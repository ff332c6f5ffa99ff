"""Leaves for the tests of detection: real events, written and read as the log does, at times that are given."""

from collections.abc import Iterable, Sequence
from typing import Any

from lacre.audit.detection.engine import Detector
from lacre.audit.detection.finding import Finding
from lacre.audit.detection.rule import Rule
from lacre.audit.entries import Entry, Stamp, written
from lacre.audit.event import Event, Outcome, Place
from lacre.audit.events import (
    Answered,
    BulkRead,
    KeyChanged,
    KeyRewrapped,
    LegacyLooked,
    Looked,
    Protection,
    Searched,
)
from lacre.audit.governing import GrantChanged, PolicyChanged, SecretUsed
from lacre.audit.keeping import BudgetSpent, Heartbeat, Sequencing
from lacre.audit.leaves import Leaf, shard_of
from lacre.context import Origin

MONDAY = 1_800_230_400.0  # 2027-01-18, 00:00 UTC
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
STAMP = Stamp(app="shop", env="test", service="shop")


def who(principal: str, at: float, **said: Any) -> dict[str, Any]:
    roles = said.pop("roles", ("support",))
    origin = said.pop("origin", {})
    return {
        "time": MONDAY + at, "principal": principal, "roles": roles,
        "purpose": said.pop("purpose", "support"), "tenant": "default", "origin": Origin(**origin),
    }  # fmt: skip


def place(column: str = "email", class_: str = "pii", table: str = "customers") -> Place:
    return Place("main", table, column, class_)


def look(at: float, rows: Iterable[int] = (1,), *, principal: str = "user:ana", column: str = "email", class_: str = "pii", outcome: Outcome = Outcome.ALLOWED, cache: str = "hit", legacy: bool = False, rule: str = "classes.pii.rights.support: decrypt", **said: Any) -> Event:  # fmt: skip
    """Values of one column were looked at."""
    named = tuple(map(str, rows))
    return (LegacyLooked if legacy else Looked)(
        **who(principal, at, **said), place=place(column, class_), outcome=outcome, rule=rule,
        rows=named, count=len(named), key="00" * 16, cache=cache,
    )  # fmt: skip


def bulk(at: float, rows: Iterable[int] = (1,), *, principal: str = "svc:export", columns: Sequence[str] = ("email",), step: str = "batch", **said: Any) -> Event:  # fmt: skip
    """One batch of a reading in bulk."""
    named = tuple(map(str, rows))
    return BulkRead(
        **who(principal, at, **said), reading="r", batch=0, step=step, store="main", table="customers", joined=(),
        columns=tuple((each, "pii", Outcome.ALLOWED, "classes.pii.rights.app: decrypt") for each in columns),
        budget=1000, count=len(named), rows=named, keys=(), erased=0,
    )  # fmt: skip


def search(at: float, principal: str = "user:ana", **said: Any) -> Event:
    return Searched(**who(principal, at, **said), place=place(), index="email", outcome=Outcome.ALLOWED, rule="r", count=1)  # fmt: skip


def answer(at: float, found: int = 1, *, searches: int = 1, rows: Iterable[int] = (1,), principal: str = "user:ana") -> Event:  # fmt: skip
    """So many searches were answered, of which so many found a row."""
    return Answered(
        **who(principal, at), place=place(), index="email", searches=searches, found=found, count=found, excluded=0,
        rows=tuple(map(str, rows)) if found else (),
    )  # fmt: skip


def key(at: float, *, state: str = "active", version: int = 2, kind: str = "branch", principal: str = "operator") -> Event:  # fmt: skip
    return KeyChanged(**who(principal, at), class_="pii", kind=kind, key="00" * 16, version=version, state=state)  # fmt: skip


def rewrap(at: float, principal: str = "operator") -> Event:
    return KeyRewrapped(**who(principal, at), class_="pii", kind="branch", key="00" * 16, version=1, state="active", parent="local://a", to="local://b")  # fmt: skip


def protection(at: float, step: str) -> Event:
    return Protection(**who("operator", at), place=place(), step=step, count=9)


def grant(at: float, step: str, principal: str, *, until: float = 7 * DAY, reason: str = "", breakglass: bool = False, beneficiary: str = "user:rui") -> Event:  # fmt: skip
    from lacre.audit.entries import moment

    return GrantChanged(
        **who(principal, at, origin={"reason": reason}), step=step, grant="g1", beneficiary=beneficiary, class_="pii",
        right="decrypt", until=moment(MONDAY + until), breakglass=breakglass,
    )  # fmt: skip


def policy(at: float, before: str = "aa" * 32, *widened: str) -> Event:
    return PolicyChanged(**who("svc:app", at), policy="bb" * 32, before=before, gives=("purposes: any", *widened), widened=widened)  # fmt: skip


def secret(at: float, principal: str = "svc:x") -> Event:
    return SecretUsed(**who(principal, at), step="read", secret="db/password", version="1")


def budget(at: float) -> Event:
    return BudgetSpent(**who("user:ana", at), class_="pii", budget=100, until="2027-01-18T12:00:00Z")  # fmt: skip


def sequencing(at: float, step: str) -> Event:
    return Sequencing(**who("svc:audit", at), step=step, epoch=1, since="2027-01-18T00:00:00.000000Z")  # fmt: skip


def heartbeat(at: float) -> Event:
    return Heartbeat(**who("svc:audit", at))


def leaves(events: Iterable[Event], *, late: float = 0.5, writer: str = "", numbers: Sequence[int] = ()) -> list[Leaf]:  # fmt: skip
    """The leaves of *events*, each sequenced *late* seconds after it happened, in the order given."""
    made, newest = [], 0
    for seq, event in enumerate(events):
        newest = max(newest, round((event.time + late) * 1e6))
        number = numbers[seq] if numbers else 0
        line = written(event, STAMP, writer=writer, number=number)
        made.append(Leaf(shard_of(newest), seq, newest, Entry.read(line), b""))
    return made


def found(rules: Iterable[Rule], given: Iterable[Leaf], **how: Any) -> list[Finding]:
    """What *rules* find in *given*."""
    detector = Detector(rules, key=b"k" * 16, **how)
    return [finding for leaf in given for finding in detector.feed(leaf)]
