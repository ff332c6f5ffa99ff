# SPDX-License-Identifier: Apache-2.0
"""`lacre keys`: a room for each group of commands. What they print is decided there."""

import typer

from lacre.cli.deferred import deferred

__all__ = ["app"]

app = typer.Typer(
    cls=deferred(
        {
            "list": "lacre.cli.keys.listing:list_keys",
            "due": "lacre.cli.keys.listing:due_keys",
            "status": "lacre.cli.keys.health:status",
            "cost": "lacre.cli.keys.pricing:cost",
            "create": "lacre.cli.keys.making:create",
            "activate": "lacre.cli.keys.making:activate",
            "rotate": "lacre.cli.keys.making:rotate",
            "rewrap": "lacre.cli.keys.rewrapping:rewrap",
            "pin": "lacre.cli.keys.pinning:pin",
            "disable": "lacre.cli.keys.states:disable",
            "enable": "lacre.cli.keys.states:enable",
            "compromised": "lacre.cli.keys.states:compromised",
            "destroy": "lacre.cli.keys.destroying:destroy",
            "backup": "lacre.cli.recovery:backup_keys",
            "restore": "lacre.cli.recovery:restore_keys",
            "drill": "lacre.cli.recovery:drill_keys",
            "reseat": "lacre.cli.reseating:reseat_keys",
        }
    ),
    no_args_is_help=True,
    help="Wrapped keys: who has which, and their life.",
)


@app.callback()
def about() -> None:
    """Wrapped keys: who has which, and their life."""
