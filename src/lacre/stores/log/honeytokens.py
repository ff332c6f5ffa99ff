# SPDX-License-Identifier: Apache-2.0
"""
The marks of honeytokens, as the evidence log's database keeps them. Not which rows they are of.

Plants and recognises nothing (`lacre.sqlalchemy.planting`, `lacre.audit.honeytokens`).
"""

from collections.abc import Sequence

import sqlalchemy as sa

from lacre.audit.honeytokens import Marks, Planted
from lacre.errors import MisuseError
from lacre.stores.log.alerts import AlertDatabase
from lacre.stores.log.schema import HONEYTOKEN

__all__ = ["HoneytokenStore"]

_SUBJECT = "-subject"  # ends the name of the second mark, of the person that a row is about


class HoneytokenStore:
    """The honeytokens of one evidence log."""

    def __init__(self, database: AlertDatabase) -> None:
        self._database = database

    def add(self, token: str, *, mark: str, since: int, subject: str | None = None) -> None:
        """
        Keep the mark of a row that is planted.

        Args:
            since: microseconds since 1970.
            subject: the mark of the person that its values are about.
        """
        marks = {token: mark} | ({} if subject is None else {token + _SUBJECT: subject})
        with self._database.writing() as writing:
            writing.execute(
                sa.insert(HONEYTOKEN),
                [{"token": name, "mark": each, "planted": since} for name, each in marks.items()],
            )

    def stands(self, token: str, *, since: int) -> None:
        """Note since when a honeytoken stands, and all its marks: what is older touches it not."""
        with self._database.writing() as writing:
            writing.execute(sa.update(HONEYTOKEN).where(_of(token)).values(planted=since))

    def marks(self, key: bytes) -> Marks:
        """Return all marks, with the *key* they were made with."""
        with self._database.reading() as reading:
            rows = reading.execute(sa.select(HONEYTOKEN)).all()
        return Marks(
            key, {row.mark: Planted(token=_name(row.token), since=row.planted) for row in rows}
        )

    def all(self) -> Sequence[Planted]:
        """Return the honeytokens there are, the oldest first."""
        query = (
            sa.select(HONEYTOKEN)
            .where(sa.not_(HONEYTOKEN.c.token.endswith(_SUBJECT, autoescape=True)))
            .order_by(HONEYTOKEN.c.planted, HONEYTOKEN.c.token)
        )
        with self._database.reading() as reading:
            return [Planted(token=row.token, since=row.planted) for row in reading.execute(query)]

    def mark_of(self, token: str) -> str:
        """
        Return the mark of a honeytoken.

        Raises:
            MisuseError: there is none of that name.
        """
        query = sa.select(HONEYTOKEN.c.mark).where(HONEYTOKEN.c.token == token)
        with self._database.reading() as reading:
            found = reading.execute(query).scalar_one_or_none()
        if found is None:
            raise MisuseError(
                "there is no honeytoken of that name", hint="lacre honeytoken list shows them"
            )
        return str(found)

    def remove(self, token: str) -> None:
        """Forget the mark of a honeytoken."""
        with self._database.writing() as writing:
            writing.execute(sa.delete(HONEYTOKEN).where(_of(token)))


def _of(token: str) -> sa.ColumnElement[bool]:
    return HONEYTOKEN.c.token.in_([token, token + _SUBJECT])


def _name(token: str) -> str:
    return token.removesuffix(_SUBJECT)
