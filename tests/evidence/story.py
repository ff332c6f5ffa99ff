# SPDX-License-Identifier: Apache-2.0
"""
Three days of thirty principals, as a log: most of them honest, five not, and a night shift that only looks odd.

The events are real ones, handed over by a real sink, sequenced and signed by the real sequencer every
ten minutes of the story's time, and gone through by `lacre audit detect`'s own detector with the
rules as they come. ``python -m tests.evidence.story`` writes the tables of
``docs/how-to/three-days.md`` anew. Does not decide what is found.

    with TemporaryDirectory() as directory:
        stage = kept(Path(directory), story())      # a log in audit.db there
        told = watched(LogReader(stage.log).after())
"""

import datetime as dt
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import sqlalchemy as sa

from lacre.audit.detection.engine import Detector
from lacre.audit.detection.finding import Finding
from lacre.audit.detection.observation import Leaf
from lacre.audit.detection.rule import Rule
from lacre.audit.entries import moment
from lacre.audit.event import Event, Outcome, Place
from lacre.audit.events import BulkRead, KeyRewrapped, Looked, Searched
from lacre.audit.governing import GrantChanged
from lacre.context import Origin
from lacre.policy.detection import DetectionSettings
from lacre.stores.log.reader import LogReader
from lacre.stores.log.schema import LEAF
from tests.audit.detection.entries import leaves
from tests.stores.log.stage import Clock, Stage, opened

__all__ = [
    "BEGIN",
    "CAST",
    "DAY",
    "GUILTY",
    "HEARTBEAT",
    "MARKS",
    "PAGE",
    "Told",
    "firsts",
    "kept",
    "rules",
    "stolen",
    "story",
    "table",
    "tamper",
    "trials",
    "verified",
    "watched",
]

BEGIN = 1_800_230_400.0  # Monday, 2027-01-18, 00:00 UTC
HEARTBEAT = 600.0  # seconds: the one setting of the story's log that is not the default
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
CUSTOMERS = 20_000

# Who is in it, and what they are.
CAST: Mapping[str, str] = {
    **{f"user:day{n:02}": "support, by day" for n in range(1, 12)},
    **{f"user:night{n}": "support, by night" for n in range(1, 5)},
    **{f"user:pay{n}": "payouts" for n in range(1, 5)},
    "user:kim": "compliance",
    "svc:web": "customers see their own data",
    "svc:kyc": "checks new customers",
    "svc:mailer": "writes to 300 customers each morning",
    "svc:payout": "pays at 18:00",
    "svc:backup": "moves keys to a new KMS key on the first night",
    "user:nina": "slow thief",
    "user:iris": "fast thief",
    "svc:report": "careless batch job",
    "user:otto": "expired contractor",
    "user:dba": "tampering administrator",
}

# Those of it that are not honest, or not careful.
GUILTY = tuple(CAST)[-5:]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "three-days.md"
MARKS = ("<!-- who was found -->\n\n", "<!-- other draws -->\n\n")

_CLASSES = {"account": "banking", "iban": "banking"}


class Told(NamedTuple):
    """A finding, and when it could be told, in seconds: by a sequencer that takes ten minutes, ten minutes later."""

    at: float
    finding: Finding


@dataclass(frozen=True, slots=True)
class _Who:
    principal: str
    role: str
    purpose: str

    def says(self, time: float, tenant: str = "default", **origin: str) -> dict[str, object]:
        return {"time": BEGIN + time, "principal": self.principal, "roles": (self.role,), "purpose": self.purpose, "tenant": tenant, "origin": Origin(**origin)}  # fmt: skip


def _look(who: _Who, at: float, rows: Sequence[int], column: str, outcome: Outcome = Outcome.ALLOWED, **origin: str) -> Event:  # fmt: skip
    class_ = _CLASSES.get(column, "pii")
    return Looked(
        **who.says(at, **origin),  # type: ignore[arg-type]
        place=Place("main", "customers", column, class_), outcome=outcome,
        rule=f"classes.{class_}.rights.{who.role}: decrypt" if outcome is Outcome.ALLOWED else f"classes.{class_}.rights: none gives decrypt",
        rows=tuple(map(str, rows)), count=len(rows), key="00" * 16, cache="hit",
    )  # fmt: skip


def _case(drawn: random.Random, who: _Who, at: float, columns: Sequence[str]) -> Iterator[Event]:
    """A customer calls: a search, and the fields that the page shows."""
    request = f"{drawn.getrandbits(64):016x}"
    row = drawn.randrange(CUSTOMERS)
    yield Searched(**who.says(at, correlation=request), place=Place("main", "customers", "email", "pii"), index="email", outcome=Outcome.ALLOWED, rule=f"classes.pii.rights.{who.role}: search", count=1)  # type: ignore[arg-type] # fmt: skip
    for n, column in enumerate(columns):
        yield _look(who, at + 1 + n / 10, [row], column, correlation=request)


