# SPDX-License-Identifier: Apache-2.0
"""
Statements about subjects and their keys: many at once, because subjects are.

Opens no connection itself (`lacre.stores.sql` does) and authenticates nothing.

Rows are inserted in the order of their digests, so that two processes that make the same ones at
once wait for each other and never in a circle.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from operator import attrgetter

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from lacre.errors import MisuseError
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope, SubjectRow, SubjectRows
from lacre.keys.sealing import cover
from lacre.stores.changing import change_keys, changed_meanwhile
from lacre.stores.database import KeyDatabase
from lacre.stores.rows import key_columns, key_row, subject_columns, subject_row
from lacre.stores.schema import KEY, SUBJECT

__all__ = ["SubjectCount", "SubjectTable"]

_AT_ONCE = 500  # subjects named in one query


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectCount:
    """How many subject keys a tenant and class has in *state* under *parent*; *oldest* is when the first was made."""

    tenant: str
    class_: str
    state: KeyState
    parent: str
    number: int
    oldest: str


class SubjectTable(ABC):
    """What a key store does with subjects: see `KeyReader` and `SubjectWriter`."""

    _database: KeyDatabase

    @abstractmethod
    def _reading(self) -> AbstractContextManager[sa.Connection]: ...

    @abstractmethod
    def _writing(self) -> AbstractContextManager[sa.Connection]: ...

    def subjects(self, scope: Scope, digests: Collection[bytes]) -> Mapping[bytes, SubjectRows]:
        """See `KeyReader.subjects`."""
        with self._reading() as connection:
            return _subjects_of(connection, scope, digests)

    def subject_keys_named(
        self, scope: Scope, key_ids: Collection[bytes]
    ) -> Sequence[tuple[KeyRow, SubjectRow | None]]:
        """See `KeyReader.subject_keys_named`."""
        with self._reading() as connection:
            return _keys_named(connection, scope, key_ids)

    def add_subjects(self, rows: Sequence[SubjectRow]) -> None:
        """See `SubjectWriter.add_subjects`."""
        with self._writing() as connection:
            _add_subjects(connection, self._database.unless_there(SUBJECT), rows)

    def add_subject_keys(self, rows: Sequence[KeyRow]) -> None:
        """See `SubjectWriter.add_subject_keys`."""
        try:
            with self._writing() as connection:
                self._check_covers(connection, rows)
                _add_keys(connection, self._database.unless_there(KEY), rows)
        except IntegrityError:
            raise MisuseError(
                "a subject was shredded at the same moment; nothing was done", hint="try again"
            ) from None

    def add_subject_version(self, row: KeyRow, *, over: tuple[KeyRow, KeyRow] | None) -> None:
        """Insert *row*, and put the second of *over* in the place of the first; see `lacre.keys.subject_rotation`."""
        theirs = sa.select(sa.literal(1)).where(
            SUBJECT.c.digest == row.digest, SUBJECT.c.pseudonym == row.scope.subject
        )
        try:
            with self._writing() as connection:
                self._check_covers(connection, [row])
                # SQLite has no reference that says so; a tombstone has no pseudonym.
                if connection.execute(theirs).first() is None:
                    raise changed_meanwhile()
                change_keys(connection, add=[row], replace=() if over is None else [over])
        except IntegrityError:
            raise changed_meanwhile() from None

    def _check_covers(self, connection: sa.Connection, rows: Sequence[KeyRow]) -> None:
        # While this transaction lasts nobody replaces bucket keys: what is added is under one that
        # whoever seals next finds (spec/sealing.md, section 2).
        covers = {found for row in rows if (found := cover(row)) is not None}
        if not covers:
            return
        self._database.sealing(connection, alone=False)
        query = sa.select(sa.func.count()).where(
            KEY.c.key_id.in_(covers),
            KEY.c.kind == KeyKind.BUCKET,
            KEY.c.state == KeyState.ACTIVE,
        )
        if connection.execute(query).scalar_one() != len(covers):
            raise MisuseError(
                "subject keys were sealed at the same moment; nothing was done", hint="try again"
            )

    def subject_page(
        self, scope: Scope, *, after: tuple[str, int] = ("", 0), limit: int = 1000
    ) -> Sequence[KeyRow]:
        """Return the rows of subject keys of *scope*'s tenant and class, *limit* at most, by (pseudonym, version) above *after*."""
        with self._reading() as connection:
            return _page_of(connection, scope, after=after, limit=limit)

    def subject_keys(self) -> Sequence[SubjectCount]:
        """Return how many subject keys there are, by tenant, class, state and parent."""
        with self._reading() as connection:
            return _counted(connection)


