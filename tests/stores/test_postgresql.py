"""What is particular to a key store on PostgreSQL: connections, errors, names, passwords."""

import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lacre.errors import ConfigurationError, KeyStoreUnreachable, LacreError, MisuseError
from lacre.keys.hierarchy import KeyState
from lacre.stores.roles import Roles
from lacre.stores.schema import TABLES, VERSION
from lacre.stores.sql import SQLKeyStore
from tests.components.key_stores import KeptInPostgreSQL
from tests.components.postgresql import Database
from tests.keys.parts import Parts, handle, scope
from tests.stores.rows import COLUMN, ROW, uses


@pytest.fixture
def place(database: Database) -> KeptInPostgreSQL:
    """A database of the test's own."""
    return KeptInPostgreSQL(database=database)


@pytest.fixture
def store(place: KeptInPostgreSQL) -> Iterator[SQLKeyStore]:
    """An empty key store."""
    made = place.open()
    made.upgrade()
    yield made
    made.close()


@pytest.fixture
def made() -> Iterator[Callable[..., SQLKeyStore]]:
    """Makes key stores and closes them."""
    stores: list[SQLKeyStore] = []

    def make(url: sa.URL | str, **more: str) -> SQLKeyStore:
        text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
        stores.append(SQLKeyStore(text, **more))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def test_it_makes_one_schema_and_nothing_in_public(store: SQLKeyStore, database: Database) -> None:
    """Five tables in `lacre`; every other schema stays as it was."""
    with database.connect() as connection:
        found = connection.execute(
            "SELECT schemaname, count(*) FROM pg_tables WHERE schemaname !~ '^(pg_|information)' GROUP BY 1"
        ).fetchall()

    assert found == [("lacre", len(TABLES))]


@pytest.mark.parametrize(
    "schema", ["public", "pg_catalog", "pg_x", "", 'a"b', "a.b", "A", "x" * 64]
)
def test_a_schema_that_is_not_its_own_is_refused(database: Database, schema: str) -> None:
    """`public` and the system's are everybody's; nothing else than a plain identifier is a name."""
    with pytest.raises(ConfigurationError, match="a schema of its own"):
        SQLKeyStore(database.text_url(), schema=schema)


def test_nobody_shadows_a_table(store: SQLKeyStore, database: Database) -> None:
    """Tables, operators and functions of other schemas are never meant, whatever search_path says."""
    store.change(add=[ROW])
    with database.connect() as connection:
        connection.execute("CREATE SCHEMA evil")
        connection.execute(
            "CREATE TABLE evil.lacre_key AS SELECT * FROM lacre.lacre_key WHERE false"
        )
        connection.execute(
            "CREATE TABLE public.lacre_meta AS SELECT * FROM lacre.lacre_meta WHERE false"
        )
        connection.execute(
            "CREATE FUNCTION evil.same(varchar, varchar) RETURNS bool LANGUAGE sql AS 'SELECT false'"
        )
        connection.execute(
            "CREATE OPERATOR evil.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = evil.same)"
        )
        connection.execute(
            f'ALTER DATABASE "{database.name}" SET search_path = evil, public, pg_catalog'
        )
    store.close()

    assert store.versions(scope()) == [ROW]
    assert store.find(scope(), [ROW.key_id]) == [ROW]


def test_two_key_stores_in_one_database_are_two(
    store: SQLKeyStore, database: Database, made: Callable[..., SQLKeyStore]
) -> None:
    """Another schema is another key store, with an id of its own."""
    other = made(database.url(), schema="lacre_eu")
    with pytest.raises(ConfigurationError, match="no key store"):
        other.rows()
    other.upgrade()
    store.change(add=[ROW])

    assert other.rows() == []
    assert other.keystore_id != store.keystore_id


@pytest.mark.parametrize("member", [False, True])
def test_a_schema_of_somebody_else_is_refused(
    database: Database, made: Callable[..., SQLKeyStore], member: bool
) -> None:
    """Who owns the schema could drop the tables, whoever made them: there are none, and no roles' rights."""
    other, user = f"other_{database.name}", f"login_{database.name}"
    server = database.server
    server.administer(f"CREATE ROLE {other}; CREATE ROLE {user} LOGIN PASSWORD 'pw'")
    if member:
        server.administer(f"GRANT {other} TO {user}")
    with database.connect() as connection:
        connection.execute(f"CREATE SCHEMA lacre AUTHORIZATION {other}")
        connection.execute(f"GRANT ALL ON SCHEMA lacre TO {user}")
    theirs, superuser = made(database.url(user=user, password="pw")), made(database.url())
    for use in (theirs.upgrade, superuser.upgrade):
        with pytest.raises(ConfigurationError, match="different owners") as caught:
            use()
        assert "ALTER SCHEMA lacre OWNER TO" in caught.value.hint
    assert theirs.version() == superuser.version() == 0
    with database.connect() as connection:
        connection.execute(f"ALTER SCHEMA lacre OWNER TO {user}")

    assert theirs.upgrade() == (0, VERSION)
    superuser.upgrade(roles=Roles())
    with database.connect() as connection:
        connection.execute(f"ALTER SCHEMA lacre OWNER TO {other}")
    with pytest.raises(ConfigurationError, match="different owners"):
        superuser.upgrade(roles=Roles())
    for store in (theirs, superuser):
        store.close()
    with database.connect() as connection:
        connection.execute(f"DROP OWNED BY {user}, {other} CASCADE")
    server.administer(f"DROP ROLE {user}, {other}")


