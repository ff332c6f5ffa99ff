# SPDX-License-Identifier: Apache-2.0
"""`lacre keys list` and `lacre keys due`. Open no key, so they run with the rights of an auditor."""

import datetime as dt
from pathlib import Path

import typer

from lacre.cli.operator import Config, key_store
from lacre.cli.terminal import DUE, data, out, say, table
from lacre.keys.hierarchy import KeyKind, KeyRow
from lacre.keys.rotation import due

__all__ = ["due_keys", "list_keys"]


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
    if as_json:
        data([_described(row) for row in rows])
        return
    if not rows:
        say("no keys; `lacre keys create --tenant NAME` makes some")
        return
    described = [_described(row) for row in rows]
    columns = ("tenant", "class", "kind", "#version", "state", "created", "key", "wrapped by")
    out.print(
        table(
            columns,
            [
                [str(d[k]) for k in ("tenant", "class", "kind", "version", "state", "created")]
                + [str(d["key"])[:8], _short(str(d["parent"]))]
                for d in described
            ],
        )
    )


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
    store.close()
    described = [
        _described(item.row)
        | {
            "urgency": str(item.urgency),
            "why": item.why,
            "do": item.do,
            "by": item.by.date().isoformat() if item.by else None,
        }
        for item in found
    ]
    if as_json:
        data(described)
    elif found:
        columns = ("urgency", "tenant", "class", "kind", "version", "why")
        rows = [[str(d[name]) for name in columns] for d in described]
        out.print(table([f"#{name}" if name == "version" else name for name in columns], rows))
        for step in dict.fromkeys(item.do for item in found):
            say(f"next: {step}")
    if not found:
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


def _short(parent: str) -> str:
    return parent if "://" in parent else parent[:8]
