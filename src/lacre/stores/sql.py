# SPDX-License-Identifier: Apache-2.0
"""
The key store in SQL: rows of wrapped keys, column states, highest manifests seen.

Implements the ports of `lacre.keys.ports`, `lacre.fields.column_state` and the local keystore's
serial memory on SQLite and PostgreSQL, with SQLAlchemy Core; what differs between the two is in a
file for each. Authenticates nothing: it returns what is stored,
and whoever asked checks it. Give it a database (or file) of its own, apart from the data.
"""

import os
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from lacre.errors import (
    ConfigurationError,
    KeyNotFound,
    KeyStoreUnreachable,
    MisuseError,
    Tampered,
)
from lacre.fields.column_state import ColumnStateRow
from lacre.keys.hierarchy import KeyKind, KeyRow, Scope
from lacre.keys.seen import SeenSerial
from lacre.stores.changing import change_keys, changed_meanwhile
from lacre.stores.contents import KeyStoreContents
from lacre.stores.database import Held, KeyDatabase, parsed
from lacre.stores.erasing import Erasing
from lacre.stores.grants import GrantTable
from lacre.stores.postgresql import PostgreSQLDatabase
from lacre.stores.recording import RecordedChanges
from lacre.stores.roles import Roles, role_statements
from lacre.stores.rows import (
    PLACE,
    around_scopes,
    column_state_columns,
    column_state_row,
    in_scope,
    key_row,
    seen_columns,
)
from lacre.stores.schema import COLUMN_STATE, KEY, KEYSTORE_SEEN, META, TABLES, VERSION
from lacre.stores.sqlite import SQLiteDatabase
from lacre.stores.subjects import SubjectTable
from lacre.stores.times import newest
from lacre.stores.upgrading import Upgrade
from lacre.stores.whole import contents_of, put_contents

__all__ = ["SQLKeyStore"]

_HELD = Held(
    name="key store",
    setting="[key_store]",
    file="lacre/keys.db",
    lost="keys kept in memory are lost with the process, and the data with them",
    granted="runtime for applications, operator for `lacre keys` and `lacre protect`",
    tables=TABLES,
    unreachable=KeyStoreUnreachable,
    grants=role_statements,
)


