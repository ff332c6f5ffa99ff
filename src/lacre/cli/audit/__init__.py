# SPDX-License-Identifier: Apache-2.0
"""`lacre audit`: a room for each group of commands. What they print is decided there."""

import typer

from lacre.cli.deferred import deferred

__all__ = ["app"]

app = typer.Typer(
    cls=deferred(
        {
            "events": "lacre.cli.audit.catalogue:events",
            "tail": "lacre.cli.audit.showing:tail",
            "export": "lacre.cli.audit.showing:export",
            "whose": "lacre.cli.audit.subjects:whose",
            "status": "lacre.cli.audit.sequencing:status",
            "sequence": "lacre.cli.audit.sequencing:sequence",
            "outbox": "lacre.cli.audit.outboxes:outbox",
            "verify": "lacre.cli.audit.verifying:verify",
            "prove": "lacre.cli.audit.proving:prove",
            "check": "lacre.cli.audit.proving:check",
            "anchor": "lacre.cli.audit.anchoring:anchor",
            "explain": "lacre.cli.audit.retaining:explain",
            "hold": "lacre.cli.audit.retaining:hold",
            "release": "lacre.cli.audit.retaining:release",
            "purge": "lacre.cli.audit.retaining:purge",
            "detect": "lacre.cli.audit.detecting:detect",
            "rules": "lacre.cli.audit.detecting:rules",
            "query": "lacre.cli.audit.querying:query",
            "alarms": "lacre.cli.audit.querying:render_alarms",
            "reconcile": "lacre.cli.audit.reconciling:reconcile_logs",
            "snapshot": "lacre.cli.audit.reporting:snapshot",
            "report": "lacre.cli.audit.reporting:report",
            "control": "lacre.cli.audit.manual:app",
        }
    ),
    no_args_is_help=True,
    help="The evidence: kept, checked, shown.",
)


@app.callback()
def about() -> None:
    """The evidence: kept, checked, shown."""
