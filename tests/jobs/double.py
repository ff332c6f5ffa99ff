# SPDX-License-Identifier: Apache-2.0
"""
A field with a fixed key: real encryption and tokens, no policy, no key store. And the rest of
what a job is given: column states in memory, and a signer.
"""

import json
import os
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lacre._core import field
from lacre._core.blind import index_key, token
from lacre._core.canonical import FieldPlace
from lacre.errors import MisuseError, Tampered
from lacre.fields.codecs import codec_for
from lacre.fields.column_state import ColumnState, ColumnStateRow
from lacre.jobs.authority import Authority
from lacre.jobs.columns import RID, ColumnRequest, PlannedColumn
from lacre.jobs.sqlite.database import Catalogue, opened
from lacre.jobs.sqlite.ledger import jobs_of
from lacre.jobs.sqlite.schema import quoted
from lacre.jobs.sqlite.values import form_of

KEY, KEY_ID, ROOT = bytes(range(32)), bytes(range(16)), bytes(range(32, 64))


@dataclass(frozen=True)
class Stored:
    value: bytes | bytearray
    tokens: tuple[bytes, ...]
    columns: tuple[bytes | None, ...] = ()


class FixedKeyField:
    def __init__(self, table: str, column: PlannedColumn) -> None:
        self._codec = codec_for(column.python_type)
        self._place = FieldPlace(
            column=column.name, store="main", table=table, tenant="default", type=self._codec.name
        )
        self._index = column.index
        self._index_key = index_key(
            ROOT,
            store="main",
            table=table,
            column=column.name,
            index="i",
            kind="exact",
            normaliser="n",
            part="",
            bits=96,
            version=1,
        )

    def prepare_many(self, items, /, *, recorded=True):
        made = []
        for row, value in items:
            sealed = field.encrypt(
                KEY,
                KEY_ID,
                self._place.at(row),
                self._codec.encode(value),
                salt=os.urandom(24),
                padded=self._codec.padded,
            )
            tokens = (
                (
                    token(
                        self._index_key,
                        self._index.normalised(value, self._codec),
                        self._index.bits,
                    ),
                )
                if self._index
                else ()
            )
            second = (None,) if self._index is not None and self._index.unique else ()
            made.append(Stored(sealed, tokens, tokens + second))
        return made

    def written(self, rows):
        return ("written", self._place, tuple(rows))

    def decrypt_many(self, items):
        return [
            self._codec.decode(field.decrypt(KEY, sealed, self._place.at(row)))
            for row, sealed in items
        ]


def requests(text: str) -> list[ColumnRequest]:
    return [ColumnRequest.parse(part) for part in text.split()]


def fields(table: str):
    return lambda column: FixedKeyField(table, column)


def fields_as_planned(column: PlannedColumn) -> FixedKeyField:
    return FixedKeyField(column.table, column)


class FileStates:
    """Column states in a text file: they outlive a killed process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, store, table, column):
        rows = [
            row
            for row in self.all()
            if (row.store, row.table, row.column) == (store, table, column)
        ]
        return rows[-1] if rows else None

    def put(self, row):
        present = self.get(row.store, row.table, row.column)
        if row.revision != (present.revision if present else 0) + 1:
            raise MisuseError("somebody else wrote in between")
        written = asdict(row) | {"signature": row.signature.hex()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(written) + "\n")

    def all(self):
        if not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8").splitlines()
        # A killed process may leave half a line, which was never written.
        rows = [json.loads(line) for line in lines if line.endswith("}")]
        return [
            ColumnStateRow(
                **(
                    row
                    | {
                        "state": ColumnState(row["state"]),
                        "signature": bytes.fromhex(row["signature"]),
                    }
                )
            )
            for row in rows
        ]


class FixedSigner:
    def __init__(self, seed: bytes = bytes(32)) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.fingerprint = sha256(self._key.public_key().public_bytes_raw()).hexdigest()[:32]

    def sign(self, message):
        return self._key.sign(message)

    def verify(self, message, signature):
        try:
            self._key.public_key().verify(signature, message)
        except InvalidSignature:
            raise Tampered from None


def authority(path: Path) -> Authority:
    return Authority(
        states=FileStates(path),
        signer=FixedSigner(),
        signers=[FixedSigner()],
        keystore="store-1",
        record=lambda events: None,
    )


def readable(path: Path, table: str) -> list[tuple]:
    """Every row of a protected table in the clear, without what lacre added, in key order."""
    connection = opened(path)
    try:
        job = jobs_of(connection, table, authority(path))[-1]
        catalogue = Catalogue(connection, table)
        names = [
            name
            for name in catalogue.insertable
            if name != RID and not name.endswith(("_bidx", "_bidx2"))
        ]
        order = ", ".join(quoted(name) for name in catalogue.cursor)
        columns = {
            column.name: (FixedKeyField(table, column), form_of(column)) for column in job.columns
        }
        key = ", ".join(quoted(name) for name in job.key.columns)
        wanted = ", ".join(quoted(name) for name in names)
        rows = []
        for row in connection.execute(
            f"SELECT {wanted}, {key} FROM {quoted(table)} ORDER BY {order}"
        ).fetchall():
            name = job.key.text(row[len(names) :])
            rows.append(
                tuple(
                    _clear(columns.get(column), name, value)
                    for column, value in zip(names, row, strict=False)
                )
            )
        return rows
    finally:
        connection.close()


def _clear(field_and_form, row, value):
    if field_and_form is None or value is None:
        return value
    sealed, form = field_and_form
    return form.write(sealed.decrypt_many([(row, value)])[0])


def plain(path: Path, table: str, columns: str = "*", order: str = "rowid") -> list[tuple]:
    connection = opened(path)
    try:
        return connection.execute(
            f"SELECT {columns} FROM {quoted(table)} ORDER BY {order}"
        ).fetchall()
    finally:
        connection.close()


def schema(path: Path) -> list[tuple]:
    return plain(path, "sqlite_master", "type, name, tbl_name, sql", "type, name")
