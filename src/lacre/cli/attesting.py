# SPDX-License-Identifier: Apache-2.0
"""
`lacre columns attest` and `lacre columns verify`: a signed statement at the end of a migration, and
its check, which needs neither the database nor the key store.
"""

from pathlib import Path

import typer

from lacre.audit.event import Place, who
from lacre.audit.events import Protection
from lacre.cli.models import Models, load_models
from lacre.cli.operator import Config, Operator, PassphraseFile, as_operator
from lacre.cli.reading import Database, reading
from lacre.cli.terminal import out, say, table, warn
from lacre.context import current
from lacre.errors import ConfigurationError, Tampered
from lacre.fields.attestation import (
    Attestation,
    AttestedColumn,
    AttestedHistory,
    read_attestation,
    write_attestation,
)
from lacre.jobs import databases
from lacre.keys.moments import moment_text
from lacre.kms.local import PublicIdentity
from lacre.policy.loading import load_policy

__all__ = ["attest", "verify"]

_WRONG = 6


def attest(
    models: list[str] = Models,
    database: str = Database,
    file: Path = typer.Option(..., "--out", help="where the attestation goes; must not exist"),
    tables: list[str] = typer.Option([], "--table", help="only these tables; all by default"),
    history: list[str] = typer.Option(
        [], "--history-table", help="TABLE:COLUMN of a history table to count too, once for each"
    ),
    sample: int = typer.Option(
        1_000,
        "--sample",
        min=1,
        help="rows of each table that are opened, and whose tokens are made again",
    ),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """
    Count that no plaintext is left, recompute a sample of tokens, and sign what was found.

    Nothing is written where something is wrong: it is said, and the exit code is 6.
    """  # fmt: skip
    if file.exists():
        raise ConfigurationError(f"{file} exists already", hint="--out names a new file")
    places = [_history_of(text) for text in history]
    with as_operator(config, passphrase_file, purpose="attest") as operator:
        with reading(database) as engine:
            found = _found(operator, engine, load_models(models), tables, places, sample, database)
        failures = found.failures()
        _show(found)
        for failure in failures:
            warn(failure)
        if failures:
            raise typer.Exit(_WRONG)
        _record(operator, found)
        data = write_attestation(found, operator.identity)
    file.touch(mode=0o600)
    file.write_bytes(data)
    out.print(str(file))
    say("what it does not cover:")
    for sentence in found.not_covered:
        say(f"  - {sentence}")


def verify(
    file: Path = typer.Argument(..., help="what `lacre columns attest` wrote"),
    config: Path = Config,
) -> None:
    """Check an attestation's signature by the signers of lacre.toml, offline, and show what it says."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read ({type(error).__name__})") from None
    policy = load_policy(config, {})
    signers = [PublicIdentity.from_text(line) for line in policy.local.signers]
    try:
        found = read_attestation(data, signers=signers)
    except Tampered:
        warn(f"{file} is no attestation that a signer of lacre.toml made, or was changed since")
        raise typer.Exit(_WRONG) from None
    name = next(each.name for each in signers if each.fingerprint == found.signer)
    say(f"signed by {name} ({found.signer}) at {found.at}, of {found.database} (store {found.store}, {found.app} {found.env} {found.service})")  # fmt: skip
    if (found.app, found.env, found.service) != (policy.app, policy.env, policy.service):
        warn("it is of another application, environment or service than this lacre.toml")
    _show(found)
    say("what it does not cover:")
    for sentence in found.not_covered:
        say(f"  - {sentence}")


def _found(
    operator: Operator,
    engine: object,
    models: list[object],
    tables: list[str],
    history: list[tuple[str, str]],
    sample: int,
    database: str,
) -> Attestation:
    from sqlalchemy import Engine
    from sqlalchemy.orm import sessionmaker

    from lacre.sqlalchemy.attesting import attested_columns, attested_history
    from lacre.sqlalchemy.mapped import mappers_of, schemes_of

    assert isinstance(engine, Engine)
    lacre, policy = operator.lacre, operator.lacre.policy.file
    mappers = mappers_of(models)
    columns = attested_columns(
        lacre, lacre.sqlalchemy(sessionmaker(engine)), mappers, sample=sample, only=tables
    )
    with engine.connect() as connection:
        counted = [attested_history(connection, *place) for place in history]
    stores = {scheme.store for scheme in schemes_of(models)}
    return Attestation(
        app=policy.app,
        env=policy.env,
        service=policy.service,
        store=", ".join(sorted(stores)),
        keystore=operator.store.keystore_id,
        database=databases.name_of(database),
        at=moment_text(lacre.deadlines.now()[0]),
        signer=operator.identity.fingerprint,
        columns=tuple(columns),
        history=tuple(counted),
        not_covered=(
            *databases.remains(database),
            "Tables that were not named here, and what was written after this was signed.",
            "Values that were not in the sample were counted by how they begin, and not opened.",
        ),
    )


def _record(operator: Operator, found: Attestation) -> None:
    lacre, acting = operator.lacre, current()
    lacre.recorder.write(
        [
            Protection(
                **who(acting, time=lacre.deadlines.now()[0].timestamp(), tenant=lacre.policy.tenant(acting)),
                place=Place(found.store, each.table, each.column, each.class_),
                step="attested",
                count=each.encrypted,
            )
            for each in found.columns
        ]
    )  # fmt: skip


def _history_of(text: str) -> tuple[str, str]:
    name, colon, column = text.rpartition(":")
    if not colon or not name or not column:
        raise ConfigurationError(
            "a history table is given as TABLE:COLUMN", hint="--history-table customers_version:cpf"
        )
    return name, column


def _show(found: Attestation) -> None:
    head = ("column", "state", "#rows", "#encrypted", "#NULL", "#plaintext", "#opened", "#tokens compared", "#different")  # fmt: skip
    rows = [_row(each) for each in found.columns]
    rows += [_history_row(each) for each in found.history]
    out.print(table(head, rows))


def _row(each: AttestedColumn) -> list[str]:
    compared = sum(index.compared for index in each.indexes)
    different = sum(index.different + index.missing for index in each.indexes)
    numbers = (each.rows, each.encrypted, each.nulls, each.plaintext, each.opened, compared, different)  # fmt: skip
    return [f"{each.table}.{each.column}", each.state, *(f"{number:,}" for number in numbers)]


def _history_row(each: AttestedHistory) -> list[str]:
    numbers = (each.rows, each.encrypted, each.nulls, each.plaintext)
    return [f"{each.table}.{each.column}", "history", *(f"{n:,}" for n in numbers), "-", "-", "-"]
