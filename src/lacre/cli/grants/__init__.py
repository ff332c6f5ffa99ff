# SPDX-License-Identifier: Apache-2.0
"""`lacre grant`: rights for a while. A room for asking and approving, ending, and showing."""

import typer

from lacre.cli.deferred import deferred

__all__ = ["app"]

app = typer.Typer(
    cls=deferred(
        {
            "request": "lacre.cli.grants.asking:request",
            "approve": "lacre.cli.grants.asking:approve",
            "apply": "lacre.cli.grants.asking:apply",
            "revoke": "lacre.cli.grants.ending:revoke",
            "review": "lacre.cli.grants.ending:review",
            "reap": "lacre.cli.grants.ending:reap",
            "list": "lacre.cli.grants.showing:list_grants",
            "show": "lacre.cli.grants.showing:show",
        }
    ),
    no_args_is_help=True,
    help="Rights for a while, which two other people approve.",
)


@app.callback()
def about() -> None:
    """Rights for a while, which two other people approve."""
