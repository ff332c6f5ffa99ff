# SPDX-License-Identifier: Apache-2.0
"""
Deadlines of columns: the day after which plaintext is refused, and what day it is.

`[columns]` of ``lacre.toml`` says what a column is to become and until when; a signed row says
what it is (``spec/column-state.md``). After the deadline a column that is not `encrypted` fails
closed: whatever still maps it as plaintext is refused.

What day it is, the local clock does not say alone: whoever sets it back would open the column
again. The latest time that anything has seen counts: this clock, the key store's newest record
and, on PostgreSQL, its clock, the newest evidence, and what this process saw before. A record
from the future refuses early, and the error says by whose word it is so late.

Does no SQL and moves no state.
"""

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from lacre.errors import ConfigurationError, LacreError, PlaintextFound
from lacre.fields.column_state import ColumnState, ColumnStates
from lacre.fields.scheme import Scheme

__all__ = ["Deadlines", "Present", "Standing", "Stated", "Target", "latest_of"]

_ASK_AGAIN = 300.0  # seconds, after which the sources of time are asked again
Present = Callable[[str, str, str, str], ColumnState | None]


class Target(Protocol):
    """What ``lacre.toml`` says of a column."""

    @property
    def class_(self) -> str: ...

    @property
    def store(self) -> str: ...

    @property
    def deadline(self) -> dt.date | None: ...


class Stated(Protocol):
    """An application, as far as its columns have states."""

    @property
    def store(self) -> ColumnStates: ...

    def column_state(self, scheme: Scheme) -> ColumnState: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    Where a column stands. *state* is None where no row says so: nobody began to protect it.

    *days_left* until its deadline, negative after it; None without one.
    """

    store: str
    table: str
    column: str
    class_: str
    state: ColumnState | None
    deadline: dt.date | None
    days_left: int | None

    @property
    def done(self) -> bool:
        return self.state is ColumnState.ENCRYPTED

    @property
    def overdue(self) -> bool:
        return not self.done and self.days_left is not None and self.days_left < 0

    def __str__(self) -> str:
        return f"{self.table}.{self.column}"


class Deadlines:
    """
    The columns of ``lacre.toml`` and their deadlines.

    Args:
        targets: by ``TABLE.COLUMN``.
        present: of store, table, column and class, the authenticated state; None without a row.
        clock: seconds since the epoch.
        witnesses: what else knows a time that was, by name: seconds since the epoch, or None. One
            that fails is passed over: it could only have made it later.
    """

    def __init__(
        self,
        targets: Mapping[str, Target],
        *,
        present: Present,
        clock: Callable[[], float] = time.time,
        witnesses: Mapping[str, Callable[[], float | None]] | None = None,
    ) -> None:
        self._targets = {_place(name): target for name, target in targets.items()}
        self._present = present
        self._clock = clock
        self._witnesses = dict(witnesses or {})
        self._latest, self._word = float("-inf"), "this machine's clock"
        self._asked = float("-inf")
        self._lock = threading.Lock()
        self._done: dict[tuple[str, str], float] = {}  # when a column was seen encrypted

    @classmethod
    def of(
        cls,
        application: "Stated",
        targets: Mapping[str, Target],
        sink: object,
        *,
        clock: Callable[[], float],
    ) -> Self:
        """Return the deadlines of *application*, whose key store and *sink* are witnesses."""

        def present(store: str, table: str, column: str, class_: str) -> ColumnState | None:
            if application.store.get(store, table, column) is None:
                return None
            scheme = Scheme(class_=class_, store=store, table=table, column=column, python_type=str)
            return application.column_state(scheme)

        parts = {"the key store": application.store, "the newest evidence": sink}
        witnesses = {
            word: ask for word, part in parts.items() if (ask := getattr(part, "newest", None))
        }
        return cls(targets, present=present, clock=clock, witnesses=witnesses)

    @property
    def any(self) -> bool:
        """Whether any column has a deadline."""
        return any(target.deadline is not None for target in self._targets.values())

    def watched(self, table: str) -> frozenset[str]:
        """Return the columns of *table* that have a deadline."""
        return frozenset(
            column
            for (found, column), target in self._targets.items()
            if found == table and target.deadline is not None
        )

    def now(self) -> tuple[dt.datetime, str]:
        """Return the latest time that is known to have been, and by whose word."""
        with self._lock:
            if time.monotonic() - self._asked >= _ASK_AGAIN:
                self._asked = time.monotonic()
                for word, ask in self._witnesses.items():
                    self._saw(_answer(ask), word)
            self._saw(self._clock(), "this machine's clock")
            return dt.datetime.fromtimestamp(self._latest, dt.UTC), self._word

    def _saw(self, seconds: float | None, word: str) -> None:
        # A monotonic maximum: what was seen once is never unseen by this process.
        if seconds is not None and seconds > self._latest:
            self._latest, self._word = seconds, word

    def standings(self) -> list[Standing]:
        """
        Return where every column of ``lacre.toml`` stands.

        Raises:
            Tampered: a state row was not signed by an operator.
        """
        return [self._standing(table, column) for table, column in sorted(self._targets)]

    def _standing(self, table: str, column: str) -> Standing:
        target = self._targets[table, column]
        today = self.now()[0].date()
        return Standing(
            store=target.store,
            table=table,
            column=column,
            class_=target.class_,
            state=self._present(target.store, table, column, target.class_),
            deadline=target.deadline,
            days_left=None if target.deadline is None else (target.deadline - today).days,
        )

    def refuse_overdue(self, table: str, columns: Iterable[str]) -> None:
        """
        Raise where one of *columns*, mapped as plaintext, is past its deadline and not encrypted.

        Raises:
            PlaintextFound: names the column, its deadline, and by whose word it is so late.
            Tampered: its state row was not signed by an operator.
        """
        for column in columns:
            target = self._targets.get((table, column))
            if target is None or target.deadline is None or self._seen_done(table, column):
                continue
            now, word = self.now()
            if now.date() <= target.deadline:
                continue
            standing = self._standing(table, column)
            if standing.done:
                self._done[table, column] = time.monotonic()
                continue
            raise PlaintextFound(
                f"{standing} may still hold plaintext, and its deadline was {target.deadline} (it is {now:%Y-%m-%d} by {word})",
                hint="finish `lacre protect`, or move the deadline in lacre.toml under review",
            )

    def _seen_done(self, table: str, column: str) -> bool:
        # Not for ever: `unprotect` may take it back, and its deadline is over then.
        seen = self._done.get((table, column))
        return seen is not None and time.monotonic() - seen < _ASK_AGAIN


def _answer(ask: Callable[[], float | None]) -> float | None:
    try:
        return ask()
    except (LacreError, OSError, ValueError):
        return None


def _place(name: str) -> tuple[str, str]:
    table, dot, column = name.rpartition(".")
    if not dot:
        raise ConfigurationError(
            f"{name!r} names no column", hint='[columns."TABLE.COLUMN"], as in "customers.cpf"'
        )
    return table, column


def latest_of(texts: Sequence[str | None]) -> float | None:
    """Return the latest of RFC 3339 *texts*, in seconds; None without one that is such a text."""
    seconds = []
    for text in texts:
        try:
            found = dt.datetime.fromisoformat(text) if text else None
        except ValueError:
            continue
        if found is not None and found.tzinfo is not None:
            seconds.append(found.timestamp())
    return max(seconds, default=None)
