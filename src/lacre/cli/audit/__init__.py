# SPDX-License-Identifier: Apache-2.0
"""`lacre audit`: a room for each group of commands. What they print is decided there."""

import typer

from lacre.cli.audit.catalogue import events
from lacre.cli.audit.outboxes import outbox
from lacre.cli.audit.subjects import whose

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The evidence: kept, checked, shown.")
app.command()(events)
app.command()(outbox)
app.command()(whose)


@app.callback()
def about() -> None:
    """The evidence: kept, checked, shown."""
