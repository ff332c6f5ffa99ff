# SPDX-License-Identifier: Apache-2.0
"""
Statements about epochs, bucket keys, and subject keys as sealing goes through them.

Opens no connection (`lacre.stores.sql` does) and authenticates nothing: an operator signed each
epoch, and whoever reads one checks that (`lacre.keys.epochs`).
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from lacre.errors import ConfigurationError, MisuseError
from lacre.keys.epochs import Epoch, EpochState
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState
from lacre.stores.rows import key_row
from lacre.stores.schema import EPOCH, KEY

__all__ = [
    "bucket_rows",
    "destroyed_subjects",
    "epoch_columns",
    "epoch_row",
    "read_epochs",
    "subject_rows_by_id",
    "write_epoch",
]


def epoch_columns(row: Epoch) -> dict[str, Any]:
    """Return every column of a row."""
    return {
        "number": row.number, "kms_key": row.kms_key, "seal": row.seal, "material": row.material, "state": str(row.state), "opened": row.opened,
        "changed": row.changed, "final": row.final, "unsealed": row.unsealed, "dump": row.dump, "keystore": row.keystore,
        "signer": row.signer, "signature": row.signature,
    }  # fmt: skip


def read_epochs(connection: sa.Connection) -> Sequence[Epoch]:
    """Return every epoch, the newest first."""
    query = sa.select(EPOCH).order_by(EPOCH.c.number.desc())
    return [epoch_row(found) for found in connection.execute(query).mappings()]


def write_epoch(connection: sa.Connection, row: Epoch, *, over: Epoch | None) -> None:
    """
    Write *row* in the place of *over*, or as a new one.

    Raises:
        MisuseError: another process wrote in between.
    """
    conflict = MisuseError(
        "another process seals at the same moment; nothing was done",
        hint="run the same command again: it goes on where they are",
    )
    values = epoch_columns(row)
    if over is None:
        try:
            connection.execute(EPOCH.insert(), values)
        except IntegrityError:
            raise conflict from None
        return
    # What never changes is not written: the operator's role has no right to.
    del values["number"], values["opened"]
    mine = [EPOCH.c.number == over.number, EPOCH.c.signature == over.signature]
    if connection.execute(EPOCH.update().where(*mine).values(values)).rowcount != 1:
        raise conflict


def bucket_rows(connection: sa.Connection) -> Sequence[KeyRow]:
    """Return every bucket key."""
    query = (
        sa.select(KEY).where(KEY.c.kind == KeyKind.BUCKET).order_by(KEY.c.subject, KEY.c.version)
    )
    return [key_row(found) for found in connection.execute(query).mappings()]


def subject_rows_by_id(connection: sa.Connection, *, after: bytes, limit: int) -> Sequence[KeyRow]:
    """Return subject keys that were not destroyed, by id, above *after*."""
    query = (
        sa.select(KEY)
        .where(
            KEY.c.kind == KeyKind.SUBJECT, KEY.c.state != KeyState.DESTROYED, KEY.c.key_id > after
        )
        .order_by(KEY.c.key_id)
        .limit(limit)
    )
    return [key_row(found) for found in connection.execute(query).mappings()]


def destroyed_subjects(connection: sa.Connection) -> Sequence[tuple[bytes, str]]:
    """Return the id of every subject key that was destroyed, and when."""
    query = sa.select(KEY.c.key_id, KEY.c.changed).where(
        KEY.c.kind == KeyKind.SUBJECT, KEY.c.state == KeyState.DESTROYED
    )
    return [(bytes(key_id), str(changed)) for key_id, changed in connection.execute(query)]


def epoch_row(found: sa.RowMapping) -> Epoch:
    """Return the row, or raise `ConfigurationError` where it is none that a release writes."""
    try:
        return Epoch(**(dict(found) | {"state": EpochState(found["state"])}))
    except (ValueError, TypeError):
        raise ConfigurationError(
            "the key store holds an epoch that no release writes",
            hint="restore the key store from a backup",
        ) from None
