"""
A log of many plausible entries, loaded in bulk: what benchmarks and the tests of reports need.

Thirty principals work office hours for ninety days, services by night too. Entries are made by
`written` itself (as templates that are filled in), leaves, tiles, sums and checkpoints as the
sequencer makes them. Deterministic for a seed and an end. Nothing here is measured.
"""

import datetime as dt
import hashlib
import random
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import sqlalchemy as sa

from lacre._core.merkle import TILE, Tiles
from lacre.audit.entries import Stamp, moment, written
from lacre.audit.event import Event, Outcome, Place
from lacre.audit.events import Looked, Searched, Written
from lacre.audit.keeping import Heartbeat, Recording, Sequencing
from lacre.context import Origin
from lacre.stores.log import schema
from lacre.stores.log.log import AuditLog

__all__ = ["COLUMNS", "STAMP", "Filled", "fill", "people"]

COLUMNS = (
    Place("main", "customers", "email", "pii"),
    Place("main", "customers", "cpf", "pii"),
    Place("main", "customers", "address", "pii"),
    Place("main", "customers", "phone", "pii"),
    Place("main", "accounts", "iban", "banking"),
    Place("main", "accounts", "holder", "banking"),
    Place("main", "cards", "number", "payment"),
    Place("main", "partners", "token", "credentials"),
)
STAMP = Stamp(app="shop", env="test", service="shop")
_ROLES = ("support", "compliance", "billing", "service", "fraud")
_PURPOSES = {
    "support": ("ticket",),
    "compliance": ("kyc", "audit"),
    "billing": ("invoicing",),
    "service": ("checkout", "nightly-export"),
    "fraud": ("fraud-review",),
}
_SEEN = {  # the columns a role works with
    "support": (0, 3),
    "compliance": (0, 1, 2, 3, 4),
    "billing": (4, 5, 6),
    "service": (0, 3, 4, 6, 7),
    "fraud": (0, 1, 4, 6),
}
_BATCH = 10_000
_SECOND = 1_000_000
_HOUR = 3600 * _SECOND

