# SPDX-License-Identifier: Apache-2.0
"""
A report as PDF (reportlab): a cover, contents, sections, charts, and on every page the snapshot's hash.

The same document gives the same bytes. Letters that the standard fonts have not are written as
escapes. What reportlab would read as markup is escaped, so stored strings are text in it.
"""

from collections.abc import Iterator
from html import escape
from io import BytesIO
from typing import Any

from lacre.errors import ConfigurationError
from lacre.reporting.document import Block, Chart, Code, Document, Paragraph, Section, Table
from lacre.reporting.drawing import Box, Line, Shape, drawn
from lacre.reporting.html import TONES

__all__ = ["pdf_report"]

_INK, _SOFT, _RULE, _SHEET = "#1d232b", "#5b6673", "#d9dee5", "#f5f6f8"
_COLOURS = {
    "ink": _INK, "muted": _SOFT, "track": "#e9edf2", "grid": _RULE, "axis": _SOFT, "accent": "#8c1d2f",
    "allowed": "#33689c", "masked": "#5fa8a0", "denied": "#d68a1d", "failed": "#a8323e",
    "good": "#2c7a52", "warn": "#b87503", "bad": "#a8323e",
}  # fmt: skip
_PALE = {"good": "#e6f3ec", "warn": "#fdf3df", "bad": "#fae8ea", "": "#ffffff"}
_MARGIN = 54.0
_FONT, _BOLD, _FIXED = "Helvetica", "Helvetica-Bold", "Courier"
_LEAST, _CELL = 30.0, 7.8  # of a column, and points of its text


def pdf_report(document: Document) -> bytes:
    """
    Return the file.

    Raises:
        ConfigurationError: reportlab is not installed.
    """
    try:
        from reportlab.lib.pagesizes import A4
        from reportlab.platypus import (
            BaseDocTemplate,
            Frame,
            NextPageTemplate,
            PageBreak,
            PageTemplate,
        )
    except ModuleNotFoundError:
        raise ConfigurationError(
            "a PDF needs reportlab, which is not installed", hint="pip install 'lacre[report]'"
        ) from None
    wide, high = A4
    held = BytesIO()
    made = BaseDocTemplate(
        held, pagesize=A4, leftMargin=_MARGIN, rightMargin=_MARGIN, topMargin=_MARGIN, bottomMargin=_MARGIN,
        title=_latin(f"{document.title}: {document.subtitle}"), author="lacre", subject=_latin(document.foot), creator="lacre",
        invariant=1, lang="en",
    )  # fmt: skip
    room = Frame(_MARGIN, _MARGIN, wide - 2 * _MARGIN, high - 2 * _MARGIN, 0, 0, 0, 0)
    pages = _Pages(document, wide, high)
    made.addPageTemplates(
        [
            PageTemplate("cover", [room], onPage=pages.cover),
            PageTemplate("page", [room], onPage=pages.page),
        ]
    )
    styles = _styles()
    story: list[Any] = [NextPageTemplate("page"), *_cover(document, styles, wide - 2 * _MARGIN), PageBreak()]  # fmt: skip
    for section in document.sections:
        story += _section(section, styles, wide - 2 * _MARGIN)
    made.build(story)
    return held.getvalue()


class _Pages:
    """What stands on each page beside its text."""

    def __init__(self, document: Document, wide: float, high: float) -> None:
        self._document, self._wide, self._high = document, wide, high

    def cover(self, canvas: Any, _: Any) -> None:
        canvas.setFillColor(_COLOURS["accent"])
        canvas.rect(0, self._high - 14, self._wide, 14, stroke=0, fill=1)

    def page(self, canvas: Any, made: Any) -> None:
        canvas.setFont(_FONT, 7.2)
        canvas.setFillColor(_SOFT)
        canvas.drawString(_MARGIN, self._high - 34, _latin(f"{self._document.title}: {self._document.subtitle}"))  # fmt: skip
        canvas.drawString(_MARGIN, 30, _latin(self._document.foot))
        canvas.drawRightString(self._wide - _MARGIN, 30, str(made.page))
        canvas.setStrokeColor(_RULE)
        canvas.setLineWidth(0.5)
        canvas.line(_MARGIN, 42, self._wide - _MARGIN, 42)


