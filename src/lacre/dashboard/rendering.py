# SPDX-License-Identifier: Apache-2.0
"""
From what a page has to say to HTML. Escapes everything that was not made here.

Text of others is shown without what a reader cannot see (`lacre.visible`), as well: a name that
runs the other way would lie beside a figure. Reads no data.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lacre.visible import shown

__all__ = ["Asked", "Renderer", "Shown", "Unusable", "as_query"]


def as_query(asked: Mapping[str, Any], **changed: Any) -> str:
    """Return *asked* as the end of a URL, with what is *changed* in it; None and "" leave it out."""
    kept = {name: str(value) for name, value in {**asked, **changed}.items() if value not in (None, "")}  # fmt: skip
    return "?" + urlencode(kept)


class Unusable(Exception):
    """A question that has no answer. Its text, which quotes nothing, is shown."""

    def __init__(self, text: str, *, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    What a request asks: its query, its form and the parts of its path. All of it is a stranger's.

    *root* is not: it is the path before every page's.
    """

    query: Mapping[str, str]
    form: Mapping[str, str] = field(default_factory=dict)
    path: Mapping[str, str] = field(default_factory=dict)
    root: str = ""

    def text(self, name: str) -> str | None:
        """Return a question's text without spaces around it, or None."""
        return self.query.get(name, "").strip() or None

    def among(self, name: str, choices: Mapping[str, Any], default: str) -> str:
        """Return one of *choices*, or *default* where nothing or something else was asked."""
        found = self.query.get(name, "")
        return found if found in choices else default


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """
    A page: its template and what that says.

    Instead: *leads* is where a browser is sent, *file* (its name, its text) is what it keeps.
    """

    template: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    leads: str = ""
    file: tuple[str, str] | None = None


class Renderer:
    """
    Renders templates.

    Args:
        root: the path before every page's.
        everywhere: what each page says, whoever sees it.
    """

    def __init__(self, *, root: str, everywhere: Mapping[str, Any]) -> None:
        self._environment = Environment(
            loader=PackageLoader("lacre.dashboard"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_finalised,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(everywhere, root=root)
        self._environment.filters.update(
            moment=_moment, day=_day, number=_number, query=as_query, quoted=_quoted
        )

    def render(self, template: str, context: Mapping[str, Any]) -> str:
        """Return the HTML of *template*."""
        return self._environment.get_template(template).render(context)


def _finalised(value: Any) -> Any:
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return shown(str(value), lines=True)


def _moment(when: dt.datetime | str) -> str:
    found = dt.datetime.fromisoformat(when) if isinstance(when, str) else when
    return found.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _day(when: dt.date | str) -> str:
    if isinstance(when, str):
        when = dt.datetime.fromisoformat(when)
    return when.strftime("%Y-%m-%d")


def _number(value: float) -> str:
    return f"{value:,}"


def _quoted(text: str) -> str:
    return quote(text, safe="")
