# SPDX-License-Identifier: Apache-2.0
"""`lacre alerts`: what was found in the evidence, who has seen to it, and whom to tell."""

import typer

from lacre.cli.deferred import deferred

__all__ = ["app"]

app = typer.Typer(
    cls=deferred(
        {
            "list": "lacre.cli.alerts.reading:list_alerts",
            "show": "lacre.cli.alerts.reading:show",
            "acknowledge": "lacre.cli.alerts.reading:acknowledge",
            "send": "lacre.cli.alerts.sending:send",
            "test": "lacre.cli.alerts.sending:try_channel",
        }
    ),
    no_args_is_help=True,
    help="What was found in the evidence.",
)


@app.callback()
def about() -> None:
    """Alerts: what rules of detection found in the evidence."""
