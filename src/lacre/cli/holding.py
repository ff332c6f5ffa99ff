# SPDX-License-Identifier: Apache-2.0
"""`lacre hold`: legal holds on subjects, which nothing shreds while they last."""

import time
from pathlib import Path

import typer

from lacre.audit.event import who
from lacre.audit.events import Erased
from lacre.cli.operator import Config, Operator, PassphraseFile, as_operator, key_store
from lacre.cli.terminal import data as machine
from lacre.cli.terminal import out, say, table
from lacre.context import current
from lacre.errors import ConfigurationError, KeyNotFound, MisuseError
from lacre.jobs.holding import read_hold, sign_hold
from lacre.keys.hierarchy import KeyKind, SubjectRow, subject_digest
from lacre.keys.moments import now_text
from lacre.keys.recording import recorded
from lacre.kms.local import PublicIdentity

__all__ = ["app", "subject_named"]

app = typer.Typer(no_args_is_help=True, help="Legal holds: a subject that is held is not shredded.")

_Subject = typer.Argument(help="the subject's id; a UUID as 32 hex digits or with dashes")
_Tenant = typer.Option(None, help="whose subject; the default tenant's without it")


@app.command("place")
def place_hold(
    subject: str = _Subject,
    tenant: str | None = _Tenant,
    reason: str = typer.Option(..., help="which case; not a name"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Hold a subject: from now on nothing shreds it, retention included."""
    with as_operator(config, passphrase_file, purpose="legal hold") as operator:
        row = subject_named(operator, subject, tenant)
        if row.shredded is not None:
            raise MisuseError(
                f"the subject was shredded on {row.shredded}; there is nothing to hold"
            )
        if row.hold is not None:
            raise MisuseError("the subject is held already", hint="lacre hold list shows why")
        now = now_text()
        hold = sign_hold(
            row.digest,
            keystore=operator.store.keystore_id,
            reason=reason,
            placed=now,
            signer=operator.identity,
        )
        _write(operator, row, hold, "hold placed", tenant)
    say("held: nothing of the subject is shredded until the hold is lifted")


@app.command("lift")
def lift_hold(
    subject: str = _Subject,
    tenant: str | None = _Tenant,
    reason: str = typer.Option(..., help="why it ends; recorded"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Lift a hold. Who lifts it is recorded, and why as the purpose."""
    with as_operator(config, passphrase_file, purpose=f"legal hold lifted: {reason}") as operator:
        row = subject_named(operator, subject, tenant)
        if row.hold is None:
            raise MisuseError("the subject is not held")
        _write(operator, row, None, "hold lifted", tenant)
    say("lifted")


@app.command("list")
def list_holds(
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
) -> None:
    """List the subjects that are held, by pseudonym, with who holds them and why."""
    store, policy = key_store(config)
    signers = [PublicIdentity.from_text(line) for line in policy.local.signers]
    try:
        held = [
            (
                row,
                read_hold(row.hold or "", row.digest, keystore=store.keystore_id, signers=signers),
            )
            for row in store.subjects_held()
        ]
    finally:
        store.close()
    if as_json:
        machine(
            [
                {"subject": row.pseudonym, "placed": hold.placed, "by": hold.signer, "reason": hold.reason}
                for row, hold in held
            ]
        )  # fmt: skip
        return
    out.print(
        table(
            ("subject", "placed", "by", "reason"),
            [
                [row.pseudonym or "", hold.placed, hold.signer or "nobody who is trusted", hold.reason]
                for row, hold in held
            ],
        )
    )  # fmt: skip


def subject_named(operator: Operator, subject: str, tenant: str | None) -> SubjectRow:
    """Return the subject of a tenant that an operator names by its id, or raise `KeyNotFound`."""
    policy = operator.lacre.policy
    named = tenant or policy.file.default_tenant
    if named is None:
        raise ConfigurationError("no tenant was named", hint="--tenant T")
    scope = policy.scope(KeyKind.SUBJECT, "-", named)
    for text in _spellings(subject):
        row = operator.store.subject(subject_digest(scope, text))
        if row is not None:
            return row
    raise KeyNotFound(
        f"tenant {named!r} has no such subject",
        hint="name it as the column of `subject=` holds it, and --tenant",
    )


def _spellings(subject: str) -> tuple[str, ...]:
    # Here no model says whether the id is a UUID, whose text has no dashes, or text as it stands.
    bare = subject.replace("-", "").lower()
    is_uuid = len(bare) == 32 and all(each in "0123456789abcdef" for each in bare)
    return (subject, bare) if is_uuid else (subject,)


def _write(
    operator: Operator, row: SubjectRow, hold: str | None, step: str, tenant: str | None
) -> None:
    named = tenant or operator.lacre.policy.file.default_tenant or ""
    event = Erased(
        **who(current(), time=time.time(), tenant=named),
        step=step,
        subject=row.pseudonym or "",
        keys=0,
        certificate="",
    )
    with recorded(operator.lacre.recorder.write, operator.store, [event]):
        if not operator.store.hold_subject(row.digest, hold=hold, over=row.hold):
            raise MisuseError(
                "somebody else changed the subject at the same moment; nothing was done",
                hint="look at lacre hold list, then try again",
            )
