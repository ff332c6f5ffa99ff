"""Each role does its work with its own credential, over TLS, and nothing beyond it."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from lacre import Lacre
from lacre.errors import ConfigurationError, LacreError
from lacre.fields.column_state import ColumnState
from lacre.keys.hierarchy import KeyKind, KeyState
from lacre.keys.seen import SeenSerial
from lacre.stores.log.outboxes import Outbox
from lacre.stores.roles import Roles
from lacre.stores.schema import VERSION
from lacre.stores.sql import SQLKeyStore
from tests.components import warm
from tests.components.key_stores import KeptInPostgreSQL
from tests.components.postgresql import Database
from tests.keys.parts import scope
from tests.stores.rows import COLUMN, ROW, SUBJECT, WRAPPED, subject_key

pytestmark = pytest.mark.any_sqlalchemy
ROLES = Roles()
SEEN = SeenSerial(kms_key="local://x", serial=5, hash="aa", version_id="bb", mac=b"m" * 32)
TABLES = (
    "lacre_meta",
    "lacre_key",
    "lacre_column_state",
    "lacre_keystore_seen",
    "lacre_subject",
    "lacre_epoch",
    "lacre_grant",
    "lacre_grant_act",
    "lacre_outbox",
)


@pytest.fixture
def owner(database: Database) -> Iterator[SQLKeyStore]:
    """A key store with the roles, one key, one column state and one serial."""
    store = KeptInPostgreSQL(database=database).open()
    store.upgrade(roles=ROLES)
    store.change(add=[ROW])
    store.put(COLUMN)
    store.remember(SEEN)
    store.add_subjects([SUBJECT, replace(SUBJECT, digest=HELD, pseudonym="0a" * 16)])
    with database.connect() as connection:
        connection.execute(
            "UPDATE lacre.lacre_subject SET hold = 'case 7' WHERE digest = %s", [HELD]
        )
    yield store
    store.close()


HELD = b"\x08" * 32


class As:
    """A login that has one role."""

    def __init__(self, database: Database, role: str) -> None:
        self.name = f"{role}_{database.name}"
        self.database = database
        database.server.administer(f"CREATE ROLE {self.name} LOGIN PASSWORD 'pw' IN ROLE {role}")
        self.url = database.text_url(user=self.name, password="pw")
        self.store = SQLKeyStore(self.url)

    def sql(self, statement: str, *values: Any) -> Any:
        with psycopg.connect(self.database.dsn(user=self.name, password="pw")) as connection:
            tls = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            assert tls.fetchone() == (True,)
            return connection.execute(statement, values)

    def end(self) -> None:
        self.store.close()
        self.database.server.administer(f"DROP ROLE {self.name}")


@pytest.fixture
def login(database: Database) -> Iterator[Callable[[str], As]]:
    """Makes logins with a role."""
    made: list[As] = []

    def make(role: str) -> As:
        made.append(As(database, role))
        return made[-1]

    yield make
    for one in made:
        one.end()


INSERT = """INSERT INTO lacre.lacre_key (key_id, kind, app, env, service, tenant, class, version, parent,
    suite, created, keystore, wrapped, state, revision, changed)
    VALUES ('\\x09', %s, 'a', 'e', 's', 't', 'c', 1, 'p', 1, 'now', 'k', '\\x00', %s, 1, 'now')"""


def test_records_of_changes_are_put_and_taken_by_different_roles(
    owner: SQLKeyStore, login: Callable[[str], As]
) -> None:
    """Who changes keys reads no record and takes none back; who sequences takes them and reads no key."""
    put = "INSERT INTO lacre.lacre_outbox (id, entry) VALUES (decode(%s, 'hex'), 'x')"
    users = {
        role: login(f"lacre_{role}") for role in ("runtime", "operator", "auditor", "sequencer")
    }
    users["runtime"].sql(put, "01" * 16)
    users["operator"].sql(put, "02" * 16)
    refused = [
        ("auditor", put),
        ("sequencer", put),
        *(
            (role, "SELECT id FROM lacre.lacre_outbox")
            for role in ("runtime", "operator", "auditor")
        ),
        ("sequencer", "SELECT key_id FROM lacre.lacre_key"),
        ("sequencer", "UPDATE lacre.lacre_outbox SET entry = 'y'"),
    ]
    for role, statement in refused:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            users[role].sql(statement, *(["03" * 16] if "%s" in statement else []))
    path = {"options": "-csearch_path=lacre"}
    url = make_url(users["sequencer"].url).update_query_dict(path)
    outbox = Outbox("key-store", url.render_as_string(hide_password=False))
    taken, _ = outbox.waiting(10)
    outbox.remove([each.position for each in taken])
    left, _ = outbox.waiting(10)
    outbox.close()

    assert [each.id for each in taken] == [b"\x01" * 16, b"\x02" * 16]
    assert left == []


@pytest.mark.parametrize("role", ["lacre_runtime", "lacre_auditor"])
@pytest.mark.parametrize("kind", list(KeyKind))
@pytest.mark.parametrize("state", ["pending", "active"])
def test_only_an_operator_inserts_keys(
    owner: SQLKeyStore, login: Callable[[str], As], role: str, kind: KeyKind, state: str
) -> None:
    """No kind, wrapped by a KMS key or below one, in no state."""
    user = login(role)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        user.sql(INSERT, str(kind), state)
    with pytest.raises(ConfigurationError, match="may not do that"):
        user.store.change(
            add=[replace(ROW, key_id=b"\x09" * 16, scope=scope(str(kind)), version=9)]
        )

    assert owner.rows() == [ROW]


# What each role may not do, as SQL.
FORBIDDEN = {
    "lacre_runtime": [
        "UPDATE lacre.lacre_subject SET pseudonym = NULL, shredded = 'now'",
        "UPDATE lacre.lacre_subject SET hold = NULL",
        "INSERT INTO lacre.lacre_subject (digest, created, shredded) VALUES ('\\x01', 'now', 'now')",
        "INSERT INTO lacre.lacre_subject (digest, pseudonym, created, hold) VALUES ('\\x01', 'p', 'now', 'h')",
        "INSERT INTO lacre.lacre_subject (digest, pseudonym, created) VALUES ('\\x01', 'p', 'now') ON CONFLICT (digest) DO UPDATE SET pseudonym = 'q'",
        "UPDATE lacre.lacre_key SET wrapped = '\\x00'",
        "UPDATE lacre.lacre_key SET state = 'disabled', revision = 2",
        "UPDATE lacre.lacre_column_state SET state = 'plaintext', revision = 2",
        'INSERT INTO lacre.lacre_column_state SELECT \'x\', "table", "column", class, state, 1, changed, keystore, signer, signature FROM lacre.lacre_column_state',
        "UPDATE lacre.lacre_keystore_seen SET serial = 4",
        "UPDATE lacre.lacre_keystore_seen SET kms_key = 'local://y', serial = 9",
        "UPDATE lacre.lacre_keystore_seen SET serial = 2147483647",
        "UPDATE lacre.lacre_keystore_seen SET serial = 1006",
        "UPDATE lacre.lacre_keystore_seen SET serial = 6, mac = '\\x00'",
        "INSERT INTO lacre.lacre_keystore_seen VALUES ('local://junk', 1, 'a', 'b', pg_catalog.decode(repeat('00', 32), 'hex'))",
        f"INSERT INTO lacre.lacre_keystore_seen VALUES ('{ROW.parent}', 1, 'a', 'b', '\\x00')",
        f"INSERT INTO lacre.lacre_keystore_seen VALUES ('{ROW.parent}', 1001, 'a', 'b', pg_catalog.decode(repeat('00', 32), 'hex'))",
    ],
    "lacre_operator": [
        "UPDATE lacre.lacre_key SET digest = '\\x00', revision = 2",
        "UPDATE lacre.lacre_subject SET pseudonym = repeat('a', 32)",
        "UPDATE lacre.lacre_subject SET digest = '\\x00'",
        "UPDATE lacre.lacre_subject SET pseudonym = NULL, shredded = 'now' WHERE hold IS NOT NULL",
        "UPDATE lacre.lacre_key SET tenant = 't2'",
        "UPDATE lacre.lacre_key SET key_id = '\\x00'",
        "UPDATE lacre.lacre_key SET state = 'disabled'",  # without a revision
        "UPDATE lacre.lacre_key SET revision = 0",
        "UPDATE lacre.lacre_column_state SET revision = 3",
        "UPDATE lacre.lacre_column_state SET \"column\" = 'other', revision = 2",
        "UPDATE lacre.lacre_keystore_seen SET serial = 4",
    ],
    "lacre_auditor": [
        "UPDATE lacre.lacre_key SET state = 'disabled', revision = 2",
        "UPDATE lacre.lacre_column_state SET revision = 2",
        "UPDATE lacre.lacre_keystore_seen SET serial = 6",
        "INSERT INTO lacre.lacre_keystore_seen VALUES ('local://z', 1, 'a', 'b', '\\x00')",
    ],
}
NOBODY = [
    *(f"DELETE FROM lacre.{table}" for table in TABLES),
    *(f"TRUNCATE lacre.{table}" for table in TABLES),
    *(f"DROP TABLE lacre.{table}" for table in TABLES),
    "UPDATE lacre.lacre_meta SET value = '1'",
    "INSERT INTO lacre.lacre_meta VALUES ('x', 'y')",
    "ALTER TABLE lacre.lacre_key DISABLE TRIGGER ALL",
    "DROP TRIGGER lacre_key_guard ON lacre.lacre_key",
    "CREATE TABLE lacre.mine (x int)",
    "SET session_replication_role = replica",
]


@pytest.mark.parametrize("role", FORBIDDEN)
def test_no_role_does_more_than_its_work(
    owner: SQLKeyStore, login: Callable[[str], As], role: str
) -> None:
    """No deletion, no change of what never changes, no step back, no table of its own."""
    user = login(role)
    before = owner.contents()

    for statement in (*FORBIDDEN[role], *NOBODY):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            user.sql(statement)
    assert owner.contents() == before


@pytest.mark.parametrize("role", FORBIDDEN)
def test_every_role_reads(owner: SQLKeyStore, login: Callable[[str], As], role: str) -> None:
    """Keys, column states, serials: nothing of it is a key in the clear."""
    assert login(role).store.contents() == owner.contents()


def test_the_operator_inserts_and_changes(owner: SQLKeyStore, login: Callable[[str], As]) -> None:
    """All that `lacre keys` and `lacre protect` write."""
    store = login("lacre_operator").store
    old = replace(ROW, state=KeyState.DECRYPT_ONLY, revision=2, parent="cd" * 16)
    new = replace(ROW, key_id=b"\x02" * 16, version=2)
    store.change(add=[new], replace=[(ROW, old)])
    store.put(replace(COLUMN, revision=2, state=ColumnState.ENCRYPTED))
    store.put(replace(COLUMN, column="d"))
    store.remember(replace(SEEN, serial=6))

    assert owner.rows() == [old, new]
    assert owner.get("main", "t", "c") == replace(COLUMN, revision=2, state=ColumnState.ENCRYPTED)


def test_the_run_time_makes_a_subjects_first_key(
    owner: SQLKeyStore, login: Callable[[str], As]
) -> None:
    """A subject and its key are added, and pass over what is there; anything else about the row is refused."""
    store = login("lacre_runtime").store
    key = subject_key(SUBJECT)
    for wrong in (
        replace(key, state=KeyState.PENDING, revision=1),
        replace(key, revision=3),
        replace(key, version=2),
        replace(key, wrapped=WRAPPED[:-1]),
        replace(key, mac=None),
        replace(key, parent="local://pii-fields"),
        replace(key, scope=replace(key.scope, kind=KeyKind.DATA)),
        replace(key, scope=replace(key.scope, kind=KeyKind.BRANCH)),
    ):
        with pytest.raises(LacreError, match=r"may not do that|were sealed"):
            store.add_subject_keys([wrong])
    other = replace(SUBJECT, digest=b"\x03" * 32, pseudonym="0c" * 16)
    store.add_subjects([other, replace(SUBJECT, pseudonym="0d" * 16)])
    store.add_subject_keys([key, subject_key(other), replace(key, key_id=b"\x0e" * 16)])

    found = owner.subjects(key.scope, [SUBJECT.digest, other.digest, HELD])
    assert found[SUBJECT.digest].versions == (key,)
    assert found[SUBJECT.digest].subject == SUBJECT
    assert found[other.digest].versions == (subject_key(other),)
    assert found[HELD].versions == ()


def test_a_tombstone_stays_and_takes_no_key(owner: SQLKeyStore, login: Callable[[str], As]) -> None:
    """Once shredded, a subject gets neither a pseudonym nor a key again, by nobody's statement."""
    operator, runtime = login("lacre_operator"), login("lacre_runtime")
    shred = "UPDATE lacre.lacre_subject SET pseudonym = NULL, shredded = 'now' WHERE digest = %s"
    owner.add_subject_keys([subject_key(SUBJECT)])
    with pytest.raises(psycopg.errors.ForeignKeyViolation):  # its key is there still
        operator.sql(shred, SUBJECT.digest)
    gone = subject_key(SUBJECT).stepped(KeyState.DESTROYED, changed="now")
    operator.store.change(replace=[(subject_key(SUBJECT), gone)])
    operator.sql(shred, SUBJECT.digest)

    back = "UPDATE lacre.lacre_subject SET pseudonym = %s, shredded = NULL WHERE digest = %s"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        operator.sql(back, SUBJECT.pseudonym, SUBJECT.digest)
    another = replace(subject_key(SUBJECT), key_id=b"\x0f" * 16, version=2)
    for store in (owner, runtime.store):
        store.add_subjects([SUBJECT])
        store.add_subject_keys(
            [replace(another, version=1)]
        )  # passed over: there is no such subject
    with pytest.raises(LacreError, match="another process changed these keys"):
        operator.store.change(add=[another])  # by the foreign key
    found = owner.subjects(another.scope, [SUBJECT.digest])[SUBJECT.digest]
    assert (found.subject.pseudonym, found.subject.shredded, found.versions) == (None, "now", ())