# Errors that say what to do


def test_a_server_that_is_away_may_be_asked_again(
    database: Database, made: Callable[..., SQLKeyStore]
) -> None:
    """Every use raises the retryable KeyStoreUnreachable, upgrade included."""
    gone = made(database.url().set(port=1))

    for use in (*uses(gone), gone.version, gone.upgrade, gone.contents):
        with pytest.raises(KeyStoreUnreachable, match="does not answer") as caught:
            use()
        assert caught.value.retryable


@pytest.mark.parametrize(
    ("change", "said", "hint"),
    [
        ({"password": "CANARY"}, "refuses the password", "PGPASSFILE"),
        ({"password": ""}, "refuses the password", "PGPASSFILE"),
        ({"database": "nowhere"}, "no such database", "create it"),
    ],
)
def test_what_the_server_refuses_is_yours_to_fix(
    database: Database,
    made: Callable[..., SQLKeyStore],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    said: str,
    hint: str,
) -> None:
    """A wrong password or database is a ConfigurationError that says so, and repeats no password."""
    monkeypatch.setenv("PGPASSFILE", os.devnull)
    refused = made(database.url().set(**change))  # type: ignore[arg-type]

    for use in (refused.rows, refused.upgrade):
        with pytest.raises(ConfigurationError, match=said) as caught:
            use()
        assert hint in caught.value.hint
        _no_password(caught.value, "CANARY", database.server.password)


def test_a_user_without_rights_is_told_which_it_needs(
    store: SQLKeyStore, database: Database, made: Callable[..., SQLKeyStore]
) -> None:
    """A login without grants reads nothing and makes nothing."""
    user = f"stranger_{database.name}"
    database.server.administer(f"CREATE ROLE {user} LOGIN PASSWORD 'CANARY-p'")
    stranger = made(database.url(user=user, password="CANARY-p"))
    elsewhere = made(database.url(user=user, password="CANARY-p"), schema="other")
    for use in (stranger.rows, lambda: stranger.change(add=[ROW]), elsewhere.upgrade):
        with pytest.raises(ConfigurationError, match="may not do that") as caught:
            use()
        assert "--roles" in caught.value.hint
        _no_password(caught.value, "CANARY-p")
    stranger.close()
    elsewhere.close()
    database.server.administer(f"DROP ROLE {user}")


