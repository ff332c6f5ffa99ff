# SPDX-License-Identifier: Apache-2.0
"""
Plots, as SVG inside the page: drawn here, coloured by the stylesheet, readable without either.

Each has a sentence that says what it shows, for whoever does not see it, and a table of the same
figures. Bars stretch with the page; text beside them is text, so that it keeps its size on a
telephone. Text of others is escaped. Reads no data and knows no page.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from lacre.visible import shown

__all__ = ["Bucket", "Part", "Series", "ring", "share_bar", "spark", "stacked"]

_SLOT, _BAR, _HIGH = 10, 8, 100  # of a bar, in units of its drawing
_ROUND = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One bar's place: what it is called, briefly under the axis and in full elsewhere, and where it leads."""

    short: str
    full: str
    href: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One colour: *kind* is the end of its CSS class, *values* one for each bucket."""

    name: str
    kind: str
    values: Sequence[int]

    @property
    def total(self) -> int:
        return sum(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One piece of a share bar."""

    name: str
    kind: str
    value: int


def stacked(
    title: str, buckets: Sequence[Bucket], series: Sequence[Series], *, what: str, head: str
) -> Markup:
    """
    Return bars, one for each bucket, of all series on one another.

    Args:
        what: is counted, in the plural: ``accesses``.
        head: what buckets are: ``hour``, ``age``.
    """
    shown_series = [each for each in series if each.total]
    totals = [sum(each.values[n] for each in series) for n in range(len(buckets))]
    top = _nice(max(totals, default=0))
    drawn = Markup().join(
        _column(number, buckets[number], shown_series, totals[number], top, what)
        for number in range(len(buckets))
    )
    lines = Markup().join(
        Markup('<line class="rule" x1="0" x2="{}" y1="{}" y2="{}"/>').format(
            len(buckets) * _SLOT, y, y
        )
        for y in (0, _HIGH // 2)
    )
    svg = Markup(
        '<svg class="bars" role="img" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">{}{}</svg>'
    ).format(_sentence(title, buckets, shown_series, totals, what), max(len(buckets), 1) * _SLOT, _HIGH, lines, drawn)  # fmt: skip
    return Markup(
        '<figure class="plot"><figcaption>{}</figcaption>'
        '<div class="plot-area"><div class="plot-scale" aria-hidden="true"><span>{}</span><span>{}</span><span>0</span></div>{}</div>'
        '<div class="plot-ticks" aria-hidden="true">{}</div>{}{}</figure>'
    ).format(
        _clean(title), _number(top), _number(top / 2), svg, _ticks(buckets),
        _legend([Part(name=each.name, kind=each.kind, value=each.total) for each in shown_series]),
        _table(title, buckets, shown_series, totals, head),
    )  # fmt: skip


def share_bar(title: str, parts: Sequence[Part]) -> Markup:
    """Return one bar of a fixed length that *parts* share."""
    whole = sum(part.value for part in parts)
    at, pieces = 0.0, []
    for part in parts:
        if not part.value:
            continue
        # What is there is seen, however little it is.
        width = max(100 * part.value / whole, 0.8)
        pieces.append(
            Markup(
                '<rect class="f-{}" x="{:.2f}" y="0" width="{:.2f}" height="10"><title>{}</title></rect>'
            ).format(part.kind, min(at, 99.2), width, _clean(f"{part.name}: {part.value:,}"))
        )
        at += 100 * part.value / whole
    said = ", ".join(f"{part.name} {part.value:,}" for part in parts if part.value) or "nothing"
    return Markup(
        '<svg class="share" role="img" aria-label="{}" viewBox="0 0 100 10" preserveAspectRatio="none"><rect class="f-empty" x="0" y="0" width="100" height="10"/>{}</svg>'
    ).format(_clean(f"{title}: {said}"), Markup().join(pieces))


def spark(title: str, values: Sequence[int], *, kind: str = "compliant") -> Markup:
    """Return small bars without an axis; *title* says what they say."""
    top = max(values, default=0) or 1
    bars = Markup().join(
        Markup('<rect class="f-{}" x="{}" y="{:.2f}" width="{}" height="{:.2f}"/>').format(
            kind, number * _SLOT + 1, _HIGH - _tall(value, top), _BAR, _tall(value, top)
        )
        for number, value in enumerate(values)
    )
    return Markup(
        '<svg class="spark" role="img" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">{}</svg>'
    ).format(_clean(title), max(len(values), 1) * _SLOT, _HIGH, bars)


def ring(title: str, percent: int | None) -> Markup:
    """Return a ring that is filled to *percent*, or empty and dashed where there is none."""
    round_ = 2 * 3.14159265 * 42
    filled = round_ * (percent or 0) / 100
    kind = "none" if percent is None else "good" if percent >= 90 else "fair" if percent >= 70 else "poor"  # fmt: skip
    return Markup(
        '<svg class="ring ring-{}" role="img" aria-label="{}" viewBox="0 0 100 100">'
        '<circle class="ring-back" cx="50" cy="50" r="42"/>'
        '<circle class="ring-front" cx="50" cy="50" r="42" stroke-dasharray="{:.1f} {:.1f}" transform="rotate(-90 50 50)"/>'
        '<text x="50" y="51" class="ring-text">{}</text></svg>'
    ).format(kind, _clean(title), filled, round_, "–" if percent is None else str(percent))


def _column(
    number: int, bucket: Bucket, series: Sequence[Series], total: int, top: float, what: str
) -> Markup:
    if not total:
        return Markup()
    y, pieces = float(_HIGH), []
    for each in series:
        value = each.values[number]
        if not value:
            continue
        tall = _tall(value, top)
        y -= tall
        pieces.append(
            Markup('<rect class="f-{}" x="{}" y="{:.2f}" width="{}" height="{:.2f}"/>').format(
                each.kind, number * _SLOT + (_SLOT - _BAR) // 2, max(y, 0), _BAR, tall
            )
        )
    told = ", ".join(
        f"{each.name} {each.values[number]:,}" for each in series if each.values[number]
    )
    return Markup("<g><title>{}</title>{}</g>").format(
        _clean(f"{bucket.full}: {total:,} {what} ({told})"), Markup().join(pieces)
    )


def _tall(value: int, top: float) -> float:
    return max(_HIGH * value / top, 0.7) if value else 0.0


def _nice(most: int) -> float:
    if most <= 2:
        return 2
    unit: int = 10 ** (len(str(most)) - 1)
    return next(unit * step for step in _ROUND if unit * step >= most)


def _number(value: float) -> str:
    for size, letter in ((1_000_000, "M"), (10_000, "k")):
        if value >= size:
            return f"{value / (1000 if letter == 'k' else size):.3g}{letter}"
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _ticks(buckets: Sequence[Bucket]) -> Markup:
    # Five at most, the first and the last among them, evenly: the stylesheet spreads them.
    last = len(buckets) - 1
    count = next((n for n in (4, 3, 2, 5) if last >= n and last % n == 0), min(last, 1))
    chosen = [round(last * n / count) for n in range(count + 1)] if count else [0] if buckets else []  # fmt: skip
    if 1 < len(buckets) <= 8:
        return Markup().join(
            Markup('<span class="each">{}</span>').format(_clean(each.short)) for each in buckets
        )
    return Markup().join(Markup("<span>{}</span>").format(_clean(buckets[n].short)) for n in chosen)


def _legend(parts: Iterable[Part]) -> Markup:
    items = Markup().join(
        Markup(
            '<li><svg class="swatch" viewBox="0 0 10 10" aria-hidden="true"><rect class="f-{}" width="10" height="10"/></svg>{} <b>{}</b></li>'
        ).format(part.kind, _clean(part.name), f"{part.value:,}")
        for part in parts
    )
    return Markup('<ul class="legend">{}</ul>').format(items) if items else Markup()


def _table(
    title: str,
    buckets: Sequence[Bucket],
    series: Sequence[Series],
    totals: Sequence[int],
    head: str,
) -> Markup:
    heads = Markup().join(
        Markup('<th scope="col" class="n">{}</th>').format(_clean(each.name)) for each in series
    )
    rows = Markup().join(
        Markup('<tr><th scope="row">{}</th>{}<td class="n">{}</td></tr>').format(
            Markup('<a href="{}">{}</a>').format(bucket.href, _clean(bucket.full))
            if bucket.href
            else _clean(bucket.full),
            Markup().join(
                Markup('<td class="n">{}</td>').format(f"{each.values[number]:,}")
                for each in series
            ),
            f"{totals[number]:,}",
        )
        for number, bucket in enumerate(buckets)
        if totals[number]
    )
    if not rows:
        return Markup('<p class="quiet">Nothing to count.</p>')
    return Markup(
        '<details><summary>The figures as a table</summary><div class="scroll" tabindex="0" role="region" aria-label="{}"><table><caption>{}</caption><thead><tr><th scope="col">{}</th>{}<th scope="col" class="n">in all</th></tr></thead><tbody>{}</tbody></table></div></details>'
    ).format(_clean(f"{title}, as a table"), _clean(title), _clean(head), heads, rows)


def _sentence(
    title: str,
    buckets: Sequence[Bucket],
    series: Sequence[Series],
    totals: Sequence[int],
    what: str,
) -> Markup:
    if not any(totals):
        return _clean(f"{title}: none.")
    most = max(range(len(totals)), key=lambda number: totals[number])
    of = ", ".join(f"{each.name} {each.total:,}" for each in series)
    return _clean(
        f"{title}: {sum(totals):,} {what} in all ({of}); most at {buckets[most].full} with {totals[most]:,}. The figures are in the table that follows."
    )


def _clean(text: str) -> Markup:
    return escape(shown(text))
