# SPDX-License-Identifier: Apache-2.0
"""Migrations that Alembic's autogenerate writes for encrypted columns, run on both databases."""

import ast
import os
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy.dialects import mssql, postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from lacre import BlindIndex, ConfigurationError, Lacre
from lacre.sqlalchemy import ContainsIndex, EncryptedType, encrypted, row_id
from lacre.sqlalchemy.migrations import alembic_options
from tests.components import warm
from tests.components.postgresql import Database
from tests.sqlalchemy.conftest import Acting
from tests.sqlalchemy.models import CPF, EMAIL, OTHER_CPF, OTHER_EMAIL, Base

_ENV = """\
from alembic import context
from lacre.sqlalchemy.migrations import alembic_options

given = context.config.attributes
with given["engine"].connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=given["metadata"],
        compare_type=True,
        compare_server_default=True,
        render_as_batch=given["batch"],
        include_schemas=given["schemas"],
        **alembic_options(),
    )
    with context.begin_transaction():
        context.run_migrations()
"""
_MAKO = '''"""${message}"""
from alembic import op
import sqlalchemy as sa
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
'''


# Without it Alembic cannot bring back a unique constraint that SQLite was given no name for.
NAMED = {
    "naming_convention": {
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(column_0_label)s",
    }
}


class Migrations:
    """A real Alembic environment, whose models are given to each step."""

    def __init__(self, directory: Path, engine: sa.Engine, *, batch: bool, schemas: bool) -> None:
        (directory / "versions").mkdir(parents=True)
        (directory / "env.py").write_text(_ENV, encoding="utf-8")
        (directory / "script.py.mako").write_text(_MAKO, encoding="utf-8")
        self.directory = directory
        self.engine = engine
        self.config = Config()
        self.config.set_main_option("script_location", str(directory))
        self.config.set_main_option("path_separator", "os")
        self.config.attributes.update(engine=engine, batch=batch, schemas=schemas)

    def revision(self, base: Any) -> str:
        """Write the migration to what *base* declares, and return its text."""
        self.config.attributes["metadata"] = base.metadata
        script: Any = command.revision(self.config, "step", autogenerate=True)
        return Path(script.path).read_text(encoding="utf-8")

    def upgrade(self, to: str = "head") -> None:
        command.upgrade(self.config, to)

    def downgrade(self, to: str = "-1") -> None:
        command.downgrade(self.config, to)

    def check(self, base: Any) -> None:
        """Raise if autogenerate finds a difference between what *base* declares and the database at its head."""
        self.config.attributes["metadata"] = base.metadata
        command.check(self.config)

    def differences(self, base: Any) -> list[Any]:
        """Return what Alembic alone finds, at any revision."""
        with self.engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            return list(compare_metadata(context, base.metadata))


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    if request.param == "sqlite":
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'application.db'}")
    else:
        database: Database = request.getfixturevalue("database")
        engine = sa.create_engine(database.url())
    yield engine
    engine.dispose()


@pytest.fixture
def migrations(engine: sa.Engine, tmp_path: Path) -> Migrations:
    sqlite = engine.dialect.name == "sqlite"
    return Migrations(tmp_path / "migrations", engine, batch=sqlite, schemas=False)


def base(**table: Any) -> Any:
    class Base(DeclarativeBase):
        metadata = sa.MetaData(**table)

    return Base


def customers(
    *,
    columns: dict[str, Any] | None = None,
    name: str = "Customer",
    renamed: str | None = None,
    **table: Any,
) -> Any:
    """A model of the table `customers`: encrypted where *columns* says nothing else."""
    if columns is None:
        columns = {
            "email": encrypted("pii", index=BlindIndex("email", unique=True)),
            "cpf": encrypted("pii", index=BlindIndex("cpf")),
            "note": encrypted("pii"),
        }
    return type(
        name,
        (base(**table),),
        {
            "__tablename__": renamed or "customers",
            **({"__lacre_table__": "customers"} if renamed else {}),
            "__annotations__": {
                "id": Mapped[UUID],
                "city": Mapped[str | None],
                **dict.fromkeys(columns, Mapped[str | None]),
            },
            "id": mapped_column(primary_key=True, default=uuid4),
            **columns,
        },
    )


def plain() -> dict[str, Any]:
    return {
        "email": mapped_column(sa.String(200), unique=True),
        "cpf": mapped_column(sa.String(20), index=True),
        "note": mapped_column(sa.Text()),
    }