def test_a_destroyed_key_stays_destroyed(owner: SQLKeyStore, login: Callable[[str], As]) -> None:
    """Not even the owner brings it back by an UPDATE."""
    gone = ROW.stepped(KeyState.DESTROYED, changed="now")
    owner.change(replace=[(ROW, gone)])
    for store in (owner, login("lacre_operator").store):
        with pytest.raises(LacreError, match="may not"):
            store.change(replace=[(gone, replace(ROW, revision=3))])

    assert owner.rows() == [gone]


def test_the_run_time_remembers_and_never_forgets(
    owner: SQLKeyStore, login: Callable[[str], As]
) -> None:
    """A higher serial is kept, a lower one changes nothing."""
    store = login("lacre_runtime").store
    owner.change(add=[replace(ROW, key_id=b"\x03" * 16, version=3, parent="local://new", state=KeyState.DECRYPT_ONLY)])  # fmt: skip
    store.remember(replace(SEEN, kms_key="local://new"))
    assert owner.recall("local://new") == replace(SEEN, kms_key="local://new")
    store.remember(replace(SEEN, serial=4))
    assert owner.recall("local://x") == SEEN
    store.remember(replace(SEEN, serial=6))

    found = owner.recall("local://x")
    assert found is not None
    assert found.serial == 6


