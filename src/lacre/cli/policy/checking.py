# SPDX-License-Identifier: Apache-2.0
"""
`lacre policy check`: what is wrong with `lacre.toml`, each with its line and what to do; and its schema.

With ``--models``, whether the columns of classes are encrypted as it says. Asks no key service.
"""

import datetime as dt
import os
from pathlib import Path

import typer

from lacre.cli.models import load_models
from lacre.cli.operator import Config
from lacre.cli.terminal import DUE, data, out, say, table, warn
from lacre.errors import ConfigurationError
from lacre.policy.lints.finding import Finding, Level
from lacre.policy.lints.lint import Linted, lint, waived
from lacre.policy.loading import other_environments, parse_policy
from lacre.policy.places import Places
from lacre.policy.schema import schema

__all__ = ["check", "show_schema"]


def check(
    models: list[str] = typer.Option([], "--models", help="MODULE:NAME of your declarative base: say which columns of classes are not encrypted"),
    store: str = typer.Option("main", "--store", help="the logical name of the models' database, of [stores.NAME]"),
    strict: bool = typer.Option(False, "--strict", help="exit with 10 where there is a warning"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
) -> None:  # fmt: skip
    """Say what is wrong with lacre.toml. An error stops it from loading; a warning is for people."""
    try:
        text = config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(
            f"{config} cannot be read", hint="run `lacre init` here, or name the file: --config"
        ) from None
    file = parse_policy(text, os.environ, name=str(config))
    today = dt.datetime.now(dt.UTC).date()
    linted = lint(file, today=today, others=other_environments(file, text, os.environ))
    if models:
        from lacre.sqlalchemy.classified import unencrypted

        found = waived(file, unencrypted(file, load_models(models), store=store), today=today)
        linted = Linted(found=(*linted.found, *found.found), accepted=(*linted.accepted, *found.accepted))  # fmt: skip
    places = Places(text)
    if as_json:
        data(
            {
                "found": [_described(each, places) for each in linted.found],
                "accepted": [_described(each, places) | {"reason": why} for each, why in linted.accepted],
            }
        )  # fmt: skip
    else:
        _show(linted, places)
    if linted.errors:
        raise typer.Exit(3)
    if strict and linted.found:
        raise typer.Exit(DUE)


def _show(linted: Linted, places: Places) -> None:
    ordered = sorted(linted.found, key=lambda each: (each.level is not Level.ERROR, places.line(each.path) or 0))  # fmt: skip
    rows = [[str(places.line(each.path) or ""), str(each.level), each.rule, each.where, each.sentence] for each in ordered]  # fmt: skip
    if rows:
        out.print(table(("#line", "", "lint", "setting", "what"), rows))
    for hint in dict.fromkeys(f"{each.rule}: {each.hint}" for each in ordered):
        say(hint)
    for each, why in linted.accepted:
        say(f"accepted: {each.rule} of {each.where}: {why}")
    if linted.errors:
        warn("lacre.toml does not load until its errors are mended, or waived with a reason")
    elif not rows:
        say("nothing found")


def _described(finding: Finding, places: Places) -> dict[str, object]:
    return {
        "rule": finding.rule,
        "level": str(finding.level),
        "setting": finding.where,
        "line": places.line(finding.path),
        "sentence": finding.sentence,
        "hint": finding.hint,
    }


def show_schema() -> None:
    """Print the JSON Schema of lacre.toml, for an editor that completes and checks it."""
    data(schema())
