# SPDX-License-Identifier: Apache-2.0
"""`lacre policy`: what `lacre.toml` means, here and elsewhere. A room for each group of commands."""

import typer

from lacre.cli.deferred import deferred

__all__ = ["app"]

app = typer.Typer(
    cls=deferred(
        {
            "check": "lacre.cli.policy.checking:check",
            "explain": "lacre.cli.policy.explaining:explain",
            "matrix": "lacre.cli.policy.explaining:show_matrix",
            "schema": "lacre.cli.policy.checking:show_schema",
            "render": "lacre.cli.policy.rendering:render",
        }
    ),
    no_args_is_help=True,
    help="The policy, and what it means for key services.",
)


@app.callback()
def about() -> None:
    """The policy, and what it means for key services."""