def _subjects_of(
    connection: sa.Connection, scope: Scope, digests: Collection[bytes]
) -> dict[bytes, SubjectRows]:
    """Return those of the subjects that are known, each with its keys of *scope*."""
    subjects: dict[bytes, SubjectRow] = {}
    keys: dict[bytes, list[KeyRow]] = {}
    # By the pseudonym, which is in the index of versions; that the digest agrees is for whoever
    # asked to see, because a row that was given another digest must not be passed over.
    theirs = sa.and_(*_of(scope), KEY.c.subject == SUBJECT.c.pseudonym)
    named = [column.label(f"subject_{column.name}") for column in SUBJECT.c]
    wanted = list(digests)
    for start in range(0, len(wanted), _AT_ONCE):
        query = (
            sa.select(*named, KEY)
            .select_from(SUBJECT.outerjoin(KEY, theirs))
            .where(SUBJECT.c.digest.in_(wanted[start : start + _AT_ONCE]))
            .order_by(KEY.c.version.desc())
        )
        for found in connection.execute(query).mappings():
            row = _subject(found)
            subjects[row.digest] = row
            held = keys.setdefault(row.digest, [])
            if found["key_id"] is not None:
                held.append(key_row(found))
    return {
        digest: SubjectRows(subject=row, versions=tuple(keys[digest]))
        for digest, row in subjects.items()
    }


def _keys_named(
    connection: sa.Connection, scope: Scope, key_ids: Collection[bytes]
) -> list[tuple[KeyRow, SubjectRow | None]]:
    """Return those of the keys of *scope*'s subjects, each with the subject that its digest names."""
    named = [column.label(f"subject_{column.name}") for column in SUBJECT.c]
    wanted, rows = list(key_ids), []
    for start in range(0, len(wanted), _AT_ONCE):
        query = (
            sa.select(KEY, *named)
            .select_from(KEY.outerjoin(SUBJECT, SUBJECT.c.digest == KEY.c.digest))
            .where(KEY.c.key_id.in_(wanted[start : start + _AT_ONCE]), *_of(scope))
        )
        for found in connection.execute(query).mappings():
            there = found["subject_digest"] is not None
            rows.append((key_row(found), _subject(found) if there else None))
    return rows


def _subject(found: sa.RowMapping) -> SubjectRow:
    return subject_row({name: found[f"subject_{name}"] for name in SUBJECT.c.keys()})  # type: ignore[arg-type] # noqa: SIM118


def _add_subjects(connection: sa.Connection, insert: sa.Insert, rows: Sequence[SubjectRow]) -> None:
    """Insert those that are not there."""
    ordered = sorted(rows, key=attrgetter("digest"))
    made = [subject_columns(row) for row in ordered]
    for columns in made:
        # Of a new subject nothing else is written: the run time has no right to.
        del columns["shredded"], columns["hold"]
    if made:
        connection.execute(insert, made)


def _add_keys(connection: sa.Connection, insert: sa.Insert, rows: Sequence[KeyRow]) -> None:
    """Insert those whose version is not there, and whose subject is as it was: not shredded meanwhile."""
    ordered = sorted({row.digest for row in rows if row.digest is not None})
    present: set[tuple[bytes, str]] = set()
    for start in range(0, len(ordered), _AT_ONCE):
        query = sa.select(SUBJECT.c.digest, SUBJECT.c.pseudonym).where(
            SUBJECT.c.digest.in_(ordered[start : start + _AT_ONCE]), SUBJECT.c.shredded.is_(None)
        )
        present.update((digest, pseudonym) for digest, pseudonym in connection.execute(query))
    made = [
        key_columns(row)
        for row in sorted(rows, key=lambda row: row.digest or b"")
        if (row.digest, row.scope.subject) in present
    ]
    if made:
        connection.execute(insert, made)


def _page_of(
    connection: sa.Connection, scope: Scope, *, after: tuple[str, int], limit: int
) -> list[KeyRow]:
    """Return subject keys of *scope*'s tenant and class, in the order of their index."""
    place = sa.tuple_(KEY.c.subject, KEY.c.version)
    query = (
        sa.select(KEY)
        .where(*_of(scope), place > after)
        .order_by(KEY.c.subject, KEY.c.version)
        .limit(limit)
    )
    return [key_row(found) for found in connection.execute(query).mappings()]


def _counted(connection: sa.Connection) -> list[SubjectCount]:
    """Count subject keys, by tenant, class, state and parent."""
    groups = (KEY.c.tenant, KEY.c["class"], KEY.c.state, KEY.c.parent)
    query = (
        sa.select(*groups, sa.func.count(), sa.func.min(KEY.c.created))
        .where(KEY.c.kind == KeyKind.SUBJECT)
        .group_by(*groups)
        .order_by(*groups)
    )
    return [
        SubjectCount(
            tenant=tenant,
            class_=class_,
            state=KeyState(state),
            parent=parent,
            number=number,
            oldest=oldest,
        )
        for tenant, class_, state, parent, number, oldest in connection.execute(query)
    ]


def _of(scope: Scope) -> list[sa.ColumnElement[bool]]:
    pairs = scope.of_kind(KeyKind.SUBJECT).pairs()
    return [KEY.c[name] == value for name, value in pairs.items()]
