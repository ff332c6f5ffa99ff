# SPDX-License-Identifier: Apache-2.0
"""
The tables of the key store, and the steps that bring a store from one version to the next.

Steps are only ever appended: a store made by any release is upgraded by every later one, with
processes of the release before still reading it. Does not hold keys in the clear; every column
here may be read by whoever reads the database.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from lacre.stores.log.schema import OUTBOX

__all__ = [
    "COLUMN_STATE",
    "EPOCH",
    "GRANT",
    "GRANT_ACT",
    "KEY",
    "KEYSTORE_SEEN",
    "META",
    "OUTBOX",
    "STEPS",
    "SUBJECT",
    "TABLES",
    "VERSION",
    "AddColumn",
    "AddReference",
    "LeaveRoom",
]

_metadata = sa.MetaData()

META = sa.Table(
    "lacre_meta",
    _metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.String(255), nullable=False),
)

# As the first release made it; what steps add to it is on `KEY`, below.
_FIRST_KEY = sa.Table(
    "lacre_key",
    sa.MetaData(),
    sa.Column("key_id", sa.LargeBinary(16), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("app", sa.String(255), nullable=False),
    sa.Column("env", sa.String(255), nullable=False),
    sa.Column("service", sa.String(255), nullable=False),
    sa.Column("tenant", sa.String(255), nullable=False),
    sa.Column("class", sa.String(255), nullable=False),
    # Empty for a key of no single subject: NULLs would escape the unique indexes.
    sa.Column("subject", sa.String(255), nullable=False, server_default=""),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("parent", sa.String(1024), nullable=False),
    sa.Column("suite", sa.Integer, nullable=False),
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("keystore", sa.String(64), nullable=False),
    sa.Column("wrapped", sa.LargeBinary, nullable=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("changed", sa.String(32), nullable=False),
    sa.Column("mac", sa.LargeBinary(32), nullable=True),
)

KEY = _FIRST_KEY.to_metadata(_metadata)
# Of a subject key: whose it is. NULL of every other, and of one that was destroyed.
_digest: sa.Column[Any] = sa.Column("digest", sa.LargeBinary(32), nullable=True)
KEY.append_column(_digest)

SCOPE_COLUMNS = ("kind", "app", "env", "service", "tenant", "class", "subject")
_scope = [KEY.c[name] for name in SCOPE_COLUMNS]

# Two processes that make the same version race on the first index, two that activate on the
# second: one wins, the other is told so.
_one_row_a_version = sa.Index("lacre_key_version", *_scope, KEY.c.version, unique=True)
_one_active_row = sa.Index(
    "lacre_key_active",
    *_scope,
    unique=True,
    sqlite_where=KEY.c.state == "active",
    postgresql_where=KEY.c.state == "active",
)

COLUMN_STATE = sa.Table(
    "lacre_column_state",
    _metadata,
    sa.Column("store", sa.String(255), primary_key=True),
    sa.Column("table", sa.String(255), primary_key=True),
    sa.Column("column", sa.String(255), primary_key=True),
    sa.Column("class", sa.String(255), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("changed", sa.String(32), nullable=False),
    sa.Column("keystore", sa.String(64), nullable=False),
    sa.Column("signer", sa.String(32), nullable=False),
    sa.Column("signature", sa.LargeBinary(64), nullable=False),
)

KEYSTORE_SEEN = sa.Table(
    "lacre_keystore_seen",
    _metadata,
    sa.Column("kms_key", sa.String(1024), primary_key=True),
    sa.Column("serial", sa.Integer, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("version_id", sa.String(32), nullable=False),
    sa.Column("mac", sa.LargeBinary(32), nullable=False),
)

# A subject, by a digest of its id. Shredded, it has no pseudonym any more: the row is a tombstone.
SUBJECT = sa.Table(
    "lacre_subject",
    _metadata,
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("pseudonym", sa.String(32), nullable=True),
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("shredded", sa.String(32), nullable=True),
    sa.Column("hold", sa.String(255), nullable=True),
    sa.CheckConstraint(
        "(pseudonym IS NULL) = (shredded IS NOT NULL)", name="lacre_subject_tombstone"
    ),
)
_one_pseudonym = sa.Index(
    "lacre_subject_pseudonym", SUBJECT.c.digest, SUBJECT.c.pseudonym, unique=True
)

# One row for each epoch of sealing: its KMS key is named nowhere else.
EPOCH = sa.Table(
    "lacre_epoch",
    _metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kms_key", sa.String(1024), nullable=False),
    sa.Column("seal", sa.String(32), nullable=True),
    sa.Column("material", sa.String(64), nullable=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("opened", sa.String(32), nullable=False),
    sa.Column("changed", sa.String(32), nullable=False),
    sa.Column("final", sa.String(32), nullable=True),
    sa.Column("unsealed", sa.String(32), nullable=True),
    sa.Column("dump", sa.String(64), nullable=True),
    sa.Column("keystore", sa.String(64), nullable=False),
    sa.Column("signer", sa.String(32), nullable=False),
    sa.Column("signature", sa.LargeBinary(64), nullable=False),
)

# Who was granted what: as it was asked for, signed. Written once; what becomes of it is below.
GRANT = sa.Table(
    "lacre_grant",
    _metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("nonce", sa.String(32), nullable=False),
    sa.Column("keystore", sa.String(64), nullable=False),
    sa.Column("app", sa.String(255), nullable=False),
    sa.Column("env", sa.String(255), nullable=False),
    sa.Column("service", sa.String(255), nullable=False),
    sa.Column("requester", sa.String(255), nullable=False),
    sa.Column("beneficiary", sa.String(255), nullable=False),
    sa.Column("class", sa.String(255), nullable=False),
    sa.Column("right", sa.String(16), nullable=False),
    sa.Column("purpose", sa.String(255), nullable=False),
    sa.Column("tenant", sa.String(255), nullable=False),
    sa.Column("requested", sa.String(32), nullable=False),
    sa.Column("not_before", sa.String(32), nullable=False),
    sa.Column("until", sa.String(32), nullable=False),
    sa.Column("approve_by", sa.String(32), nullable=False),
    sa.Column("break_glass", sa.Boolean, nullable=False),
    sa.Column("reason", sa.String(255), nullable=False),
    sa.Column("policy", sa.String(64), nullable=False),
    sa.Column("change", sa.Text, nullable=False),
    sa.Column("signer", sa.String(32), nullable=False),
    sa.Column("signature", sa.LargeBinary(64), nullable=False),
)

# What people did about a grant, in order: two at one moment race for the number.
GRANT_ACT = sa.Table(
    "lacre_grant_act",
    _metadata,
    sa.Column("grant", sa.String(32), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("act", sa.String(16), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("note", sa.String(255), nullable=False),
    sa.Column("signer", sa.String(32), nullable=False),
    sa.Column("signature", sa.LargeBinary(64), nullable=False),
)

TABLES = (META, KEY, COLUMN_STATE, KEYSTORE_SEEN, SUBJECT, EPOCH, GRANT, GRANT_ACT, OUTBOX)


class AddColumn(sa.schema.ExecutableDDLElement):
    """ALTER TABLE ... ADD COLUMN, of a column that may be NULL: no row is rewritten."""

    def __init__(self, column: sa.Column[Any]) -> None:
        self.column = column


class AddReference(sa.schema.ExecutableDDLElement):
    """
    ALTER TABLE ... ADD a foreign key. PostgreSQL's only: SQLite has one writer at a time anyway.

    Rows of which one column is NULL refer to nothing.
    """

    def __init__(
        self, name: str, columns: Sequence[sa.Column[Any]], to: Sequence[sa.Column[Any]]
    ) -> None:
        self.name = name
        self.columns = columns
        self.to = to


class LeaveRoom(sa.schema.ExecutableDDLElement):
    """ALTER TABLE ... SET a fillfactor. PostgreSQL's only, and of pages that are filled from now on."""

    def __init__(self, table: sa.Table, percent: int) -> None:
        self.table = table
        self.percent = percent


