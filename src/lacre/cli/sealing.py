# SPDX-License-Identifier: Apache-2.0
"""`lacre seal`: how sealing is, and the next epoch."""

import datetime as dt
from pathlib import Path

import typer

from lacre.cli.operator import Config, Operator, PassphraseFile, as_operator
from lacre.cli.terminal import data as machine
from lacre.cli.terminal import out, say, table, warn
from lacre.errors import ConfigurationError
from lacre.jobs.apart import check_apart
from lacre.jobs.sealing import Sealer, SealingStatus
from lacre.keys.kms_keys import scheme_of
from lacre.kms.opening import open_epoch_keys
from lacre.policy.erasure import SealingSettings
from lacre.recovery.sealing import proved_dump

__all__ = ["seal", "sealer_of", "settings_of"]


def seal(
    status: bool = typer.Option(False, "--status", help="say how sealing is, and do nothing"),
    due: bool = typer.Option(False, "--due", help="seal only if the cadence says so, or a sealing was interrupted"),
    database: str | None = typer.Option(None, help="where the data is: checked to be apart from the key store"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:  # fmt: skip
    """End an epoch: what was shredded in it is then readable from no older dump of the key store."""
    with as_operator(config, passphrase_file, purpose="sealing") as operator:
        settings = settings_of(operator)
        sealer = sealer_of(operator)
        if database is not None:
            for warning in check_apart(
                operator.lacre.policy.file.key_store.url, database, operator.base
            ):
                warn(warning)  # fmt: skip
        found = sealer.status(every=settings.every)
        if status:
            _show(found, as_json=as_json)
            return
        if due and not _is_due(found):
            say("nothing is due")
            _show(found, as_json=as_json)
            return
        epoch = sealer.seal()
        found = sealer.status(every=settings.every)
    _show(found, as_json=as_json)
    say(f"sealed: epoch {epoch.number} is in use")
    ended = [row for row in found.epochs if row.number < epoch.number]
    if ended:
        final = ended[0].final
        when = f"from {final} on" if final else "once every backup of the key service from before is gone ([sealing] snapshots_kept says how long they are kept)"  # fmt: skip
        say(f"what was shredded before is irrecoverable {when}")
        say(
            "dumps of the key store from before this are worthless for sealed subjects: keep the new one"
        )


def settings_of(operator: Operator) -> SealingSettings:
    """Return `[sealing]`, or raise `ConfigurationError` where there is none."""
    settings = operator.lacre.policy.file.sealing
    if settings is None:
        raise ConfigurationError(
            "lacre.toml has no [sealing]",
            hint='[sealing] kms_key = "openbao://transit/epochs", classes = ["pii"]',
        )
    return settings


def sealer_of(operator: Operator) -> Sealer:
    """Return what seals, as this operator."""
    lacre, settings = operator.lacre, settings_of(operator)
    local = lacre.policy.file.local
    directory = operator.base / (local.directory or "lacre/keystore")
    return Sealer(
        store=operator.store,
        ledger=lacre.epochs,
        keys=open_epoch_keys(
            lacre.policy.file,
            lacre.services,
            administration=operator.keystore() if local.directory else None,
            directory=directory,
            recipients=operator.recipients(),
            keystore_id=operator.store.keystore_id,
        ),
        services=lacre.services,
        scope=lacre.policy.service_scope(),
        classes=settings.classes,
        signer=operator.identity,
        recorder=lacre.recorder,
        prove=proved_dump(
            lacre, operator.store, identity=operator.identity, base=operator.base, keystore=directory
        ),
        kept=settings.snapshots_kept,
        waits=scheme_of(settings.kms_key) == "aws-kms",
        told=say,
    )  # fmt: skip


def _is_due(found: SealingStatus) -> bool:
    if found.unfinished or not found.epochs:
        return True
    return found.due is not None and found.due <= dt.datetime.now(dt.UTC)


def _show(found: SealingStatus, *, as_json: bool) -> None:
    rows = [
        {
            "epoch": row.number,
            "state": str(row.state),
            "opened": row.opened,
            "changed": row.changed,
            "kms_key": row.kms_key,
            "final": row.final,
        }
        for row in found.epochs
    ]
    if as_json:
        machine(
            {
                "epochs": rows,
                "shredded": found.shredded,
                "due": None if found.due is None else found.due.isoformat(),
                "unfinished": found.unfinished,
            }
        )
        return
    out.print(
        table(
            ("#epoch", "state", "opened", "final", "KMS key"),
            [
                [str(row["epoch"]), str(row["state"]), str(row["opened"]), str(row["final"] or ""), str(row["kms_key"])]
                for row in rows
            ],
        )
    )  # fmt: skip
    if found.due is not None:
        say(f"the next sealing is due {found.due.date()}")
    if found.shredded:
        say(
            f"{found.shredded} destroyed subject keys wait for it: dumps from before still hold them"
        )
    if found.unfinished:
        warn("a sealing was begun and not ended: run `lacre seal` again")
