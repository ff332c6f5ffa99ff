# SPDX-License-Identifier: Apache-2.0
"""`lacre init`: a working lacre in a directory, in one command."""

from pathlib import Path

import typer

from lacre.cli.initialise import initialise
from lacre.cli.operator import read_passphrase
from lacre.cli.terminal import out, say, warn

__all__ = ["init"]


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
