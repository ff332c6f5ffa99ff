# SPDX-License-Identifier: Apache-2.0
"""
Metrics and traces of one application, by OpenTelemetry's API.

The API does nothing until somebody sets up an SDK, so exporting is the application's choice. Looks
are counted in the thread that drains the recorder, not in that of the look. Spans are around calls
of key services and around operations on many values: one for each value would cost more than it does.

Sees no plaintext, term or key. Attributes are those of `lacre.telemetry.names`; sets of them beyond
*limit* of one metric are counted as ``other``, so nothing makes series without end.
"""

import datetime as dt
import itertools
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from lacre.audit.event import Event
from lacre.audit.events import Look, Searched, Used
from lacre.errors import AccessDenied, ConfigurationError, LacreError
from lacre.fields.scheme import Scheme
from lacre.keys.hierarchy import KeyState
from lacre.telemetry.names import METRICS, Kind

__all__ = ["Telemetry"]

_SPANNED = frozenset({"encrypt_many", "prefetch"})
_BUCKETS = (1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 5e-3, 0.025, 0.1, 0.5, 2.5, 10.0)  # fmt: skip
_NOT_TIMED = nullcontext()
_AGES = ((30, "30d"), (90, "90d"), (365, "365d"))
_FRESH = 60.0  # seconds for which what was read of the key store is told again

_Attributes = tuple[tuple[str, str], ...]


