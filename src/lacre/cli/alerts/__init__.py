# SPDX-License-Identifier: Apache-2.0
"""`lacre alerts`: what was found in the evidence, who has seen to it, and whom to tell."""

import typer

from lacre.cli.alerts.reading import acknowledge, list_alerts, show
from lacre.cli.alerts.sending import send, try_channel

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="What was found in the evidence.")


@app.callback()
def about() -> None:
    """Alerts: what rules of detection found in the evidence."""


app.command("list")(list_alerts)
app.command()(show)
app.command()(acknowledge)
app.command()(send)
app.command("test")(try_channel)