def test_a_server_without_tls_is_refused(
    database: Database, made: Callable[..., SQLKeyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing says otherwise TLS is required; an authority that did not sign the certificate is an error."""
    url = database.url()
    monkeypatch.delenv("PGSSLMODE", raising=False)

    def mode(store: SQLKeyStore) -> object:
        with store._database.engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            return driver.info.get_parameters().get("sslmode")

    unsaid = mode(made(url.set(query={})))
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(database.server.certificate))
    environment = mode(made(url.set(query={})))
    monkeypatch.undo()
    wrong = made(url.update_query_dict({"sslrootcert": os.devnull}))

    assert (unsaid, environment) == ("require", "verify-full")
    assert mode(made(url)) == "verify-full"
    with pytest.raises(ConfigurationError, match="no TLS connection"):
        wrong.rows()


def test_a_replica_takes_no_writes(store: SQLKeyStore, database: Database) -> None:
    """A read-only server is named as what it is."""
    database.server.administer(
        f'ALTER DATABASE "{database.name}" SET default_transaction_read_only = on'
    )
    store.close()

    with pytest.raises(ConfigurationError, match="takes no writes") as caught:
        store.change(add=[ROW])
    assert "primary" in caught.value.hint
    assert store.rows() == []


def test_a_locked_table_is_busy_and_not_waited_for(store: SQLKeyStore, database: Database) -> None:
    """Somebody holds the table: the caller is told to try again, and nothing is half done."""
    store.change(add=[ROW])

    @sa.event.listens_for(store._database.engine, "begin")
    def _(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '20ms'")

    with database.connect(autocommit=False) as other:
        other.execute("LOCK TABLE lacre.lacre_key IN ACCESS EXCLUSIVE MODE")
        for use in (store.rows, lambda: store.change(replace=[(ROW, replace(ROW, revision=2))])):
            with pytest.raises(KeyStoreUnreachable, match="busy"):
                use()
        other.rollback()

    assert store.rows() == [ROW]


def test_sessions_have_limits_and_no_search_path(store: SQLKeyStore) -> None:
    """No statement, lock or forgotten transaction lasts; the pool is bounded."""
    with store._database.engine.connect() as connection:
        shown = {
            name: connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in (
                "search_path",
                "statement_timeout",
                "lock_timeout",
                "idle_in_transaction_session_timeout",
            )
        }
    pool = store._database.engine.pool

    assert shown == {
        "search_path": "pg_catalog",
        "statement_timeout": "15s",
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "1min",
    }
    assert isinstance(pool, sa.pool.QueuePool)
    assert pool.size() + pool._max_overflow == 5


# Connections that end


def _terminate(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            [database.name],
        )


def test_a_connection_the_server_dropped_is_replaced(
    store: SQLKeyStore, database: Database
) -> None:
    """Dropped between two uses, nobody notices."""
    store.change(add=[ROW])
    for use in (
        store.rows,
        lambda: store.change(replace=[(ROW, replace(ROW, state=KeyState.DISABLED, revision=2))]),
        lambda: store.put(COLUMN),
        store.contents,
    ):
        _terminate(database)
        use()

    assert store.rows()[0].revision == 2


@pytest.mark.parametrize("at", range(4))
def test_a_connection_dropped_in_the_middle_leaves_all_or_nothing(
    store: SQLKeyStore, database: Database, at: int
) -> None:
    """Before each statement of a change and its commit: retryable, and the rows are as before or as after."""
    store.change(add=[ROW])
    second = replace(ROW, key_id=b"\x02" * 16, version=2)
    old = replace(ROW, state=KeyState.DECRYPT_ONLY, revision=2)
    count = iter(range(100))

    def drop(*_: object) -> None:
        if next(count) == at:
            _terminate(database)

    engine = store._database.engine
    sa.event.listen(engine, "begin", drop)
    sa.event.listen(engine, "before_cursor_execute", drop)
    sa.event.listen(engine, "commit", drop)
    with pytest.raises(KeyStoreUnreachable):
        store.change(add=[second], replace=[(ROW, old)])
    sa.event.remove(engine, "begin", drop)
    sa.event.remove(engine, "before_cursor_execute", drop)
    sa.event.remove(engine, "commit", drop)

    assert store.rows() in ([ROW], [old, second])
    if store.rows() == [ROW]:
        store.change(add=[second], replace=[(ROW, old)])
    assert store.rows() == [old, second]


def test_a_deadlock_is_a_race_lost(store: SQLKeyStore, database: Database) -> None:
    """Two changes that wait for each other: one is made, the other says that nothing was done."""
    second = replace(ROW, key_id=b"\x02" * 16, version=2, state=KeyState.PENDING)
    store.change(add=[ROW, second])
    with database.connect(autocommit=False) as other:
        other.execute("SET deadlock_timeout = '60s'")  # so that ours is the one that is ended
        other.execute("UPDATE lacre.lacre_key SET changed = 'x' WHERE version = 2")

        def wait_for_ours() -> None:
            # Ours holds version 1 once it waits for version 2.
            with database.connect(autocommit=True) as watching:
                waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                while watching.execute(waits).fetchone() == (0,):
                    time.sleep(0.01)
            other.pgconn.send_query(b"UPDATE lacre.lacre_key SET changed = 'y' WHERE version = 1")

        waiting = threading.Thread(target=wait_for_ours, daemon=True)
        waiting.start()
        with pytest.raises(MisuseError, match="nothing was done"):
            store.change(
                replace=[
                    (ROW, replace(ROW, state=KeyState.DISABLED, revision=2)),
                    (second, replace(second, state=KeyState.DESTROYED, revision=2)),
                ]
            )
        waiting.join(timeout=10)
        other.close()

    assert {row.revision for row in store.rows()} == {1}


# Passwords


def _no_password(error: BaseException, *passwords: str) -> None:
    told = "".join(traceback.format_exception(error)) + repr(error)
    told += error.hint if isinstance(error, LacreError) else ""
    for password in passwords:
        assert not password or password not in told


@pytest.mark.parametrize("way", ["environment", "file", "service"])
def test_the_password_need_not_be_in_the_url(
    store: SQLKeyStore,
    database: Database,
    made: Callable[..., SQLKeyStore],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    way: str,
) -> None:
    """PGPASSWORD, a password file and a service file work as libpq says."""
    store.change(add=[ROW])
    url = database.url()
    password = database.server.password
    bare = sa.URL.create(
        url.drivername, url.username, None, url.host, url.port, url.database, url.query
    )
    monkeypatch.setenv("PGPASSFILE", os.devnull)
    if way == "environment":
        monkeypatch.setenv("PGPASSWORD", password)
    elif way == "file":
        (tmp_path / "pgpass").write_text(f"*:*:*:*:{password}\n")
        (tmp_path / "pgpass").chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    else:
        (tmp_path / "services").write_text(
            f"[keys]\nhost={url.host}\nport={url.port}\ndbname={url.database}\nuser={url.username}\n"
            f"password={password}\nsslmode=verify-full\nsslrootcert={url.query['sslrootcert']}\n"
        )
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        bare = sa.make_url("postgresql+psycopg:///?service=keys")

    assert made(bare).rows() == [ROW]


def test_no_log_and_no_repr_carries_the_password(
    database: Database, made: Callable[..., SQLKeyStore], caplog: pytest.LogCaptureFixture
) -> None:
    """With SQLAlchemy's and psycopg's logs turned up, through a whole life of a store."""
    caplog.set_level(logging.DEBUG)
    password = database.server.password
    store = made(database.url())
    store.upgrade()
    store.change(add=[ROW])
    _terminate(database)
    store.rows()
    store.close()

    assert password not in caplog.text
    for thing in (
        store,
        store._database,
        store._database.engine,
        vars(store),
        vars(store._database),
    ):
        assert password not in repr(thing)
    assert "CANARY" not in caplog.text


def test_a_child_of_fork_leaves_its_parents_connections_alone(
    store: SQLKeyStore, database: Database
) -> None:
    """The parent's very connection still works after the child used the store and ended."""
    store.change(add=[ROW])
    with store._database.engine.connect() as held:
        before = held.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if store.rows() == [ROW] else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

        assert held.exec_driver_sql("SELECT pg_backend_pid()").scalar() == before


def test_a_look_may_be_tried_again(database: Database) -> None:
    """The connection drops while a key is fetched: retryable, nothing is cached of it, the next look works."""
    parts = Parts.at(KeptInPostgreSQL(database=database))
    parts.create()
    resolver = parts.resolver()
    key_id = parts.row().key_id
    dropping = [True]

    def drop(*_: object) -> None:
        if dropping.pop():
            _terminate(database)
        dropping.append(False)

    for use in (
        lambda: resolver.to_encrypt(handle()),
        lambda: resolver.to_decrypt(handle(), key_id),
        lambda: resolver.prepare(handle(), [key_id]),
    ):
        resolver.forget()
        dropping[:] = [True]
        sa.event.listen(parts.store._database.engine, "before_cursor_execute", drop)
        with pytest.raises(KeyStoreUnreachable) as caught:
            use()
        sa.event.remove(parts.store._database.engine, "before_cursor_execute", drop)
        assert caught.value.retryable
        use()

    assert resolver.to_decrypt(handle(), key_id).key_id == key_id
    parts.recorder.close()
    parts.store.close()


def test_nobody_writes_while_a_restore_decides(
    store: SQLKeyStore, database: Database, made: Callable[..., SQLKeyStore]
) -> None:
    """Between its look at what is there and its commit others read, and none changes a key."""
    store.change(add=[ROW])
    other = made(database.url())

    @sa.event.listens_for(other._database.engine, "begin")
    def _(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '20ms'")

    def allow(_: object) -> None:
        assert other.rows() == [ROW]
        for use in (
            lambda: other.change(replace=[(ROW, replace(ROW, revision=2))]),
            lambda: other.put(COLUMN),
        ):
            with pytest.raises(KeyStoreUnreachable, match="busy"):
                use()

    before = store.contents()
    store.restore(before, allow=allow)

    assert store.contents() == before


def test_a_key_that_is_wrapped_anew_stays_in_its_page(
    store: SQLKeyStore, database: Database
) -> None:
    """Its page has room for another version, again and again, so no index is written."""
    rows = [
        replace(ROW, key_id=number.to_bytes(16, "big"), scope=scope(tenant=f"t{number}"), wrapped=bytes(123))
        for number in range(300)
    ]  # fmt: skip
    store.change(add=rows)

    def pages() -> list[Any]:
        with database.connect() as connection:
            return connection.execute("SELECT key_id, split_part(ctid::text, ',', 1) FROM lacre.lacre_key ORDER BY key_id").fetchall()  # fmt: skip

    before = pages()
    for first in range(10):
        store.change(replace=[(row, replace(row, wrapped=bytes([1]) * 123, parent="ab" * 16)) for row in rows[first::10]])  # fmt: skip

    assert len({page for _, page in before}) > 10
    assert pages() == before
