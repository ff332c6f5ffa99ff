# SPDX-License-Identifier: Apache-2.0
"""`lacre audit outbox`: the table in an application's own database that evidence of writes is put in."""

import os
from pathlib import Path

import typer

from lacre.cli.operator import Config
from lacre.cli.reading import changing
from lacre.cli.terminal import out, say
from lacre.errors import ConfigurationError
from lacre.policy.loading import load_policy
from lacre.stores.log.outbox import outbox_statements
from lacre.stores.log.schema import OUTBOX

__all__ = ["outbox"]


def outbox(
    database: str | None = typer.Option(
        None,
        "--database",
        help="where to make it: sqlite:///FILE, or the file's path; postgresql://HOST/DATABASE, the password from PGPASSWORD or PGPASSFILE",
    ),
    store: str = typer.Option("main", help="the database's logical name, of [stores.NAME]"),
    application: str | None = typer.Option(
        None, help="PostgreSQL: the application's role, which is to insert"
    ),
    sequencer: str | None = typer.Option(
        None,
        help="PostgreSQL: the role of the URL in [audit.outboxes], which is to read and delete",
    ),
    dry_run: bool = typer.Option(
        False, "--print", help="print the SQL for PostgreSQL; change nothing"
    ),
    config: Path = Config,
) -> None:
    """Make the table of an outbox. Safe while it is in use, and twice."""
    import sqlalchemy as sa
    from sqlalchemy.dialects import postgresql

    file = load_policy(config, os.environ)
    if store not in file.stores:
        raise ConfigurationError(f"lacre.toml has no store {store!r}", hint=f"add [stores.{store}]")
    if dry_run:
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
        made = outbox_statements(dialect, application=application, sequencer=sequencer)
        out.file.write("".join(f"{statement};\n" for statement in made))
        return
    if database is None:
        raise ConfigurationError("no database was named", hint="--database, or --print")
    with changing(database) as engine:
        made = outbox_statements(engine.dialect, application=application, sequencer=sequencer)
        try:
            with engine.begin() as connection:
                for statement in made:
                    connection.exec_driver_sql(statement)
        except sa.exc.DBAPIError as error:
            raise ConfigurationError(
                f"the database refused it ({type(error).__name__})",
                hint="its owner runs what --print prints",
            ) from None
    say(f"{OUTBOX.name} is there")
    if store not in file.audit.outboxes:
        say(f"next: [audit.outboxes] {store} = the URL that the sequencer reads it by")
