# SPDX-License-Identifier: Apache-2.0
"""
What sealing, shredding, holding and off-boarding do in a key store.

A part of `lacre.stores.sql.SQLKeyStore`, which opens the transactions. Decides nothing and
authenticates nothing: it returns what is stored.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from lacre.keys.epochs import Epoch
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope, SubjectRow
from lacre.stores.changing import change_keys, changed_meanwhile
from lacre.stores.database import KeyDatabase
from lacre.stores.rows import key_row, subject_row
from lacre.stores.schema import KEY, SUBJECT
from lacre.stores.sealing import (
    bucket_rows,
    destroyed_subjects,
    read_epochs,
    subject_rows_by_id,
    write_epoch,
)

__all__ = ["Erasing"]


class Erasing:
    """The part of a key store in which keys end."""

    _database: KeyDatabase

    @abstractmethod
    def _reading(self) -> AbstractContextManager[sa.Connection]: ...

    @abstractmethod
    def _writing(self) -> AbstractContextManager[sa.Connection]: ...

    # Sealing

    def epochs(self) -> Sequence[Epoch]:
        """Return every epoch, the newest first."""
        with self._reading() as connection:
            return read_epochs(connection)

    def put_epoch(self, row: Epoch, *, over: Epoch | None) -> None:
        """Write *row* in the place of *over*, or as a new one; see `Epochs.put_epoch`."""
        with self._writing() as connection:
            write_epoch(connection, row, over=over)

    def bucket_keys(self) -> Sequence[KeyRow]:
        """Return every bucket key."""
        with self._reading() as connection:
            return bucket_rows(connection)

    def subject_keys_by_id(self, *, after: bytes, limit: int) -> Sequence[KeyRow]:
        """Return subject keys that were not destroyed, by id, above *after*."""
        with self._reading() as connection:
            return subject_rows_by_id(connection, after=after, limit=limit)

    def destroyed_subject_keys(self) -> Sequence[tuple[bytes, str]]:
        """Return the id of every subject key that was destroyed, and when."""
        with self._reading() as connection:
            return destroyed_subjects(connection)

    def replace_buckets(
        self, *, add: Sequence[KeyRow], replace: Sequence[tuple[KeyRow, KeyRow]]
    ) -> None:
        """As `change`, once nobody is in the middle of making a subject key under what is replaced."""
        try:
            with self._writing() as connection:
                self._database.sealing(connection, alone=True)
                change_keys(connection, add=add, replace=replace)
        except IntegrityError:
            raise changed_meanwhile() from None

    # Subjects

    def subject(self, digest: bytes) -> SubjectRow | None:
        """Return the subject, or None."""
        with self._reading() as connection:
            query = sa.select(SUBJECT).where(SUBJECT.c.digest == digest)
            row = connection.execute(query).mappings().first()
        return None if row is None else subject_row(row)

    def subjects_held(self) -> Sequence[SubjectRow]:
        """Return every subject under a hold, by when it was made."""
        held = sa.select(SUBJECT).where(SUBJECT.c.hold.is_not(None)).order_by(SUBJECT.c.created)
        with self._reading() as connection:
            return [subject_row(found) for found in connection.execute(held).mappings()]

    def keys_of_subject(self, scope: Scope, pseudonym: str) -> Sequence[KeyRow]:
        """Return every version of the subject's keys, in every class of *scope*'s tenant."""
        query = (
            sa.select(KEY)
            .where(KEY.c.kind == KeyKind.SUBJECT, KEY.c.subject == pseudonym, *_tenant(scope))
            .order_by(KEY.c["class"], KEY.c.version)
        )
        with self._reading() as connection:
            return [key_row(found) for found in connection.execute(query).mappings()]

    def shred_subject(
        self, digest: bytes, *, when: str, replace: Sequence[tuple[KeyRow, KeyRow]]
    ) -> bool:
        """
        Destroy the subject's keys and leave its tombstone, in one transaction.

        Returns:
            False where it is held, or was shredded already; nothing was done then.

        Raises:
            MisuseError: a key was made, or changed, at the same moment. Nothing was done.
        """
        unheld = (SUBJECT.c.digest == digest, SUBJECT.c.shredded.is_(None), SUBJECT.c.hold.is_(None))  # fmt: skip
        try:
            with self._writing() as connection:
                # Keys first: while one of them refers to the subject, its pseudonym cannot go.
                change_keys(connection, replace=replace)
                done = connection.execute(
                    SUBJECT.update().where(*unheld).values(pseudonym=None, shredded=when)
                )
                if done.rowcount != 1:
                    raise _Unchanged
                # PostgreSQL has a reference that says so; SQLite has none.
                living = sa.select(sa.literal(1)).where(KEY.c.digest == digest).limit(1)
                if connection.execute(living).first() is not None:
                    raise changed_meanwhile()
        except IntegrityError:
            raise changed_meanwhile() from None
        except _Unchanged:
            return False
        return True

    def hold_subject(self, digest: bytes, *, hold: str | None, over: str | None) -> bool:
        """Write a hold in the place of *over*; False where it is another by now, or it was shredded."""
        held = SUBJECT.c.hold.is_(None) if over is None else SUBJECT.c.hold == over
        try:
            with self._writing() as connection:
                done = connection.execute(
                    SUBJECT.update()
                    .where(SUBJECT.c.digest == digest, SUBJECT.c.shredded.is_(None), held)
                    .values(hold=hold)
                )
                if done.rowcount != 1:
                    raise _Unchanged
        except _Unchanged:
            return False
        return True

    # Tenants

    def has_tenant(self, scope: Scope) -> bool:
        """Whether any key, destroyed or not, is of *scope*'s tenant."""
        query = sa.select(sa.literal(1)).where(*_tenant(scope)).limit(1)
        with self._reading() as connection:
            return connection.execute(query).first() is not None

    def keys_of_tenant(self, scope: Scope, *, after: bytes, limit: int) -> Sequence[KeyRow]:
        """Return keys of *scope*'s tenant that were not destroyed, of every kind and class, by id above *after*."""
        query = (
            sa.select(KEY)
            .where(KEY.c.key_id > after, KEY.c.state != KeyState.DESTROYED, *_tenant(scope))
            .order_by(KEY.c.key_id)
            .limit(limit)
        )
        with self._reading() as connection:
            return [key_row(found) for found in connection.execute(query).mappings()]

    def destroyed_of_tenant(self, scope: Scope) -> Mapping[tuple[str, str], int]:
        """Return how many keys of *scope*'s tenant were destroyed, by class and kind."""
        of = (KEY.c["class"], KEY.c.kind)
        query = (
            sa.select(*of, sa.func.count())
            .where(KEY.c.state == KeyState.DESTROYED, *_tenant(scope))
            .group_by(*of)
        )
        with self._reading() as connection:
            return {(class_, kind): number for class_, kind, number in connection.execute(query)}

    def held_in(self, scope: Scope, *, under: str | None = None) -> int:
        """Return how many subjects with keys of *scope*'s tenant are under a hold; *under* one branch key only."""
        query = sa.select(sa.func.count(sa.distinct(SUBJECT.c.digest))).where(
            SUBJECT.c.hold.is_not(None),
            KEY.c.digest == SUBJECT.c.digest,
            KEY.c.kind == KeyKind.SUBJECT,
            *_tenant(scope),
            *(() if under is None else (KEY.c.parent == under,)),
        )
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())


class _Unchanged(Exception):
    pass


def _tenant(scope: Scope) -> list[sa.ColumnElement[bool]]:
    pairs = scope.pairs()
    return [KEY.c[name] == pairs[name] for name in ("app", "env", "service", "tenant")]
