# SPDX-License-Identifier: Apache-2.0
"""
`lacre policy explain` and `matrix`: who may do what, and by which rule.

Of the policy file, and for one decision of the grants in the key store, where there is one. Asks no key
service, changes nothing, and so says nothing of the state of keys.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from lacre.audit.event import Outcome
from lacre.cli.operator import Config, key_store
from lacre.cli.terminal import data, out, say, table
from lacre.errors import MisuseError
from lacre.policy.access import ANY_PURPOSE, Cell, acting_of, class_of, matrix
from lacre.policy.decisions import Policy
from lacre.policy.loading import load_policy
from lacre.policy.model import Right

__all__ = ["explain", "show_matrix"]


def explain(
    who: str = typer.Option(..., "--who", help="the principal, for example svc:billing"),
    purpose: str = typer.Option(..., "--purpose", help="what for"),
    field: str = typer.Option("", "--field", help="TABLE.COLUMN"),
    class_: str = typer.Option("", "--class", help="the class, where lacre.toml does not name the field"),
    right: Right = typer.Option(Right.DECRYPT, "--right", help="what of"),
    role: list[str] = typer.Option([], "--role", help="acting as this only; by default as all that are declared for the principal"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
) -> None:  # fmt: skip
    """Say whether somebody may do something, and every rule that it follows from."""
    if bool(field) == bool(class_):
        raise MisuseError("one of --field and --class", hint="--field customers.account")
    with _granting(config) as policy:
        asked = class_ or class_of(policy.file, field)
        acting = acting_of(policy, who, purpose, roles=role)
        decision, chain = policy.explain(acting, asked, right)
    if as_json:
        data(
            {
                "who": who,
                "roles": sorted(acting.roles),
                "purpose": purpose,
                "field": field or None,
                "class": asked,
                "right": str(right),
                "outcome": str(decision.outcome),
                "rule": decision.rule,
                "chain": [{"asked": each.asked, "rule": each.rule, "passed": each.passed} for each in chain],
            }
        )  # fmt: skip
        return
    rows = [[each.asked, "yes" if each.passed else "no", each.rule] for each in chain]
    out.print(table(("asked", "", "rule"), rows))
    what = field or f"class {asked}"
    said = {
        Outcome.ALLOWED: f"{who} may {right} {what} for {purpose}",
        Outcome.MASKED: f"{who} sees masks of {what} for {purpose}",
        Outcome.DENIED: f"{who} may not {right} {what} for {purpose}",
    }
    say(said[decision.outcome])


@contextmanager
def _granting(config: Path) -> Iterator[Policy]:
    """The policy, with the grants in effect where there is a key store."""
    from lacre.granting import grantable, make_book

    file = load_policy(config, os.environ)
    if not grantable(file):
        yield Policy(file)
        return
    store, _ = key_store(config)
    try:
        if store.version() == 0:
            yield Policy(file)
            return
        book = make_book(file, config.resolve().parent, store)
        try:
            book.refresh()
            yield Policy(file, grants=book)
        finally:
            book.close()
    finally:
        store.close()


def show_matrix(
    purpose: list[str] = typer.Option([], "--purpose", help="for this; by default for each that there is"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
) -> None:  # fmt: skip
    """Show who may do what with each class, for each purpose."""
    policy = Policy(load_policy(config, os.environ))
    purposes = purpose or sorted(policy.file.purposes or (ANY_PURPOSE,))
    found = {each: matrix(policy, each) for each in purposes}
    if as_json:
        data(
            [
                {"purpose": each, "who": row.who, "roles": list(row.roles)}
                | {"classes": {name: _described(cell) for name, cell in row.cells.items()}}
                for each, rows in found.items()
                for row in rows
            ]
        )
        return
    classes = list(policy.file.classes)
    for each, rows in found.items():
        lines = [[row.who, *(_word(row.cells[name]) for name in classes)] for row in rows]
        out.print(table(("who", *classes), lines, title=each if len(found) > 1 else ""))
    if not policy.file.principals:
        say("lacre.toml declares no principals: roles are as the application says them")


def _word(cell: Cell) -> str:
    words = [str(right) for right in cell.rights]
    words += ["masks"] if cell.masked else []
    words += [f"{right} by grant" for right in cell.by_grant]
    return ", ".join(words) or "-"


def _described(cell: Cell) -> dict[str, object]:
    return {
        "rights": {str(right): rule for right, rule in cell.rights.items()},
        "masked": cell.masked or None,
        "by_grant": [str(right) for right in cell.by_grant],
        "denied": cell.denied or None,
    }