class SQLKeyStore(SubjectTable, Erasing, GrantTable, RecordedChanges):
    """
    The key store at *url*, an SQLAlchemy URL.

    Opening it reads nothing. Every method but `upgrade` needs the schema of this release and
    raises `ConfigurationError` with the command that makes it otherwise. Every method raises
    `KeyStoreUnreachable`, which may be tried again, where the database does not answer.

    Args:
        schema: of PostgreSQL; SQLite has none.
    """

    def __init__(self, url: str, *, schema: str = "lacre") -> None:
        super().__init__()
        self._database = _database(url, schema)
        self._id: str | None = None
        weak = weakref.WeakMethod(self._after_fork)
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())

    def _after_fork(self) -> None:
        # A child must not speak over its parent's connections, nor close them.
        self._database.engine.dispose(close=False)

    def __repr__(self) -> str:
        return f"<SQLKeyStore {self._database.where}>"

    def close(self) -> None:
        """Close every connection. The next use opens new ones."""
        self._database.engine.dispose()

    # Schema

    def version(self) -> int:
        """Return the schema version of the store; 0 where there is none."""
        if not self._database.exists():
            return 0
        with self._database.translated(), self._database.engine.connect() as connection:
            return _version(connection, self._database.schema)

    def upgrade(self, *, to: int = VERSION, roles: Roles | None = None) -> tuple[int, int]:
        """
        Bring the schema to version *to* in one transaction; return the versions before and after.

        Safe while other processes use the store, and when run twice at once.

        Args:
            roles: make these roles too, or give them again what they may do; PostgreSQL only.
        """
        granted = self._database.grants(roles) if roles is not None else ()
        self._database.make()
        schema = self._database.schema
        with self._database.translated(), self._database.writer.begin() as connection:
            self._database.claim(connection)
            before = _version(connection, schema)
            for statement in Upgrade(before=before, to=to).statements(schema):
                connection.execute(statement)
            for text in granted:
                connection.exec_driver_sql(text)
            if granted or before < to:
                self._database.check_owner(connection)
        return before, max(before, to)

    def script(self, *, roles: Roles | None = None) -> str:
        """Return the SQL that `upgrade` would run now, for somebody who runs it by hand."""
        lines = Upgrade(before=self.version(), to=VERSION).script(
            dialect=self._database.engine.dialect,
            schema=self._database.schema,
            more=self._database.grants(roles) if roles is not None else (),
        )
        return "\n\n".join(lines)

    @property
    def keystore_id(self) -> str:
        """The random id of this key store, 32 hex digits, bound in every row it holds."""
        if self._id is None:
            with self._reading() as connection:
                self._id = str(
                    connection.execute(
                        sa.select(META.c.value).where(META.c.name == "keystore")
                    ).scalar_one()
                )
        return self._id

    # Rows of keys

    def find(self, scope: Scope, key_ids: Collection[bytes]) -> Sequence[KeyRow]:
        """Return the rows with these ids whose columns equal *scope*; others are left out."""
        rows: list[KeyRow] = []
        ids = list(key_ids)
        with self._reading() as connection:
            for start in range(0, len(ids), 500):
                query = sa.select(KEY).where(
                    KEY.c.key_id.in_(ids[start : start + 500]), *in_scope(scope)
                )
                rows += [key_row(found) for found in connection.execute(query).mappings()]
        return rows

    def rows_of(self, key_ids: Collection[bytes]) -> Sequence[KeyRow]:
        """Return the rows with these ids, whatever their scope: to say what values name. Authenticates nothing."""
        rows: list[KeyRow] = []
        ids = list(key_ids)
        with self._reading() as connection:
            for start in range(0, len(ids), 500):
                query = sa.select(KEY).where(KEY.c.key_id.in_(ids[start : start + 500]))
                rows += [key_row(found) for found in connection.execute(query).mappings()]
        return rows

    def versions(self, scope: Scope) -> Sequence[KeyRow]:
        """Return every version of the scope, highest first."""
        with self._reading() as connection:
            query = sa.select(KEY).where(*in_scope(scope)).order_by(KEY.c.version.desc())
            return [key_row(found) for found in connection.execute(query).mappings()]

    def versions_of(self, scopes: Collection[Scope]) -> Mapping[Scope, Sequence[KeyRow]]:
        """Return `versions` of each of *scopes*, in few queries."""
        found: dict[Scope, list[KeyRow]] = {scope: [] for scope in scopes}
        with self._reading() as connection:
            for conditions in around_scopes(found):
                query = sa.select(KEY).where(*conditions).order_by(KEY.c.version.desc())
                for row in map(key_row, connection.execute(query).mappings()):
                    if row.scope in found:
                        found[row.scope].append(row)
        return found

    def holds(self, key_id: bytes) -> bool:
        """Whether any row has this id."""
        with self._reading() as connection:
            return (
                connection.execute(sa.select(sa.literal(1)).where(KEY.c.key_id == key_id)).first()
                is not None
            )

    def rows(self) -> Sequence[KeyRow]:
        """
        Return every row but those of subject keys, by tenant, class, kind and version: for listings.

        There may be millions of those: `subject_keys` counts them.
        """
        with self._reading() as connection:
            order = (KEY.c.tenant, KEY.c["class"], KEY.c.kind, KEY.c.version)
            query = sa.select(KEY).where(KEY.c.kind != KeyKind.SUBJECT).order_by(*order)
            return [key_row(found) for found in connection.execute(query).mappings()]

    def row(self, key_id: bytes) -> KeyRow:
        """
        Return the row with this id.

        Raises:
            KeyNotFound
        """
        with self._reading() as connection:
            found = (
                connection.execute(sa.select(KEY).where(KEY.c.key_id == key_id)).mappings().first()
            )
        if found is None:
            raise KeyNotFound(
                f"the key store holds no key {key_id.hex()}",
                hint="`lacre keys list` shows every key",
            )
        return key_row(found)

    def change(
        self, *, add: Sequence[KeyRow] = (), replace: Sequence[tuple[KeyRow, KeyRow]] = ()
    ) -> None:
        """Insert *add* and replace each (old, new), all or nothing; see `KeyWriter.change`."""
        try:
            with self._writing() as connection:
                change_keys(connection, add=add, replace=replace)
        except IntegrityError:
            raise changed_meanwhile() from None

    # Column states

    def get(self, store: str, table: str, column: str) -> ColumnStateRow | None:
        """Return the column's state row, or None: a column nobody ever moved."""
        place = [
            COLUMN_STATE.c.store == store,
            COLUMN_STATE.c.table == table,
            COLUMN_STATE.c.column == column,
        ]
        with self._reading() as connection:
            found = connection.execute(sa.select(COLUMN_STATE).where(*place)).mappings().first()
        return column_state_row(found) if found is not None else None

    def column_states(self) -> Sequence[ColumnStateRow]:
        """Return the state row of every column that was ever moved. Authenticates nothing."""
        with self._reading() as connection:
            found = connection.execute(sa.select(COLUMN_STATE).order_by(*PLACE)).mappings()
            return [column_state_row(row) for row in found]

    def newest(self) -> float | None:
        """Return the latest time that the key store knows of, in seconds: of its rows, and PostgreSQL's clock."""
        with self._reading() as connection:
            return newest(connection)

    def put(self, row: ColumnStateRow) -> None:
        """
        Write the state row, which must be exactly one revision on.

        Raises:
            MisuseError: another process moved the column first.
        """
        place = [
            COLUMN_STATE.c.store == row.store,
            COLUMN_STATE.c.table == row.table,
            COLUMN_STATE.c.column == row.column,
        ]
        values = column_state_columns(row)
        conflict = MisuseError(
            "another process moved this column at the same moment",
            hint="run the command again: it looks at the present state",
        )
        try:
            with self._writing() as connection:
                if row.revision == 1:
                    connection.execute(COLUMN_STATE.insert(), values)
                elif (
                    connection.execute(
                        COLUMN_STATE.update()
                        .where(*place, COLUMN_STATE.c.revision == row.revision - 1)
                        .values({name: values[name] for name in values if name not in PLACE})
                    ).rowcount
                    != 1
                ):
                    raise conflict
        except IntegrityError:
            raise conflict from None

    # Highest manifest seen

    def recall(self, kms_key: str) -> SeenSerial | None:
        """
        Return the highest manifest seen of the KMS key, or None where it was never used.

        Raises:
            Tampered: keys are wrapped under it and what was seen of it is gone.
        """
        seen = sa.select(KEYSTORE_SEEN).where(KEYSTORE_SEEN.c.kms_key == kms_key)
        with self._reading() as connection:
            found = connection.execute(seen).mappings().first()
            if found is not None:
                return SeenSerial(**found)
            # Whoever removes the row wants an older manifest accepted. A store upgraded from
            # schema 1, which had no such rows, may lack them and is not asked.
            always = sa.select(META.c.value).where(META.c.name == "seen")
            used = sa.select(sa.literal(1)).where(KEY.c.parent == kms_key).limit(1)
            if connection.execute(always).first() and connection.execute(used).first():
                raise Tampered
        return None

    def remember(self, seen: SeenSerial) -> None:
        """Keep *seen*, unless a higher serial was kept meanwhile."""
        with self._writing() as connection:
            connection.execute(self._database.highest(KEYSTORE_SEEN, "serial"), seen_columns(seen))

    def reseat(self, seen: Sequence[SeenSerial]) -> None:
        """
        Put *seen* in the place of what is remembered of its KMS keys, higher or not, in one transaction.

        What is remembered of a KMS key that no key names goes too. The owner's on PostgreSQL:
        it deletes.
        """
        named = sa.select(KEY.c.parent).where(KEY.c.parent == KEYSTORE_SEEN.c.kms_key)
        with self._writing() as connection:
            self._database.alone(connection)
            connection.execute(
                KEYSTORE_SEEN.delete().where(
                    KEYSTORE_SEEN.c.kms_key.in_([row.kms_key for row in seen])
                    | ~sa.exists(named.correlate(KEYSTORE_SEEN))
                )
            )
            if seen:
                connection.execute(KEYSTORE_SEEN.insert(), [seen_columns(row) for row in seen])

    # Everything at once

    def contents(self) -> KeyStoreContents:
        """Return all it holds, as it was at one moment."""
        self._check_version()
        with self._database.translated(), self._database.snapshot.begin() as connection:
            return contents_of(connection)

    def restore(
        self, contents: KeyStoreContents, *, allow: Callable[[KeyStoreContents], None]
    ) -> None:
        """
        Put *contents* in the place of all it holds, id included, in one transaction.

        Args:
            allow: called with what is there, while nobody else can write; raises to refuse.
        """
        self._id = None
        try:
            with self._writing() as connection:
                self._database.alone(connection)
                allow(contents_of(connection))
                put_contents(connection, contents)
        except IntegrityError:
            raise MisuseError(
                "these rows cannot be in one key store; nothing was written"
            ) from None

    def discard(self) -> None:
        """
        Remove a scratch store and everything in it.

        Raises:
            MisuseError: it is none: scratch stores are in files or schemas named for it.
        """
        self._database.discard()
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        self._check_version()
        with self._database.translated(), self._database.engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        self._check_version()
        with self._database.translated(), self._database.writer.begin() as connection:
            yield connection
            self._put_evidence(connection)

    def _check_version(self) -> None:
        if not getattr(self, "_current", False):
            self.check()
            self._current = True

    def check(self) -> None:
        """
        Raise unless the store answers now and has the schema of this release.

        Raises:
            ConfigurationError: says which, and the command that helps.
            KeyStoreUnreachable: it does not answer.
        """
        version = self.version()
        if version == 0:
            self.close()  # an open connection may be to a file that was replaced since
            version = self.version()
        if version == 0:
            raise ConfigurationError(
                f"there is no key store at {self._database.where}",
                hint="run `lacre db upgrade`, or `lacre init` for a first one",
            )
        if version < VERSION:
            raise ConfigurationError(
                f"the key store's schema is version {version}, this release needs {VERSION}",
                hint="run `lacre db upgrade`",
            )
        if version > VERSION:
            raise ConfigurationError(
                f"the key store's schema is version {version}, this release knows {VERSION}",
                hint="upgrade lacre",
            )


def _database(url: str, schema: str) -> KeyDatabase:
    found = parsed(url, _HELD)
    if found.get_backend_name() == "sqlite":
        return SQLiteDatabase(found, _HELD)
    return PostgreSQLDatabase(found, schema, _HELD)


def _version(connection: sa.Connection, schema: str | None) -> int:
    if not sa.inspect(connection).has_table(META.name, schema=schema):
        return 0
    found = connection.execute(sa.select(META.c.value).where(META.c.name == "schema")).scalar()
    if not str(found).isascii() or not str(found).isdecimal():
        raise ConfigurationError(
            "the key store does not say which schema it has",
            hint="restore the key store from a backup",
        )
    return int(str(found))
