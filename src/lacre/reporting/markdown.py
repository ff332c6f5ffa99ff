# SPDX-License-Identifier: Apache-2.0
"""
A report as Markdown: tables, and the numbers of charts as tables of their own. No HTML in it.

Whatever a stored string holds is text in it: characters that Markdown reads are escaped, links
that some readers make of bare addresses included.
"""

import re

from lacre.reporting.document import Block, Chart, Code, Document, Paragraph, Section, Table

__all__ = ["markdown_report"]

_READ = re.compile(r"[\\`*_\[\]<>|~&!#@{}$^=]")
_LINK = re.compile(r"(?i)(?<=[a-z])://|\bwww\.")


def markdown_report(document: Document) -> str:
    """Return the report."""
    verdict = document.verdict
    facts = "".join(f"| {_text(each.name)} | {_text(each.value)} |\n" for each in document.facts)
    head = (
        f"# {_text(document.title)}: {_text(document.subtitle)}\n\n"
        f"**{verdict.score} of 100. {_text(verdict.status)}.** {_text(verdict.words)}.\n\n| | |\n|---|---|\n{facts}\n"
    )
    return head + "".join(map(_section, document.sections))


def _section(section: Section) -> str:
    return f"## {_text(section.title)}\n\n" + "".join(map(_block, section.blocks))


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            text = _text(block.text)
            return f"**{text}**\n\n" if block.tone == "bad" else f"{text}\n\n"
        case Code():
            return f"```console\n{block.text}\n```\n\n"
        case Chart():
            return ""  # each has its table
        case Table():
            return _table(block)


def _table(found: Table) -> str:
    if not found.rows:
        return f"{_text(found.caption)}: {_text(found.empty)}\n\n"
    heads = " | ".join(_text(head) or " " for head in found.heads)
    rule = "|".join("---:" if i in found.numbers else "---" for i in range(len(found.heads)))
    rows = "".join(f"| {' | '.join(_text(cell) or ' ' for cell in row)} |\n" for row in found.rows)
    return f"**{_text(found.caption)}**\n\n| {heads} |\n|{rule}|\n{rows}\n"


def _text(text: str) -> str:
    escaped = _READ.sub(lambda found: "\\" + found[0], text)
    return _LINK.sub(lambda found: found[0].replace(":", "\\:").replace(".", "\\."), escaped)
