# SPDX-License-Identifier: Apache-2.0
"""`lacre audit events`: what may be in the evidence, for whoever reads it. Opens nothing."""

import typer

from lacre.audit.catalogue import MEANINGS, page
from lacre.audit.entries import ALWAYS, CATALOGUE, COMMON
from lacre.cli.terminal import data, out

__all__ = ["events"]


def events(
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
) -> None:
    """Print the catalogue of events: every action and what its entries say."""
    if not as_json:
        out.file.write(page())
        return
    data(
        {
            "always": sorted(ALWAYS),
            "where known": sorted(COMMON - ALWAYS),
            "actions": {action: sorted(kind.members) for action, kind in CATALOGUE.items()},
            "members": dict(MEANINGS),
        }
    )
