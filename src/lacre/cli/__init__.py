# SPDX-License-Identifier: Apache-2.0
"""
Floor 5: the command line, thin over public names.

Data goes to stdout and talk to stderr; errors are one sentence and a hint; each kind of failure
has its exit code (``docs/reference/cli.md``); no secret is ever an argument.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line. Without its packages, say how to install them."""
    try:
        from lacre.cli.program import run

        run()
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "sqlalchemy"):
            raise
        sys.stderr.write(f"lacre: {error.name} is not installed\nhint: pip install 'lacre[cli]'\n")
        sys.exit(3)
