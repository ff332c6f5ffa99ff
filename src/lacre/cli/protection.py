# SPDX-License-Identifier: Apache-2.0
"""`lacre protect` and `lacre unprotect`: encrypt columns in place, and the way back."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import typer
from rich.filesize import decimal

from lacre.cli.old_values import foretell, sources_of
from lacre.cli.operator import Config, Operator, PassphraseFile, as_operator
from lacre.cli.progress import progress_bar
from lacre.cli.reading import named
from lacre.cli.terminal import ask, data, out, say, table, talk, warn
from lacre.errors import ConfigurationError
from lacre.fields.field import Field
from lacre.fields.scheme import Scheme
from lacre.jobs import databases
from lacre.jobs.authority import Authority
from lacre.jobs.columns import ColumnRequest, PlannedColumn
from lacre.jobs.databases import Plan
from lacre.jobs.ledger import Job, Report
from lacre.jobs.pace import Pace
from lacre.jobs.postgresql.estimate import Estimate, estimated
from lacre.jobs.sources import NO_SOURCES
from lacre.jobs.sqlite.plan import Plan as SQLitePlan

__all__ = [
    "authority_of",
    "fields_of",
    "model_of",
    "protect",
    "unprotect",
]

_Database = typer.Option(
    ...,
    "--database",
    help="sqlite:///FILE, or the file's path; postgresql://HOST/DATABASE, the password from PGPASSWORD or PGPASSFILE",
)
_Table = typer.Option(..., "--table", help="the table")
_Columns = typer.Option(
    ..., "--column", help="NAME:CLASS[:NORMALISER[:BITS]], once for each column"
)
_Store = typer.Option("main", "--store", help="the database's logical name, of [stores.NAME]")
_Yes = typer.Option(False, "--yes", help="do not ask")
_Batch = typer.Option(500, "--batch", min=1, max=10_000, help="rows in one transaction")
_Workers = typer.Option(1, "--workers", min=1, max=64, help="threads that fill (PostgreSQL)")
_MaxLag = typer.Option(
    None, "--max-lag", min=0.0, help="seconds a replica may be behind (PostgreSQL)"
)
_LockTimeout = typer.Option(
    1.0, "--lock-timeout", min=0.01, help="seconds to wait for a lock that stops others, at a time"
)
_Throttle = typer.Option(None, "--throttle", min=1.0, help="rows a second at most")


def protect(
    database: str = _Database,
    table_name: str = _Table,
    column: list[str] = _Columns,
    from_: str = typer.Option(
        "",
        "--from",
        help="what reads the columns' present content, where another library wrote it: [legacy.NAME]",
    ),
    store: str = _Store,
    dry_run: bool = typer.Option(False, "--dry-run", help="show the plan and change nothing"),
    yes: bool = _Yes,
    batch: int = _Batch,
    throttle: float | None = _Throttle,
    workers: int = _Workers,
    max_lag: float | None = _MaxLag,
    lock_timeout: float = _LockTimeout,
    join: bool = typer.Option(
        False, "--join", help="fill rows beside the process that is at work (PostgreSQL)"
    ),
    no_verify: bool = typer.Option(
        False, "--no-verify", help="do not decrypt and compare what was encrypted (PostgreSQL)"
    ),
    as_json: bool = typer.Option(
        False, "--json", help="the plan (with --dry-run) or the report, for a program to read"
    ),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """
    Encrypt columns of a table in place, while programs go on using it.

    Example: lacre protect --database shop.db --table customers --column email:pii:email --column cpf:pii:cpf --column address:pii
    """
    shown = named(database)
    requests = [replace(ColumnRequest.parse(text), reader=from_) for text in column]
    with as_operator(config, passphrase_file, purpose="protect") as operator:
        if store not in operator.lacre.policy.file.stores:
            raise ConfigurationError(
                f"lacre.toml has no store {store!r}", hint=f"add [stores.{store}]"
            )
        for request in requests:
            operator.lacre.policy.class_(
                request.class_
            )  # also before a dry run: raises where there is none
        authority, fields = authority_of(operator), fields_of(operator, store)
        sources = sources_of(operator, store, from_) if from_ else NO_SOURCES
        decided = None
        job = databases.under_way(database, table_name, requests, authority=authority, store=store)
        if job is not None:
            # In the middle of its job a table cannot be planned again: what was found then counts.
            _show_job(job, as_json=dry_run and as_json)
            found, adds_row_id = job.columns, job.key.added
        else:
            timed = foretell(database, table_name, requests, sources) if from_ else sources
            decided = databases.plan(database, table_name, requests, store=store, sources=timed)
            figures = None
            if not isinstance(decided, SQLitePlan) and not decided.refusals:
                figures = estimated(
                    database, decided, fields, workers=workers, throttle=throttle, sources=sources
                )
            _show_plan(decided, figures, as_json=dry_run and as_json)
            if not from_ and (readers := operator.lacre.policy.file.legacy):
                say(f"note: without --from what the columns hold is encrypted as it stands, another library's ciphertext too; lacre.toml has {', '.join(readers)}")  # fmt: skip
            found, adds_row_id = decided.columns, decided.adds_row_id
        refused = decided is not None and bool(decided.refusals)
        if dry_run:
            raise typer.Exit(3 if refused else 0)
        if decided is not None and not refused and not yes:
            ask(f"encrypt {len(requests)} columns of {table_name} in {shown}?")
        with progress_bar() as advance:
            report = databases.protect(
                database,
                table_name,
                requests,
                fields=fields,
                authority=authority,
                store=store,
                pace=Pace(
                    batch=batch,
                    throttle=throttle,
                    workers=workers,
                    max_lag=max_lag,
                    progress=advance,
                ),
                verify=not no_verify,
                join=join,
                lock_timeout=lock_timeout,
                decided=decided,
                sources=sources,
            )
    if job is not None and job.phase == "done":
        _show_report("protected already", replace(report, resumed=False), as_json=as_json)
    else:
        _show_report("protected", report, as_json=as_json)
    if report.joined:
        return
    say("declare the columns in your model:")
    talk.print(model_of(found, adds_row_id=adds_row_id), markup=False)
    say("what this did not reach:")
    for sentence in databases.remains(database):
        say(f"  - {sentence}")


def unprotect(
    database: str = _Database,
    table_name: str = _Table,
    column: list[str] = _Columns,
    from_: str = typer.Option(
        "", "--from", help="as protect was given it: stops a move-in that still fills"
    ),
    store: str = _Store,
    dry_run: bool = typer.Option(
        False, "--dry-run", help="show what would be undone and change nothing"
    ),
    yes: bool = _Yes,
    batch: int = _Batch,
    throttle: float | None = _Throttle,
    workers: int = _Workers,
    max_lag: float | None = _MaxLag,
    lock_timeout: float = _LockTimeout,
    as_json: bool = typer.Option(
        False, "--json", help="what is to be undone (with --dry-run) or the report, for a program"
    ),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Decrypt columns in place: the way back, with the arguments that protect was given."""
    shown = named(database)
    requests = [replace(ColumnRequest.parse(text), reader=from_) for text in column]
    with as_operator(config, passphrase_file, purpose="unprotect") as operator:
        authority = authority_of(operator)
        if dry_run:
            job, rows = databases.to_undo(
                database, table_name, requests, authority=authority, store=store
            )
            _show_undoing(job, rows, as_json=as_json)
            raise typer.Exit
        warn(f"{len(requests)} columns of {table_name} will hold plaintext again")
        if not yes:
            ask(f"decrypt {len(requests)} columns of {table_name} in {shown}?")
        with progress_bar() as advance:
            report = databases.unprotect(
                database,
                table_name,
                requests,
                fields=fields_of(operator, store),
                authority=authority,
                store=store,
                pace=Pace(
                    batch=batch,
                    throttle=throttle,
                    workers=workers,
                    max_lag=max_lag,
                    progress=advance,
                ),
                lock_timeout=lock_timeout,
            )
    _show_report("unprotected", report, as_json=as_json)