def _styles() -> dict[str, Any]:
    from reportlab.lib.styles import ParagraphStyle

    text = ParagraphStyle("text", fontName=_FONT, fontSize=9.6, leading=13.6, textColor=_INK, spaceAfter=7)  # fmt: skip

    def of(name: str, **how: Any) -> Any:
        return ParagraphStyle(name, parent=text, **how)

    found = {
        "text": text,
        "mark": of("mark", fontName=_BOLD, textColor=_COLOURS["accent"], fontSize=10, spaceBefore=86),
        "title": of("title", fontName=_BOLD, fontSize=31, leading=36, spaceAfter=4),
        "sub": of("sub", fontSize=14, leading=18, textColor=_SOFT, spaceAfter=30),
        "heading": of("heading", fontName=_BOLD, fontSize=15, leading=19, spaceBefore=20, spaceAfter=8, keepWithNext=1),
        "caption": of("caption", fontName=_BOLD, fontSize=9, leading=12, spaceBefore=9, spaceAfter=4, keepWithNext=1),
        "cell": of("cell", fontSize=_CELL, leading=10, spaceAfter=0),
        "number": of("number", fontSize=_CELL, leading=10, spaceAfter=0, alignment=2),
        "head": of("head", fontName=_BOLD, fontSize=7.2, leading=9, spaceAfter=0, textColor=_SOFT),
        "head number": of("head number", fontName=_BOLD, fontSize=7.2, leading=9, spaceAfter=0, textColor=_SOFT, alignment=2),
        "fact": of("fact", fontSize=8, leading=11, textColor=_SOFT, spaceAfter=0),
        "value": of("value", fontSize=9.6, leading=12.6, spaceAfter=0),
        "hash": of("hash", fontName=_FIXED, fontSize=8, leading=11, spaceAfter=0, splitLongWords=1),
        "score": of("score", fontName=_BOLD, fontSize=38, leading=42, spaceAfter=0),
        "code": of("code", fontName=_FIXED, fontSize=7.2, leading=11, backColor=_SHEET, borderColor=_RULE, borderWidth=0.5, borderPadding=7, spaceBefore=8, spaceAfter=12),
    }  # fmt: skip
    for tone, pale in _PALE.items():
        if tone:
            found[tone] = of(
                tone, backColor=pale, borderPadding=(5, 8, 5, 8), spaceBefore=6, spaceAfter=12
            )
    return found


def _cover(document: Document, styles: dict[str, Any], wide: float) -> Iterator[Any]:
    from reportlab.platypus import Paragraph as Text
    from reportlab.platypus import Spacer
    from reportlab.platypus import Table as Grid

    verdict = document.verdict
    yield Text("LACRE", styles["mark"])
    yield Text(_marked(document.title), styles["title"])
    yield Text(_marked(document.subtitle), styles["sub"])
    colour = _COLOURS[verdict.tone]
    score = Text(f'<font color="{colour}">{_marked(verdict.score)}</font> <font size="11" color="{_SOFT}" name="{_FONT}">of 100</font>', styles["score"])  # fmt: skip
    words = [Text(f'<b><font color="{colour}">{_marked(verdict.status)}</font></b>', styles["value"]), Text(_marked(verdict.words), styles["value"])]  # fmt: skip
    yield Grid(
        [[score, words]],
        hAlign="LEFT",
        colWidths=[wide * 0.42, wide * 0.58],
        style=[
            ("BACKGROUND", (0, 0), (-1, -1), _PALE[verdict.tone]),
            ("LINEBEFORE", (0, 0), (0, -1), 5, colour),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
            ("LEFTPADDING", (0, 0), (-1, -1), 16),
            ("TOPPADDING", (0, 0), (-1, -1), 12),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 12),
        ],
    )
    yield Spacer(1, 26)
    rows = []
    for each in document.facts:
        style = styles["hash"] if len(each.value) == 64 else styles["value"]
        rows.append([Text(_marked(each.name), styles["fact"]), Text(_marked(each.value), style)])
    yield Grid(
        rows,
        colWidths=[112, wide - 112],
        style=[
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (0, -1), 0),
            ("LINEBELOW", (0, 0), (-1, -2), 0.4, _RULE),
        ],
    )
    yield Spacer(1, 22)
    yield Text("Contents", styles["caption"])
    yield Text(
        "<br/>".join(f"{i}. {_marked(each.title)}" for i, each in enumerate(document.sections, 1)),
        styles["value"],
    )


def _section(section: Section, styles: dict[str, Any], wide: float) -> Iterator[Any]:
    from reportlab.platypus import Paragraph as Text

    yield Text(f'<a name="{section.name}"/>{_marked(section.title)}', styles["heading"])
    for block in section.blocks:
        yield from _block(block, styles, wide)


