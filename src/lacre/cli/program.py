# SPDX-License-Identifier: Apache-2.0
"""
The command `lacre`: its subcommands, and what becomes of their errors.
"""

import os
import sys
from importlib import metadata

import typer
from rich.text import Text

from lacre.cli.deferred import deferred
from lacre.cli.terminal import exit_code, out, say, talk
from lacre.errors import LacreError

__all__ = ["app", "run"]

app = typer.Typer(
    cls=deferred(
        {
            "init": "lacre.cli.beginning:init",
            "protect": "lacre.cli.protection:protect",
            "unprotect": "lacre.cli.protection:unprotect",
            "reencrypt": "lacre.cli.reencryption:reencrypt",
            "shred": "lacre.cli.shredding:shred",
            "seal": "lacre.cli.sealing:seal",
            "inspect": "lacre.cli.inspection:inspect",
            "serve": "lacre.cli.serving:serve",
            "demo": "lacre.cli.demo:demo",
            "policy": "lacre.cli.policy:app",
            "keys": "lacre.cli.keys:app",
            "columns": "lacre.cli.columns:app",
            "index": "lacre.cli.index:app",
            "db": "lacre.cli.database:app",
            "tenants": "lacre.cli.tenants:app",
            "hold": "lacre.cli.holding:app",
            "grant": "lacre.cli.grants:app",
            "certificate": "lacre.cli.certificates:app",
            "audit": "lacre.cli.audit:app",
            "alerts": "lacre.cli.alerts:app",
            "honeytoken": "lacre.cli.alerts.honeytokens:app",
        }
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback with locals would show keys and values
    rich_markup_mode=None,
    help="Keep sensitive data encrypted wherever it goes, readable only as lacre.toml allows.",
)


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