def fields_of(operator: Operator, store: str) -> Callable[[PlannedColumn], Field]:
    """Return what makes the field of a planned column."""

    def made(column: PlannedColumn) -> Field:
        indexes = () if column.index is None else (column.index,)
        return operator.lacre.field_of(
            Scheme(
                class_=column.class_,
                store=store,
                table=column.table,
                column=column.name,
                python_type=column.python_type,
                indexes=indexes,
            )
        )

    return made


def authority_of(operator: Operator) -> Authority:
    """Return who moves column states: the operator, whose signature lacre.toml trusts."""
    return Authority(
        record=operator.lacre.recorder.write,
        tenant=operator.lacre.policy.tenant,
        states=operator.store,
        signer=operator.identity,
        signers=operator.lacre.signers,
        keystore=operator.store.keystore_id,
    )


def _show_job(job: Job, *, as_json: bool) -> None:
    if as_json:
        data({"table": job.table, "under_way": job.phase != "done", "rows_done": job.done})
    elif job.phase == "done":
        say(f"these columns of {job.table} are protected already")
    else:
        say(f"going on with the job under way on {job.table}")


def _show_undoing(job: Job, rows: int, *, as_json: bool) -> None:
    names = [column.name for column in job.columns]
    under_way = job.direction == "unprotect"
    filling = not under_way and job.phase == "fill"
    if as_json:
        data({"table": job.table, "columns": names, "rows": rows, "under_way": under_way})
        return
    if under_way:
        say(f"an unprotect of {job.table} is under way, and would go on")
    what = (
        f"would stop the protect under way on {', '.join(names)} of {job.table}, which still holds the plaintext of {rows:,} rows,"
        if filling
        else f"would decrypt {', '.join(names)} of {job.table}, {rows:,} rows,"
    )
    say(f"{what} and give the table back the definition it had:")
    for kind, name, definition in job.original:
        say(
            definition
            if " " in definition and kind in ("table", "index")
            else f"{kind} {name}: {definition}"
        )