# What stands in a template for what differs from entry to entry.
_ID, _KEY, _CORRELATION, _WRITER = "f0" * 16, "e1" * 16, "c2" * 16, "d3" * 16
_ROW, _NUMBER, _TIME = "777777", 987654321, 1_800_000_000.0
_HELD = {
    f'"{_ID}"': "id", f'"{_KEY}"': "key", f'"{_CORRELATION}"': "correlation", f'"{_WRITER}"': "writer",
    f'"{_ROW}"': "row", str(_NUMBER): "number", f'"{moment(_TIME)}"': "time",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What was loaded: how many leaves in which shards, and the roots of these."""

    leaves: int
    roots: dict[int, bytes]
    sizes: dict[int, int]
    until: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A principal as it works: its role, its share of the work, and whether by night."""

    name: str
    role: str
    weight: float
    always: bool
    ip: str


def people(principals: int, drawn: random.Random) -> list[Person]:
    """Return *principals* of them; every fifth is a service."""
    found = []
    for number in range(principals):
        role = _ROLES[number % len(_ROLES)]
        service = role == "service"
        found.append(
            Person(
                name=f"svc:{_ROLES[number // 5 % 5]}-{number}" if service else f"user:{number:02}",
                role=role,
                weight=drawn.uniform(4, 8) if service else drawn.uniform(0.5, 1.5),
                always=service,
                ip=f"10.0.{number // 200}.{number % 200 + 1}",
            )
        )
    return found


class _Template:
    """An entry of one shape, and its columns of `LEAF` and `TALLY`."""

    def __init__(self, event: Event, stamp: Stamp, *, numbered: bool) -> None:
        line = written(event, stamp, writer=_WRITER if numbered else "", number=_NUMBER)
        text = line.decode().replace("%", "%%")
        for held, name in _HELD.items():
            text = text.replace(held, f"%({name})b")
        self.format = text.encode()
        details = event.details()
        self.action = event.action
        self.step = str(details.get("step", ""))
        self.status = str(event.judged())
        self.principal, self.tenant, self.purpose = event.principal, event.tenant, event.purpose
        self.class_ = str(details.get("class", ""))
        where = [str(details.get(name, "")) for name in ("store", "table", "column")]
        self.place = ".".join(where) if where[2] else ""
        count = details.get("count", 0)
        self.count = count if isinstance(count, int) else 0

    def entry(self, **values: bytes) -> bytes:
        return self.format % {name.encode(): value for name, value in values.items()}


class _Tree:
    """The hashes of one shard, as the sequencer would have kept them."""

    def __init__(self) -> None:
        self.tree = Tiles()
        self.waiting: list[bytes] = []
        self.tiles: dict[tuple[int, int], bytearray] = defaultdict(bytearray)
        self.size = 0

    def add(self, leaf: bytes) -> None:
        self.size += 1
        self.waiting.append(leaf)
        if len(self.waiting) == _BATCH:
            self.grow()

    def grow(self) -> None:
        for level, place, each in self.tree.extend(self.waiting):
            self.tiles[level, place // TILE] += each
        self.waiting = []

    def root(self) -> bytes:
        self.grow()
        return self.tree.root()


def fill(
    log: AuditLog,
    *,
    events: int = 1_000_000,
    days: int = 90,
    principals: int = 30,
    seed: int = 1,
    end: dt.datetime | None = None,
    stamp: Stamp = STAMP,
    note: Callable[[int, int, bytes], str] | None = None,
    progress: Callable[[int], None] = lambda loaded: None,
) -> Filled:
    """
    Load *events* events of *principals* in the *days* before *end*, and the heartbeats between them.

    Args:
        log: an empty one; its tables are made where they are not there.
        end: the beginning of this hour, where nobody says.
        note: makes the signed checkpoint of (shard, size, root); without it, none is stored.
        progress: called with how many leaves are loaded.
    """
    drawn = random.Random(seed)
    until = end or dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
    log.upgrade()
    leaves = _Leaves(drawn, stamp, people(principals, drawn))
    with log.writing() as connection:
        rows, loaded = leaves.made(events, days, until), 0
        while batch := list(islice(rows, _BATCH)):
            _load(connection, schema.LEAF, batch)
            _load(connection, schema.TOUCHED, leaves.touched)
            leaves.touched.clear()
            loaded += len(batch)
            progress(loaded)
        tallies = [(*key, *counts) for key, counts in leaves.tallies.items()]
        _load(connection, schema.TALLY, tallies)
        roots = {shard: tree.root() for shard, tree in leaves.trees.items()}
        tiles = [
            (shard, level, index, bytes(hashes))
            for shard, tree in leaves.trees.items()
            for (level, index), hashes in tree.tiles.items()
        ]
        _load(connection, schema.TILE, tiles)
        last = max(leaves.trees)
        shards = [(shard, "open" if shard == last else "closed", None) for shard in leaves.trees]
        _load(connection, schema.SHARD, shards)
        sizes = {shard: tree.size for shard, tree in leaves.trees.items()}
        if note is not None:
            heads = [
                (shard, sizes[shard], leaves.ends[shard], root, note(shard, sizes[shard], root))
                for shard, root in roots.items()
            ]
            _load(connection, schema.CHECKPOINT, heads)
        connection.execute(sa.text("ANALYZE"))
    return Filled(leaves=sum(sizes.values()), roots=roots, sizes=sizes, until=until)


class _Leaves:
    """Makes the rows of `LEAF` one after another, and keeps what follows from them."""

    def __init__(self, drawn: random.Random, stamp: Stamp, staff: Sequence[Person]) -> None:
        self.drawn, self.stamp, self.staff = drawn, stamp, staff
        self.trees: dict[int, _Tree] = {}
        self.ends: dict[int, int] = {}
        self.tallies: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
        self.touched: list[tuple[str, int, int]] = []  # rows of `TOUCHED`, until they are loaded
        self._templates: dict[tuple[Any, ...], _Template] = {}
        self._writer = drawn.randbytes(16).hex()
        self._number = 0
        self._sequenced = 0
        self._shard = 0
        self._text = ""  # of the second that the moment is in
        self._second = -1

    def made(self, events: int, days: int, until: dt.datetime) -> Iterator[tuple[Any, ...]]:
        """Yield the rows, in log order."""
        end = int(until.timestamp()) * _SECOND
        start = end - days * 24 * _HOUR
        yield from self._row(self._audit(Recording(step="begin", events=1, **self._own())), start)
        for hour, count in self._hours(events, start, days):
            for time, template, correlation, row in self._work(hour, count):
                while time - self._sequenced > 60 * _SECOND:
                    beat = self._sequenced + 60 * _SECOND
                    yield from self._row(self._audit(Heartbeat(**self._own())), beat)
                yield from self._row(template, time, correlation, row)
        while end - self._sequenced > 60 * _SECOND:
            beat = self._sequenced + 60 * _SECOND
            yield from self._row(self._audit(Heartbeat(**self._own())), beat)

    def _hours(self, events: int, start: int, days: int) -> Iterator[tuple[int, int]]:
        weights = []
        for number in range(days * 24):
            when = dt.datetime.fromtimestamp(start // _SECOND + number * 3600, dt.UTC)
            office = when.weekday() < 5 and 8 <= when.hour < 18
            weights.append((1.0 if office else 0.12) * self.drawn.uniform(0.8, 1.2))
        whole, given, so_far = sum(weights), 0, 0.0
        for number, weight in enumerate(weights):
            so_far += weight
            count = round(events * so_far / whole) - given
            given += count
            yield start + number * _HOUR, count

    def _work(self, hour: int, count: int) -> Iterator[tuple[int, _Template, str, int]]:
        drawn, left = self.drawn, count
        when = dt.datetime.fromtimestamp(hour // _SECOND, dt.UTC)
        office = when.weekday() < 5 and 8 <= when.hour < 18
        here = self.staff if office else [each for each in self.staff if each.always]
        here = here or self.staff
        weights = [each.weight for each in here]
        found: list[tuple[int, int, _Template, str, int]] = []
        while left:
            size = min(left, drawn.choice((1, 1, 2, 3, 4)))
            left -= size
            person = drawn.choices(here, weights)[0]
            time = hour + drawn.randrange(_HOUR - _SECOND)
            correlation = f"{drawn.getrandbits(128):032x}"
            row = drawn.randrange(1, 200_000)
            purpose = drawn.choice(_PURPOSES[person.role])
            seen = _SEEN[person.role]
            first = drawn.randrange(len(seen))
            for number in range(size):
                place = COLUMNS[seen[(first + number) % len(seen)]]
                chance = drawn.random()
                template = self._template(person, purpose, place, chance)
                insort(found, (time + number * 1000, len(found), template, correlation, row))
        return ((time, template, correlation, row) for time, _, template, correlation, row in found)

    def _template(self, person: Person, purpose: str, place: Place, chance: float) -> _Template:
        outcome = Outcome.ALLOWED
        kind: type[Event] = Looked
        if chance < 0.08:
            kind = Searched
        elif chance < 0.14 and person.always:
            kind = Written
        elif chance > 0.97:
            outcome = Outcome.MASKED
        elif chance > 0.9585:
            outcome = Outcome.DENIED
        elif chance > 0.958:
            outcome = Outcome.FAILED
        known = (person.name, purpose, place, kind, outcome)
        if known not in self._templates:
            self._templates[known] = _Template(
                self._event(person, purpose, place, kind, outcome), self.stamp, numbered=True
            )
        return self._templates[known]

    def _event(
        self, person: Person, purpose: str, place: Place, kind: type[Event], outcome: Outcome
    ) -> Event:
        said: dict[str, Any] = {
            "time": _TIME, "principal": person.name, "roles": (person.role,), "purpose": purpose,
            "tenant": "default", "place": place, "outcome": outcome, "rule": f"classes.{place.class_}.rights.{person.role}",
            "count": 1, "id": _ID,
            "origin": Origin(correlation=_CORRELATION, ip=person.ip, agent="" if person.always else "Mozilla/5.0"),
        }  # fmt: skip
        if kind is Searched:
            return Searched(index=place.column, **said)
        opened = outcome in (Outcome.ALLOWED, Outcome.FAILED)
        return kind(rows=(_ROW,), key=_KEY if opened else "", **said)

    def _own(self) -> dict[str, Any]:
        return {"time": _TIME, "principal": "svc:audit", "roles": (), "purpose": "evidence", "tenant": "", "id": _ID}  # fmt: skip

    def _audit(self, event: Event) -> _Template:
        known = (event.action, str(event.details()))
        if known not in self._templates:
            numbered = isinstance(event, Recording)
            self._templates[known] = _Template(event, self.stamp, numbered=numbered)
        return self._templates[known]

    def _row(
        self, template: _Template, time: int, correlation: str = "", row: int = 0
    ) -> Iterator[tuple[Any, ...]]:
        sequenced = max(self._sequenced, time + self.drawn.randrange(_SECOND))
        when = dt.datetime.fromtimestamp(sequenced // _SECOND, dt.UTC)
        shard = when.year * 100 + when.month
        if shard != self._shard:
            yield self._opening(shard, when)
        yield self._leaf(template, time, sequenced, correlation, row)

    def _opening(self, shard: int, when: dt.datetime) -> tuple[Any, ...]:
        before = self.trees.get(self._shard)
        since = "" if before is None else moment(self._sequenced / _SECOND)
        self._shard = shard
        self.trees[shard] = _Tree()
        event = Sequencing(step="shard", epoch=1, since=since, **self._own())
        first = int(when.timestamp()) * _SECOND
        return self._leaf(self._audit(event), first, max(first, self._sequenced))

    def _leaf(
        self, template: _Template, time: int, sequenced: int, correlation: str = "", row: int = 0
    ) -> tuple[Any, ...]:
        drawn, tree = self.drawn, self.trees[self._shard]
        id_ = (time // 1000 << 80 | 7 << 76 | 2 << 62 | drawn.getrandbits(62)).to_bytes(16, "big")
        if b"%(number)b" in template.format:
            self._number += 1
        entry = template.entry(
            id=b'"%b"' % id_.hex().encode(), time=b'"%b"' % self._moment(time),
            key=b'"%032x"' % (len(template.class_) + 1), row=b'"%d"' % row, writer=b'"%b"' % self._writer.encode(),
            correlation=b'"%b"' % correlation.encode(), number=b"%d" % self._number,
        )  # fmt: skip
        found = hashlib.sha256(b"\x00" + self._moment(sequenced) + b"\n" + entry).digest()
        seq = tree.size
        tree.add(found)
        if b"%(row)b" in template.format:
            self.touched.append((str(row), self._shard, seq))
        self._sequenced = self.ends[self._shard] = sequenced
        tally = self.tallies[
            time // _HOUR * _HOUR, template.principal, template.action, template.status,
            template.class_, template.place, template.purpose,
        ]  # fmt: skip
        tally[0] += 1
        tally[1] += template.count
        return (
            self._shard, seq, id_, sequenced, time, template.action, template.step, template.status,
            template.principal, template.tenant, template.class_, template.place, correlation,
            template.count, found, entry,
        )  # fmt: skip

    def _moment(self, time: int) -> bytes:
        second, rest = divmod(time, _SECOND)
        if second != self._second:
            self._second, self._text = second, moment(second)[:19]
        return f"{self._text}.{rest:06}Z".encode()


def _load(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
    if not rows:
        return
    names = [column.name for column in table.columns]
    quoted = ", ".join(f'"{name}"' for name in names)
    at = connection.get_execution_options().get("schema_translate_map", {}).get(None)
    target = f'"{at}"."{table.name}"' if at else f'"{table.name}"'
    raw: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(names))
        raw.executemany(f"INSERT INTO {target} ({quoted}) VALUES ({marks})", rows)
        return
    with raw.cursor().copy(f"COPY {target} ({quoted}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types([_TYPES[type(column.type)] for column in table.columns])
        for row in rows:
            copy.write_row(row)


_TYPES: dict[type, str] = {
    sa.Integer: "int4", sa.BigInteger: "int8", sa.LargeBinary: "bytea", sa.String: "varchar", sa.Text: "text",
}  # fmt: skip
