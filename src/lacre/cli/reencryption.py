# SPDX-License-Identifier: Apache-2.0
"""
`lacre reencrypt`: move stored values to the keys that encrypt now, and say which values are under which.

Acts as the operator, for the purpose `reencrypt`, and records what it did in its own name.
"""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.filesize import decimal

from lacre.cli.coverage import coverage_records, show_coverage
from lacre.cli.models import Models, load_models
from lacre.cli.operator import Config, Operator, PassphraseFile, as_operator
from lacre.cli.progress import progress_bar
from lacre.cli.reading import named
from lacre.cli.sweeping import overdue, sweeper_of, tables_for
from lacre.cli.terminal import DUE, ask, data, out, say, warn
from lacre.errors import ConfigurationError, MisuseError
from lacre.fields.tables import EncryptedTable
from lacre.jobs.coverage import Coverage, Standing
from lacre.jobs.pace import Pace
from lacre.jobs.reencryption import Failure
from lacre.jobs.sweeps import Outcome, Sweeper, TableEstimate
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope
from lacre.policy.values import period

__all__ = ["reencrypt"]

_FAILED = 6  # as for a value that does not open
_Surveys = list[tuple[EncryptedTable, list[Coverage]]]


def reencrypt(
    models: list[str] = Models,
    database: str = typer.Option(
        ..., "--database", help="sqlite:///FILE, or postgresql://HOST/DATABASE, the password from PGPASSWORD or PGPASSFILE"
    ),
    tenant: str | None = typer.Option(None, "--tenant", help="values of this tenant only; where rows name no tenant, the default tenant's without it"),
    class_: str | None = typer.Option(None, "--class", help="columns of this class only"),
    store: str = typer.Option("main", "--store", help="the database's logical name, of [stores.NAME]"),
    older_than: str | None = typer.Option(None, "--older-than", help='leave values alone whose key was replaced less than, say, "30 days" ago'),
    workers: int = typer.Option(1, "--workers", min=1, max=64, help="threads that work here (PostgreSQL); run the command on other machines too for more"),
    batch: int = typer.Option(1000, "--batch", min=1, max=10_000, help="rows in one transaction"),
    throttle: float | None = typer.Option(None, "--throttle", min=1.0, help="rows a second at most"),
    max_lag: float | None = typer.Option(None, "--max-lag", min=0.0, help="seconds a replica may be behind (PostgreSQL)"),
    coverage: bool = typer.Option(False, "--coverage", help="only say which values are under which keys"),
    check: bool = typer.Option(False, "--check", help="exit 10 where values should have been moved by now; with --indexes, where tokens are missing or stale"),
    indexes: bool = typer.Option(False, "--indexes", help="make index tokens anew instead, after `lacre keys rotate --kind index`"),
    dry_run: bool = typer.Option(False, "--dry-run", help="show the estimate and change nothing"),
    yes: bool = typer.Option(False, "--yes", help="do not ask"),
    as_json: bool = typer.Option(False, "--json", help="the coverage, for a program to read"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:  # fmt: skip
    """
    Move values to the keys that encrypt now, while programs go on using the tables.

    Run the same command again to go on where one was stopped, and beside it for more workers.

    Example: lacre reencrypt --models shop.models:Base --database postgresql://db/shop
    """
    if check and not (coverage or indexes):
        raise MisuseError(
            "--check goes with --coverage, or with --indexes",
            hint="lacre reencrypt --coverage --check",
        )
    shown, loaded = named(database), load_models(models)
    with as_operator(config, passphrase_file, purpose="reencrypt") as operator:
        tables, waiting = tables_for(operator.lacre, loaded, database, store, class_)
        with progress_bar() as advance:
            sweeper = sweeper_of(
                operator.lacre,
                database,
                tenant=tenant,
                before=_before(older_than),
                pace=Pace(
                    batch=batch,
                    throttle=throttle,
                    workers=workers,
                    max_lag=max_lag,
                    progress=advance,
                ),
            )
            if indexes:
                for name, state in waiting:
                    warn(f"left alone: {name} is in state {state}; lacre protect finishes it")
                _reindex(operator, sweeper, tables, shown, write=not (check or dry_run), yes=yes)
                young = _young_roots(operator, sweeper, tables)
                if young is not None:
                    say(f"running processes may make tokens under the root before until {young:%Y-%m-%d %H:%M:%S} UTC: run the same command again after that, before anything is destroyed")  # fmt: skip
                if waiting or young is not None:
                    raise typer.Exit(DUE)
                for row in _older_roots(operator, sweeper, tables):
                    say(f"no row of these tables needs the {row.scope}, version {row.version}, any more: lacre keys destroy {row.key_id.hex()[:8]} with the same --models and --database, then this command again clears what it left")  # fmt: skip
                return
            surveys: _Surveys = [(each, sweeper.survey(each)) for each in tables]
            for name, state in waiting:
                say(f"left alone: {name} is in state {state}; lacre protect finishes it")
            if coverage:
                show_coverage(
                    [covered for _, found in surveys for covered in found], as_json=as_json
                )
                late = overdue(
                    operator.lacre, (covered for _, found in surveys for covered in found)
                )
                for covered, count in late:
                    say(
                        f"due: {count:,} values of {covered.table}.{covered.column}: lacre reencrypt"
                    )
                raise typer.Exit(DUE if check and (late or waiting) else 0)
            estimates = [
                sweeper.estimate(each, found, cache_age=operator.lacre.policy.file.cache.age)
                for each, found in surveys
                if sweeper.aims(each, found)
            ]
            if not as_json:
                show_coverage([covered for _, found in surveys for covered in found], as_json=False)
            _show_estimates(estimates, sweeper)
            if dry_run:
                if as_json:
                    data(coverage_records(covered for _, found in surveys for covered in found))
                raise typer.Exit
            if not estimates:
                if as_json:
                    data(coverage_records(covered for _, found in surveys for covered in found))
                say("every value is under the key that encrypts now")
                return
            if not yes:
                rows = sum(estimate.rows for estimate in estimates)
                ask(f"move the values of {rows:,} rows of {len(estimates)} tables in {shown}?")
            outcomes = [sweeper.run(each) for each, found in surveys if sweeper.aims(each, found)]
    _tell(operator, outcomes, as_json=as_json)


def _reindex(
    operator: Operator,
    sweeper: Sweeper,
    tables: Sequence[EncryptedTable],
    shown: str,
    *,
    write: bool,
    yes: bool,
) -> None:
    indexed = [each for each in tables if each.indexed]
    names = [each.name for each in indexed]
    for row in _announced(operator, sweeper, indexed):
        left = operator.lacre.provisioner.settles_in(row)
        if left > 0:
            warn(f"the {row.scope}, version {row.version}, was announced a moment ago: rows that are written in the next {left:.0f} s may lack its tokens")  # fmt: skip
    if write and not yes:
        ask(f"open every indexed value of {', '.join(names)} in {shown}, and make its tokens anew?")
    found = [sweeper.reindex(each, write=write) for each in indexed]
    for each in found:
        done = f"{each.rows:,} rows written, " if write else ""
        out.print(f"{each.table}: {done}{each.stale:,} rows lack tokens, or have stale ones")
        _show_failures(each.failures)
    if any(each.failures for each in found):
        raise typer.Exit(_FAILED)
    if any(each.stale for each in found):
        raise typer.Exit(DUE)


def _meant(sweeper: Sweeper, tables: Sequence[EncryptedTable]) -> dict[str, set[str | None]]:
    """Return for each class whose rows of *tables* are meant; None stands for every tenant."""
    meant: dict[str, set[str | None]] = {}
    for each in tables:
        for column in each.indexed:
            meant.setdefault(column.scheme.class_, set()).add(sweeper.tenant(each))
    return meant


def _roots(
    operator: Operator, sweeper: Sweeper, tables: Sequence[EncryptedTable]
) -> dict[Scope, list[KeyRow]]:
    """Return the index roots under which tokens of the rows that are meant are."""
    meant = _meant(sweeper, tables)
    scopes: dict[Scope, list[KeyRow]] = {}
    for row in operator.store.rows():
        whose = meant.get(row.scope.class_, set())
        if row.scope.kind is KeyKind.INDEX and whose & {None, row.scope.tenant}:
            scopes.setdefault(row.scope, []).append(row)
    return scopes


def _announced(
    operator: Operator, sweeper: Sweeper, tables: Sequence[EncryptedTable]
) -> list[KeyRow]:
    roots = _roots(operator, sweeper, tables).values()
    return [row for rows in roots for row in rows if row.state is KeyState.PENDING]


def _older_roots(
    operator: Operator, sweeper: Sweeper, tables: Sequence[EncryptedTable]
) -> list[KeyRow]:
    # A table that names no tenant was gone over for one of them: nothing is known of the others.
    meant = _meant(sweeper, tables)
    roots = _roots(operator, sweeper, tables).values()
    return [
        row
        for rows in roots
        for row in rows
        if row.state is KeyState.DECRYPT_ONLY
        and meant[row.scope.class_] <= {None, row.scope.tenant}
    ]


def _young_roots(
    operator: Operator, sweeper: Sweeper, tables: Sequence[EncryptedTable]
) -> dt.datetime | None:
    """Return until when processes may hold roots of before for the active ones, where that is not over."""
    # What is not unique is written under the active root alone: what a process takes for that.
    age = dt.timedelta(seconds=operator.lacre.policy.file.cache.age)
    roots = _roots(operator, sweeper, tables).values()
    latest = max(
        (
            dt.datetime.fromisoformat(row.changed) + age
            for rows in roots
            if any(row.state is KeyState.DECRYPT_ONLY for row in rows)
            for row in rows
            if row.state is KeyState.ACTIVE
        ),
        default=None,
    )
    return latest if latest is not None and latest > dt.datetime.now(dt.UTC) else None


def _show_failures(failures: Sequence[Failure]) -> None:
    for failure in failures:
        more = ", ..." if failure.values > len(failure.rows) else ""
        named_rows = f": rows {', '.join(failure.rows)}{more}" if failure.rows else ""
        why = "hold what another row holds" if failure.reason == "DuplicateValue" else f"did not open ({failure.reason})"  # fmt: skip
        warn(f"{failure.table}.{failure.column}: {failure.values:,} values {why} and stay as they are{named_rows}")  # fmt: skip


def _tell(operator: Operator, outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    show_coverage(
        [covered for outcome in outcomes for covered in outcome.coverage], as_json=as_json
    )
    for outcome in outcomes:
        say(
            f"moved: {outcome.moved:,} values in {outcome.rows:,} rows of {outcome.table}"
            + (f"; {outcome.lost_races:,} rows were left to others, and seen again" if outcome.lost_races else "")
        )  # fmt: skip
    suspect = sum(outcome.suspect for outcome in outcomes)
    if suspect:
        warn(f"{suspect:,} values came from under a compromised key. They are not thereby authentic: whoever has that key could have written them")  # fmt: skip
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    _show_failures(failures)
    young = _settling(operator, outcomes)
    if young is not None:
        say(f"running processes may encrypt with the keys before until {young:%Y-%m-%d %H:%M:%S} UTC: run the same command again after that")  # fmt: skip
    if failures:
        raise typer.Exit(_FAILED)
    left = sum(covered.left for outcome in outcomes for covered in outcome.coverage)
    if left:
        say(f"{left:,} values are not under the key that encrypts now: run the same command again")
        raise typer.Exit(DUE)


def _settling(operator: Operator, outcomes: Sequence[Outcome]) -> dt.datetime | None:
    """Return until when processes may hold the keys of before, where that is not over."""
    age = dt.timedelta(seconds=operator.lacre.policy.file.cache.age)
    latest = max(
        (
            dt.datetime.fromisoformat(share.row.changed) + age
            for outcome in outcomes
            for covered in outcome.coverage
            for share in covered.shares
            if share.standing is Standing.ACTIVE and share.row is not None and share.row.version > 1
        ),
        default=None,
    )
    return latest if latest is not None and latest > dt.datetime.now(dt.UTC) else None


def _before(older_than: str | None) -> dt.datetime | None:
    if older_than is None:
        return None
    try:
        found = period(older_than)
    except ValueError as error:
        raise ConfigurationError(f"--older-than: {error}") from None
    return None if found is None else dt.datetime.now(dt.UTC) - found


def _show_estimates(estimates: Sequence[TableEstimate], sweeper: Sweeper) -> None:
    for estimate in estimates:
        what = f"{estimate.table}: {estimate.values:,} values in about {estimate.rows:,} rows"
        if estimate.seconds is not None and estimate.rate is not None:
            what += f", about {estimate.seconds:,.0f} s at {estimate.rate:,.0f} rows/s, as {estimate.sample} rows show"  # fmt: skip
        calls = "call" if estimate.calls == 1 else "calls"
        say(f"{what}; about {estimate.calls:,} {calls} of the key service")
        if estimate.wal is not None:
            say(f"{estimate.table}: about {decimal(estimate.wal)} of write-ahead log; the table may grow by as much until vacuum")  # fmt: skip
    if estimates:
        lag = sweeper.lag()
        if lag is not None:
            say(f"the slowest replica is {lag:.1f} s behind")