@compiles(AddColumn)
def _add_column(element: AddColumn, compiler: Any, **_: Any) -> str:
    table = compiler.preparer.format_table(element.column.table)
    return f"ALTER TABLE {table} ADD COLUMN {compiler.get_column_specification(element.column)}"


@compiles(AddReference)
def _add_reference(element: AddReference, compiler: Any, **_: Any) -> str:
    def names(columns: Sequence[sa.Column[Any]]) -> str:
        return ", ".join(compiler.preparer.format_column(column) for column in columns)

    table, to = (
        compiler.preparer.format_table(each[0].table) for each in (element.columns, element.to)
    )
    return f"ALTER TABLE {table} ADD CONSTRAINT {element.name} FOREIGN KEY ({names(element.columns)}) REFERENCES {to} ({names(element.to)})"


@compiles(LeaveRoom)
def _leave_room(element: LeaveRoom, compiler: Any, **_: Any) -> str:
    table = compiler.preparer.format_table(element.table)
    return f"ALTER TABLE {table} SET (fillfactor = {element.percent})"


# Step n brings a store from version n to n + 1. Never edit one that was released.
STEPS: Sequence[Sequence[sa.schema.ExecutableDDLElement]] = (
    (
        sa.schema.CreateTable(META),
        sa.schema.CreateTable(_FIRST_KEY),
        # No index has what a rotation of a branch key changes: a row that has room for another
        # version in its page costs no entry of one. What was replaced makes room again.
        LeaveRoom(_FIRST_KEY, 80),
        sa.schema.CreateIndex(_one_row_a_version),
        sa.schema.CreateIndex(_one_active_row),
    ),
    (sa.schema.CreateTable(COLUMN_STATE), sa.schema.CreateTable(KEYSTORE_SEEN)),
    (
        sa.schema.CreateTable(SUBJECT),
        sa.schema.CreateIndex(_one_pseudonym),
        AddColumn(_digest),
        # No key is ever of a subject that was shredded: a mint and a shred at one moment race on
        # this, and one of them is told.
        AddReference(
            "lacre_key_subject",
            (KEY.c.digest, KEY.c.subject),
            (SUBJECT.c.digest, SUBJECT.c.pseudonym),
        ),
    ),
    (sa.schema.CreateTable(EPOCH),),
    # What the sequencer takes into the evidence log: not of the dump, and none of what it restores.
    (sa.schema.CreateTable(OUTBOX),),
    # Not of the dump either: a grant ends in days, and one that was revoked is not to come back.
    (sa.schema.CreateTable(GRANT), sa.schema.CreateTable(GRANT_ACT)),
)

VERSION = len(STEPS)
