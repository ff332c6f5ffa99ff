# SPDX-License-Identifier: Apache-2.0
"""
`lacre audit whose`: what the evidence says of one person.

The evidence names a subject by a random pseudonym, which only the key store can tell, and only
while the subject is not shredded: after that nobody can say whose those events are.
"""

from contextlib import closing
from pathlib import Path

import typer

from lacre.cli.holding import subject_named
from lacre.cli.operator import Config, PassphraseFile, as_operator
from lacre.cli.terminal import data as machine
from lacre.cli.terminal import out, table
from lacre.errors import KeyDestroyed
from lacre.stores.log.opening import open_log
from lacre.stores.log.reader import Filters, LogReader

__all__ = ["whose"]


def whose(
    subject: str = typer.Option(
        ..., help="the subject's id; a UUID as 32 hex digits or with dashes"
    ),
    tenant: str | None = typer.Option(None, help="whose subject; the default tenant's without it"),
    limit: int = typer.Option(50, min=1, max=10_000, help="events at most, the newest first"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
) -> None:
    """Say what the evidence calls a subject, and list its events; until the subject is shredded."""
    with as_operator(config, passphrase_file, purpose="audit") as operator:
        found = subject_named(operator, subject, tenant)
        if found.pseudonym is None:
            raise KeyDestroyed(
                f"the subject was shredded on {found.shredded}: which events are about it cannot be told any more"
            )
        with closing(open_log(operator.lacre.policy.file, operator.base)) as log:
            leaves = LogReader(log).page(Filters(resource=found.pseudonym), limit=limit)
    entries = [leaf.entry.members for leaf in leaves]
    if as_json:
        machine({"subject": found.pseudonym, "events": [dict(each) for each in entries]})
        return
    out.print(found.pseudonym)
    rows = [
        [
            *(str(each[name]) for name in ("time", "action", "principal", "purpose")),
            ".".join(str(each[name]) for name in ("table", "column") if name in each),
            str(each["status"]),
        ]
        for each in entries
    ]
    out.print(table(["time", "action", "principal", "purpose", "what", "status"], rows))
