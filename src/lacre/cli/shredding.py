# SPDX-License-Identifier: Apache-2.0
"""`lacre shred`: erase a subject, or those whose retention ended."""

import datetime as dt
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import typer

from lacre.application import Lacre
from lacre.cli.models import Models, load_models
from lacre.cli.operator import Config, Operator, PassphraseFile, as_operator
from lacre.cli.terminal import DUE, out, say, table, warn
from lacre.cli.terminal import data as machine
from lacre.errors import (
    AccessDenied,
    ConfigurationError,
    KeyDestroyed,
    KeyNotFound,
    MisuseError,
    SubjectHeld,
    Tampered,
)
from lacre.jobs.apart import check_apart
from lacre.jobs.retention import due_subjects
from lacre.jobs.shredding import Attempt, Shredded, Shredder
from lacre.keys.hierarchy import KeyKind, subject_digest
from lacre.sqlalchemy.erasing import SealedValue, SubjectTable, subject_tables

__all__ = ["database_at", "shred", "shredder_of"]


def shred(
    subject: str | None = typer.Argument(None, help="the subject's id, as the column of subject= holds it"),
    tenant: str | None = typer.Option(None, help="whose subject; the default tenant's without it"),
    models: list[str] = Models,
    database: str = typer.Option(..., help="where the data is, an SQLAlchemy URL or an SQLite file"),
    reason: str = typer.Option(..., help="why, for the certificate and the record; not a name"),
    due: bool = typer.Option(False, "--due", help="those whose [retention] ended, instead of one"),
    dry_run: bool = typer.Option(False, "--dry-run", help="say what would be shredded, and do nothing"),
    wait: bool = typer.Option(False, "--wait", help="stay until no process has a cached key, and erase what was written meanwhile"),
    yes: bool = typer.Option(False, "--yes", help="do not ask"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read: the certificates"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:  # fmt: skip
    """Destroy a subject's keys and index values, for good, and certify it."""
    if (subject is None) != due:
        raise ConfigurationError("one subject, or --due", hint="lacre shred SUBJECT --tenant T ...")
    with as_operator(config, passphrase_file, purpose="erasure") as operator:
        file = operator.lacre.policy.file
        if file.sealing is not None:
            for warning in check_apart(file.key_store.url, database, operator.base):
                warn(warning)
        tables = subject_tables(load_models(models))
        named = tenant or file.default_tenant
        if named is None:
            raise ConfigurationError("no tenant was named", hint="--tenant T")
        shredder = shredder_of(operator, named)
        with database_at(database) as engine:
            work = _Work(operator, shredder, tables, engine, named, config)
            texts = [work.text_of(subject)] if subject is not None else work.due()
            for text in texts if subject is not None else ():
                shredder.refuse(text)
            if dry_run:
                _list(texts, due=due)
                raise typer.Exit(DUE if due and texts else 0)
            if not texts:
                say("nothing is due")
                return
            if not yes:
                _confirm(len(texts))
            done, held = work.shred(texts, reason=reason, past_holds=due)
            if wait:
                say(f"waiting {shredder.bound:.0f} s until no process has a cached key")
                time.sleep(shredder.bound)
                for text in texts:
                    work.sweep(text)
    _tell(done, as_json=as_json)
    if held:
        warn(f"{held} subjects are under a legal hold: they were passed over")
    if done and not wait:
        bound = done[-1].body["erased_from_live_at"]
        say(f"processes that cached a key read on until {bound}; run it again after that to erase index values written meanwhile, or use --wait")  # fmt: skip
    if any(each.body["verification"]["opened"] for each in done):
        warn("some values still OPEN: they are not under the subject's keys (lacre reencrypt)")
        raise typer.Exit(6)


class _Work:
    """One run: the subjects, the data's database, and a reader with keys of its own."""

    def __init__(
        self,
        operator: Operator,
        shredder: Shredder,
        tables: Sequence[SubjectTable],
        engine: sa.Engine,
        tenant: str,
        config: Path,
    ) -> None:
        self.operator = operator
        self.shredder = shredder
        self.tables = tables
        self.engine = engine
        self.tenant = tenant
        self.config = config

    def text_of(self, subject: str) -> str:
        texts = {each.text_of(each.subject_of(subject)) for each in self.tables}
        if len(texts) != 1:
            raise ConfigurationError(
                "the models hold this subject in columns of different types",
                hint="give every column of subject= the type of the one it refers to",
            )
        return texts.pop()

    def due(self) -> list[str]:
        policy = self.operator.lacre.policy.file
        if not policy.retention:
            raise ConfigurationError(
                "lacre.toml has no [retention]",
                hint='[retention.customers] table = "customers", column = "closed_on", after = "1825 days"',
            )
        found: dict[str, None] = {}
        now = dt.datetime.now(dt.UTC)
        for name, rule in sorted(policy.retention.items()):
            held = next((each for each in self.tables if each.name == rule.table), None)
            if held is None or rule.after is None:
                raise ConfigurationError(
                    f"[retention.{name}] names the table {rule.table}, of which no model names a subject"
                )
            with self.engine.connect() as connection:
                for value in due_subjects(
                    connection,
                    table=held.subject.table,
                    subject=held.subject,
                    column=rule.column,
                    after=rule.after,
                    now=now,
                    tenant=held.of_tenant(self.tenant),
                ):
                    text = held.text_of(value)
                    row = self.shredder.store.subject(subject_digest(self.shredder.scope, text))
                    if row is not None and row.shredded is None:
                        found[text] = None
        return list(found)

    def shred(
        self, texts: Sequence[str], *, reason: str, past_holds: bool
    ) -> tuple[list[Shredded], int]:
        done: list[Shredded] = []
        held = 0
        for text in texts:
            try:
                done.append(
                    self.shredder.shred(
                        text,
                        reason=reason,
                        count=lambda text=text: self._count(text),  # type: ignore[misc]
                        erase=lambda text=text: self.sweep(text),  # type: ignore[misc]
                        attempt=lambda text=text: self._attempt(text),  # type: ignore[misc]
                    )
                )
            except SubjectHeld:
                if not past_holds:
                    raise
                held += 1
        return done, held

    def sweep(self, text: str) -> Mapping[str, int]:
        erased: dict[str, int] = {}
        with self.engine.begin() as connection:
            for each in self.tables:
                for place, rows in each.erase(
                    connection, each.subject_of(text), self.tenant
                ).items():
                    erased[place] = erased.get(place, 0) + rows
        return erased

    def _count(self, text: str) -> int:
        with self.engine.connect() as connection:
            return sum(
                each.count(connection, each.subject_of(text), self.tenant) for each in self.tables
            )

    def _attempt(self, text: str) -> Attempt:
        # A library of its own, with no key cached: what it cannot read nobody reads who starts now.
        # Under the class's key too: what is from before the column had subjects must not open.
        values = refused = opened = denied = 0
        with (
            Lacre.load(self.config, identity=self.operator.identity) as fresh,
            self.engine.connect() as connection,
        ):
            for each in self.tables:
                for value in each.sealed_values(connection, each.subject_of(text), self.tenant):
                    values += 1
                    whole = replace(value.scheme, subject=False, moving=False)
                    tries = (
                        partial(fresh.field_of(value.scheme).reopened_any, subject=text),
                        fresh.field_of(whole).reopened_any,
                    )
                    outcomes = {_outcome(read, value, self.tenant) for read in tries}
                    opened += "opened" in outcomes
                    denied += "denied" in outcomes
                    refused += outcomes == {"refused"}
        return Attempt(values=values, refused=refused, opened=opened, denied=denied)


def _outcome(read: Callable[..., Any], value: SealedValue, tenant: str) -> str:
    try:
        read(value.value, row=value.row, tenant=tenant)
    except AccessDenied:
        return "denied"
    except (KeyDestroyed, KeyNotFound, Tampered):
        return "refused"
    return "opened"


def shredder_of(operator: Operator, tenant: str) -> Shredder:
    """Return what shreds subjects of *tenant*, as this operator."""
    lacre = operator.lacre
    file = lacre.policy.file
    return Shredder(
        store=operator.store,
        ledger=lacre.epochs,
        scope=lacre.policy.scope(KeyKind.SUBJECT, "-", tenant),
        policy=file,
        signer=operator.identity,
        signers=lacre.signers,
        recorder=lacre.recorder,
        bound=lacre.revocation_latency,
        certificates=operator.base / file.erasure.certificates,
    )


@contextmanager
def database_at(database: str) -> Iterator[sa.Engine]:
    """Open the data's database; what it says of a failure is not repeated."""
    url = database if "://" in database else f"sqlite:///{database}"
    try:
        engine = sa.create_engine(url, hide_parameters=True, poolclass=sa.NullPool)
    except (sa.exc.ArgumentError, ModuleNotFoundError):
        raise ConfigurationError("the database's URL cannot be used", hint="--database URL") from None  # fmt: skip
    try:
        yield engine
    except sa.exc.SQLAlchemyError as error:
        raise ConfigurationError(
            f"the database failed ({type(error).__name__})",
            hint="check --database and --models; run the same command again to go on",
        ) from None
    finally:
        engine.dispose()


def _confirm(number: int) -> None:
    what = "the subject" if number == 1 else f"{number} subjects"
    warn(f"this destroys every key of {what}, in every class: nothing under them can be read again")
    if not sys.stdin.isatty():
        raise MisuseError("nobody can be asked here", hint="--yes shreds without asking")
    if typer.prompt("type shred to go on", err=True) != "shred":
        raise MisuseError("nothing was done")


def _list(texts: Sequence[str], *, due: bool) -> None:
    # Of those that are due the ids are told, on stdout and nowhere else: the operator has to know.
    if due:
        for text in texts:
            out.print(text)
    say(f"{len(texts)} subjects would be shredded")


def _tell(done: Sequence[Shredded], *, as_json: bool) -> None:
    if as_json:
        machine([dict(each.body) | {"file": str(each.path)} for each in done])
        return
    rows: list[list[str]] = []
    for each in done:
        body: Mapping[str, Any] = each.body
        rows.append(
            [
                each.pseudonym or "(before)",
                str(len(body["keys"])),
                str(body["rows"]),
                str(sum(body["index_values"]["erased"].values())),
                body["verification"]["outcome"],
                body["verdict"],
                body["irrecoverable_at"] or "",
            ]
        )
    out.print(
        table(
            ("subject", "#keys", "#rows", "#index values", "values", "verdict", "irrecoverable at"),
            rows,
        )
    )
    for each in done:
        if each.again:
            say(f"it was erased already, on {each.body['shredded_at']}: its keys were gone, and what was written since is erased now")  # fmt: skip
        say(f"certificate: {each.path}")
        for wait in each.body["waits_for"]:
            say(f"it waits for {wait}")
