# SPDX-License-Identifier: Apache-2.0
"""
All that a key store holds, read or put there: what a dump and a restore are made of.

Does not open a connection and says nothing of who may (`lacre.stores.sql`); the order of the tables
is the one that their references ask for.
"""

import sqlalchemy as sa

from lacre.keys.seen import SeenSerial
from lacre.stores.contents import KeyStoreContents
from lacre.stores.rows import (
    column_state_columns,
    column_state_row,
    key_columns,
    key_row,
    seen_columns,
    subject_columns,
    subject_row,
)
from lacre.stores.schema import COLUMN_STATE, EPOCH, KEY, KEYSTORE_SEEN, META, SUBJECT
from lacre.stores.sealing import epoch_columns, read_epochs

__all__ = ["contents_of", "put_contents"]


def put_contents(connection: sa.Connection, contents: KeyStoreContents) -> None:
    """Put *contents* in the place of all there is, id included."""
    for table in (KEY, SUBJECT, COLUMN_STATE, KEYSTORE_SEEN, EPOCH):
        connection.execute(table.delete())
    meta = {"keystore": contents.keystore} | ({"seen": "always"} if contents.remembers else {})
    connection.execute(META.delete().where(META.c.name.in_(("keystore", "seen"))))
    connection.execute(META.insert(), [{"name": n, "value": v} for n, v in meta.items()])
    for table, rows in (
        (SUBJECT, [subject_columns(row) for row in contents.subjects]),
        (KEY, [key_columns(row) for row in contents.keys]),
        (COLUMN_STATE, [column_state_columns(row) for row in contents.columns]),
        (KEYSTORE_SEEN, [seen_columns(row) for row in contents.seen]),
        (EPOCH, [epoch_columns(row) for row in contents.epochs]),
    ):
        if rows:
            connection.execute(table.insert(), rows)


def contents_of(connection: sa.Connection) -> KeyStoreContents:
    """Return all that the key store holds."""
    meta: dict[str, str] = {
        row.name: row.value for row in connection.execute(sa.select(META.c.name, META.c.value))
    }
    return KeyStoreContents(
        keystore=meta["keystore"],
        remembers=meta.get("seen") == "always",
        keys=tuple(key_row(found) for found in connection.execute(sa.select(KEY)).mappings()),
        columns=tuple(
            column_state_row(found)
            for found in connection.execute(sa.select(COLUMN_STATE)).mappings()
        ),
        seen=tuple(
            SeenSerial(**found) for found in connection.execute(sa.select(KEYSTORE_SEEN)).mappings()
        ),
        subjects=tuple(map(subject_row, connection.execute(sa.select(SUBJECT)).mappings())),
        epochs=tuple(read_epochs(connection)),
    )
