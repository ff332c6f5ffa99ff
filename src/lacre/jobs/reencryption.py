# SPDX-License-Identifier: Apache-2.0
"""
Re-encryption: values of a table are moved to the key that encrypts now. What every database shares.

A page of rows comes in, the values to be written come out; what does not open is left as it is,
counted, and stops nothing. Does no SQL: the packages of the databases read, lock and write, and
record what is made here before they commit it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from lacre._core.field import looks_encrypted
from lacre.audit.event import Event, surrogates
from lacre.errors import (
    ConfigurationError,
    InvalidValue,
    KeyDestroyed,
    KeyDisabled,
    KeyNotFound,
    LacreError,
    MisuseError,
    PlaintextFound,
    Tampered,
)
from lacre.fields.moving import Moving, MovingField
from lacre.fields.tables import EncryptedColumn, EncryptedTable, TableColumn
from lacre.jobs.coverage import Aim

__all__ = [
    "STAYS",
    "Counted",
    "Failure",
    "Page",
    "Permissions",
    "Reencrypting",
    "Row",
    "TableJob",
    "Tally",
    "placed",
    "read_columns",
]

_SHOWN = 20  # rows that are named, of each column and reason
STAYS = (
    MisuseError,
    InvalidValue,
    Tampered,
    PlaintextFound,
    KeyDisabled,
    KeyDestroyed,
    KeyNotFound,
    ConfigurationError,
)

Row = tuple[Sequence[Any], Any, Sequence[Any]]  # row id, tenant or None, one value for each aim


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Values of one column that did not open, for one *reason*: an error's name. *rows* are the first few, where they are surrogates."""

    table: str
    column: str
    reason: str
    values: int
    rows: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """What one process did to one table, counted by several threads."""

    rows: int = 0
    lost_races: int = 0
    moved: Counter[str] = field(default_factory=Counter)  # values, by column
    suspect: Counter[str] = field(default_factory=Counter)  # of those, under compromised keys
    failed: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def forget_failures(self) -> None:
        """Begin a pass: what fails again is counted again."""
        with self.lock:
            self.failed.clear()

    @property
    def failures(self) -> int:
        return sum(count for count, _ in self.failed.values())

    def duplicate(self, columns: Sequence[str], row: str) -> None:
        """Count a row that cannot have its tokens, because another has them."""
        with self.lock:
            held = self.failed.setdefault((columns[0], "DuplicateValue"), [0, []])
            held[0] += 1
            held[1] += surrogates([row])[: _SHOWN - len(held[1])]

    def listed(self, table: EncryptedTable) -> list[Failure]:
        return [
            Failure(table=str(table), column=column, reason=reason, values=count, rows=tuple(rows))
            for (column, reason), (count, rows) in sorted(self.failed.items())
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What becomes of a page of rows: *made* has what the columns to be written hold then, or None for a row that stays."""

    made: Sequence[Sequence[Any] | None]
    events: Sequence[Event]
    moved: Mapping[str, int]
    suspect: Mapping[str, int]
    failed: Mapping[tuple[str, str], Sequence[str]]

    def count(self, tally: Tally, *, written: int, rows: int) -> None:
        """Add this page to *tally*, once it is committed."""
        with tally.lock:
            tally.rows += written
            tally.lost_races += rows - written
            tally.moved.update(self.moved)
            tally.suspect.update(self.suspect)
            for key, names in self.failed.items():
                held = tally.failed.setdefault(key, [0, []])
                held[0] += len(names)
                held[1] += surrogates(names)[: _SHOWN - len(held[1])]


class TableJob(Protocol):
    """What is done to the rows of one table."""

    @property
    def table(self) -> EncryptedTable: ...

    @property
    def aims(self) -> Sequence[Aim]: ...

    @property
    def reads(self) -> Sequence[TableColumn]:
        """The columns whose values a page has: its own first, then those that say whom values are about."""
        ...

    @property
    def writes(self) -> Sequence[str]:
        """The columns that it gives values for, in the order of `Page.made`."""
        ...

    @property
    def several(self) -> frozenset[str]:
        """Those of `writes` that hold several tokens each, given as `IndexTokens`."""
        ...

    def page(self, rows: Sequence[Row]) -> Page: ...

    def record(self, page: Page) -> None: ...


class Reencrypting:
    """
    Moves the values of one table that its *aims* name.

    Args:
        fields: makes the field of a column.
        record: takes the events of a page, before it is committed.
        suspect: keys that are compromised.
        tenant: whose the values are, where rows name no tenant.
    """

    def __init__(
        self,
        table: EncryptedTable,
        aims: Sequence[Aim],
        *,
        fields: Callable[[EncryptedColumn], MovingField],
        record: Callable[[Sequence[Event]], None],
        suspect: frozenset[bytes] = frozenset(),
        tenant: str | None = None,
    ) -> None:
        self.table = table
        self._tenant = tenant
        self.aims = tuple(aims)
        self.writes = tuple(aim.column.name for aim in aims)
        self.several: frozenset[str] = frozenset()
        self.reads, self._subjects = read_columns(table, self.writes, [aim.column for aim in aims])
        self._record = record
        self._suspect = suspect
        self._fields = [(aim, fields(aim.column)) for aim in aims]

    def record(self, page: Page) -> None:
        """Record what is about to be committed."""
        if page.events:
            self._record(page.events)

    def page(self, rows: Sequence[Row]) -> Page:
        """
        Move what the aims name in *rows*.

        Raises:
            AccessDenied, KeyServiceDenied, KeyServiceUnreachable: nothing of it is to be written.
        """
        named = placed(self.table, rows, self._tenant)
        made: list[list[Any] | None] = [None] * len(rows)
        counted = Counted()
        for at, (aim, of_column) in enumerate(self._fields):
            wanted, name = aim.keys or frozenset(), aim.column.name
            column = Permissions(of_column.moving)
            self._get_ready(at, column, named, rows)
            for place, ((row, tenant), (_, _, raws)) in enumerate(zip(named, rows, strict=True)):
                raw = raws[at]
                if raw is None:
                    continue
                is_value = isinstance(raw, bytes) and looks_encrypted(raw)
                key = raw[3:19] if is_value else b""
                if not (key in wanted if is_value else aim.plaintext):
                    continue
                try:
                    whose = None
                    if (asked := self._subjects[at]) is not None:
                        whose = aim.column.subject_text(raws[asked])
                    under = column.under(tenant)
                    if key == under.permission.key_of(whose).key_id:
                        continue
                    moved = under.permission.moved(row, raw, whose)
                except STAYS as error:
                    counted.failed.setdefault((name, type(error).__name__), []).append(row)
                    column.failed(tenant, row, key)
                    continue
                values = made[place]
                if values is None:
                    values = made[place] = list(raws[: len(self.writes)])
                values[at] = moved
                under.rows.append(row)
                under.keys.add(key)
                if key in self._suspect:
                    counted.suspect[name] += 1
            counted.add(name, column)
        return counted.page(made)

    def _get_ready(
        self,
        at: int,
        column: "Permissions[Moving]",
        named: Sequence[tuple[str, str | None]],
        rows: Sequence[Row],
    ) -> None:
        # Values that get subjects are of as many as there are rows: their keys are made together.
        aim, asked = self._fields[at][0], self._subjects[at]
        if asked is None:
            return
        wanted: dict[str | None, dict[str, None]] = {}
        for (_, tenant), (_, _, raws) in zip(named, rows, strict=True):
            raw = raws[at]
            if isinstance(raw, bytes) and raw[3:19] in (aim.keys or ()):
                with suppress(*STAYS):  # counted where the value is moved
                    whose = aim.column.subject_text(raws[asked]) or ""
                    wanted.setdefault(tenant, {})[whose] = None
        for tenant, subjects in wanted.items():
            with suppress(*STAYS):  # one was shredded, say: then each is asked for by itself
                column.under(tenant).permission.get_ready(subjects)


def read_columns(
    table: EncryptedTable, names: Sequence[str], columns: Sequence[EncryptedColumn]
) -> tuple[tuple[TableColumn, ...], list[int | None]]:
    """Return what a job reads that needs *names* of *table*, and where in it the subject of each of *columns* is."""
    reads = [TableColumn(table=table.name, name=name) for name in names]
    places: list[int | None] = []
    for column in columns:
        places.append(None if column.subject is None else len(reads))
        reads += [] if column.subject is None else [column.subject]
    return tuple(reads), places


class Counted:
    """What a page counts, column by column."""

    def __init__(self) -> None:
        self.suspect: Counter[str] = Counter()
        self.failed: dict[tuple[str, str], list[str]] = {}
        self._events: list[Event] = []
        self._moved: Counter[str] = Counter()

    def add(self, name: str, column: "Permissions[Any]") -> None:
        self._events += column.events()
        self._moved[name] = column.count

    def page(self, made: Sequence[Sequence[Any] | None]) -> Page:
        return Page(
            made=made,
            events=self._events,
            moved=self._moved,
            suspect=self.suspect,
            failed=self.failed,
        )


def placed(
    table: EncryptedTable, rows: Sequence[Row], default: str | None = None
) -> list[tuple[str, str | None]]:
    """Return row id text and tenant of each of *rows*: *default* where they name none."""
    found = []
    try:
        for row, tenant, _ in rows:
            whose = default if table.tenant is None else table.tenant_text(tenant)
            found.append((table.row_text(row), whose))
    except LacreError as error:
        error.add_note(f"a row of {table}")
        raise
    return found


class Permission(Protocol):
    """What a field gave leave for, for one tenant."""

    def event(self, rows: Sequence[str], before: Iterable[bytes], *, failed: bool) -> Event: ...


P = TypeVar("P", bound=Permission)


class _Under(Generic[P]):
    """What was done for one tenant."""

    __slots__ = ("keys", "permission", "rows")

    def __init__(self, permission: P) -> None:
        self.permission = permission
        self.rows: list[str] = []
        self.keys: set[bytes] = set()


class Permissions(Generic[P]):
    """One column in one page: a permission for each tenant, asked for once."""

    def __init__(self, ask: Callable[..., P]) -> None:
        self._ask = ask
        self._under: dict[str | None, _Under[P]] = {}
        self._failed: dict[str | None, tuple[list[str], set[bytes]]] = {}

    @property
    def count(self) -> int:
        return sum(len(under.rows) for under in self._under.values())

    def under(self, tenant: str | None) -> _Under[P]:
        found = self._under.get(tenant)
        if found is None:
            found = self._under[tenant] = _Under(self._ask(tenant=tenant))
        return found

    def failed(self, tenant: str | None, row: str, key: bytes) -> None:
        rows, keys = self._failed.setdefault(tenant, ([], set()))
        rows.append(row)
        keys.add(key)

    def events(self) -> list[Event]:
        made: list[Event] = [
            under.permission.event(under.rows, under.keys, failed=False)
            for under in self._under.values()
            if under.rows
        ]
        for tenant, (rows, keys) in self._failed.items():
            under = self._under.get(tenant)
            if under is not None:
                made.append(under.permission.event(rows, keys, failed=True))
        return made