def test_the_run_time_moves_on_from_a_high_serial(
    owner: SQLKeyStore, login: Callable[[str], As]
) -> None:
    """An upsert of a serial far above the first is a step from what is there; owner and operator go farther."""
    store = login("lacre_runtime").store
    for serial, by in ((2000, login("lacre_operator").store), (4000, owner), (5000, store)):
        by.remember(replace(SEEN, serial=serial))
        found = owner.recall(SEEN.kms_key)

        assert found is not None
        assert found.serial == serial


def test_a_falsified_memory_is_the_owners_to_make_anew(
    owner: SQLKeyStore, login: Callable[[str], As]
) -> None:
    """Lower serials and all, what no key names goes, what was not named stays; no role may."""
    owner.change(add=[replace(ROW, key_id=b"\x03" * 16, version=3, parent="local://kept", state=KeyState.DECRYPT_ONLY)])  # fmt: skip
    kept = replace(SEEN, kms_key="local://kept")
    for row in (kept, replace(SEEN, serial=2**31 - 1), replace(SEEN, kms_key="local://junk")):
        owner.remember(row)
    before = owner.contents()
    for role in FORBIDDEN:
        with pytest.raises(ConfigurationError, match="may not do that"):
            login(role).store.reseat([SEEN])
    assert owner.contents() == before
    owner.reseat([SEEN])

    assert set(owner.contents().seen) == {SEEN, kept}


