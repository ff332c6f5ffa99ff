# SPDX-License-Identifier: Apache-2.0
"""`lacre tenants`: what is done with a tenant as a whole."""

import sys
from pathlib import Path

import typer

from lacre.cli.certificates import keep
from lacre.cli.deferred import deferred
from lacre.cli.operator import Config, PassphraseFile, as_operator
from lacre.cli.terminal import data as machine
from lacre.cli.terminal import out, say, table, warn
from lacre.errors import MisuseError
from lacre.jobs.certificates import write_certificate
from lacre.jobs.offboarding import Offboarder
from lacre.keys.hierarchy import KeyKind

__all__ = ["app", "offboard_tenant"]

app = typer.Typer(
    cls=deferred(
        {
            "offboard": "lacre.cli.tenants:offboard_tenant",
            "move": "lacre.cli.moving:move_rows",
        }
    ),
    no_args_is_help=True,
    help="Tenants as a whole.",
)


@app.callback()
def about() -> None:
    """Tenants as a whole."""


def offboard_tenant(
    tenant: str = typer.Argument(help="the tenant"),
    reason: str = typer.Option(..., help="why, for the certificate and the record"),
    dry_run: bool = typer.Option(False, "--dry-run", help="say which keys would be destroyed, and do nothing"),
    yes: bool = typer.Option(False, "--yes", help="do not ask"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read: the certificate"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:  # fmt: skip
    """Destroy every key of a tenant, in every class, and certify it. Another tenant's are untouched."""
    with as_operator(config, passphrase_file, purpose="off-boarding") as operator:
        lacre = operator.lacre
        offboarder = Offboarder(
            store=operator.store,
            scope=lacre.policy.scope(KeyKind.BRANCH, "-", tenant),
            policy=lacre.policy.file,
            recorder=lacre.recorder,
            bound=lacre.revocation_latency,
        )
        planned = offboarder.planned()
        if dry_run or not yes:
            out.print(
                table(
                    ("class", "kind", "#keys"),
                    [[class_, kind, str(number)] for (class_, kind), number in sorted(planned.items())],
                )
            )  # fmt: skip
        if dry_run:
            say(f"{sum(planned.values())} keys would be destroyed")
            return
        if not yes:
            _confirm(tenant)
        body = offboarder.offboard(reason=reason, by=operator.identity.name)
        certificate = write_certificate(body, signer=operator.identity)
        directory = operator.base / lacre.policy.file.erasure.certificates
        path = keep(directory, "tenant", certificate)
    if as_json:
        machine(body | {"file": str(path)})
    say(f"certificate: {path}")
    say(f"verdict: {body['verdict']}, irrecoverable at {body['irrecoverable_at'] or 'a time nobody can say yet'}")  # fmt: skip
    for wait in body["waits_for"]:
        say(f"it waits for {wait}")
    say("what remains: " + "; ".join(body["remains"]))


def _confirm(tenant: str) -> None:
    warn("this destroys every key of the tenant: nothing of it can be read again")
    if not sys.stdin.isatty():
        raise MisuseError("nobody can be asked here", hint="--yes off-boards without asking")
    if typer.prompt("type the tenant's name to go on", err=True) != tenant:
        raise MisuseError("that is not its name; nothing was done")
