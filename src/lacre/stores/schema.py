# SPDX-License-Identifier: Apache-2.0
"""
The tables of the key store, and the steps that bring a store from one version to the next.

Steps are only ever appended: a store made by any release is upgraded by every later one, with
processes of the release before still reading it. Does not hold keys in the clear; every column
here may be read by whoever reads the database.
"""

from collections.abc import Sequence

import sqlalchemy as sa

__all__ = ["COLUMN_STATE", "KEY", "KEYSTORE_SEEN", "META", "STEPS", "TABLES", "VERSION"]

_metadata = sa.MetaData()

META = sa.Table(
    "lacre_meta",
    _metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.String(255), nullable=False),
)

KEY = sa.Table(
    "lacre_key",
    _metadata,
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

TABLES = (META, KEY, COLUMN_STATE, KEYSTORE_SEEN)

# Step n brings a store from version n to n + 1. Never edit one that was released.
STEPS: Sequence[Sequence[sa.schema.ExecutableDDLElement]] = (
    (
        sa.schema.CreateTable(META),
        sa.schema.CreateTable(KEY),
        sa.schema.CreateIndex(_one_row_a_version),
        sa.schema.CreateIndex(_one_active_row),
    ),
    (sa.schema.CreateTable(COLUMN_STATE), sa.schema.CreateTable(KEYSTORE_SEEN)),
)

VERSION = len(STEPS)