def _shift(drawn: random.Random, who: _Who, begin: float, hours: int, cases: float, columns: Sequence[str]) -> Iterator[Event]:  # fmt: skip
    """So many hours of work with about so many cases each."""
    for hour in range(hours):
        for _ in range(max(1, round(drawn.gauss(cases, cases**0.5)))):
            yield from _case(drawn, who, begin + hour * HOUR + drawn.uniform(0, HOUR - 5), columns)


def _people(drawn: random.Random) -> Iterator[Event]:
    for day in range(3):
        for name in [*(f"user:day{n:02}" for n in range(1, 12)), "user:nina", "user:iris"]:
            who = _Who(name, "support", "support")
            yield from _shift(drawn, who, day * DAY + 9 * HOUR, 8, 10, ["email", "phone"])
        for n in range(1, 5):
            # By night fewer people do the same work, and on the second an outage makes it twice as much.
            who = _Who(f"user:night{n}", "support", "support")
            storm = 18 if day == 1 else 10
            yield from _shift(drawn, who, day * DAY, 6, storm, ["email", "phone"])
            yield from _shift(drawn, who, day * DAY + 22 * HOUR, 2, 10, ["email", "phone"])
        for n in range(1, 5):
            who = _Who(f"user:pay{n}", "payout", "payout")
            yield from _shift(drawn, who, day * DAY + 8 * HOUR, 8, 8, ["account", "iban"])
        kim = _Who("user:kim", "compliance", "kyc")
        yield from _shift(
            drawn, kim, day * DAY + 10 * HOUR, 6, 3, ["email", "phone", "cpf", "address"]
        )