def test_roles_are_made_again_without_a_change(owner: SQLKeyStore, database: Database) -> None:
    """A second `--roles` leaves the same rights, and takes back what somebody added."""
    rights = "SELECT relname, relacl::text FROM pg_class WHERE relnamespace = 'lacre'::regnamespace ORDER BY 1"
    with database.connect() as connection:
        before = connection.execute(rights).fetchall()
        connection.execute("GRANT DELETE ON lacre.lacre_key TO lacre_runtime, PUBLIC")
        assert connection.execute(rights).fetchall() != before
        owner.upgrade(roles=ROLES)

        assert connection.execute(rights).fetchall() == before
        columns = connection.execute(
            "SELECT count(*) FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid = 'lacre.lacre_key'::regclass"
        ).fetchone()
    assert columns == (7,)


def test_others_do_not_write(database: Database) -> None:
    """What default privileges or somebody's GRANT gave to another role is taken; reading stays."""
    other = f"x_{database.name}"
    store = KeptInPostgreSQL(database=database).open()
    with database.connect() as connection:
        connection.execute(f"CREATE ROLE {other}")
        for what in ("TABLES", "SCHEMAS"):
            connection.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {what} TO {other}")
        store.upgrade()
        connection.execute(f"GRANT UPDATE (state) ON lacre.lacre_key TO {other}")
        store.upgrade(roles=ROLES)
        rights = connection.execute(
            "SELECT c.relname || '.' || p FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p"
            " WHERE c.relnamespace = 'lacre'::regnamespace AND c.relkind = 'r' AND (has_table_privilege(%(role)s, c.oid, p)"
            " OR (p IN ('INSERT', 'UPDATE') AND has_any_column_privilege(%(role)s, c.oid, p)))",
            {"role": other},
        ).fetchall()
        makes = connection.execute(
            "SELECT has_schema_privilege(%s, 'lacre', 'CREATE')", [other]
        ).fetchone()
        connection.execute(f"DROP OWNED BY {other}")
        connection.execute(f"DROP ROLE {other}")
    store.close()

    assert {right for (right,) in rights} == {f"{table}.SELECT" for table in TABLES}
    assert makes == (False,)


