# SPDX-License-Identifier: Apache-2.0
"""`lacre audit`: a room for each group of commands. What they print is decided there."""

import typer

from lacre.cli.audit.catalogue import events
from lacre.cli.audit.detecting import detect, rules
from lacre.cli.audit.outboxes import outbox
from lacre.cli.audit.querying import query, render_alarms
from lacre.cli.audit.reconciling import reconcile_logs
from lacre.cli.audit.sequencing import sequence, status
from lacre.cli.audit.showing import export, tail
from lacre.cli.audit.subjects import whose

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The evidence: kept, checked, shown.")
app.command()(events)
app.command()(detect)
app.command()(rules)
app.command()(outbox)
app.command()(query)
app.command("reconcile")(reconcile_logs)
app.command("alarms")(render_alarms)
app.command()(sequence)
app.command()(status)
app.command()(tail)
app.command()(export)
app.command()(whose)


@app.callback()
def about() -> None:
    """The evidence: kept, checked, shown."""
