# SPDX-License-Identifier: Apache-2.0
"""`lacre audit query` and `lacre audit alarms`: what auditors ask the logs of key services, and alarms on them."""

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import typer
from rich.text import Text

from lacre.cli.operator import Config
from lacre.cli.terminal import DUE, data, out, say, shown, warn
from lacre.errors import ConfigurationError
from lacre.policy.loading import load_policy
from lacre.reconciliation.alarms import alarms, as_cloudformation, as_json, as_terraform
from lacre.reconciliation.calls import ServiceLogs
from lacre.reconciliation.queries import Answer, Question, as_csv, ask

__all__ = ["Form", "query", "render_alarms"]


class Form(StrEnum):
    """What alarms are rendered for."""

    CLOUDFORMATION = "cloudformation"
    TERRAFORM = "terraform"
    JSON = "json"


def query(
    question: Question = typer.Argument(help="kms-usage, or secret-access"),
    cloudtrail: list[str] = typer.Option(
        [], "--cloudtrail", help="a file, a folder or s3://BUCKET/PREFIX of CloudTrail; repeatable"
    ),
    openbao: list[str] = typer.Option(
        [], "--openbao", help="an audit log of OpenBao or Vault, or a folder of them; repeatable"
    ),
    days: float = typer.Option(7.0, min=0.01, help="that are looked back, in UTC"),
    memory: int = typer.Option(512, min=64, help="MiB for DuckDB; more is on disk"),
    as_json: bool = typer.Option(False, "--json", help="one object a line, for a program to read"),
    in_csv: bool = typer.Option(False, "--csv", help="for a spreadsheet"),
) -> None:
    """Print who used KMS keys, or who had secrets, from the logs of key services."""
    if not cloudtrail and not openbao:
        raise ConfigurationError(
            "no log of a key service is named", hint="--cloudtrail FOLDER, --openbao FILE, or both"
        )
    until = datetime.now(UTC)
    since = until - timedelta(days=days)
    with ServiceLogs(since=since, memory=memory) as logs, logs.in_memory():
        for place in cloudtrail:
            logs.read_cloudtrail(place)
        for place in openbao:
            logs.read_openbao(place)
        logs.settle()
        answers = ask(logs, question, since=since, until=until)
        if in_csv:
            for line in as_csv(answers):
                out.file.write(line)
        elif as_json:
            for each in answers:
                out.file.write(json.dumps(asdict(each) | {"time": _moment(each.time)}) + "\n")
        else:
            # Not cut to a width: half of an ARN is nobody's.
            for each in answers:
                out.print(Text("  ".join(map(shown, _row(each)))))
        for what in logs.unreadable:
            warn(f"not read: {shown(what)}")
        if logs.unreadable:
            raise typer.Exit(DUE)


def render_alarms(
    topic: str = typer.Option(help="the ARN of the SNS topic that is told"),
    form: Form = typer.Option(Form.TERRAFORM, help="what it is rendered for"),
    kms: int = typer.Option(1000, help="operations with KMS keys in five minutes"),
    secrets: int = typer.Option(100, help="reads of secrets in five minutes"),
    config: Path = Config,
) -> None:
    """Print two CloudWatch alarms, on KMS operations and on reads of secrets, to be reviewed and applied."""
    settings = load_policy(config, os.environ)
    chosen = alarms(app=settings.app, env=settings.env, kms=kms, secrets=secrets)
    if form is Form.JSON:
        data(as_json(chosen, topic))
        return
    render = as_terraform if form is Form.TERRAFORM else as_cloudformation
    out.file.write(render(chosen, topic))
    say("they count what the whole account does in a region: which KMS key it was says `lacre audit reconcile`")  # fmt: skip


def _row(answer: Answer) -> list[str]:
    said = [answer.action, answer.principal, answer.resource, answer.address, answer.error]
    return [_moment(answer.time), *(each for each in said if each)]


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"
