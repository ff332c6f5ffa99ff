# SPDX-License-Identifier: Apache-2.0
"""`lacre audit tail` and `lacre audit export`: what the evidence log says, on a terminal and in a file."""

import datetime as dt
import os
import sys
import time
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path

import typer
from rich.text import Text

from lacre.audit.leaves import Leaf
from lacre.audit.tabular import as_line, as_object, as_row, heading
from lacre.cli.operator import Config
from lacre.cli.terminal import out, say
from lacre.errors import ConfigurationError
from lacre.policy.loading import load_policy
from lacre.stores.log.opening import open_log
from lacre.stores.log.reader import Filters, LogReader

__all__ = ["Form", "export", "tail"]

_POLL = 1.0  # seconds

_Principal = typer.Option(None, "--principal", help="whose")
_Action = typer.Option(None, "--action", help="of one kind: look, search, key, ...")
_Status = typer.Option(None, "--status", help="compliant, prevented, failed or transitional")
_Class = typer.Option(None, "--class", help="about one class")
_Place = typer.Option(None, "--place", help="about one column: STORE.TABLE.COLUMN")
_Tenant = typer.Option(None, "--tenant", help="about one tenant")
_Correlation = typer.Option(None, "--correlation", help="with one correlation id")
_Resource = typer.Option(None, "--resource", help="about one row id, or one subject's pseudonym")
_Since = typer.Option(None, "--since", help="from this moment on, ISO 8601; UTC unless it says")
_Until = typer.Option(None, "--until", help="before this moment")


class Form(StrEnum):
    """What an export is."""

    JSONL = "jsonl"
    CSV = "csv"


def tail(
    lines: int = typer.Option(20, "-n", "--lines", min=0, help="how many of the newest"),
    follow: bool = typer.Option(False, "--follow", "-f", help="go on with what comes"),
    principal: str | None = _Principal,
    action: str | None = _Action,
    status: str | None = _Status,
    class_: str | None = _Class,
    place: str | None = _Place,
    tenant: str | None = _Tenant,
    correlation: str | None = _Correlation,
    resource: str | None = _Resource,
    since: str | None = _Since,
    until: str | None = _Until,
    as_json: bool = typer.Option(False, "--json", help="one object a line, for a program to read"),
    config: Path = Config,
) -> None:
    """Print the newest entries of the evidence log, the last one last."""
    filters = _filters(principal, action, status, class_, place, tenant, correlation, resource, since, until)  # fmt: skip
    log = open_log(load_policy(config, os.environ), config.resolve().parent)
    try:
        reader = LogReader(log)
        newest = reader.newest()
        found = reader.page(filters, limit=lines)[::-1] if lines else []
        _print(found, as_json=as_json)
        position = None if newest is None else newest.position
        while follow:
            time.sleep(_POLL)
            for leaf in reader.after(position, filters=filters):
                _print([leaf], as_json=as_json)
                position = leaf.position
            sys.stdout.flush()
    finally:
        log.close()


def export(
    form: Form = typer.Option(Form.JSONL, "--format", help="objects, one a line, or a table"),
    output: Path | None = typer.Option(None, "--output", "-o", help="a new file; stdout without"),
    principal: str | None = _Principal,
    action: str | None = _Action,
    status: str | None = _Status,
    class_: str | None = _Class,
    place: str | None = _Place,
    tenant: str | None = _Tenant,
    correlation: str | None = _Correlation,
    resource: str | None = _Resource,
    since: str | None = _Since,
    until: str | None = _Until,
    config: Path = Config,
) -> None:
    """Write entries of the evidence log in its order, each with its place and hash."""
    filters = _filters(principal, action, status, class_, place, tenant, correlation, resource, since, until)  # fmt: skip
    log = open_log(load_policy(config, os.environ), config.resolve().parent)
    try:
        lines = _exported(LogReader(log).after(filters=filters), form)
        if output is None:
            out.file.writelines(lines)
            return
        try:
            with output.open("x", encoding="utf-8") as file:
                file.writelines(lines)
        except FileExistsError:
            raise ConfigurationError(
                f"{output} is there already; nothing was changed", hint="name a new file"
            ) from None
        say(f"written: {output}")
    finally:
        log.close()


def _print(leaves: Iterable[Leaf], *, as_json: bool) -> None:
    for leaf in leaves:
        if as_json:
            out.file.write(as_object(leaf) + "\n")
        else:
            # Not cut to a width, and one line whatever is in it.
            out.print(Text(as_line(leaf)))


def _exported(leaves: Iterable[Leaf], form: Form) -> Iterator[str]:
    if form is Form.CSV:
        yield heading() + "\n"
    for leaf in leaves:
        yield (as_row(leaf) if form is Form.CSV else as_object(leaf)) + "\n"


def _filters(
    principal: str | None,
    action: str | None,
    status: str | None,
    class_: str | None,
    place: str | None,
    tenant: str | None,
    correlation: str | None,
    resource: str | None,
    since: str | None,
    until: str | None,
) -> Filters:
    return Filters(
        principal=principal,
        action=action,
        status=status,
        class_=class_,
        place=place,
        tenant=tenant,
        correlation=correlation,
        resource=resource,
        since=_moment(since),
        until=_moment(until),
    )


def _moment(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            "that is no moment", hint="2026-11-22, or 2026-11-22T18:30:00+01:00"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)