class Telemetry:
    """
    Measures an application: ``Lacre.load("lacre.toml", observer=Telemetry())``.

    Args:
        meters: a meter provider; the one that OpenTelemetry was set up with by default.
        tracers: a tracer provider, likewise.
        limit: of sets of attributes of one metric.
        every: one in so many operations on one value is timed; all of them are counted.

    Raises:
        ConfigurationError: OpenTelemetry's API is not installed.
    """

    def __init__(
        self, *, meters: Any = None, tracers: Any = None, limit: int = 1000, every: int = 16
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ModuleNotFoundError:
            raise ConfigurationError(
                "opentelemetry-api is needed to measure, and is not installed",
                hint="pip install 'lacre[telemetry]'",
            ) from None
        self._observation = metrics.Observation
        self._meter = metrics.get_meter("lacre", meter_provider=meters)
        self._tracer = trace.get_tracer("lacre", tracer_provider=tracers)
        self._failed = trace.Status(trace.StatusCode.ERROR)
        self._limit = limit
        self._every, self._turn = every, itertools.count()
        self._known: dict[str, set[_Attributes]] = {}
        self._lock = threading.Lock()
        self._applications: weakref.WeakSet[Any] = weakref.WeakSet()
        self._read: dict[int, tuple[float, list[tuple[str, float, dict[str, str]]]]] = {}
        self._instruments = {name: self._made(name) for name in METRICS}

    def _made(self, name: str) -> Any:
        metric, meter = METRICS[name], self._meter
        said: dict[str, Any] = {"unit": metric.unit, "description": metric.description}
        if metric.kind is Kind.HISTOGRAM:
            return meter.create_histogram(
                name, explicit_bucket_boundaries_advisory=_BUCKETS, **said
            )
        if metric.kind is Kind.GAUGE:
            return meter.create_observable_gauge(name, [self._asked(name)], **said)
        if name == "lacre.evidence.refused":
            return meter.create_observable_counter(name, [self._asked(name)], **said)
        return meter.create_counter(name, **said)

    # Observer.

    def recorded(self, taken: Sequence[Look | Event]) -> None:
        """Count what is in the evidence now."""
        operations: Counter[_Attributes] = Counter()
        uses: Counter[_Attributes] = Counter()
        for each in taken:
            if type(each) is Look:
                class_, cache = each.place.class_, each.cache
                operations[_operation(each.event.action, class_, str(each.outcome))] += 1
                if cache:
                    uses[("class", class_), ("cache", cache)] += 1
            elif isinstance(each, Used | Searched):
                class_ = each.place.class_
                count = each.count if isinstance(each, Used) else 1
                operations[_operation(each.action, class_, str(each.outcome))] += count
                if isinstance(each, Used) and each.cache:
                    uses.update(_uses(class_, each.cache, count))
        self._add("lacre.operations", operations)
        self._add("lacre.key.uses", uses)

    @contextmanager
    def asking(self, kms_key: str, operation: str) -> Iterator[None]:
        """Measure one call of a key service."""
        said = {"kms_key": kms_key, "operation": operation}
        with self._span(f"lacre.key_service {operation}", said) as span:
            started, failure = time.perf_counter(), ""
            try:
                yield
            except BaseException as error:
                failure = error.code if isinstance(error, LacreError) else "other"
                self._fail(span, failure)
                raise
            finally:
                self._record("lacre.key_service.duration", started, said | {"failure": failure})

    def doing(self, operation: str, class_: str) -> AbstractContextManager[object]:
        """Measure one operation of a field; of those on one value each *every*-th."""
        if operation in _SPANNED:
            return self._spanned(operation, class_)
        if next(self._turn) % self._every:
            return _NOT_TIMED
        return self._measured({"operation": operation, "class": class_}, None)

    @contextmanager
    def _spanned(self, operation: str, class_: str) -> Iterator[None]:
        said = {"operation": operation, "class": class_}
        with self._span(f"lacre {operation}", said) as span, self._measured(said, span):
            yield

    def watch(self, application: Any) -> None:
        """Measure how *application* is whenever metrics are collected."""
        self._applications.add(application)

    # Instruments.

    @contextmanager
    def _measured(self, said: Mapping[str, str], span: Any) -> Iterator[None]:
        started, outcome = time.perf_counter(), "done"
        try:
            yield
        except BaseException as error:
            outcome = "denied" if isinstance(error, AccessDenied) else "failed"
            if span is not None:
                self._fail(span, error.code if isinstance(error, LacreError) else "other")
            raise
        finally:
            self._record("lacre.operation.duration", started, {**said, "outcome": outcome})

    def _span(self, name: str, said: Mapping[str, str]) -> Any:
        # What goes wrong is told by its code: a span would keep the text and the frames of an error.
        return self._tracer.start_as_current_span(
            name,
            attributes={f"lacre.{key}": value for key, value in said.items()},
            record_exception=False,
            set_status_on_exception=False,
        )

    def _fail(self, span: Any, code: str) -> None:
        span.set_status(self._failed)
        span.set_attribute("error.type", code)

    def _record(self, name: str, started: float, said: Mapping[str, str]) -> None:
        seconds = time.perf_counter() - started
        self._instruments[name].record(seconds, self._bounded(name, tuple(said.items())))

    def _add(self, name: str, counts: Counter[_Attributes]) -> None:
        for said, count in counts.items():
            self._instruments[name].add(count, self._bounded(name, said))

    def _bounded(self, name: str, said: _Attributes) -> dict[str, str]:
        known = self._known.get(name)
        if known is None or said not in known:
            with self._lock:
                known = self._known.setdefault(name, set())
                if len(known) >= self._limit:
                    return {key: "other" for key, _ in said}
                known.add(said)
        return dict(said)

    # What is asked when metrics are collected.

    def _asked(self, name: str) -> Any:
        def ask(_: Any) -> Iterable[Any]:
            for application in list(self._applications):
                for asked, value, said in self._present(application):
                    if asked == name:
                        yield self._observation(value, self._bounded(name, tuple(said.items())))

        return ask

    def _present(self, application: Any) -> Iterator[tuple[str, float, dict[str, str]]]:
        recorder = application.recorder
        yield "lacre.recorder.backlog", recorder.backlog, {}
        yield "lacre.recorder.failing", int(recorder.failing), {}
        yield "lacre.evidence.refused", recorder.refused, {}
        for service in application.services.values():
            inner = getattr(service, "service", service)
            for endpoint, resting in getattr(inner, "resting", dict)().items():
                yield "lacre.key_service.resting", int(resting), {"endpoint": endpoint}
        yield from self._stored(application)

    def _stored(self, application: Any) -> list[tuple[str, float, dict[str, str]]]:
        # One reading serves every gauge of a collection, and those of a scraper in a hurry.
        with self._lock:
            at, found = self._read.get(id(application), (float("-inf"), []))
        if time.monotonic() - at < _FRESH:
            return found
        found = []
        for read in (_keys, _columns):
            # A store that is down says nothing, and not that there are no keys; nor does a state
            # that nobody signed.
            with suppress(LacreError):
                found += [*read(application)]
        with self._lock:
            self._read[id(application)] = (time.monotonic(), found)
        return found


def _operation(action: str, class_: str, outcome: str) -> _Attributes:
    return (("operation", action), ("class", class_), ("outcome", outcome))


def _uses(class_: str, cache: str, count: int) -> Counter[_Attributes]:
    # An event of several uses says the most that was done for one of them.
    uses: Counter[_Attributes] = Counter()
    uses[("class", class_), ("cache", cache)] = 1 if cache == "fetched" else count
    if cache == "fetched" and count > 1:
        uses[("class", class_), ("cache", "hit")] = count - 1
    return uses


def _keys(application: Any) -> Iterator[tuple[str, float, dict[str, str]]]:
    counts: Counter[tuple[str, str, str, str]] = Counter()
    oldest: dict[tuple[str, str], float] = {}
    now = dt.datetime.now(dt.UTC)
    for row in getattr(application.store, "rows", tuple)():
        days = (now - dt.datetime.fromisoformat(row.created)) / dt.timedelta(days=1)
        class_, kind = row.scope.class_, str(row.scope.kind)
        age = next((name for limit, name in _AGES if days < limit), "older")
        counts[class_, kind, str(row.state), age] += 1
        if row.state is KeyState.ACTIVE:
            oldest[class_, kind] = max(days, oldest.get((class_, kind), 0.0))
    for (class_, kind, state, age), count in counts.items():
        yield "lacre.keys", count, {"class": class_, "kind": kind, "state": state, "age": age}
    for (class_, kind), days in oldest.items():
        yield "lacre.keys.oldest", days, {"class": class_, "kind": kind}


def _columns(application: Any) -> Iterator[tuple[str, float, dict[str, str]]]:
    overdue, told = 0, set()
    for each in application.deadlines.standings():
        told.add((each.store, each.table, each.column))
        yield _column(each.store, each.table, each.column, each.class_, each.state)
        overdue += each.overdue
    yield "lacre.columns.overdue", overdue, {}
    # Of those that were moved and are not declared, the state that an operator signed.
    for row in getattr(application.store, "column_states", tuple)():
        if (row.store, row.table, row.column) not in told:
            scheme = Scheme(
                class_=row.class_,
                store=row.store,
                table=row.table,
                column=row.column,
                python_type=str,
            )
            state = application.column_state(scheme)
            yield _column(row.store, row.table, row.column, row.class_, state)


def _column(
    store: str, table: str, column: str, class_: str, state: object
) -> tuple[str, float, dict[str, str]]:
    said = "unknown" if state is None else str(state)
    return (
        "lacre.columns",
        1,
        {"column": f"{store}.{table}.{column}", "class": class_, "state": said},
    )
