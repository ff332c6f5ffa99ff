# SPDX-License-Identifier: Apache-2.0
"""`lacre db`: the tables of the key store and of the evidence log, and the roles that may use them."""

from pathlib import Path

import typer

from lacre.cli.operator import Config, key_store
from lacre.cli.terminal import out, say
from lacre.policy.model import PolicyFile
from lacre.stores.log.log import AuditLog
from lacre.stores.log.opening import open_log
from lacre.stores.log.roles import LogRoles
from lacre.stores.log.schema import VERSION
from lacre.stores.roles import Roles

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The key store and the evidence log.")


@app.callback()
def about() -> None:
    """The key store, where wrapped keys and column states are kept, and the evidence log."""


@app.command()
def upgrade(
    config: Path = Config,
    roles: bool = typer.Option(
        False, "--roles", help="PostgreSQL: make the roles too, or renew what they may do"
    ),
    runtime_role: str = typer.Option("lacre_runtime", help="key store: the role of applications"),
    operator_role: str = typer.Option(
        "lacre_operator", help="key store: the role of `lacre keys` and `lacre protect`"
    ),
    auditor_role: str = typer.Option("lacre_auditor", help="both: the role that only reads"),
    writer_role: str = typer.Option("lacre_writer", help="log: the role of applications"),
    sequencer_role: str = typer.Option("lacre_sequencer", help="both: the role of what sequences"),
    detector_role: str = typer.Option(
        "lacre_detector", help="log: the role of what looks for the suspicious"
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="print the SQL, for somebody who runs it by hand; change nothing"
    ),
) -> None:
    """Bring the tables of the key store and of the evidence log to this release's. Safe while they are in use, and twice."""
    store, policy = key_store(config)
    log = _log(policy, config)
    chosen = Roles(
        runtime=runtime_role,
        operator=operator_role,
        auditor=auditor_role,
        sequencer=sequencer_role,
    )
    shared = LogRoles(
        writer=writer_role, sequencer=sequencer_role, detector=detector_role, auditor=auditor_role
    )
    # Roles are of PostgreSQL: where one of the two is a file, they are the other's.
    in_log = roles and log is not None and log.schema is not None
    in_store = roles and not (in_log and policy.key_store.url.startswith("sqlite"))
    try:
        if dry_run:
            out.file.write(store.script(roles=chosen if in_store else None) + "\n")
            if log is not None and (in_log or log.version() < VERSION):
                out.file.write(log.script(roles=shared if in_log else None) + "\n")
            return
        before, after = store.upgrade(roles=chosen if in_store else None)
        _tell("key store", before, after)
        if log is not None:
            before, after = log.upgrade(roles=shared if in_log else None)
            _tell("evidence log", before, after)
    finally:
        store.close()
        if log is not None:
            log.close()
    if in_store:
        say(
            f"roles: {chosen.runtime} for applications, {chosen.operator} for operators, {chosen.auditor} to read"
        )
    if in_log:
        say(
            f"roles of the log: {shared.writer} for applications, {shared.sequencer} for what sequences, {shared.detector} for what looks for the suspicious, {shared.auditor} to read"
        )
    if in_store or in_log:
        named = [chosen.runtime] * in_store + [shared.writer] * in_log
        say(f"give each login those it needs: GRANT {', '.join(named)} TO its_login")


def _log(policy: PolicyFile, config: Path) -> AuditLog | None:
    return None if policy.audit.url is None else open_log(policy, config.resolve().parent)


def _tell(what: str, before: int, after: int) -> None:
    say(
        f"the {what} is at version {after}"
        + (", as it was" if before == after else f"; it was at {before}")
    )