def _block(block: Block, styles: dict[str, Any], wide: float) -> Iterator[Any]:
    from reportlab.platypus import KeepTogether, Spacer
    from reportlab.platypus import Paragraph as Text

    match block:
        case Paragraph():
            yield Text(_marked(block.text), styles[block.tone or "text"])
        case Code():
            lines = "<br/>".join(_marked(line).replace(" ", "&nbsp;") for line in block.text.splitlines())  # fmt: skip
            yield Text(lines, styles["code"])
        case Chart():
            yield KeepTogether(
                [Text(_marked(block.title), styles["caption"]), _plot(block, wide), Spacer(1, 8)]
            )
        case Table() if not block.rows:
            yield Text(f"<b>{_marked(block.caption)}:</b> {_marked(block.empty)}", styles["text"])
        case Table():
            yield Text(_marked(block.caption), styles["caption"])
            yield _table(block, styles, wide)
            yield Spacer(1, 8)


def _table(found: Table, styles: dict[str, Any], wide: float) -> Any:
    from reportlab.platypus import Paragraph as Text
    from reportlab.platypus import Table as Grid

    def style(i: int, name: str, number: str) -> Any:
        return styles[number if i in found.numbers else name]

    rows: list[list[Any]] = [
        [Text(_marked(head), style(i, "head", "head number")) for i, head in enumerate(found.heads)]
    ]
    for row in found.rows:
        cells = []
        for i, cell in enumerate(row):
            text = _marked(cell)
            tone = TONES.get(cell) if i == found.toned else None
            if tone:
                text = f'<b><font color="{_COLOURS[tone]}">{text}</font></b>'
            cells.append(Text(text, style(i, "cell", "number")))
        rows.append(cells)
    return Grid(
        rows,
        colWidths=_widths(found, wide),
        repeatRows=1,
        hAlign="LEFT",
        style=[
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LINEBELOW", (0, 0), (-1, 0), 0.9, _SOFT),
            ("LINEBELOW", (0, 1), (-1, -1), 0.35, _RULE),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), 10),
            ("TOPPADDING", (0, 0), (-1, -1), 2.6),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
        ],
    )


def _widths(found: Table, wide: float) -> list[float]:
    # What its longest word needs at least; what is left goes to those with the longest text.
    from reportlab.pdfbase.pdfmetrics import stringWidth

    columns = list(zip(found.heads, *found.rows, strict=True))
    least, most = [], []
    for i, cells in enumerate(columns):
        # A number and its unit stay on one line.
        texts = [_latin(cell) for cell in cells[:400]]
        words = texts if i in found.numbers else [word for text in texts for word in text.split()]
        words = words or [""]
        heads = max(stringWidth(word, _BOLD, 7.2) for word in (cells[0].split() or [""]))
        least.append(
            min(max(heads, *(stringWidth(w, _BOLD, _CELL) for w in words[:2000])), 150) + 12
        )
        most.append(max(stringWidth(_latin(cell), _BOLD, _CELL) for cell in cells[:200]) + 12)
    if sum(most) <= wide:
        spare = (wide - sum(most)) / len(most)
        return [each + min(spare, 60.0) for each in most]
    if sum(least) >= wide:
        return [each * wide / sum(least) for each in least]
    share = (wide - sum(least)) / sum(b - a for a, b in zip(least, most, strict=True))
    return [a + (b - a) * share for a, b in zip(least, most, strict=True)]


def _plot(chart: Chart, wide: float) -> Any:
    from reportlab.graphics.shapes import Drawing as Plate

    # Laid out wider than the page and made smaller, so that its words are smaller than the text.
    laid = drawn(chart, wide / 0.86)
    plate = Plate(laid.width, laid.height)
    for shape in laid.shapes:
        plate.add(_shape(shape, laid.height))
    plate.scale(0.86, 0.86)
    plate.width, plate.height = wide, laid.height * 0.86
    return plate


def _shape(shape: Shape, high: float) -> Any:
    from reportlab.graphics.shapes import PolyLine, Rect, String
    from reportlab.lib.colors import HexColor

    colour = HexColor(_COLOURS[shape.tone])
    if isinstance(shape, Box):
        at = (shape.x, high - shape.y - shape.height, shape.width, shape.height)
        return Rect(*at, fillColor=colour, strokeColor=None, strokeWidth=0)
    if isinstance(shape, Line):
        points = [n for x, y in shape.points for n in (x, high - y)]
        return PolyLine(points, strokeColor=colour, strokeWidth=shape.width)
    return String(
        shape.x, high - shape.y, _latin(shape.text),
        fontName=_FONT, fontSize=shape.size, fillColor=colour, textAnchor=shape.anchor,
    )  # fmt: skip


def _latin(text: str) -> str:
    # The standard fonts have the letters of Windows-1252; others are written as what they are.
    return "".join(each if _has(each) else each.encode("unicode_escape").decode() for each in text)


def _has(character: str) -> bool:
    try:
        return bool(character.encode("cp1252"))
    except UnicodeEncodeError:
        return False


def _marked(text: str) -> str:
    return escape(_latin(text), quote=True)