def _services(drawn: random.Random) -> Iterator[Event]:
    web = _Who("svc:web", "app", "service")
    kyc, mailer = _Who("svc:kyc", "app", "kyc"), _Who("svc:mailer", "app", "mail")
    payout = _Who("svc:payout", "payout", "payout")
    for day in range(3):
        for hour in range(24):
            begin = day * DAY + hour * HOUR
            busy = 10 + 40 * (7 <= hour < 23)
            for _ in range(busy):
                rows = drawn.sample(range(CUSTOMERS), 3)
                yield _look(web, begin + drawn.uniform(0, HOUR - 1), rows, "email")
            for _ in range(busy // 5):
                row = [drawn.randrange(CUSTOMERS)]
                yield _look(kyc, begin + drawn.uniform(0, HOUR - 1), row, "cpf")
        rows = drawn.sample(range(CUSTOMERS), 300)
        for n in range(0, 300, 20):
            yield _look(mailer, day * DAY + 7 * HOUR + n * 20, rows[n : n + 20], "email")
        for n in range(0, 300, 20):
            yield _look(payout, day * DAY + 18 * HOUR + n, rows[n : n + 20], "iban")
    backup = _Who("svc:backup", "operator", "keys")
    for version in range(1, 9):
        yield KeyRewrapped(**backup.says(2 * HOUR + version), class_="pii", kind="branch", key="00" * 16, version=version, state="active", parent="local://old", to="local://new")  # type: ignore[arg-type] # fmt: skip


def _thieves(drawn: random.Random, slowly: int) -> Iterator[Event]:
    nina, iris = _Who("user:nina", "support", "support"), _Who("user:iris", "support", "support")
    for day in range(3):
        for hour in range(8):
            for _ in range(slowly):
                at = day * DAY + (9 + hour) * HOUR + drawn.uniform(0, HOUR - 5)
                row, request = [CUSTOMERS + drawn.randrange(10**6)], f"{drawn.getrandbits(64):016x}"
                for n, column in enumerate(("email", "phone")):
                    yield _look(nina, at + n / 10, row, column, correlation=request)
    # Tuesday from 14:00: 1,500 customers in 20 minutes, page after page.
    for n in range(1500):
        row, request = [2 * CUSTOMERS + n], f"{drawn.getrandbits(64):016x}"
        for column in ("email", "phone"):
            yield _look(iris, DAY + 14 * HOUR + n * 0.8, row, column, correlation=request)


def _careless(drawn: random.Random) -> Iterator[Event]:
    report = _Who("svc:report", "app", "report")
    columns = ("email", "phone", "cpf", "address", "account", "iban")
    for day in range(3):
        for run in range(1 + (day == 2)):  # on the last night somebody starts it twice
            for batch in range(8):
                rows = range(batch * 500, batch * 500 + 500)
                yield BulkRead(
                    **report.says(day * DAY + (3 + run) * HOUR + batch * 30, reason="AUTOMATED_PROCESS"),  # type: ignore[arg-type]
                    reading=f"{drawn.getrandbits(64):016x}", batch=batch, step="batch", store="main", table="customers", joined=(),
                    columns=tuple((each, _CLASSES.get(each, "pii"), Outcome.ALLOWED, f"classes.{_CLASSES.get(each, 'pii')}.rights.app: decrypt") for each in columns),
                    budget=10_000, count=500, rows=tuple(map(str, rows)), keys=("00" * 16,), erased=0,
                )  # fmt: skip


def _contractor(drawn: random.Random) -> Iterator[Event]:
    otto, kim = _Who("user:otto", "contractor", "audit"), _Who("user:kim", "compliance", "audit")
    until = moment(BEGIN + 18 * HOUR)

    def grant(who: _Who, at: float, step: str) -> Event:
        return GrantChanged(**who.says(at), step=step, grant="g-otto", beneficiary="user:otto", class_="banking", right="decrypt", until=until)  # type: ignore[arg-type] # fmt: skip

    yield grant(otto, 8 * HOUR, "requested")
    yield grant(kim, 10 * HOUR, "approved")
    for day, looks in ((0, 12), (1, 9)):
        # On Tuesday the grant is over, and what should have ended it did not run.
        for n in range(looks):
            at = day * DAY + 11 * HOUR + n * 5 * MINUTE
            yield grant(otto, at, "used")
            yield _look(otto, at + 1, [drawn.randrange(CUSTOMERS)], "account")
    # On Wednesday it did, and he tries.
    for n in range(25):
        yield _look(otto, 2 * DAY + 11 * HOUR + n * 20, [n], "account", Outcome.DENIED)


def story(seed: int = 1, *, slowly: int = 10) -> list[Event]:
    """
    Return the events of the three days, in the order of time.

    Args:
        slowly: how many customers more than her own the slow thief opens in an hour.
    """
    drawn = random.Random(seed)
    parts = (_people, _services, _careless, _contractor)
    events = [event for part in parts for event in part(drawn)]
    events += _thieves(random.Random(seed), slowly)
    # Ids of the story's own, so that a replay of it is the same to the byte.
    named = random.Random(seed)
    events.sort(key=lambda event: event.time)
    return [replace(event, id=f"{named.getrandbits(128):032x}") for event in events]


def kept(directory: Path, events: Iterable[Event]) -> Stage:
    """Return the log of *events* in *directory*, as it is when the third day is over."""
    stage = opened(directory, Clock(BEGIN), heartbeat=HEARTBEAT)
    # What is kept for a test need not outlast a power cut; the log itself is as it always is.
    for engine in (stage.log.database.engine, stage.log.database.writer):
        sa.event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous = OFF"))
        engine.dispose()
    stage.sequencer.turn()
    for window, some in groupby(events, lambda event: int((event.time - BEGIN) // HEARTBEAT)):
        while stage.clock.now < BEGIN + (window + 1) * HEARTBEAT:
            stage.clock.now += HEARTBEAT
            if stage.clock.now < BEGIN + (window + 1) * HEARTBEAT:
                stage.sequencer.turn()
        stage.sink.append(list(some))
        stage.sequencer.turn()
    while stage.clock.now < BEGIN + 3 * DAY + HOUR:
        stage.clock.now += HEARTBEAT
        stage.sequencer.turn()
    return stage


def tamper(stage: Stage) -> int:
    """Let the administrator clear the fast thief: her looks of Tuesday afternoon become the web server's. Return how many."""
    with stage.log.writing() as connection:
        hers = sa.and_(LEAF.c.principal == "user:iris", LEAF.c.action == "look", LEAF.c.time >= int((BEGIN + DAY + 14 * HOUR) * 1e6), LEAF.c.time < int((BEGIN + DAY + 15 * HOUR) * 1e6))  # fmt: skip
        rows = connection.execute(sa.select(LEAF.c.shard, LEAF.c.seq, LEAF.c.entry).where(hers)).all()  # fmt: skip
        for shard, seq, entry in rows:
            connection.execute(
                sa.update(LEAF).where(LEAF.c.shard == shard, LEAF.c.seq == seq).values(principal="svc:web", entry=bytes(entry).replace(b'"user:iris"', b'"svc:web"'))
            )  # fmt: skip
    return len(rows)


def rules() -> Mapping[str, Rule]:
    """The rules as they come, for a log with this heartbeat."""
    return DetectionSettings().effective(heartbeat=HEARTBEAT)


def watched(leaves: Iterable[Leaf], *names: str) -> list[Told]:
    """What the rules, or those of these names, find in *leaves*, and when."""
    some = rules()
    detector = Detector([some[name] for name in names or some], key=b"three days")
    return [
        Told(max(finding.last.timestamp(), leaf.sequenced / 1e6 - HEARTBEAT), finding)
        for leaf in leaves
        for finding in detector.feed(leaf)
    ]


def stolen(events: Iterable[Event], principal: str, until: float = BEGIN + 3 * DAY) -> int:
    """How many customers that were not hers a thief had opened before *until*."""
    rows = set()
    for event in events:
        if event.principal == principal and isinstance(event, Looked) and event.time < until:
            rows |= {row for row in event.rows if int(row) >= CUSTOMERS}
    return len(rows)


def firsts(told: Iterable[Told]) -> dict[str, dict[str, Told]]:
    """By principal and rule, what was told first."""
    found: dict[str, dict[str, Told]] = {}
    for each in told:
        found.setdefault(each.finding.principal, {}).setdefault(each.finding.rule, each)
    return found


def table(events: Sequence[Event], told: Sequence[Told], verified: str) -> str:
    """Return, as Markdown, who was found by what and when, the honest ones too; *verified* is what verifying says."""
    found = firsts(told)
    lines = ["| who | is | found by | taken before that, and in all |", "|---|---|---|---|"]
    for principal in GUILTY:
        by = "; ".join(f"`{rule}` {_clock(each.at)}" for rule, each in found.get(principal, {}).items())  # fmt: skip
        by = by or f"no rule; verifying the log: {verified}"
        lines.append(f"| `{principal}` | {CAST[principal]} | {by} | {_taken(events, principal, found)} |")  # fmt: skip
    honest = [each for each in CAST if each not in GUILTY]
    for principal in [each for each in honest if each in found]:
        by = "; ".join(f"`{rule}` {_clock(each.at)}" for rule, each in found[principal].items())
        lines.append(f"| `{principal}` | **honest**: {CAST[principal]} | {by} | |")
    quiet = [each for each in honest if each not in found]
    nights = sum(each.startswith("user:night") for each in quiet)
    lines.append(f"| {len(quiet)} others | honest, {nights} of the night shift among them | nothing | |")  # fmt: skip
    return "\n".join(lines) + "\n"


def _taken(events: Sequence[Event], principal: str, found: Mapping[str, dict[str, Told]]) -> str:
    whole = stolen(events, principal)
    if not whole:
        return ""
    first = min(each.at for each in found[principal].values())
    return f"{stolen(events, principal, first):,} of {whole:,} customers"


def _clock(at: float) -> str:
    return f"{dt.datetime.fromtimestamp(at, dt.UTC):%A %H:%M}"


def trials(slow: Iterable[int] = (12, 10, 8, 6, 4), seeds: Iterable[int] = (1, 2, 3)) -> str:
    """Return, as Markdown, what becomes of slower thieves, and of honest people, in other draws of the same story."""
    lines = ["| customers more an hour | found, of draws | taken before that | taken in three days | honest principals with a finding |", "|---|---|---|---|---|"]  # fmt: skip
    drawn = list(seeds)
    for slowly in slow:
        hits, before, whole, alarmed = [], [], [], 0
        for seed in drawn:
            events = story(seed, slowly=slowly)
            found = firsts(watched(leaves(events)))
            alarmed += sum(each in found for each in CAST if each not in GUILTY)
            whole.append(stolen(events, "user:nina"))
            if "user:nina" in found:
                hits.append(seed)
                first = min(each.at for each in found["user:nina"].values())
                before.append(stolen(events, "user:nina", first))
        taken = f"{min(before):,} to {max(before):,}" if before else ""
        lines.append(f"| {slowly} | {len(hits)} of {len(drawn)} | {taken} | {min(whole):,} to {max(whole):,} | {alarmed} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def verified(stage: Stage) -> str:
    """Return what verifying the log says, in few words."""
    verdict = stage.verify(quiet=2 * HEARTBEAT)
    counts = Counter(f"{each.aspect} {each.code}" for each in verdict.problems)
    said = [f"{code} ({count:,})" for code, count in sorted(counts.items())]
    more = [f"{verdict.untold:,} problems more"] if verdict.untold else []
    return ", ".join(said + more) or "right"


def write() -> None:
    """Write the tables of the page anew."""
    text = PAGE.read_text("utf-8")
    events = story()
    with TemporaryDirectory() as directory:
        stage = kept(Path(directory), events)
        told = watched(LogReader(stage.log).after())
        tamper(stage)
        first = table(events, told, verified(stage))
        stage.close()
    for mark, made in ((MARKS[0], first), (MARKS[1], trials())):
        head, _, rest = text.partition(mark)
        text = head + mark + made + rest[rest.index("\n\n") + 1 :]
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    write()
