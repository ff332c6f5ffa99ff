# SPDX-License-Identifier: Apache-2.0
"""
A report as one HTML page: no script, no link out, its style inside, for screen and paper.

Its own Content-Security-Policy allows that one style sheet and nothing else, so that whatever a
stored string might be, a browser runs and loads nothing for it; every string is escaped besides.
"""

import base64
import hashlib
import re
from functools import cache
from html import escape
from importlib import resources

from lacre.reporting.document import Block, Chart, Code, Document, Paragraph, Section, Table
from lacre.reporting.svg import svg

__all__ = ["html_report", "style_sheet"]

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@cache
def style_sheet() -> str:
    """Return the page's style."""
    return resources.files("lacre.reporting").joinpath("report.css").read_text("utf-8")


def html_report(document: Document) -> str:
    """Return the page."""
    style = style_sheet()
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    )
    title = escape(f"{document.title}: {document.subtitle}")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#result">Skip to the result</a>\n'
        f"{_cover(document)}<main>\n{''.join(map(_section, document.sections))}</main>\n"
        f"<footer><p>{escape(document.foot)}</p></footer>\n</body>\n</html>\n"
    )  # fmt: skip


def _cover(document: Document) -> str:
    verdict = document.verdict
    facts = "".join(
        f"<div><dt>{escape(each.name)}</dt><dd>{_value(each.value)}</dd></div>"
        for each in document.facts
    )
    contents = "".join(
        f'<li><a href="#{each.name}">{escape(each.title)}</a></li>' for each in document.sections
    )
    return (
        f'<header>\n<div class="band"><p class="mark">lacre</p><h1>{escape(document.title)}</h1><p class="sub">{escape(document.subtitle)}</p></div>\n'
        f'<div class="verdict is-{verdict.tone}"><p class="score">{verdict.score}<span> of 100</span></p>'
        f'<div><p class="status">{escape(verdict.status)}</p><p>{escape(verdict.words)}</p></div></div>\n'
        f'<dl class="facts">{facts}</dl>\n<nav aria-label="Contents"><h2>Contents</h2><ol>{contents}</ol></nav>\n</header>\n'
    )


def _value(text: str) -> str:
    return f"<code>{text}</code>" if len(text) == 64 and text.isalnum() else escape(text)


def _section(section: Section) -> str:
    blocks = "".join(_block(each, f"{section.name}-{i}") for i, each in enumerate(section.blocks))
    return f'<section aria-labelledby="{section.name}"><h2 id="{section.name}">{escape(section.title)}</h2>\n{blocks}</section>\n'


def _block(block: Block, name: str) -> str:
    match block:
        case Paragraph():
            tone = f' class="note is-{block.tone}"' if block.tone else ""
            return f"<p{tone}>{escape(block.text)}</p>\n"
        case Code():
            return f'<pre tabindex="0"><code>{escape(block.text)}</code></pre>\n'
        case Chart():
            return (
                f"<figure><figcaption>{escape(block.title)}</figcaption>"
                f'<div class="wide" tabindex="0" role="region" aria-label="{escape(block.title)}, a chart">{svg(block, name)}</div></figure>\n'
            )
        case Table():
            return _table(block)


def _table(found: Table) -> str:
    if not found.rows:
        return (
            f'<p class="none"><strong>{escape(found.caption)}:</strong> {escape(found.empty)}</p>\n'
        )
    heads = "".join(
        f'<th scope="col"{_number(found, i)}>{escape(head)}</th>'
        for i, head in enumerate(found.heads)
    )
    rows = "".join(f"<tr>{_cells(found, row)}</tr>" for row in found.rows)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(found.caption)}"><table><caption>{escape(found.caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>\n"
    )


def _cells(found: Table, row: tuple[str, ...]) -> str:
    cells = []
    for i, cell in enumerate(row):
        text = escape(cell)
        if i == found.toned and (tone := TONES.get(cell)):
            text = f'<span class="tag is-{tone}">{text}</span>'
        kind = 'th scope="row"' if i == 0 else "td"
        cells.append(f"<{kind}{_number(found, i) or _date(cell)}>{text}</{kind.split(' ')[0]}>")
    return "".join(cells)


def _number(found: Table, i: int) -> str:
    return ' class="n"' if i in found.numbers else ""


def _date(cell: str) -> str:
    return ' class="d"' if _DATE.fullmatch(cell) else ""


# What a word in a marked cell looks like, here and in print.
TONES = {
    "encrypted": "good", "dual": "warn", "plaintext": "bad", "none": "bad", "forged": "bad",
    "active": "good", "decrypt_only": "muted", "pending": "warn", "disabled": "warn", "compromised": "bad", "destroyed": "muted",
    "done": "good", "overdue": "bad", "fails": "bad", "holds": "good",
    "critical": "bad", "high": "bad", "medium": "warn", "low": "muted", "info": "muted",
}  # fmt: skip