def test_roles_have_the_names_one_gives_them(
    database: Database, login: Callable[[str], As]
) -> None:
    """Other names, for two environments in one cluster; names that are none are refused."""
    named = Roles(
        runtime=f"r_{database.name}", operator=f"o_{database.name}", auditor=f"a_{database.name}"
    )
    store = KeptInPostgreSQL(database=database).open()
    store.upgrade(roles=named)
    user = login(named.runtime)

    assert user.store.rows() == []
    with pytest.raises(ConfigurationError):
        user.store.change(add=[ROW])
    for wrong in ({"runtime": 'a"; DROP'}, {"runtime": "x", "operator": "x"}):
        with pytest.raises(ConfigurationError, match="roles have"):
            Roles(**wrong)
    store.close()
    with database.connect() as connection:
        connection.execute("DROP SCHEMA lacre CASCADE")
        for name in (named.operator, named.auditor):
            connection.execute(f"DROP ROLE {name}")


def test_an_upgrade_is_the_owners(owner: SQLKeyStore, login: Callable[[str], As]) -> None:
    """A role that may use the store may not make it anew or grant anything."""
    store = login("lacre_operator").store
    for use in (
        lambda: store.upgrade(roles=ROLES),
        lambda: store.restore(owner.contents(), allow=print),
    ):
        with pytest.raises(ConfigurationError, match="may not do that"):
            use()

    assert store.upgrade() == (
        VERSION,
        VERSION,
    )  # where there is nothing to do, nobody needs a right


