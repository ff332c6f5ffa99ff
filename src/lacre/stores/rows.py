# SPDX-License-Identifier: Apache-2.0
"""
Rows of the key store's tables, to and from what the rest of lacre knows.

Checks types and lengths of what comes out of a database; authenticates nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from lacre.errors import ConfigurationError
from lacre.fields.column_state import ColumnState, ColumnStateRow
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope, SubjectRow
from lacre.keys.seen import SeenSerial
from lacre.stores.schema import KEY

__all__ = [
    "MUTABLE",
    "PLACE",
    "around_scopes",
    "column_state_columns",
    "column_state_row",
    "in_scope",
    "key_columns",
    "key_row",
    "mutable_columns",
    "seen_columns",
    "subject_columns",
    "subject_row",
]

_AT_ONCE = 500  # tenants, or subjects of one tenant, named in one query


def in_scope(scope: Scope) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that a row is of *scope*."""
    columns: dict[str, str] = scope.pairs() | {"subject": scope.subject or ""}
    return [KEY.c[name] == value for name, value in columns.items()]


def around_scopes(scopes: Iterable[Scope]) -> Iterator[list[sa.ColumnElement[bool]]]:
    """
    Return conditions, for one query each, that rows of *scopes* meet, and rows of others may.

    Scopes are many because tenants are: each query names 500 of them, and every kind and class. Or
    because subjects are: each names 500 of one tenant's.
    """
    shared: dict[tuple[str, str, str], list[Scope]] = {}
    apart: dict[tuple[str, str, str, str], list[Scope]] = {}
    for scope in scopes:
        if scope.subject is None:
            shared.setdefault((scope.app, scope.env, scope.service), []).append(scope)
        else:
            of = (scope.app, scope.env, scope.service, scope.tenant)
            apart.setdefault(of, []).append(scope)
    for held in shared.values():
        tenants = sorted({scope.tenant for scope in held})
        for start in range(0, len(tenants), _AT_ONCE):
            of_tenants = KEY.c.tenant.in_(tenants[start : start + _AT_ONCE])
            yield [*_around(held), of_tenants, KEY.c.subject == ""]
    for held in apart.values():
        subjects = sorted({scope.subject or "" for scope in held})
        for start in range(0, len(subjects), _AT_ONCE):
            of_subjects = KEY.c.subject.in_(subjects[start : start + _AT_ONCE])
            yield [*_around(held), KEY.c.tenant == held[0].tenant, of_subjects]


def _around(held: Sequence[Scope]) -> list[sa.ColumnElement[bool]]:
    return [
        KEY.c.kind.in_(sorted({str(scope.kind) for scope in held})),
        KEY.c.app == held[0].app,
        KEY.c.env == held[0].env,
        KEY.c.service == held[0].service,
        KEY.c["class"].in_(sorted({scope.class_ for scope in held})),
    ]


def key_columns(row: KeyRow) -> dict[str, Any]:
    """Return every column of a row."""
    return row.scope.pairs() | {
        "key_id": row.key_id,
        "subject": row.scope.subject or "",
        "version": row.version,
        "suite": row.suite,
        "created": row.created,
        "keystore": row.keystore,
        **mutable_columns(row),
    }


MUTABLE = ("parent", "wrapped", "state", "revision", "changed", "mac", "digest")


def mutable_columns(row: KeyRow) -> dict[str, Any]:
    """Return the columns that a change of a row may write: PostgreSQL's operator role has the right to no other."""
    return {
        "parent": row.parent,
        "wrapped": row.wrapped,
        "state": str(row.state),
        "revision": row.revision,
        "changed": row.changed,
        "mac": row.mac,
        "digest": row.digest,
    }


PLACE = ("store", "table", "column")

# What SQLite lets anyone store in a column, whatever its declared type: the rest of lacre relies
# on text being text and of a length that a canonical map takes.
_TEXTS = ("kind", "app", "env", "service", "tenant", "class", "subject", "parent", "created", "keystore", "state", "changed")  # fmt: skip
_INTEGERS = ("version", "suite", "revision")
_LONGEST = 1024


def key_row(found: sa.RowMapping) -> KeyRow:
    """Return the row, or raise `ConfigurationError` where it is none that a release writes."""
    try:
        if (
            any(type(found[name]) is not str or len(found[name]) > _LONGEST for name in _TEXTS)
            or any(type(found[name]) is not int for name in _INTEGERS)
            or not all(
                isinstance(found[name], bytes | None) for name in ("wrapped", "mac", "digest")
            )
            or not isinstance(found["key_id"], bytes)
        ):
            raise TypeError
        scope = Scope(
            kind=KeyKind(found["kind"]),
            app=found["app"],
            env=found["env"],
            service=found["service"],
            tenant=found["tenant"],
            class_=found["class"],
            subject=found["subject"] or None,
        )
        return KeyRow(
            key_id=found["key_id"],
            scope=scope,
            version=found["version"],
            parent=found["parent"],
            suite=found["suite"],
            created=found["created"],
            keystore=found["keystore"],
            wrapped=found["wrapped"],
            state=KeyState(found["state"]),
            revision=found["revision"],
            changed=found["changed"],
            mac=found["mac"],
            digest=found["digest"],
        )
    except (ValueError, TypeError):
        raise _strange() from None


def _strange() -> ConfigurationError:
    return ConfigurationError(
        "the key store holds a row that no release writes",
        hint="restore the key store from a backup",
    )


def subject_columns(row: SubjectRow) -> dict[str, Any]:
    """Return every column of a row."""
    return {
        "digest": row.digest, "pseudonym": row.pseudonym, "created": row.created, "shredded": row.shredded, "hold": row.hold,
    }  # fmt: skip


def subject_row(found: sa.RowMapping) -> SubjectRow:
    """Return the row, or raise `ConfigurationError` where it is none that a release writes."""
    texts = (
        found["created"],
        found["pseudonym"] or "",
        found["shredded"] or "",
        found["hold"] or "",
    )
    if not isinstance(found["digest"], bytes) or any(
        type(text) is not str or len(text) > _LONGEST for text in texts
    ):
        raise _strange()
    return SubjectRow(
        digest=found["digest"],
        pseudonym=found["pseudonym"],
        created=found["created"],
        shredded=found["shredded"],
        hold=found["hold"],
    )


def seen_columns(seen: SeenSerial) -> dict[str, Any]:
    """Return every column of a row."""
    return {
        "kms_key": seen.kms_key, "serial": seen.serial, "hash": seen.hash, "version_id": seen.version_id, "mac": seen.mac,
    }  # fmt: skip


def column_state_columns(row: ColumnStateRow) -> dict[str, Any]:
    """Return every column of a row."""
    return {
        "store": row.store, "table": row.table, "column": row.column, "class": row.class_, "state": str(row.state), "revision": row.revision,
        "changed": row.changed, "keystore": row.keystore, "signer": row.signer, "signature": row.signature,
    }  # fmt: skip


def column_state_row(found: sa.RowMapping) -> ColumnStateRow:
    """Return the row."""
    return ColumnStateRow(
        store=found["store"],
        table=found["table"],
        column=found["column"],
        class_=found["class"],
        state=ColumnState(found["state"]),
        revision=int(found["revision"]),
        changed=found["changed"],
        keystore=found["keystore"],
        signer=found["signer"],
        signature=bytes(found["signature"]),
    )
