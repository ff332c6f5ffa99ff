# SPDX-License-Identifier: Apache-2.0
"""`lacre keys`: a room for each group of commands. What they print is decided there."""

import typer

from lacre.cli.keys.destroying import destroy
from lacre.cli.keys.health import status
from lacre.cli.keys.listing import due_keys, list_keys
from lacre.cli.keys.making import activate, create, rotate
from lacre.cli.keys.pinning import pin
from lacre.cli.keys.pricing import cost
from lacre.cli.keys.rewrapping import rewrap
from lacre.cli.keys.states import compromised, disable, enable

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Wrapped keys: who has which, and their life.")
app.command("list")(list_keys)
app.command("due")(due_keys)
app.command()(create)
app.command()(activate)
app.command()(rotate)
app.command()(rewrap)
app.command()(pin)
app.command()(status)
app.command()(cost)
app.command()(disable)
app.command()(enable)
app.command()(compromised)
app.command()(destroy)
