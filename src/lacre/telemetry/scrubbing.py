# SPDX-License-Identifier: Apache-2.0
"""
Takes values out of crash reports and tracebacks: for Sentry's hooks, and for `logging`.

A crash report is built anew from what is known to hold no value: types, places in the code, the
templates of log messages, texts of lacre's own errors. Variables of frames, texts and notes of any
other error, arguments, bodies, cookies, queries, users and whatever an application added are left
out, because nobody can tell a name or an address from any other text. What stays is looked through
for shapes: e-mail addresses, long numbers, tokens, keys, passwords in URLs.

Does not see what is inside a template (``log.info(f"... {name}")``) unless it has such a shape.
"""

import logging
import re
import traceback
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from lacre.errors import LacreError

__all__ = ["Scrubber"]

_GONE = "[scrubbed]"

_SHAPES = (
    re.compile(r"[\w.+%-]{1,64}@[\w-]+(?:\.[\w-]+)+"),
    re.compile(r"(?<=://)[^/@\s]+@"),
    re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*"),
    re.compile(r"(?i)\b(?:bearer|basic|token|password|passwd|secret|api[_-]?key)\b(?:\s*[=:]\s*|\s+)\S+"),
    re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}\b"),
    re.compile(r"(?<![\w.])\+?\d(?:[ ().\-/]{0,2}\d){7,}(?![\w])"),
    re.compile(r"(?<![\w/+=-])[A-Za-z0-9+/_-]{40,}={0,2}(?![\w/+=-])"),
)  # fmt: skip

# What of an event names code and machines, and no values.
_EVENT = frozenset(
    ["breadcrumbs", "contexts", "dist", "environment", "event_id", "exception", "fingerprint", "level", "logentry",
     "logger", "modules", "platform", "release", "request", "sdk", "server_name", "spans", "start_timestamp", "tags",
     "threads", "timestamp", "transaction", "transaction_info", "type"]
)  # fmt: skip
_FRAME = frozenset(
    ["abs_path", "colno", "context_line", "filename", "function", "in_app", "lineno", "module", "post_context",
     "pre_context"]
)  # fmt: skip
_CRUMB = frozenset(["category", "level", "timestamp", "type"])
_CRUMB_DATA = frozenset(["http.response.status_code", "method", "reason", "status_code"])
_CONTEXTS = frozenset(["os", "runtime", "trace"])
_TRACE = frozenset(["op", "origin", "parent_span_id", "sampled", "span_id", "status", "trace_id"])
_SPAN = _TRACE | {"start_timestamp", "timestamp", "same_process_as_parent"}
_HEADERS = frozenset(["accept", "content-length", "content-type", "host"])
_TEMPLATE = "lacre.template"  # in a breadcrumb: its message is the template, without its arguments


class _StandIn(Exception):
    """Has the place of an error whose text may quote a value."""


