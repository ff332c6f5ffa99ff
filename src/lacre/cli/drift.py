# SPDX-License-Identifier: Apache-2.0
"""`lacre columns drift`: compare both forms of a table that is being protected, row by row."""

from dataclasses import replace
from pathlib import Path

import typer

from lacre.cli.old_values import sources_of
from lacre.cli.operator import Config, PassphraseFile, as_operator
from lacre.cli.progress import progress_bar
from lacre.cli.protection import authority_of, fields_of
from lacre.cli.reading import Database
from lacre.cli.terminal import out
from lacre.errors import ConfigurationError
from lacre.jobs import databases
from lacre.jobs.columns import ColumnRequest
from lacre.jobs.pace import Pace
from lacre.jobs.pace import Progress as Position
from lacre.jobs.sources import NO_SOURCES

__all__ = ["drift"]


def drift(
    database: str = Database,
    table_name: str = typer.Option(..., "--table", help="the table"),
    column: list[str] = typer.Option(
        ..., "--column", help="NAME:CLASS[:NORMALISER[:BITS]], as protect was given them"
    ),
    store: str = typer.Option("main", "--store", help="the database's logical name"),
    from_: str = typer.Option("", "--from", help="the legacy reader that protect was given"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """
    Open every encrypted row of a table in dual and compare it with its plaintext; change nothing.

    A difference exits with 6 and names the row: somebody wrote plaintext or ciphertext around the trigger.
    """
    if databases.has_password(database):
        raise ConfigurationError(
            "a password in an argument is seen by whoever lists the processes",
            hint="give it in PGPASSWORD or PGPASSFILE, and the URL without it",
        )
    requests = [replace(ColumnRequest.parse(text), reader=from_) for text in column]
    with as_operator(config, passphrase_file, purpose="protect") as operator:
        rows = 0
        with progress_bar() as advance:

            def counted(position: Position) -> None:
                nonlocal rows
                rows = position.done
                advance(position)

            databases.compare(
                database,
                table_name,
                requests,
                fields=fields_of(operator, store),
                authority=authority_of(operator),
                store=store,
                pace=Pace(progress=counted),
                sources=sources_of(operator, store, from_) if from_ else NO_SOURCES,
            )
    out.print(f"no drift: {rows:,} encrypted rows of {table_name} are what their plaintext says")
