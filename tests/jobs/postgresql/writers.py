# SPDX-License-Identifier: Apache-2.0
"""
Programs that write to a table while jobs run on it, and remember every write that was committed.

One knows nothing of lacre. The other gives each form of a value that the table has at that moment,
companion, token and marker included.
"""

import random
import threading
import time

import psycopg

from lacre.jobs.columns import PlannedColumn
from tests.components.postgresql import Database
from tests.jobs.double import FixedKeyField

__all__ = ["KnowingWriter", "PlainWriter"]

# What the server says to plaintext in an encrypted column, or to a form that the table has no longer.
REFUSALS = (
    psycopg.errors.CheckViolation,
    psycopg.errors.DatatypeMismatch,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidTextRepresentation,
    psycopg.errors.FeatureNotSupported,  # "cached plan must not change result type"
)


class PlainWriter(threading.Thread):
    """Writes email, name and note of the rows whose number leaves *mine* when halved."""

    def __init__(self, database: Database, mine: int, seed: int) -> None:
        super().__init__()
        self.database = database
        with database.connect() as connection:
            found = connection.execute("SELECT id, email, name, note FROM people").fetchall()
        self.rows = {row[0]: list(row[1:]) for row in found if row[0] % 2 == mine}
        self.commits = self.refused = 0
        self.failure: Exception | None = None
        self._next = 1_000_000 + mine
        self.random = random.Random(seed * 2 + mine)
        self._over = threading.Event()

    def run(self) -> None:
        try:
            with self.database.connect() as connection:
                connection.prepare_threshold = None
                while not self._over.is_set():
                    self._step(connection)
                    time.sleep(0.004)
        except Exception as error:
            self.failure = error

    def stop(self) -> None:
        self._over.set()
        self.join()
        if self.failure is not None:
            raise self.failure

    def _step(self, connection: psycopg.Connection) -> None:
        row = self.random.choice(list(self.rows))
        email, name, note = self.rows[row]
        mark = f"{self.random.getrandbits(60):015x}"
        kind = self.random.choice(
            ["insert", "copy", "email", "name", "null", "note", "delete", "upsert"]
        )
        if kind in ("insert", "copy"):
            self._next += 2
            row = self._next
        change = {
            "insert": [f"new.{mark}@example.org", f"new {mark}", None],
            "copy": [f"copied.{mark}@example.org", "copied", mark],
            "email": [f"mail.{mark}@example.org", name, note],
            "name": [email, f"name {mark}", note],
            "null": [email, None, note],
            "note": [email, name, mark],
            "upsert": [email, f"again {mark}", note],
            "delete": None,
        }[kind]
        try:
            self.write(connection, kind, row, change)
        except REFUSALS:
            self.refused += 1
            return
        self.commits += 1
        if change is None:
            del self.rows[row]
        else:
            self.rows[row] = change

    def write(self, connection, kind, row, change) -> None:
        if kind == "delete":
            connection.execute("DELETE FROM people WHERE id = %s", (row,))
        elif kind == "copy":
            with (
                connection.cursor() as cursor,
                cursor.copy("COPY people (id, email, name, note) FROM STDIN") as copy,
            ):
                copy.write_row((row, *change))
        elif kind in ("insert", "upsert"):
            connection.execute(
                "INSERT INTO people (id, email, name, note) VALUES (%s, %s, %s, %s) "
                "ON CONFLICT (id) DO UPDATE SET email = excluded.email, name = excluded.name",
                (row, *change),
            )
        elif kind == "note":
            connection.execute("UPDATE people SET note = %s WHERE id = %s", (change[2], row))
        elif kind == "email":
            connection.execute("UPDATE people SET email = %s WHERE id = %s", (change[0], row))
        else:
            connection.execute("UPDATE people SET name = %s WHERE id = %s", (change[1], row))


class KnowingWriter(PlainWriter):
    """Asks what the table looks like, and writes that. Its rows have a UUID already."""

    def __init__(self, database: Database, mine: int, seed: int) -> None:
        super().__init__(database, mine, seed)
        self.fields = {
            name: FixedKeyField(
                "people",
                PlannedColumn(
                    table="people",
                    name=name,
                    class_="pii",
                    normaliser=rule,
                    declared="",
                    python_type=str,
                    form="plain",
                    not_null=False,
                    unique=rule is not None,
                    values=0,
                    nulls=0,
                ),
            )
            for name, rule in (("email", "email"), ("name", None))
        }

    def write(self, connection, kind, row, change) -> None:
        if kind == "delete":
            connection.execute("DELETE FROM people WHERE id = %s", (row,))
            return
        found = connection.execute(
            "SELECT attname, atttypid::regtype::text FROM pg_attribute WHERE attrelid = 'people'::regclass AND attnum > 0 AND NOT attisdropped"
        )
        columns = dict(found.fetchall())
        values = self._values(
            row, dict(zip(("email", "name", "note"), change, strict=True)), columns
        )
        names = ", ".join(values)
        marks = ", ".join("%s" for _ in values)
        sets = ", ".join(f"{name} = excluded.{name}" for name in values)
        connection.execute(
            f"INSERT INTO people (id, {names}) VALUES (%s, {marks}) ON CONFLICT (id) DO UPDATE SET {sets}",
            (row, *values.values()),
        )

    def _values(self, row, change, columns) -> dict[str, object]:
        values: dict[str, object] = {"note": change["note"]}
        dual = "lacre_form" in columns
        for name in ("email", "name"):
            clear = change[name]
            made = (
                self.fields[name].prepare_many([(str(row), clear)])[0]
                if clear is not None
                else None
            )
            sealed = None if made is None else bytes(made.value)

            values[name] = sealed if columns[name] == "bytea" else clear
            if dual:
                values[f"{name}_lacre"] = sealed if columns[f"{name}_lacre"] == "bytea" else clear
            if f"{name}_bidx" in columns:
                values[f"{name}_bidx"] = None if made is None else made.tokens[0]
        if dual:
            values["lacre_form"] = 1
        return values
