# SPDX-License-Identifier: Apache-2.0
"""`lacre alerts list | show | acknowledge`."""

import json
from pathlib import Path

import typer

from lacre.audit.alerts import Alert, AlertState
from lacre.cli.alerts.opening import watched
from lacre.cli.operator import Config, PassphraseFile, load_operator
from lacre.cli.terminal import DUE, data, out, say, shown, table
from lacre.context import acting_as

__all__ = ["acknowledge", "list_alerts", "show"]


def list_alerts(
    state: AlertState | None = typer.Option(None, "--state", help="only those in this state"),
    limit: int = typer.Option(50, "--limit", min=1, max=10_000, help="so many of the newest"),
    check: bool = typer.Option(False, "--check", help="exit 10 where one is open"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
) -> None:
    """List alerts, the newest first."""
    with watched(config) as opened:
        alerts = opened.alerts.list(state=state, limit=limit)
        waiting = sum(opened.alerts.tally().values())
    if as_json:
        data([alert.written() for alert in alerts])
    elif alerts:
        columns = ("alert", "raised", "severity", "rule", "principal", "#times", "state")
        out.print(table(columns, [_row(alert) for alert in alerts]))
    say(f"{waiting} open")
    if check and waiting:
        raise typer.Exit(DUE)


def show(
    alert: str = typer.Argument(help="its id, or how it begins"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
) -> None:
    """Show all there is of an alert."""
    with watched(config) as opened:
        found = opened.alerts.get(alert)
    if as_json:
        data(found.written())
        return
    for name, value in found.written().items():
        if name in ("facts", "evidence"):
            value = json.dumps(value)  # noqa: PLW2901 - as it is shown
        if value is not None:
            out.print(shown(f"{name:13} {value}"), markup=False)


def acknowledge(
    alert: str = typer.Argument(help="its id, or how it begins"),
    note: str = typer.Option("", "--note", help="what you found; kept beside the alert, not in the log"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:  # fmt: skip
    """Say that you have seen to an alert: it is not sent any more, and the log says who did."""
    with watched(config) as opened:
        identity = load_operator(opened.policy, opened.base, passphrase_file)
        with acting_as(identity.name, roles={"operator"}, purpose="alerts"):
            done = opened.alerts.acknowledge(alert, note=note)
    say(f"acknowledged {done.id} as {identity.name}")


def _row(alert: Alert) -> list[str]:
    raised = alert.raised.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
    return [
        alert.id,
        raised,
        str(alert.severity),
        alert.rule,
        alert.principal,
        str(alert.times),
        str(alert.state),
    ]