class Scrubber(logging.Filter):
    """
    Scrubs what leaves a process by way of Sentry or a log.

    As hooks of Sentry: ``sentry_sdk.init(before_send=scrubber.before_send,
    before_send_transaction=scrubber.before_send, before_breadcrumb=scrubber.before_breadcrumb)``.
    As a filter of a handler, it has tracebacks written without the texts of errors.

    Args:
        speaks: types of errors whose text may leave, besides lacre's own: those whose text quotes
            nothing.
        shapes: more of what is taken out of any text.
    """

    def __init__(
        self,
        *,
        speaks: Iterable[type[BaseException]] = (),
        shapes: Iterable[re.Pattern[str]] = (),
    ) -> None:
        super().__init__()
        self._speaks: tuple[type[BaseException], ...] = (LacreError, *(speaking := tuple(speaks)))
        self._named = {(each.__module__, each.__qualname__) for each in speaking}
        self._shapes = (*shapes, *_SHAPES)

    def text(self, text: str) -> str:
        """Return *text* without whatever in it has the shape of a value."""
        for shape in self._shapes:
            text = shape.sub(_GONE, text)
        return text

    # Logging.

    def filter(self, record: logging.LogRecord) -> bool:
        """
        Have the formatter write the traceback of *record* as `traceback` does. Drops nothing.

        A formatter that writes tracebacks itself is given an error that stands in for the one there
        was, and so is whoever else has the record: same type by name, same places, no values.
        """
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            if not isinstance(error, _StandIn):
                record.exc_text = self.traceback(error)
                error = self._stand_in(error)
                record.exc_info = (type(error), error, error.__traceback__)
        if isinstance(record.msg, BaseException):
            record.msg = self._said(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(
                self._said(each) if isinstance(each, BaseException) else each
                for each in record.args
            )
        record.stack_info = self.text(record.stack_info) if record.stack_info else None
        return True

    def traceback(self, error: BaseException) -> str:
        """Return the traceback of *error* and its causes: places in the code, types, and texts of those that may speak."""
        told = [f"{_places(each.__traceback__)}{self._said(each)}" for each in _chain(error)]
        return "\n\nwhile this happened:\n\n".join(reversed(told))

    def _stand_in(self, error: BaseException) -> BaseException:
        made: BaseException | None = None
        for each in reversed(_chain(error)):
            kind = type(each)
            said = self.text(str(each)) if isinstance(each, self._speaks) else _GONE
            named = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
            later: BaseException = type(kind.__name__, (_StandIn,), named)(said)
            later.__traceback__, later.__cause__ = each.__traceback__, made
            made = later
        assert made is not None
        return made

    def _said(self, error: BaseException) -> str:
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        if not isinstance(error, self._speaks):
            return f"{kind}: {_GONE}"
        return f"{kind}: {self.text(str(error))}"

    # Sentry.

    def before_send(self, event: dict[str, Any], hint: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return *event* without values; where it has no known form, only that there was one."""
        attached = hint.get("attachments")
        if isinstance(attached, list):
            attached.clear()
        try:
            return self._event(event)
        except Exception:  # noqa: BLE001 - whatever it was: better a report without anything than one with a value
            kept = {name: event[name] for name in ("event_id", "timestamp", "level") if name in event}  # fmt: skip
            return kept | {"logentry": {"message": "a report that could not be scrubbed"}}

    def before_breadcrumb(
        self, crumb: dict[str, Any], hint: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Return *crumb* with the template of its message, and no more of its data than is named."""
        kept = {name: crumb[name] for name in _CRUMB if name in crumb}
        record = hint.get("log_record")
        if isinstance(record, logging.LogRecord) and isinstance(record.msg, str):
            kept["message"] = self.text(record.msg)
        data = {n: v for n, v in _mapping(crumb.get("data")).items() if n in _CRUMB_DATA}
        return kept | {"data": data | {_TEMPLATE: True}}

    def _event(self, event: dict[str, Any]) -> dict[str, Any]:
        kept = {name: event[name] for name in _EVENT if name in event}
        for name in ("exception", "threads"):
            for each in _values(kept.get(name)):
                self._stack(each)
        for each in _values(kept.get("exception")):
            self._error(each)
        if "breadcrumbs" in kept:
            crumbs = [self._crumb(each) for each in _values(kept["breadcrumbs"])]
            kept["breadcrumbs"] = {"values": crumbs}
        if "logentry" in kept:
            # The formatted message and the parameters are the template with values in it.
            kept["logentry"] = {"message": self._shown(_mapping(kept["logentry"]).get("message"))}
        if "request" in kept:
            kept["request"] = self._request(_mapping(kept["request"]))
        if "contexts" in kept:
            kept["contexts"] = {
                name: _only(said, _TRACE) if name == "trace" else said
                for name, said in _mapping(kept["contexts"]).items()
                if name in _CONTEXTS
            }
        if "spans" in kept:
            kept["spans"] = [_only(each, _SPAN) for each in kept["spans"]]
        if "tags" in kept:
            tags = kept["tags"]
            pairs = tags.items() if isinstance(tags, Mapping) else tags
            kept["tags"] = {str(name): self._shown(value) for name, value in pairs}
        for name in ("transaction", "fingerprint"):
            if name in kept:
                kept[name] = self._shown(kept[name])
        return kept

    def _error(self, value: dict[str, Any]) -> None:
        ours = value.get("module") == "lacre.errors" or self._speaks_as(value)
        said = str(value.get("value") or "")
        # Notes come after the first line, and say of which row something was.
        value["value"] = self.text(said.partition("\n")[0]) if ours else _GONE
        if "mechanism" in value:
            value["mechanism"] = _only(
                value["mechanism"],
                frozenset(["exception_id", "handled", "is_exception_group", "parent_id", "type"]),
            )

    def _speaks_as(self, value: Mapping[str, Any]) -> bool:
        module = value.get("module") or "builtins"
        return (module, value.get("type")) in self._named

    def _stack(self, value: dict[str, Any]) -> None:
        stack = value.get("stacktrace")
        if not isinstance(stack, dict):
            return
        stack["frames"] = [
            {name: self._shown(said) for name, said in _mapping(frame).items() if name in _FRAME}
            for frame in stack.get("frames") or ()
        ]
        for name in set(stack) - {"frames"}:
            del stack[name]  # registers, and what else a future version puts there

    def _crumb(self, crumb: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: crumb[name] for name in _CRUMB if name in crumb}
        data = _mapping(crumb.get("data"))
        if data.get(_TEMPLATE) is True:
            kept["message"] = self._shown(crumb.get("message", ""))
        return kept | {"data": {name: value for name, value in data.items() if name in _CRUMB_DATA}}

    def _request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        headers = {
            name: self._shown(value)
            for name, value in _mapping(request.get("headers")).items()
            if str(name).lower() in _HEADERS
        }
        url = str(request.get("url", "")).partition("?")[0].partition("#")[0]
        return {"method": request.get("method"), "url": self.text(url), "headers": headers}

    def _shown(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | tuple):
            return [self._shown(each) for each in value]
        return value if isinstance(value, bool | int | float | None) else _GONE


def _chain(error: BaseException) -> list[BaseException]:
    # The error and what it came of, the latest first.
    found: list[BaseException] = []
    seen: set[int] = set()
    present: BaseException | None = error
    while present is not None and id(present) not in seen:
        seen.add(id(present))
        found.append(present)
        present = present.__cause__ or (
            None if present.__suppress_context__ else present.__context__
        )
    return found


def _places(trace: TracebackType | None) -> str:
    # Without the lines of source: a literal in one, of a test or a notebook, may be a value.
    frames = traceback.extract_tb(trace)
    lines = [f'  File "{each.filename}", line {each.lineno}, in {each.name}\n' for each in frames]
    return "Traceback (most recent call last):\n" + "".join(lines) if lines else ""


def _values(part: Any) -> list[dict[str, Any]]:
    found = part.get("values") if isinstance(part, Mapping) else part
    return [each for each in found or () if isinstance(each, dict)]


def _mapping(part: Any) -> Mapping[str, Any]:
    return part if isinstance(part, Mapping) else {}


def _only(part: Any, names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in _mapping(part).items() if name in names}
