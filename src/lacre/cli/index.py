# SPDX-License-Identifier: Apache-2.0
"""
`lacre index plan`: what the blind indexes of a model reveal and cost on real data, and what to
declare instead.

Needs no key and no identity: it counts what is there. Prints sentences first and figures after
them, in 80 columns; `--json` has all of it.
"""

import datetime as dt
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import log2
from pathlib import Path
from typing import Any

import typer

from lacre.cli.models import Models, load_models
from lacre.cli.operator import Config, PassphraseFile, as_operator
from lacre.cli.reading import Database, reading
from lacre.cli.terminal import data, out, say
from lacre.errors import ConfigurationError
from lacre.fields.advice import SHORTEST, Advice, Finding, TableAdvice, Waiver, advise
from lacre.fields.index import DEFAULT_BITS
from lacre.fields.planning import FEWEST_ROWS
from lacre.policy.columns import WaiverSettings
from lacre.policy.loading import load_policy

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Blind indexes.")

_WIDTH = 78


@app.callback()
def about() -> None:
    """Blind indexes: what they reveal, and how long a token should be."""


@app.command()
def plan(
    models: list[str] = Models,
    database: str = Database,
    table: list[str] = typer.Option([], "--table", help="only these tables; all by default"),
    sample: int = typer.Option(
        1_000_000, "--sample", min=1_000, help="rows of a larger table that are counted"
    ),
    timeout: float = typer.Option(
        300.0, "--timeout", min=1.0, help="seconds that one statement may take (PostgreSQL)"
    ),
    decrypt: int = typer.Option(
        0,
        "--decrypt",
        min=0,
        help="open so many rows of a table whose tokens do not tell, as the operator; recorded, counted, not kept",
    ),
    check: bool = typer.Option(
        False, "--check", help="exit with 3 if a declaration is unsafe and nobody waived it"
    ),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """
    Count what indexed columns hold; say what their indexes reveal, and which length to declare.

    Works before `lacre protect`, on plaintext, and afterwards, on tokens. Prints counts only.

    Example: lacre index plan --models shop.models:Base --database postgresql://db/shop
    """
    from lacre.sqlalchemy.histograms import absent_of, compounds_of, read_table, tables_of
    from lacre.sqlalchemy.mapped import mappers_of

    waivers = _waivers(config)
    mappers = mappers_of(load_models(models))
    compounds = compounds_of(mappers)
    found = {
        each: properties
        for each, properties in tables_of(mappers).items()
        if (each in compounds or any(prop.scheme.indexes for prop in properties))
        and (not table or each.name in table)
    }
    if missing := sorted(set(table) - {each.name for each in found}):
        raise ConfigurationError(
            f"no model has an indexed column in {', '.join(missing)}",
            hint="--table takes names of tables, not of classes",
        )
    told: list[dict[str, Any]] = []
    with reading(database) as engine, _opening(config, passphrase_file, engine, decrypt) as opened:
        absent = [each.name for each in absent_of(engine, found)]
        if absent and len(absent) == len(found):
            raise ConfigurationError(
                f"this database has no table {', '.join(absent)}",
                hint="make the tables first, or name other --models",
            )
        fails = bool(absent)
        for each, properties in found.items():
            if each.name in absent:
                continue
            read = read_table(
                engine, each, properties,
                sample=sample, timeout=timeout, opened=opened, compounds=compounds.get(each, ()),
            )  # fmt: skip
            advice = advise(read.table, read.declared, rows=read.rows, waivers=waivers)
            fails = fails or advice.fails or bool(read.unread)
            if as_json:
                told.append(_record(advice, read))
            else:
                _show(advice, read)
    if as_json:
        data({"tables": told, "absent": absent, "safe": not fails})
    elif not found:
        say("no model has an indexed column")
    else:
        for name in absent:
            _text(f"{name}: NOT READ. This database has no such table: plan again when it has, and rows are in it.", indent=0)  # fmt: skip
    if check and fails:
        raise typer.Exit(3)


@contextmanager
def _opening(
    config: Path, passphrase_file: Path | None, engine: Any, count: int
) -> Iterator[Callable[[Any, Any], Iterable[Any]] | None]:
    """What returns a sample of a property's values, looked at by the operator; None where none may be."""
    if not count:
        yield None
        return
    from sqlalchemy.orm import sessionmaker

    from lacre.sqlalchemy.samples import looked_at, sampled

    with as_operator(config, passphrase_file, purpose="plan") as operator:
        sessions = operator.lacre.sqlalchemy(sessionmaker(engine))

        def opened(prop: Any, condition: Any) -> Iterator[Any]:
            found = sampled(sessions, prop.parent, count, tokens=False, condition=condition)
            for instance in found:
                yield looked_at(instance, prop)

        yield opened


def _waivers(config: Path) -> list[Waiver]:
    # Planning needs nothing else of lacre.toml, so a build without one can plan.
    if not config.exists():
        return []
    today = dt.datetime.now(dt.UTC).date()
    return [
        Waiver(of=each.of, finding=each.finding, reason=_reason(each))
        for each in load_policy(config, {}).waivers
        if each.until is None or each.until >= today
    ]


def _reason(waiver: WaiverSettings) -> str:
    return waiver.reason if waiver.until is None else f"{waiver.reason} (until {waiver.until})"


def _show(advice: TableAdvice, read: Any) -> None:
    how = "all read" if read.read >= read.rows else f"about {read.read:,} of them read"
    _line(f"{advice.table}: {advice.rows:,} rows, {how}")
    if read.tenants:
        _text(f"They are the rows of one tenant of {read.tenants:,}, of middle size; there are {read.all_rows:,} rows. Whoever has the table sees whose a row is, so it hides among those of its tenant only.", indent=2)  # fmt: skip
    for each in advice.indexes:
        out.print()
        _show_index(each)
    for each in read.unread:
        out.print()
        _line(f"  {each.column}: index {each.index} NOT READ")
        _text(f"{each.why}.", indent=4)
    for column, count in read.refused:
        out.print()
        _text(f"{count:,} values of {column} are none that its normaliser takes: lacre protect refuses them, and they were not counted.", indent=2)  # fmt: skip
    if advice.indexes and advice.rows >= FEWEST_ROWS:
        out.print()
        _line("  All indexes of a row together, for whoever has the table")
        for name, value in _together(advice):
            _text(value, indent=4, first=f"{name:<26}")
    for finding in advice.findings:
        _show_finding(finding, indent=2)
    out.print()


def _show_index(advice: Advice) -> None:
    declared = advice.declared
    entries = declared.entries
    kind = "unique, " if declared.unique else "" if declared.kind == "exact" else f"{declared.kind}, "  # fmt: skip
    usual = declared.kind == "exact" and not declared.unique and declared.bits == DEFAULT_BITS
    bits = f"{declared.bits} bits{', the default' if usual else ''}"
    title = f"  {declared.column}: index {declared.name}, {kind}{bits}"
    _line(title + advice.verdict.rjust(max(_WIDTH - len(title), len(advice.verdict) + 2)))
    for finding in advice.findings:
        _show_finding(finding, indent=4)
    if not declared.values.rows:
        return
    if declared.in_parts and declared.read_from == "tokens":
        rows = [
            ("different values in use", "tokens of parts do not tell; --decrypt opens a sample")
        ]
    else:
        rows = [
            ("different values in use", f"about {declared.values.values:,.0f} (K = {declared.values.domain_bits:.1f} bits)"),
            ("rows of the commonest", f"{declared.values.share:.2%}"),
        ]  # fmt: skip
    if advice.lengths is not None:
        rows.append(("safe lengths", _lengths(advice)))
        then = f"; {_rows(advice.in_vain_then)} at {advice.bits} bits" if advice.bits else ""
        rows.append(("a look-up reads in vain", f"{_rows(advice.in_vain)} now{then}"))
        rows.append(("what to declare", _declare(advice)))
    if declared.in_parts:
        rows.append(("tokens of a row", f"{entries.per_row:.1f}"))
    if entries.sampled:
        rows.append(("counted", f"{entries.read:,} of {entries.rows:,} values"))
    for name, value in rows:
        _text(value, indent=4, first=f"{name:<26}")


def _lengths(advice: Advice) -> str:
    lengths = advice.lengths
    if not lengths or lengths.most < 1:
        return "none: the values are too few"
    if lengths.most < SHORTEST:
        return f"{lengths.most} at most, and an index has {SHORTEST} or more"
    if lengths.least == lengths.most:
        return f"{lengths.most} bits"
    return f"{lengths.least} bits (hides more) to {lengths.most} (reads less)"


def _declare(advice: Advice) -> str:
    if advice.bits is None:
        return "as it is"
    if advice.bits:
        return f"bits={advice.bits}"
    if any(finding.code == "few-values" for finding in advice.findings):
        return "no index of its own"
    return "bits=96, which shows equal values openly and reads nothing in vain; a compound index; or none"


def _together(advice: TableAdvice) -> list[tuple[str, str]]:
    lines = []
    if any(not each.declared.exact for each in advice.indexes):  # those in parts too
        apart = log2(max(advice.rows, 1))
        lines = [
            ("short tokens tell", f"{advice.told:.1f} bits of a row; {apart:.1f} tell every row apart"),
            ("rows alike by chance", f"{advice.alike:,.2f}; 2 or more is safe"),
        ]  # fmt: skip
    if any(each.declared.exact for each in advice.indexes):
        lines.append(("with those of 96 bits", f"{advice.told_by_all:.1f} bits; each shows its own equal values"))  # fmt: skip
    return lines


def _rows(count: float) -> str:
    if count < 0.05:
        return "no row"
    number = f"{count:,.0f}" if count >= 10 else f"{count:.1f}"
    return f"{number} rows" if number not in ("1", "1.0") else "1 row"


def _show_finding(finding: Finding, *, indent: int) -> None:
    mark = "! " if finding.fails else "- "
    _text(f"{finding.says} [{finding.code}]", indent=indent, first=mark)
    if finding.waived:
        _text(f"Waived: {finding.waived}", indent=indent, first="  ")


def _line(text: str) -> None:
    out.print(text, markup=False)


def _text(text: str, *, indent: int, first: str = "") -> None:
    for line in textwrap.wrap(
        text,
        width=_WIDTH,
        initial_indent=" " * indent + first,
        subsequent_indent=" " * (indent + len(first)),
        break_on_hyphens=False,
    ):
        _line(line)


def _record(advice: TableAdvice, read: Any) -> dict[str, Any]:
    return {
        "table": advice.table,
        "rows": advice.rows,
        "rows_read": read.read,
        "tenants": read.tenants,
        "rows_of_all_tenants": read.all_rows,
        "bits_told_by_short_tokens": round(advice.told, 2),
        "bits_told_by_all": round(advice.told_by_all, 2),
        "rows_alike": round(advice.alike, 2),
        "safe": not advice.fails,
        "findings": _findings(advice.findings),
        "indexes": [_index(each) for each in advice.indexes],
        "unread": [{"column": e.column, "index": e.index, "why": e.why} for e in read.unread],
        "refused_values": dict(read.refused),
    }


def _index(advice: Advice) -> dict[str, Any]:
    declared, lengths = advice.declared, advice.lengths
    return {
        "column": declared.column,
        "index": declared.name,
        "kind": declared.kind,
        "normaliser": declared.normaliser,
        "bits": declared.bits,
        "unique": declared.unique,
        "read_from": declared.read_from,
        "values": round(declared.values.values),
        "domain_bits": round(declared.values.domain_bits, 2),
        "commonest_share": round(declared.values.share, 6),
        "safe_bits": None if lengths is None or not lengths else [lengths.least, lengths.most],
        "false_positives": round(advice.in_vain, 4),
        "recommended_bits": advice.bits or None,
        "false_positives_then": round(advice.in_vain_then, 4),
        "safe": not advice.fails,
        "verdict": advice.verdict,
        "findings": _findings(advice.findings),
    }


def _findings(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [
        {"code": f.code, "says": f.says, "refuses": f.refuses, "waived": f.waived or None}
        for f in findings
    ]
