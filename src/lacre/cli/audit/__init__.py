# SPDX-License-Identifier: Apache-2.0
"""`lacre audit`: a room for each group of commands. What they print is decided there."""

import typer

from lacre.cli.audit import manual
from lacre.cli.audit.anchoring import anchor
from lacre.cli.audit.catalogue import events
from lacre.cli.audit.detecting import detect, rules
from lacre.cli.audit.outboxes import outbox
from lacre.cli.audit.proving import check, prove
from lacre.cli.audit.querying import query, render_alarms
from lacre.cli.audit.reconciling import reconcile_logs
from lacre.cli.audit.reporting import report, snapshot
from lacre.cli.audit.retaining import explain, hold, purge, release
from lacre.cli.audit.sequencing import sequence, status
from lacre.cli.audit.showing import export, tail
from lacre.cli.audit.subjects import whose
from lacre.cli.audit.verifying import verify

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
app.command()(verify)
app.command()(prove)
app.command()(check)
app.command()(anchor)
app.command()(explain)
app.command()(hold)
app.command()(release)
app.command()(purge)
app.command()(snapshot)
app.command()(report)
app.add_typer(manual.app, name="control")


@app.callback()
def about() -> None:
    """The evidence: kept, checked, shown."""
