# SPDX-License-Identifier: Apache-2.0
"""
The command `lacre`: its subcommands, and what becomes of their errors.
"""

import os
import sys
from importlib import metadata
from pathlib import Path

import typer
from rich.text import Text

from lacre.cli import (
    alerts,
    audit,
    certificates,
    columns,
    database,
    holding,
    index,
    keys,
    policy,
    tenants,
)
from lacre.cli.alerts import honeytokens
from lacre.cli.demo import demo
from lacre.cli.initialise import initialise
from lacre.cli.inspection import inspect
from lacre.cli.moving import move_rows
from lacre.cli.operator import read_passphrase
from lacre.cli.protection import protect, unprotect
from lacre.cli.recovery import backup_keys, drill_keys, restore_keys
from lacre.cli.reencryption import reencrypt
from lacre.cli.reseating import reseat_keys
from lacre.cli.sealing import seal
from lacre.cli.serving import serve
from lacre.cli.shredding import shred
from lacre.cli.terminal import exit_code, out, say, talk, warn
from lacre.errors import LacreError

__all__ = ["app", "run"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback with locals would show keys and values
    rich_markup_mode=None,
    help="Keep sensitive data encrypted wherever it goes, readable only as lacre.toml allows.",
)
keys.app.command("backup")(backup_keys)
keys.app.command("restore")(restore_keys)
keys.app.command("drill")(drill_keys)
keys.app.command("reseat")(reseat_keys)
tenants.app.command("move")(move_rows)
app.add_typer(keys.app, name="keys")
app.add_typer(database.app, name="db")
app.add_typer(alerts.app, name="alerts")
app.add_typer(honeytokens.app, name="honeytoken")
app.add_typer(policy.app, name="policy")
app.add_typer(audit.app, name="audit")
app.add_typer(index.app, name="index")
app.add_typer(columns.app, name="columns")
app.add_typer(holding.app, name="hold")
app.add_typer(certificates.app, name="certificate")
app.add_typer(tenants.app, name="tenants")
app.command()(protect)
app.command()(unprotect)
app.command()(reencrypt)
app.command()(shred)
app.command()(seal)
app.command()(serve)
app.command()(inspect)
app.command()(demo)


def _tell_version(wanted: bool) -> None:
    if wanted:
        out.print(f"lacre {metadata.version('lacre')}")
        raise typer.Exit


@app.callback()
def about(
    version: bool = typer.Option(
        False, "--version", callback=_tell_version, is_eager=True, help="print the version"
    ),
) -> None:
    """Keep sensitive data encrypted wherever it goes, readable only as lacre.toml allows."""


@app.command()
def init(
    directory: Path = typer.Argument(Path(), help="where; here by default"),
    app_name: str = typer.Option("app", "--app", help="the application's name, bound in every key"),
    env: str = typer.Option("dev", "--env", help="the environment's name, bound in every key"),
    passphrase_file: Path | None = typer.Option(
        None,
        "--passphrase-file",
        help="protects the operator's identity with the file's first line",
    ),
    ask: bool = typer.Option(False, "--ask-passphrase", help="ask for that passphrase"),
) -> None:
    """Make lacre.toml, a local keystore, three identities, a key store, an evidence log and the first keys."""
    if passphrase_file is not None:
        passphrase: str | None = read_passphrase(passphrase_file)
    elif ask:
        passphrase = typer.prompt(
            "operator's passphrase", hide_input=True, confirmation_prompt=True, err=True
        )
    else:
        passphrase = None
    made = initialise(directory, app=app_name, env=env, passphrase=passphrase)
    for path in made.files:
        out.print(str(path))
    if passphrase is None:
        warn(
            "the operator's identity has no passphrase: whoever reads its file holds every key (--passphrase-file, --ask-passphrase)"
        )
    warn(
        "the local keystore is for development and single-node use: its process holds the root keys"
    )
    say(
        "next: read lacre.toml, then declare encrypted(...) columns in a model, or run `lacre protect` on a table"
    )


def run() -> None:
    """Run the command line; exit with the code of what went wrong."""
    os.umask(0o077)  # what is made here holds keys and their evidence
    try:
        app()
    except LacreError as error:
        talk.print(Text.assemble(("lacre: ", "red"), str(error)))
        for note in getattr(error, "__notes__", ()):  # where: the row, the column
            say(note)
        if error.hint:
            talk.print(Text.assemble(("hint: ", "cyan"), error.hint))
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        say("interrupted; run the same command again to go on")
        sys.exit(130)
