# SPDX-License-Identifier: Apache-2.0
"""
Coverage: which keys the values of a column are under, and what is to be moved.

A value names its key in its header; the key store says what became of that key. Neither is
authenticated here: this counts, and what it says of a value is proved when the value is opened.
Knows no database: a job counts the values of each key (`lacre.jobs.reencryption`).
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from lacre.fields.scheme import Scheme
from lacre.fields.tables import EncryptedColumn, EncryptedTable
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope

__all__ = ["Aim", "Counts", "Coverage", "KeyCatalogue", "Share", "Standing", "coverage_of"]

Counts = Mapping[bytes | None, int]  # of each key id: values; None: of what is no lacre value


class Standing(StrEnum):
    """How the values under one key stand."""

    ACTIVE = "active"  # the key that encrypts now
    OLDER = "older"  # a version before it, which decrypts
    COMPROMISED = "compromised"  # somebody else may know the key
    UNUSABLE = "unusable"  # disabled, destroyed, or not yet active: nobody reads them now
    UNKNOWN = "unknown"  # no key of this column's class that the key store holds
    PLAINTEXT = "no lacre value"
    ERASED = "erased"  # of a subject whose key was destroyed: nobody reads them any more
    ELSEWHERE = "another tenant's"  # in a table that does not say whose its rows are


_COMPLETE = frozenset({Standing.ACTIVE, Standing.ERASED, Standing.ELSEWHERE})
_UNCOUNTED = (Standing.ELSEWHERE, Standing.ERASED)


class KeyCatalogue(Protocol):
    """A key store that is asked what became of keys."""

    def rows_of(self, key_ids: Collection[bytes], /) -> Sequence[KeyRow]: ...

    def versions_of(self, scopes: Collection[Scope]) -> Mapping[Scope, Sequence[KeyRow]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """
    The values of one column that are under one key. *since* is when the next version of the key was
    made, after which nothing should be written under this one.
    """

    key: bytes | None
    values: int
    standing: Standing
    row: KeyRow | None = None
    since: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The shares of one column, the active key's first."""

    table: str
    column: str
    scheme: Scheme
    shares: tuple[Share, ...]

    @property
    def values(self) -> int:
        """How many values this is about: those of other tenants and erased ones are not."""
        return sum(share.values for share in self.shares if share.standing not in _UNCOUNTED)  # fmt: skip

    @property
    def active(self) -> int:
        return self.of(Standing.ACTIVE)

    @property
    def left(self) -> int:
        """How many values are not under the key that encrypts now."""
        return self.values - self.active

    @property
    def share(self) -> float:
        """The share of values under the active key, rounded down to what is really covered."""
        return self.active / self.values if self.values else 1.0

    def of(self, standing: Standing) -> int:
        return sum(share.values for share in self.shares if share.standing is standing)

    def overdue(self, within: dt.timedelta | None, now: dt.datetime) -> int:
        """
        How many values should have been moved by now.

        Args:
            within: how long after a rotation values may stay; None is for ever. Those of a
                compromised key may not stay at all.
        """
        return sum(
            share.values
            for share in self.shares
            if share.standing is Standing.COMPROMISED
            or (
                share.standing is Standing.OLDER
                and within is not None
                and (share.since is None or share.since + within <= now)
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """
    What is meant of one column: values of these *keys*, None being every value, and *plaintext*,
    which is counted as failed.
    """

    column: EncryptedColumn
    keys: frozenset[bytes] | None
    plaintext: bool
    values: int

    @classmethod
    def of(
        cls,
        column: EncryptedColumn,
        coverage: Coverage,
        *,
        before: dt.datetime | None = None,
    ) -> "Aim":
        """
        Return what is to be moved of *column*.

        Args:
            before: leave values of keys alone whose next version was made after that.
        """
        meant = [share for share in coverage.shares if _is_meant(share, before)]
        return cls(
            column=column,
            keys=frozenset(share.key for share in meant if share.key is not None),
            plaintext=any(share.key is None for share in meant),
            values=sum(share.values for share in meant),
        )


def _is_meant(share: Share, before: dt.datetime | None) -> bool:
    if share.standing in _COMPLETE:
        return False
    young = before is not None and share.since is not None and share.since > before
    return not (share.standing is Standing.OLDER and young)


def coverage_of(
    table: EncryptedTable,
    counts: Mapping[EncryptedColumn, Counts],
    keys: KeyCatalogue,
    *,
    scope: Scope,
    tenant: str | None,
) -> list[Coverage]:
    """
    Return the coverage of each column of *table*.

    Args:
        counts: of each column.
        scope: app, environment and service whose keys count.
        tenant: whose values are meant; None: every tenant's.
    """
    named = {key for count in counts.values() for key in count if key is not None}
    rows = {row.key_id: row for row in keys.rows_of(named)}
    versions = keys.versions_of({row.scope for row in rows.values()})
    covered = []
    for column, count in counts.items():
        shares = [
            _share(column, key, values, rows, versions, scope, tenant)
            for key, values in count.items()
        ]
        order = list(Standing)
        shares.sort(key=lambda share: (order.index(share.standing), -share.values, share.key or b""))  # fmt: skip
        covered.append(
            Coverage(
                table=str(table), column=column.name, scheme=column.scheme, shares=tuple(shares)
            )
        )
    return covered


def _share(
    column: EncryptedColumn,
    key: bytes | None,
    values: int,
    rows: Mapping[bytes, KeyRow],
    versions: Mapping[Scope, Sequence[KeyRow]],
    scope: Scope,
    tenant: str | None,
) -> Share:
    if key is None:
        return Share(key=None, values=values, standing=Standing.PLAINTEXT)
    row = rows.get(key)
    if row is None or not _is_of(row.scope, column.scheme, scope):
        return Share(key=key, values=values, standing=Standing.UNKNOWN, row=row)
    if tenant is not None and row.scope.tenant != tenant:
        return Share(key=key, values=values, standing=Standing.ELSEWHERE, row=row)
    settled = [held for held in versions[row.scope] if held.state is not KeyState.PENDING]
    later = [held for held in settled if held.version > row.version]
    # `created` is authenticated with the key, unlike `changed`.
    since = _moment(min(later, key=lambda held: held.version).created) if later else None
    standing = Standing.UNUSABLE
    if row.scope.kind is KeyKind.SUBJECT and row.state is KeyState.DESTROYED:
        standing = Standing.ERASED
    elif column.scheme.subject and row.scope.kind is KeyKind.DATA:
        # From before its values had subjects.
        usable = (KeyState.ACTIVE, KeyState.DECRYPT_ONLY)
        standing = Standing.OLDER if row.state in usable else standing
        standing = Standing.COMPROMISED if row.state is KeyState.COMPROMISED else standing
    elif row.state is KeyState.ACTIVE and not later:
        standing = Standing.ACTIVE
    elif row.state is KeyState.COMPROMISED:
        standing = Standing.COMPROMISED
    elif row.state in (KeyState.ACTIVE, KeyState.DECRYPT_ONLY):
        standing = Standing.OLDER
    return Share(key=key, values=values, standing=standing, row=row, since=since)


def _is_of(found: Scope, scheme: Scheme, scope: Scope) -> bool:
    same = (found.app, found.env, found.service) == (scope.app, scope.env, scope.service)
    kinds = (KeyKind.DATA, KeyKind.SUBJECT) if scheme.subject else (KeyKind.DATA,)
    return same and found.class_ == scheme.class_ and found.kind in kinds


def _moment(text: str) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None  # nobody knows how long ago: due
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)