def test_the_printed_sql_is_what_an_upgrade_runs(
    database: Database, login: Callable[[str], As]
) -> None:
    """A DBA who runs it by hand gets the same store, with the same rights."""
    store = KeptInPostgreSQL(database=database).open()
    script = store.script(roles=ROLES)
    assert store.version() == 0
    with database.connect() as connection:
        connection.execute(script)  # type: ignore[call-overload]
    store.change(add=[ROW])
    assert login("lacre_runtime").store.rows() == [ROW]
    with pytest.raises(ConfigurationError):
        login("lacre_auditor").store.change(add=[replace(ROW, key_id=b"\x02" * 16, version=2)])
    by_hand = _shape(database)
    with database.connect() as connection:
        connection.execute("DROP SCHEMA lacre CASCADE")
    store.upgrade(roles=ROLES)

    assert _shape(database) == by_hand
    assert "INSERT" not in store.script()
    store.close()


def _shape(database: Database) -> list[Any]:
    with database.connect() as connection:
        return [
            connection.execute(query).fetchall()
            for query in (
                "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default FROM information_schema.columns WHERE table_schema = 'lacre' ORDER BY 1, 2",
                "SELECT indexdef FROM pg_indexes WHERE schemaname = 'lacre' ORDER BY 1",
                "SELECT grantee, table_name, privilege_type FROM information_schema.table_privileges WHERE table_schema = 'lacre' ORDER BY 1, 2, 3",
                "SELECT grantee, table_name, column_name, privilege_type FROM information_schema.column_privileges WHERE table_schema = 'lacre' ORDER BY 1, 2, 3, 4",
                "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
                "SELECT name FROM lacre.lacre_meta ORDER BY 1",
            )
        ]


def test_an_application_and_its_operator_work_under_their_roles(
    home: Path, database: Database, owner: SQLKeyStore, login: Callable[[str], As]
) -> None:
    """lacre encrypts, decrypts and searches as the run time; `lacre keys rotate` runs as the operator."""
    config = home / "lacre.toml"
    text = config.read_text()
    source = SQLKeyStore(f"sqlite:///{home}/lacre/keys.db")
    owner.restore(source.contents(), allow=lambda _: None)
    source.close()
    sqlite = 'url = "sqlite:///lacre/keys.db"'
    assert sqlite in text

    urls = {role: login(role).url for role in ("lacre_runtime", "lacre_operator")}

    def under(role: str) -> None:
        config.write_text(text.replace(sqlite, f'url = "{urls[role]}"'))

    under("lacre_runtime")
    with Lacre.load(config, environ={}) as lacre, lacre.acting_as("t", roles={"app"}, purpose="p"):
        box = lacre.field("pii", table="t", column="c", type=str)
        sealed = box.encrypt("x", row="1")
        assert box.decrypt(sealed, row="1") == "x"
    rotate = ("keys", "rotate", "--class", "pii", "--kind")
    refused = warm.run(*rotate, "data", cwd=home, environ=os.environ)
    under("lacre_operator")
    ran = [
        warm.run(*rotate, kind, cwd=home, environ=os.environ) for kind in ("data", "branch", "kms")
    ]
    under("lacre_runtime")

    assert refused.returncode == 3
    assert "lacre db upgrade --roles" in refused.stderr
    assert [done.returncode for done in ran] == [0, 0, 0], ran
    with Lacre.load(config, environ={}) as lacre, lacre.acting_as("t", roles={"app"}, purpose="p"):
        box = lacre.field("pii", table="t", column="c", type=str)
        assert box.decrypt(sealed, row="1") == "x"
        again = box.encrypt("x", row="1")
        assert bytes(again)[3:19] != bytes(sealed)[3:19]
