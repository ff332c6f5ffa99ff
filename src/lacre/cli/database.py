# SPDX-License-Identifier: Apache-2.0
"""`lacre db`: the key store's own tables and the roles that may use them."""

from pathlib import Path

import typer

from lacre.cli.operator import Config, key_store
from lacre.cli.terminal import out, say
from lacre.stores.roles import Roles

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The key store.")


@app.callback()
def about() -> None:
    """The key store: where wrapped keys and column states are kept."""


@app.command()
def upgrade(
    config: Path = Config,
    roles: bool = typer.Option(
        False, "--roles", help="PostgreSQL: make the three roles too, or renew what they may do"
    ),
    runtime_role: str = typer.Option("lacre_runtime", help="the role of applications"),
    operator_role: str = typer.Option(
        "lacre_operator", help="the role of `lacre keys` and `lacre protect`"
    ),
    auditor_role: str = typer.Option("lacre_auditor", help="the role that only reads"),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="print the SQL, for somebody who runs it by hand; change nothing"
    ),
) -> None:
    """Bring the key store's schema to this release's. Safe while it is in use, and twice."""
    store, _ = key_store(config)
    chosen = (
        Roles(runtime=runtime_role, operator=operator_role, auditor=auditor_role) if roles else None
    )
    if dry_run:
        out.file.write(store.script(roles=chosen) + "\n")
        store.close()
        return
    before, after = store.upgrade(roles=chosen)
    store.close()
    say(
        f"the key store is at version {after}"
        + (", as it was" if before == after else f"; it was at {before}")
    )
    if chosen is not None:
        say(
            f"roles: {chosen.runtime} for applications, {chosen.operator} for operators, {chosen.auditor} to read"
        )
        say(f"give each login one of them: GRANT {chosen.runtime} TO its_login")
