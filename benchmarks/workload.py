# SPDX-License-Identifier: Apache-2.0
"""
What an application does with a table of customers: the same for lacre, for peers, for plaintext.

Imports SQLAlchemy and nothing else, so it runs in the peers' environment too. A model is given
by its class: id, email (indexed), phone, address.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.orm import Session, sessionmaker

__all__ = ["LOOK_UPS", "Workload", "customers"]

LOOK_UPS = 300  # in a round


def customers(count: int) -> list[dict[str, Any]]:
    """Return *count* customers as a bulk insert takes them: texts as they occur, none twice."""
    return [
        {
            "id": uuid4(),
            "email": f"customer.{number:07}@example.org",
            "phone": f"+5511 9{number:08}",
            "address": f"Rua das Laranjeiras {number}, apto {number % 97}, São Paulo",
        }
        for number in range(count)
    ]


class Workload:
    """
    One model in one database.

    Args:
        around: entered around each operation: who acts.
        finished: called at the end of each operation, inside the figure: evidence is on the disk.
    """

    def __init__(
        self,
        sessions: "sessionmaker[Session]",
        model: Any,
        rows: list[dict[str, Any]],
        *,
        around: Callable[[], AbstractContextManager[Any]] = nullcontext,
        finished: Callable[[], None] = lambda: None,
    ) -> None:
        self._sessions = sessions
        self._model = model
        self._rows = rows
        self._around = around
        self._finished = finished

    def operations(
        self, name: str, *, without: tuple[str, ...] = ()
    ) -> Mapping[str, Callable[[], float]]:
        """Return each operation under *name*: it returns the seconds of one row (or look-up)."""
        found = {
            "unit-of-work insert": self.unit_of_work,
            "bulk insert": self.bulk,
            "load": self.load,
            "load and look": self.look,
            "look-up": self.look_up,
        }
        return {f"{name} {what}": run for what, run in found.items() if what not in without}

    def unit_of_work(self) -> float:
        """Make objects, add them, commit."""
        self._empty()

        def work(session: Session) -> None:
            session.add_all(self._model(**row) for row in self._rows)
            session.commit()

        return self._timed(work, len(self._rows))

    def bulk(self) -> float:
        """INSERT of many dictionaries."""
        self._empty()

        def work(session: Session) -> None:
            session.execute(sa.insert(self._model), self._rows)
            session.commit()

        return self._timed(work, len(self._rows))

    def load(self) -> float:
        """Load every object and look at none of its attributes."""
        self._filled()

        def work(session: Session) -> None:
            assert len(session.scalars(sa.select(self._model)).all()) == len(self._rows)

        return self._timed(work, len(self._rows))

    def look(self) -> float:
        """Load every object and look at its three values."""
        self._filled()

        def work(session: Session) -> None:
            for found in session.scalars(sa.select(self._model)).all():
                assert found.email
                assert found.phone
                assert found.address

        return self._timed(work, len(self._rows))

    def look_up(self) -> float:
        """Find single objects by their email, which is indexed."""
        self._filled()
        step = max(1, len(self._rows) // LOOK_UPS)
        wanted = [row["email"] for row in self._rows[::step]][:LOOK_UPS]

        def work(session: Session) -> None:
            for email in wanted:
                session.scalars(sa.select(self._model).where(self._searched() == email)).one()

        return self._timed(work, len(wanted))

    def _searched(self) -> Any:
        return self._model.email

    def _empty(self) -> None:
        with self._sessions() as session:
            session.execute(sa.text(f"TRUNCATE {self._model.__tablename__}"))
            session.commit()

    def _filled(self) -> None:
        # In every second round reading comes first.
        with self._around(), self._sessions() as session:
            found = session.scalar(sa.text(f"SELECT count(*) FROM {self._model.__tablename__}"))
        if found != len(self._rows):
            self.unit_of_work()

    def _timed(self, work: Callable[[Session], None], operations: int) -> float:
        with self._around():
            start = time.perf_counter()
            with self._sessions() as session:
                work(session)
            self._finished()
            return (time.perf_counter() - start) / operations
