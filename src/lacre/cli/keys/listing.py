# SPDX-License-Identifier: Apache-2.0
"""`lacre keys list` and `lacre keys due`. Open no key, so they run with the rights of an auditor."""

import datetime as dt
from collections import Counter
from pathlib import Path

import typer

from lacre.cli.operator import Config, key_store
from lacre.cli.terminal import DUE, data, out, say, table
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState
from lacre.keys.rotation import Urgency, due
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
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
) -> None:
    """Say what has to be rotated, finished or looked at. Exits 10 where there is anything."""
    store, policy = key_store(config)
    classes = policy.classes

    def period(row: KeyRow) -> dt.timedelta | None:
        declared = classes.get(row.scope.class_)
        if declared is None:  # a class that lacre.toml no longer has
            return None
        return declared.rotate_index_after if row.scope.kind is KeyKind.INDEX else declared.rotate_after  # fmt: skip

    found = due(
        store.rows(), period=period, now=dt.datetime.now(dt.UTC), within=dt.timedelta(days=within)
    )
    under = {row.key_id.hex(): row for row in store.rows() if row.scope.kind is KeyKind.BRANCH}
    late = Counter(
        {
            (each.tenant, each.class_): each.number
            for each in store.subject_keys()
            if each.state is not KeyState.DESTROYED
            and each.parent in under
            and under[each.parent].state is not KeyState.ACTIVE
        }
    )
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
    if as_json:
        data(described)
    elif described:
        columns = ("urgency", "tenant", "class", "kind", "version", "why")
        rows = [[str(d[name]) for name in columns] for d in described]
        out.print(table([f"#{name}" if name == "version" else name for name in columns], rows))
        for step in dict.fromkeys(str(each["do"]) for each in described):
            say(f"next: {step}")
    if not described:
        say(f"nothing is due within {within} days")
        return
    raise typer.Exit(DUE)


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