def _show_plan(decided: Plan, figures: Estimate | None, *, as_json: bool) -> None:
    """Print the plan: what was found, what will be done, and why not."""
    if as_json:
        data(_plan_data(decided) | ({} if figures is None else {"estimate": figures.record()}))
        return
    rows = [
        [
            c.name,
            c.declared or "-",
            c.python_type.__name__,
            c.class_,
            _index_of(c),
            f"{c.values:,}",
            f"{c.nulls:,}",
        ]
        for c in decided.columns
    ]
    talk.print(table(("column", "declared", "type", "class", "index", "#values", "#NULL"), rows))
    for notice in decided.notices:
        say(f"note: {notice}")
    if decided.refusals:
        for refusal in decided.refusals:
            warn(f"{refusal.reason}\n         {refusal.hint}")
        return
    for number, step in enumerate(decided.steps(), 1):
        say(f"  {number}. {step}")
    if isinstance(decided, SQLitePlan):
        say(
            f"the file grows by about {decimal(decided.growth_bytes)}; {decimal(decided.needed_free_bytes)} must be free while this runs, {decimal(decided.free_bytes)} are"
        )
    elif figures is not None:
        for sentence in figures.sentences():
            say(sentence)


def model_of(columns: Sequence[PlannedColumn], *, adds_row_id: bool) -> str:
    """Return the lines of a SQLAlchemy model that fit the protected table."""
    lines = ["    lacre_rid: Mapped[UUID] = row_id()"] if adds_row_id else []
    for column in columns:
        optional = "" if column.not_null else " | None"
        options = ", unique=True" if column.unique else ""
        options += f", bits={column.bits}" if column.bits else ""
        declared = f'BlindIndex("{column.normaliser}"{options})'
        index = "" if column.normaliser is None else f", index={declared}"
        json_type = ", JSON()" if column.python_type in (dict, list) else ""
        lines.append(
            f'    {column.name}: Mapped[{column.python_type.__name__}{optional}] = encrypted("{column.class_}"{json_type}{index})'
        )
    return "\n".join(lines)


def _index_of(column: PlannedColumn) -> str:
    index = column.index
    if index is None:
        return "-"
    return (
        f"{index.normaliser}, unique" if index.unique else f"{index.normaliser}, {index.bits} bits"
    )


def _show_report(done: str, report: Report, *, as_json: bool) -> None:
    if as_json:
        data(
            {
                "done": done,
                "table": report.table,
                "columns": list(report.columns),
                "rows": report.rows,
                "resumed": report.resumed,
                "lost_races": report.lost_races,
                "verified": report.verified,
                "joined": report.joined,
                "locks": list(report.locks),
                "advice": list(report.advice),
            }
        )
        return
    resumed = ", going on where it had stopped" if report.resumed and not report.joined else ""
    unverified = ", not verified" if not report.verified and not report.joined else ""
    beside = ", beside the process that does the rest" if report.joined else ""
    out.print(
        f"{done}: {', '.join(report.columns)} of {report.table}, {report.rows:,} rows{resumed}{unverified}{beside}"
    )
    for title, sentences in (("locks taken", report.locks), ("advice", report.advice)):
        if sentences:
            say(f"{title}:")
            for sentence in sentences:
                say(f"  - {sentence}")


def _plan_data(decided: Plan) -> dict[str, object]:
    return {
        "table": decided.table,
        "rows": decided.rows,
        "columns": [
            {
                "name": c.name,
                "class": c.class_,
                "normaliser": c.normaliser,
                "unique": c.unique,
                "bits": None if c.index is None else c.index.bits,
                "type": c.python_type.__name__,
                "values": c.values,
                "nulls": c.nulls,
                "from": c.reader or None,
            }
            for c in decided.columns
        ],
        "steps": decided.steps(),
        "notices": list(decided.notices),
        "refusals": [{"reason": r.reason, "hint": r.hint} for r in decided.refusals],
        "growth_bytes": decided.growth_bytes,
    }
