# SPDX-License-Identifier: Apache-2.0
"""
`lacre keys list` and `lacre keys due`. Open no key, so they run with the rights of an auditor.

Where `keys due` counts values too, it loads the application as its own identity, and opens none either.
"""

import datetime as dt
from collections import Counter
from pathlib import Path

import typer

from lacre.application import Lacre
from lacre.cli.models import load_models
from lacre.cli.operator import Config, key_store
from lacre.cli.reading import named
from lacre.cli.sweeping import overdue, sweeper_of, tables_for
from lacre.cli.terminal import DUE, data, out, say, table
from lacre.errors import MisuseError
from lacre.jobs.pace import Pace
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState
from lacre.keys.rotation import Urgency, due
from lacre.policy.decisions import Policy
from lacre.stores.subjects import SubjectCount

__all__ = ["due_keys", "list_keys"]

_TAKE_OVER = "lacre keys rewrap --subjects"


def list_keys(
    config: Path = Config,
    tenant: str | None = typer.Option(None, help="of this tenant only"),
    class_: str | None = typer.Option(None, "--class", help="of this class only"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
) -> None:
    """List every key of the key store. Opens none."""
    store, _ = key_store(config)
    rows = [
        row
        for row in store.rows()
        if tenant in (None, row.scope.tenant) and class_ in (None, row.scope.class_)
    ]
    subjects = [
        each
        for each in store.subject_keys()
        if tenant in (None, each.tenant) and class_ in (None, each.class_)
    ]
    if as_json:
        data([_described(row) for row in rows] + [_counted(each) for each in subjects])
        return
    if not rows:
        say("no keys; `lacre keys create --tenant NAME` makes some")
        return
    described = [_described(row) for row in rows]
    columns = ("tenant", "class", "kind", "#version", "state", "created", "key", "wrapped by")
    lines = [
        [str(d[k]) for k in ("tenant", "class", "kind", "version", "state", "created")]
        + [str(d["key"])[:8], _short(str(d["parent"]))]
        for d in described
    ]
    for each in subjects:  # counted and not listed: there may be millions
        number, since = f"{each.number:,} keys", f"since {each.oldest}"
        lines.append([each.tenant, each.class_, "subject", number, str(each.state), since, "", _short(each.parent)])  # fmt: skip
    out.print(table(columns, lines))


def due_keys(
    config: Path = Config,
    within: int = typer.Option(30, min=0, max=36500, help="report what is due in so many days"),
    tenant: str | None = typer.Option(None, help="of this tenant only"),
    models: list[str] = typer.Option([], "--models", help="MODULE:NAME of your declarative base: say which columns have values that should be under another key by now too"),
    database: str = typer.Option("", "--database", help="the database of these models"),
    of_store: str = typer.Option("main", "--store", help="the database's logical name, of [stores.NAME]"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
) -> None:  # fmt: skip
    """Say what has to be rotated, finished or looked at. Exits 10 where there is anything."""
    if bool(models) != bool(database):
        raise MisuseError("--models and --database go together", hint="lacre keys due --models shop.models:Base --database postgresql://db/shop")  # fmt: skip
    values = _values(config, models, database, of_store, tenant) if database else []
    store, policy = key_store(config)
    decided = Policy(policy)

    def period(row: KeyRow) -> dt.timedelta | None:
        return decided.rotates_after(row.scope)

    rows = [row for row in store.rows() if tenant in (None, row.scope.tenant)]
    found = due(rows, period=period, now=dt.datetime.now(dt.UTC), within=dt.timedelta(days=within))
    under = {row.key_id.hex(): row for row in rows if row.scope.kind is KeyKind.BRANCH}
    late: Counter[tuple[str, str]] = Counter()
    for each in store.subject_keys():
        above = under.get(each.parent)
        if each.state is not KeyState.DESTROYED and above and above.state is not KeyState.ACTIVE:
            late[each.tenant, each.class_] += each.number
    store.close()
    described: list[dict[str, object]] = [
        _described(item.row)
        | {
            "urgency": str(item.urgency),
            "why": item.why,
            "do": item.do,
            "by": item.by.date().isoformat() if item.by else None,
        }
        for item in found
    ]
    described += [
        {"tenant": whose, "class": class_, "kind": "subject", "keys": number, "urgency": str(Urgency.OVERDUE)}
        | {"version": "", "why": f"{number:,} wrapped by an older branch key", "do": _TAKE_OVER, "by": None}
        for (whose, class_), number in sorted(late.items())
    ]  # fmt: skip
    described += values
    if as_json:
        data(described)
    elif described:
        columns = ("urgency", "tenant", "class", "kind", "version", "why")
        lines = [[str(d[name]) for name in columns] for d in described]
        out.print(table([f"#{name}" if name == "version" else name for name in columns], lines))
        for step in dict.fromkeys(str(each["do"]) for each in described):
            say(f"next: {step}")
    if not described:
        say(f"nothing is due within {within} days")
        return
    raise typer.Exit(DUE)


def _values(
    config: Path, models: list[str], database: str, store: str, tenant: str | None
) -> list[dict[str, object]]:
    """Return the columns with values that `reencrypt --coverage --check` complains of, and those that wait."""
    named(database)  # refuses a password
    loaded = load_models(models)
    with Lacre.load(config) as lacre:
        tables, waiting = tables_for(lacre, loaded, database, store, None)
        sweeper = sweeper_of(lacre, database, tenant=tenant, before=None, pace=Pace())
        late = overdue(lacre, (covered for each in tables for covered in sweeper.survey(each)))
    whose = tenant or "-"
    lines: list[dict[str, object]] = [
        {"tenant": whose, "class": covered.scheme.class_, "kind": "values", "version": "",
         "table": covered.table, "column": covered.column, "values": count,
         "urgency": str(Urgency.OVERDUE), "why": f"{count:,} values of {covered.table}.{covered.column} under keys of before",
         "do": "lacre reencrypt", "by": None}
        for covered, count in late
    ]  # fmt: skip
    lines += [
        {"tenant": whose, "class": "", "kind": "values", "version": "", "urgency": str(Urgency.WAITING),
         "why": f"{name} is in state {state}", "do": "lacre protect finishes it", "by": None}
        for name, state in waiting
    ]  # fmt: skip
    return lines


def _described(row: KeyRow) -> dict[str, object]:
    return {
        "key": row.key_id.hex(),
        "tenant": row.scope.tenant,
        "class": row.scope.class_,
        "kind": str(row.scope.kind),
        "version": row.version,
        "state": str(row.state),
        "created": row.created,
        "changed": row.changed,
        "parent": row.parent,
    }


def _counted(each: SubjectCount) -> dict[str, object]:
    return {
        "tenant": each.tenant,
        "class": each.class_,
        "kind": "subject",
        "state": str(each.state),
        "keys": each.number,
        "created": each.oldest,
        "parent": each.parent,
    }


def _short(parent: str) -> str:
    return parent if "://" in parent else parent[:8]
