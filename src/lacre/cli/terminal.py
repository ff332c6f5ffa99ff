# SPDX-License-Identifier: Apache-2.0
"""
How the command line speaks, and what it exits with.

Talk goes to stderr, in lower case and without a final period; data to stdout. What a key store or a
policy holds is shown without its control characters: whoever may write a row could otherwise hide
others from whoever looks. Does not decide anything and runs no command.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lacre import errors
from lacre.errors import MisuseError
from lacre.visible import shown

__all__ = ["DUE", "ask", "data", "exit_code", "out", "say", "shown", "table", "talk", "warn"]

DUE = 10  # no failure: something is to be done, for cron to notice
_WIDTH = 118  # where output is no terminal, a table is not cut at 80


class _Console(Console):
    def print(self, *objects: Any, **how: Any) -> None:
        super().print(*(_safe(each) for each in objects), **how)


def _safe(shape: Any) -> Any:
    if isinstance(shape, str):
        return shown(shape, lines=True)
    if isinstance(shape, Text):
        shape.plain = shown(shape.plain, lines=True)
    return shape


out = _Console(highlight=False, soft_wrap=True)
talk = _Console(stderr=True, highlight=False, soft_wrap=True)
for _console in (out, talk):
    if not _console.is_terminal:
        _console.width = _WIDTH

# The first class an error is an instance of decides. 2 is typer's, for a wrong command line.
EXIT_CODES: Sequence[tuple[type[errors.LacreError], int]] = (
    (errors.ConfigurationError, 3),
    (errors.AccessDenied, 4),
    (errors.SubjectHeld, 4),
    (errors.ActingError, 4),
    (errors.KeyUnavailable, 5),
    (errors.Tampered, 6),
    (errors.PlaintextFound, 6),
    (errors.EvidenceUnavailable, 7),
    (errors.MisuseError, 8),
    (errors.LacreError, 9),
)


def exit_code(error: errors.LacreError) -> int:
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def say(message: str) -> None:
    """One line of talk."""
    talk.print(Text(message))


def warn(message: str) -> None:
    talk.print(Text.assemble(("warning: ", "yellow"), message))


def data(value: Any) -> None:
    """Machine-readable output: one JSON document on stdout."""
    out.file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> Table:
    """An aligned table, to be printed or placed."""
    made = Table(
        title=title or None,
        box=None,
        padding=(0, 2, 0, 0),
        title_justify="left",
        header_style="bold",
    )
    for column in columns:
        made.add_column(column, justify="right" if column.startswith("#") else "left", no_wrap=True)
        made.columns[-1].header = column.removeprefix("#")
    for row in rows:
        made.add_row(*(Text(shown(cell)) for cell in row))
    return made


def ask(question: str) -> None:
    """
    Ask a person.

    Raises:
        MisuseError: nobody is there, or the answer is no.
    """
    if not sys.stdin.isatty():
        raise MisuseError(
            "nobody can be asked here",
            hint="--yes goes on without asking, --dry-run shows the plan",
        )
    if not typer.confirm(question, err=True):
        raise MisuseError("nothing was done")
