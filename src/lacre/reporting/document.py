# SPDX-License-Identifier: Apache-2.0
"""
A report as what it says: sections of paragraphs, tables and charts, in no format yet.

Every text passes `plain` on its way in: what somebody chose (a purpose, a name of a column) is one
line of characters that can be seen, in whatever format it ends. Formats escape it besides.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Block",
    "Chart",
    "Code",
    "Document",
    "Fact",
    "Paragraph",
    "Section",
    "Series",
    "Table",
    "Verdict",
    "plain",
    "table",
]

# Controls, formats (text that runs the other way), halves of characters, private ones, separators.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_LONGEST = 240


def plain(text: object) -> str:
    """Return *text* as one line of visible characters; escapes stand for the others, and it is not long."""
    found = str(text)
    if not found.isprintable():
        found = "".join(
            each.encode("unicode_escape").decode()
            if unicodedata.category(each) in _UNSEEN
            else " "
            if each.isspace()
            else each
            for each in found
        )
    return found if len(found) <= _LONGEST else found[: _LONGEST - 1] + "…"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Text; *tone* is empty, `good`, `warn` or `bad`."""

    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to be run as they stand."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """
    Rows under heads. *numbers* are the columns that are aligned to the right, *toned* the one whose
    cells are marked by what they say, None where none is.
    """

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    toned: int | None = None
    empty: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One row of numbers of a chart; None is a gap. *tone* is its colour's name."""

    name: str
    values: tuple[int | None, ...]
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """
    A plot: `columns` stand on an axis and are stacked, `bars` lie, one below the other, a `line` goes through points.

    *highest* is the end of the axis, None for what the numbers need; *marks* stand at the end of bars.
    *tones*, of bars, are the colours one by one.
    """

    kind: str
    title: str
    labels: tuple[str, ...]
    series: tuple[Series, ...]
    unit: str
    highest: int | None = None
    marks: tuple[str, ...] = ()
    tones: tuple[str, ...] = ()


Block = Paragraph | Code | Table | Chart


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and what is so."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result in a few words. *tone* is `good`, `warn` or `bad`."""

    score: str
    status: str
    tone: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a report. *name* is its anchor."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A whole report."""

    title: str
    subtitle: str
    facts: tuple[Fact, ...]
    verdict: Verdict
    sections: tuple[Section, ...]
    foot: str


def table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    toned: int | None = None,
    empty: str = "none",
) -> Table:
    """Return the table of *rows*; a head that begins with ``#`` is of numbers, which get separators."""
    numbers = frozenset(i for i, head in enumerate(heads) if head.startswith("#"))
    return Table(
        caption=caption,
        heads=tuple(head.removeprefix("#") for head in heads),
        rows=tuple(tuple(_cell(each) for each in row) for row in rows),
        numbers=numbers,
        toned=toned,
        empty=empty,
    )


def _cell(found: object) -> str:
    if found is None:
        return "–"
    if isinstance(found, bool):
        return "yes" if found else "no"
    return f"{found:,}" if isinstance(found, int) else plain(found)