def refused(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection, pytest.raises(sa.exc.IntegrityError, match="lacre"):
        connection.exec_driver_sql(statement)


def imports_what_it_uses(text: str) -> bool:
    tree = ast.parse(text)
    bound = {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    used = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    return used <= bound | {"batch_op"}


def test_a_new_table(migrations: Migrations, engine: sa.Engine) -> None:
    """Up, down and up again; a second autogenerate finds nothing; the table refuses plaintext."""
    declared = customers()
    text = migrations.revision(declared)
    migrations.upgrade()
    migrations.downgrade()
    assert "customers" not in sa.inspect(engine).get_table_names()
    migrations.upgrade()
    migrations.check(declared)

    assert imports_what_it_uses(text)
    assert "lacre" not in text.replace("_lacre'", "")
    assert "pii" not in text
    assert text.count("LargeBinary()") == 6
    refused(engine, f"INSERT INTO customers (id, note) VALUES ('{uuid4().hex}', 'plaintext')")


def test_new_columns_of_a_table_that_is_there(migrations: Migrations, engine: sa.Engine) -> None:
    """The columns arrive with their indexes and CHECKs, leave with them, and arrive again."""
    bare, full = customers(columns={}), customers()
    migrations.revision(bare)
    migrations.upgrade()
    text = migrations.revision(full)
    migrations.upgrade()
    migrations.check(full)
    migrations.downgrade()
    assert migrations.differences(bare) == []
    assert sa.inspect(engine).get_check_constraints("customers") == []
    migrations.upgrade()
    migrations.check(full)

    assert imports_what_it_uses(text)
    assert text.count("create_check_constraint") == 5
    assert text.count("drop_constraint") == 7
    assert "(None" not in text
    refused(engine, f"INSERT INTO customers (id, note) VALUES ('{uuid4().hex}', 'plaintext')")


def test_a_migrated_table_holds_values(
    migrations: Migrations, engine: sa.Engine, lacre: Lacre, acting: Acting
) -> None:
    """What is written through the ORM is found by its blind index and opens, after up, down and up."""
    model = customers()
    migrations.revision(model)
    migrations.upgrade()
    sessions = lacre.sqlalchemy(sessionmaker(engine))
    with acting("app"), sessions() as session:
        session.add(model(email="ana@example.org", cpf="529.982.247-25", note="x"))
        session.commit()
        found = session.scalars(sa.select(model).where(model.email == "ana@example.org")).one()

        assert (found.cpf, found.note) == ("529.982.247-25", "x")


def test_every_kind_of_model(migrations: Migrations) -> None:
    """Mixed types, foreign keys, row ids, composite keys and inheritance come out without a difference."""
    text = migrations.revision(Base)
    migrations.upgrade()
    migrations.check(Base)
    migrations.downgrade()
    migrations.upgrade()
    migrations.check(Base)

    assert imports_what_it_uses(text)


def test_columns_that_go(migrations: Migrations, engine: sa.Engine) -> None:
    """Dropped columns take their CHECKs along, and a downgrade brings both back."""
    bare, full = customers(columns={}, **NAMED), customers(**NAMED)
    migrations.revision(full)
    migrations.upgrade()
    migrations.revision(bare)
    migrations.upgrade()
    migrations.check(bare)
    migrations.downgrade()

    assert migrations.differences(full) == []
    refused(engine, f"INSERT INTO customers (id, note) VALUES ('{uuid4().hex}', 'plaintext')")
    migrations.upgrade()
    migrations.check(bare)


def test_checks_that_are_missing(migrations: Migrations, engine: sa.Engine) -> None:
    """A table made without the CHECKs, by an earlier release say, gets them, and only them."""
    declared = customers()
    stripped = sa.MetaData()
    table = declared.metadata.tables["customers"].to_metadata(stripped)
    for constraint in list(table.constraints):
        if isinstance(constraint, sa.CheckConstraint):
            table.constraints.remove(constraint)
    stripped.create_all(engine)
    text = migrations.revision(declared)
    migrations.upgrade()
    migrations.check(declared)

    assert (
        re.findall(r"op\.(\w+)\(", text.partition("def downgrade")[0]).count(
            "create_check_constraint"
        )
        == 5
    )
    assert "add_column" not in text
    refused(engine, f"INSERT INTO customers (id, note) VALUES ('{uuid4().hex}', 'plaintext')")


@pytest.mark.parametrize(
    "table",
    [
        {
            "naming_convention": {
                "uq": "uq_%(table_name)s_%(column_0_name)s",
                "ck": "ck_%(table_name)s_%(constraint_name)s",
                "ix": "ix_%(column_0_label)s",
            }
        },
        {"schema": "app"},
    ],
    ids=["naming-convention", "schema"],
)
def test_names_of_the_application_s_own(
    engine: sa.Engine, tmp_path: Path, table: dict[str, Any]
) -> None:
    """A naming convention, and a schema, are kept: nothing is named twice, nothing is found again."""
    sqlite = engine.dialect.name == "sqlite"
    if "schema" in table:
        if sqlite:
            return
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE SCHEMA app")
    migrations = Migrations(tmp_path / "m", engine, batch=sqlite, schemas="schema" in table)
    bare, full = customers(columns={}, **table), customers(**table)
    migrations.revision(bare)
    migrations.upgrade()
    migrations.revision(full)
    migrations.upgrade()
    migrations.check(full)
    migrations.downgrade()
    migrations.upgrade()
    migrations.check(full)


def test_names_that_are_too_long(migrations: Migrations, engine: sa.Engine) -> None:
    """Where the database shortens a constraint's name, it is known by the shortened one."""
    declared = base()

    class Model(declared):  # type: ignore[misc]
        __tablename__ = "customers_of_a_department_that_has_a_very_long_name"
        id: Mapped[UUID] = mapped_column(primary_key=True)
        address_of_residence: Mapped[str | None] = encrypted("pii", index=BlindIndex("exact"))

    migrations.revision(declared)
    migrations.upgrade()
    migrations.check(declared)


def test_a_renamed_class(
    migrations: Migrations, engine: sa.Engine, lacre: Lacre, acting: Acting
) -> None:
    """The class may be called anything: no migration follows, and what was written opens."""
    before, after = customers(), customers(name="Client")
    migrations.revision(before)
    migrations.upgrade()
    sessions = lacre.sqlalchemy(sessionmaker(engine))
    with acting("app"), sessions() as session:
        session.add(before(note="x"))
        session.commit()
        migrations.check(after)

        assert session.scalars(sa.select(after)).one().note == "x"


def test_a_renamed_table(
    migrations: Migrations, engine: sa.Engine, lacre: Lacre, acting: Acting
) -> None:
    """Renamed, with its logical name pinned: the CHECKs follow in the next migration, and what was written opens."""
    before, after = customers(**NAMED), customers(renamed="clients", **NAMED)
    migrations.revision(before)
    migrations.upgrade()
    sessions = lacre.sqlalchemy(sessionmaker(engine))
    with acting("app"), sessions() as session:
        session.add(before(email=EMAIL, note="x"))
        session.commit()
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE customers RENAME TO clients")
    migrations.revision(after)
    migrations.upgrade()
    migrations.check(after)

    with acting("app"), sessions() as session:
        found = session.scalars(sa.select(after).where(after.email == EMAIL)).one()
        assert found.note == "x"
    statement = f"INSERT INTO clients (id, note) VALUES ('{uuid4().hex}', 'plaintext')"
    refused(engine, statement)
    migrations.downgrade()


# -- plaintext columns that become encrypted ones ------------------------------------------------


@pytest.fixture
def converting(migrations: Migrations) -> Migrations:
    """A database of plaintext columns, and the migration that makes them encrypted ones."""
    migrations.revision(customers(columns=plain(), **NAMED))
    migrations.upgrade()
    text = migrations.revision(customers(**NAMED))

    assert "import lacre.sqlalchemy.migrations" in text
    assert imports_what_it_uses(text)
    assert "alter_column" not in text
    return migrations


def test_an_empty_table_is_converted(converting: Migrations, engine: sa.Engine) -> None:
    """In a database without rows the migration makes the columns, and a downgrade the old ones."""
    converting.upgrade()
    converting.check(customers(**NAMED))
    refused(engine, f"INSERT INTO customers (id, note) VALUES ('{uuid4().hex}', 'plaintext')")
    converting.downgrade()
    assert converting.differences(customers(columns=plain(), **NAMED)) == []
    converting.upgrade()

    converting.check(customers(**NAMED))


def test_rows_are_not_converted(converting: Migrations, engine: sa.Engine) -> None:
    """A migration that meets rows changes nothing and names the program that encrypts them."""
    row = f"INSERT INTO customers (id, email) VALUES ('{uuid4().hex}', 'canary@example.org')"
    with engine.begin() as connection:
        connection.exec_driver_sql(row)
    with pytest.raises(ConfigurationError, match="has rows") as raised:
        converting.upgrade()

    assert "lacre protect" in raised.value.hint
    assert "canary" not in str(raised.value)
    assert converting.differences(customers(columns=plain(), **NAMED)) == []
    with engine.connect() as connection:
        email = connection.exec_driver_sql("SELECT email FROM customers").scalar()
    assert email == "canary@example.org"


def test_ciphertext_is_not_converted_back(
    converting: Migrations, engine: sa.Engine, lacre: Lacre, acting: Acting
) -> None:
    """A downgrade that meets encrypted rows changes nothing either."""
    converting.upgrade()
    model = customers(**NAMED)
    with acting("app"), lacre.sqlalchemy(sessionmaker(engine))() as session:
        session.add(model(note="x"))
        session.commit()
    with pytest.raises(ConfigurationError, match="ciphertext") as raised:
        converting.downgrade()

    assert "lacre unprotect" in raised.value.hint
    converting.check(customers(**NAMED))


def test_offline_it_is_not_decided(converting: Migrations) -> None:
    """`--sql` cannot ask the table, and says so."""
    script = converting.directory / "env.py"
    text = script.read_text("utf-8")
    dialect = converting.engine.dialect.name
    script.write_text(
        text.replace("connection=connection,", f"dialect_name={dialect!r}, literal_binds=True,"),
        encoding="utf-8",
    )
    with pytest.raises(ConfigurationError, match="offline"):
        command.upgrade(converting.config, "head", sql=True)


def run(home: Path, engine: sa.Engine, program: str, *arguments: str) -> None:
    """Run `lacre PROGRAM` on the database."""
    database = engine.url._replace(password=None).render_as_string()
    environ = os.environ | {"PGPASSWORD": str(engine.url.password)}
    done = warm.run(program, "--database", database, *arguments, cwd=home, environ=environ)
    assert done.returncode == 0, done.stdout + done.stderr


def test_after_protect_nothing_is_left_to_migrate(
    converting: Migrations, engine: sa.Engine, home: Path, lacre: Lacre, acting: Acting
) -> None:
    """The migration finds the work of `lacre protect` done; after `unprotect` the downgrade does."""
    model = customers(**NAMED)
    with engine.begin() as connection:
        for email, cpf in ((EMAIL, CPF), (OTHER_EMAIL, OTHER_CPF)):
            row = f"('{uuid4().hex}', '{email}', '{cpf}', NULL)"
            connection.exec_driver_sql(f"INSERT INTO customers (id, email, cpf, note) VALUES {row}")
    job = [
        "--table",
        "customers",
        "--yes",
    ]
    job += ["--column", "email:pii:email", "--column", "cpf:pii:cpf", "--column", "note:pii"]
    run(home, engine, "protect", *job)
    converting.upgrade()
    converting.check(model)
    with acting("app"), lacre.sqlalchemy(sessionmaker(engine))() as session:
        found = session.scalars(sa.select(model).where(model.email == EMAIL)).one()
        assert found.cpf == CPF

    run(home, engine, "unprotect", *job)
    converting.downgrade()
    assert converting.differences(customers(columns=plain(), **NAMED)) == []


def shops(*, protected: bool, reused: bool) -> Any:
    """A model with an integer key; where those are *reused* it has a row id once it is protected."""
    declared = base(**NAMED)

    if protected:

        class Shop(declared):  # type: ignore[misc]
            __tablename__ = "shops"
            id: Mapped[int] = mapped_column(primary_key=True)
            email: Mapped[str] = encrypted("pii", index=BlindIndex("email"))
            if reused:
                lacre_rid: Mapped[UUID] = row_id()

        return Shop

    class Plain(declared):  # type: ignore[misc]
        __tablename__ = "shops"
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str] = mapped_column(index=True)

    return Plain


@pytest.mark.parametrize("rows", [0, 2])
def test_a_row_id_and_not_null(
    migrations: Migrations, engine: sa.Engine, home: Path, rows: int
) -> None:
    """With rows and `lacre protect`, or without either: the same tables, as the model declares them."""
    reused = engine.dialect.name == "sqlite"
    migrations.revision(shops(protected=False, reused=reused))
    migrations.upgrade()
    migrations.revision(shops(protected=True, reused=reused))
    with engine.begin() as connection:
        for number in range(rows):
            connection.exec_driver_sql(f"INSERT INTO shops (email) VALUES ('{number}@example.org')")
    if rows:
        run(home, engine, "protect", "--table", "shops", "--column", "email:pii:email", "--yes")
    migrations.upgrade()
    migrations.check(shops(protected=True, reused=reused))

    given = {
        "email": "'plaintext'",
        "email_bidx": "'x'",
        **({"lacre_rid": "'0'"} if reused else {}),
    }
    refused(engine, f"INSERT INTO shops ({', '.join(given)}) VALUES ({', '.join(given.values())})")
    columns = {found["name"] for found in sa.inspect(engine).get_columns("shops")}
    assert ("lacre_rid" in columns) is reused


# -- what an application has of its own --------------------------------------------------------


def test_the_application_s_own_functions_are_called() -> None:
    """`render_item` is asked about what is not lacre's, `process_revision_directives` runs last."""
    calls: list[Any] = []

    def render_item(kind: str, item: Any, _context: Any) -> Any:
        calls.append((kind, item))
        return "mine"

    def process(context: Any, revision: Any, directives: list[Any]) -> None:
        calls.append(directives)

    options = alembic_options(render_item=render_item, process_revision_directives=process)
    context = SimpleNamespace(opts={"sqlalchemy_module_prefix": "sa."})
    number = sa.Integer()
    manual = SimpleNamespace(config=SimpleNamespace(cmd_opts=Namespace(autogenerate=False)))
    options["process_revision_directives"](manual, (), ["as it was"])

    assert options["render_item"]("type", EncryptedType("pii"), context) == "sa.LargeBinary()"
    assert options["render_item"]("type", number, context) == "mine"
    assert calls == [["as it was"], ("type", number)]


def test_a_manual_revision_gets_nothing(migrations: Migrations, engine: sa.Engine) -> None:
    """`alembic revision` without --autogenerate stays empty, also where env.py runs for it."""
    declared = customers()
    declared.metadata.create_all(engine)
    migrations.config.attributes["metadata"] = declared.metadata
    migrations.config.set_main_option("revision_environment", "true")
    migrations.config.cmd_opts = Namespace(autogenerate=False)
    script: Any = command.revision(migrations.config, "manual")
    text = Path(script.path).read_text(encoding="utf-8")

    assert "op." not in text


def test_without_alembic_it_says_what_to_install() -> None:
    """Importing the module where Alembic is missing is a configuration error with its line."""
    code = """
import sys
sys.modules["alembic"] = None
try:
    import lacre.sqlalchemy.migrations
except Exception as error:
    print(type(error).__name__, error.hint)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == "ConfigurationError pip install alembic"


def test_a_database_that_has_no_checks_gets_none_from_a_migration() -> None:
    """`CheckConstraint._create_rule` says where lacre's CHECKs are made; a migration leaves them out elsewhere."""
    [check] = [
        found
        for found in customers().__table__.constraints
        if found.name == "ck_customers_note_lacre"
    ]
    render = alembic_options()["render_item"]

    assert render("check", check, SimpleNamespace(dialect=mssql.dialect())) is None
    assert render("check", check, SimpleNamespace(dialect=postgresql.dialect())) is False
    assert render("check", check, SimpleNamespace(dialect=sqlite.dialect())) is False


def test_tokens_of_several_come_and_go(migrations: Migrations, engine: sa.Engine) -> None:
    """An index of several tokens is added with what searches it, survives a copied table, and goes without a trace."""
    plain, searched = people(), people(index=ContainsIndex("name"))
    migrations.revision(plain)
    migrations.upgrade()
    migrations.revision(searched)
    migrations.upgrade()
    migrations.check(searched)

    assert tokens_are_kept(engine)
    migrations.downgrade()
    assert migrations.differences(plain) == []
    migrations.upgrade()
    migrations.revision(people(index=ContainsIndex("name"), more=True))
    migrations.upgrade()
    assert tokens_are_kept(engine)
    migrations.revision(plain)
    migrations.upgrade()
    migrations.check(plain)
    assert sa.inspect(engine).get_table_names() == ["alembic_version", "people"]


def people(*, index: Any = (), more: bool = False) -> Any:
    """Return models of people, whose names are searched by *index*."""

    class Declared(DeclarativeBase):
        metadata = sa.MetaData(**NAMED)

    class Person(Declared):
        __tablename__ = "people"

        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        name: Mapped[str | None] = encrypted("pii", index=index)
        if more:
            note: Mapped[str | None] = mapped_column()

    return Declared


def tokens_are_kept(engine: sa.Engine) -> bool:
    """Whether the database searches the tokens of people's names by an index."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            asked = "SELECT count(*) FROM pg_indexes WHERE indexname = 'ix_people_name_contains_bidx' AND indexdef LIKE '%gin%'"
            return connection.execute(sa.text(asked)).scalar() == 1
        asked = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'people_name_contains_bidx_%'"
        return connection.execute(sa.text(asked)).scalar() == 3
