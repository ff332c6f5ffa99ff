# SPDX-License-Identifier: Apache-2.0
"""
Charts as shapes: where each bar, line and word is. One geometry for every format.

Coordinates are points from the upper left. Knows no colours, only their names; `lacre.reporting.svg`
and `lacre.reporting.pdf` draw.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor, log10

from lacre.reporting.document import Chart

__all__ = ["Box", "Drawing", "Line", "Shape", "Word", "drawn"]

_SMALL, _TEXT = 9.0, 10.0
_HIGH = 170.0  # of the part of a chart with an axis
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 8.0, 26.0, 22.0
_ROW, _THICK = 21.0, 13.0
_LABEL = 178.0  # room for the names of bars
_MARK = 96.0
_LONGEST = 30  # characters of a label beside a bar


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A filled rectangle; *tip* says what it is."""

    x: float
    y: float
    width: float
    height: float
    tone: str
    tip: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Straight pieces through points."""

    points: tuple[tuple[float, float], ...]
    tone: str
    width: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """Text; *anchor* is `start`, `middle` or `end`, and *y* its baseline."""

    x: float
    y: float
    text: str
    size: float = _SMALL
    anchor: str = "start"
    tone: str = "muted"


Shape = Box | Line | Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """The shapes of one chart."""

    width: float
    height: float
    shapes: tuple[Shape, ...]


def drawn(chart: Chart, width: float) -> Drawing:
    """Return *chart* as shapes, so wide."""
    if chart.kind == "bars":
        height = 4 + _ROW * max(len(chart.labels), 1) + (_TOP if len(chart.series) > 1 else 0)
        shapes = tuple(_bars(chart, width))
    else:
        height = _TOP + _HIGH + _BOTTOM
        shapes = tuple(_axis(chart, width))
    return Drawing(width=width, height=height, shapes=shapes)


def _bars(chart: Chart, width: float) -> Iterator[Shape]:
    room = width - _LABEL - _MARK
    sums = [sum(each.values[i] or 0 for each in chart.series) for i in range(len(chart.labels))]
    highest = chart.highest or max(sums, default=0) or 1
    top = 4.0
    if len(chart.series) > 1:
        yield from _legend(chart, 46.0)
        top += _TOP
    for row, label in enumerate(chart.labels):
        y = top + row * _ROW
        yield Word(
            x=_LABEL - 8, y=y + 10.5, text=_short(label), size=_TEXT, anchor="end", tone="ink"
        )
        yield Box(x=_LABEL, y=y, width=room, height=_THICK, tone="track")
        x = _LABEL
        for each in chart.series:
            value = each.values[row]
            if not value:
                continue
            long = max(room * min(value / highest, 1.0), 1.5)
            tone = chart.tones[row] if chart.tones else each.tone
            tip = f"{label}, {each.name}: {value:,} {chart.unit}"
            yield Box(
                x=x, y=y, width=min(long, _LABEL + room - x), height=_THICK, tone=tone, tip=tip
            )
            x += long
        mark = chart.marks[row] if chart.marks else f"{sums[row]:,}"
        yield Word(x=_LABEL + room + 8, y=y + 10.5, text=mark, size=_TEXT, tone="ink")


def _axis(chart: Chart, width: float) -> Iterator[Shape]:
    stacked = chart.kind == "columns"
    count = len(chart.labels)
    sums = [
        sum(each.values[i] or 0 for each in chart.series) if stacked else max((each.values[i] or 0 for each in chart.series), default=0)
        for i in range(count)
    ]  # fmt: skip
    step = _step(chart.highest or max(sums, default=0))
    highest = chart.highest or step * max(-(-max(sums, default=0) // step), 1)
    room, base = width - _LEFT - _RIGHT, _TOP + _HIGH

    def high(value: float) -> float:
        return base - _HIGH * value / highest

    for tick in range(0, highest + 1, step):
        tone = "axis" if tick == 0 else "grid"
        yield Line(
            points=((_LEFT, high(tick)), (width - _RIGHT, high(tick))), tone=tone, width=0.75
        )
        yield Word(x=_LEFT - 6, y=high(tick) + 3, text=_number(tick), anchor="end")
    yield from _legend(chart, _LEFT)
    each_wide = room / max(count, 1)
    gap = min(each_wide * 0.28, 10.0)
    if stacked:
        for i, label in enumerate(chart.labels):
            below = 0
            for each in chart.series:
                value = each.values[i] or 0
                if value:
                    tip = f"{label}, {each.name}: {value:,} {chart.unit}"
                    low = high(below)
                    tall = max(low - high(below + value), 0.6)
                    thick = min(each_wide - gap, 64.0)
                    x = _LEFT + each_wide * i + (each_wide - thick) / 2
                    yield Box(x=x, y=low - tall, width=thick, height=tall, tone=each.tone, tip=tip)
                below += value
    else:
        for each in chart.series:
            known = [(i, found) for i, found in enumerate(each.values) if found is not None]
            points = tuple((_LEFT + each_wide * (i + 0.5), high(found)) for i, found in known)
            if len(points) > 1:
                yield Line(points=points, tone=each.tone, width=2.0)
            for (x, y), (i, found) in zip(points, known, strict=True):
                tip = f"{chart.labels[i]}: {found} {chart.unit}"
                yield Box(x=x - 2.5, y=y - 2.5, width=5, height=5, tone=each.tone, tip=tip)
    yield from _labels(chart, each_wide, base)


def _labels(chart: Chart, each_wide: float, base: float) -> Iterator[Shape]:
    longest = max((len(label) for label in chart.labels), default=1)
    every = max(1, -(-int(longest * 5.2 + 14) // max(int(each_wide), 1)))
    for i in range(0, len(chart.labels), every):
        x = _LEFT + each_wide * (i + 0.5)
        anchor = "middle" if each_wide > longest * 5 else "start"
        yield Word(x=x if anchor == "middle" else x - each_wide / 2, y=base + 14, text=chart.labels[i], anchor=anchor)  # fmt: skip


def _legend(chart: Chart, left: float) -> Iterator[Shape]:
    if len(chart.series) < 2:
        return
    x = left
    for each in chart.series:
        yield Box(x=x, y=4, width=9, height=9, tone=each.tone)
        yield Word(x=x + 13, y=12, text=each.name, tone="ink")
        x += 13 + len(each.name) * 5.4 + 16


def _step(highest: int) -> int:
    # 1, 2 or 5 times a power of ten, four to eight of them on an axis.
    if highest <= 5:
        return 1
    size = int(10 ** floor(log10(highest / 4)))
    return next((n * size for n in (1, 2, 5) if highest / (n * size) <= 6), 10 * size) or 1


def _number(value: int) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    return f"{value // 1000}k" if value >= 10_000 and value % 1000 == 0 else f"{value:,}"


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST else "…" + label[1 - _LONGEST :]
