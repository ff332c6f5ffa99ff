# SPDX-License-Identifier: Apache-2.0
"""
Whether a process can serve now, and what to do where it cannot.

Asks the key store for rows, the audit sink for room and, where a cached key is missing or in the
last fifth of its age, the key service for it anew: so a key service that is down shows while
there is still time. Looks at no value, records no look, decides nothing.

A report passes as long as a request that came now could be served; what will stop it, and in how
many seconds, is a warning. `Readiness.to_json` is for an HTTP endpoint: fixed words, names of
classes and columns; never a tenant, key id, path, address or the text of an error. Those are in
`Check.detail`, for a log.
"""

from asyncio import to_thread
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lacre.audit.recorder import Recorder
from lacre.errors import (
    ConfigurationError,
    KeyServiceUnreachable,
    KeyStoreUnreachable,
    LacreError,
    PlaintextFound,
)
from lacre.fields.column_state import ColumnState
from lacre.fields.deadlines import Deadlines, Standing
from lacre.fields.scheme import Scheme
from lacre.keys.hierarchy import KeyKind
from lacre.keys.resolver import Resolver, ScopeHandle
from lacre.policy.decisions import Policy

__all__ = ["Check", "Part", "Probe", "Readiness", "Serving", "Status"]

_SOON = 30  # days before a column's deadline, from which it is a warning
_AHEAD = 0.2  # of a key's age: what is left of it when it is asked for anew


class Status(StrEnum):
    """Of a part, and of the whole: `warn` serves now, and will not go on like this."""

    PASS = "pass"  # noqa: S105 - a word of health checks, not a secret
    WARN = "warn"
    FAIL = "fail"


class Part(StrEnum):
    """What is looked at."""

    KEY_STORE = "key_store"
    KEYS = "keys"
    EVIDENCE = "evidence"
    IDENTITY = "identity"
    COLUMNS = "columns"


_DO = {
    Part.KEY_STORE: "bring the key store back; lacre db upgrade where its schema is older, another release of lacre where it is newer",
    Part.KEYS: "look at the key service and at lacre keys list",
    Part.EVIDENCE: "give the audit sink room and the right to be written",
    Part.IDENTITY: "put the identity file back, owned by the process's user, mode 0600; a restart needs it",
    Part.COLUMNS: "finish lacre protect, deploy the models that fit the columns, or make triggers that were lost anew",
}
_DO_KEYS = {
    "key-not-found": "lacre keys create for the tenant and class",
    "key-disabled": "lacre keys enable, or rotate",
    "key-destroyed": "lacre keys rotate; what was destroyed stays lost",
    "key-service-denied": "let the process's identity use the class's KMS keys, or do not name the class",
    "key-store-unreachable": "bring the key store back",
    "key-service-unreachable": "bring the key service back",
    "tampered": "restore the key store, then look at the audit log",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """
    One part of the report.

    Args:
        subject: the class or column, where the part has several.
        code: of the error, as in ``docs/errors.md``.
        do: what helps, in fixed words.
        serves_for: seconds until the trouble stops requests; None where it does not by itself.
        detail: the error's own words, which may name tenants, keys and paths: for a log.
        tenants: those it is about.
    """

    part: Part
    status: Status = Status.PASS
    subject: str = ""
    code: str = ""
    do: str = ""
    serves_for: float | None = None
    detail: str = ""
    tenants: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what may be shown to whoever can reach an endpoint."""
        told: dict[str, Any] = {"part": str(self.part), "status": str(self.status)}
        told |= {
            name: value for name in ("subject", "code", "do") if (value := getattr(self, name))
        }
        if self.serves_for is not None:
            told["serves_for"] = int(self.serves_for)
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Every part's check. True while requests can be served, warnings included."""

    checks: tuple[Check, ...]

    def __bool__(self) -> bool:
        return self.status is not Status.FAIL

    @property
    def status(self) -> Status:
        """The worst of the parts'."""
        found = {check.status for check in self.checks}
        return next(
            (status for status in (Status.FAIL, Status.WARN) if status in found), Status.PASS
        )

    @property
    def serves_for(self) -> float | None:
        """Seconds until requests fail if nothing changes; 0 where they do, None where nothing says so."""
        if not self:
            return 0.0
        return min(
            (check.serves_for for check in self.checks if check.serves_for is not None),
            default=None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON-ready data that is safe to expose; see the module."""
        told: dict[str, Any] = {"status": str(self.status)}
        if self.serves_for is not None:
            told["serves_for"] = int(self.serves_for)
        return told | {"checks": [check.to_json() for check in self.checks]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """
    What a report is made from, of one application.

    Args:
        check_store: raises where the key store does not answer or has another schema.
        column_state: of one column, authenticated.
        deadlines: of the columns that lacre.toml names.
        check_identity: raises where the identity file could not be loaded again; None without one.
    """

    policy: Policy
    resolver: Resolver
    recorder: Recorder
    check_store: Callable[[], None]
    column_state: Callable[[Scheme], ColumnState]
    deadlines: Deadlines
    check_identity: Callable[[], None] | None = None

    def scopes(
        self, tenants: Iterable[str] | None, classes: Iterable[str] | None
    ) -> dict[str, dict[str, list[ScopeHandle]]]:
        """
        Return the scopes whose active keys serve: by class, then by tenant.

        Raises:
            ConfigurationError: a class that lacre.toml does not have, a tenant that is no name, or
                none at all.
        """
        file = self.policy.file
        if isinstance(tenants, str) or isinstance(classes, str):
            raise ConfigurationError(
                "tenants and classes are lists of names, not one string", hint='tenants=["default"]'
            )
        if tenants is None:
            if file.default_tenant is None:
                raise ConfigurationError(
                    "no tenant was named, and lacre.toml has no default",
                    hint='tenants=["..."]: the busiest; [] leaves keys out',
                )
            tenants = [file.default_tenant]
        named = list(tenants)
        if not all(0 < len(tenant) <= 255 for tenant in named):
            raise ConfigurationError("a tenant is a name of 1 to 255 characters")
        return {
            class_: {tenant: self._scopes(class_, tenant) for tenant in named}
            for class_ in (file.classes if classes is None else classes)
        }

    def _scopes(self, class_: str, tenant: str) -> list[ScopeHandle]:
        kinds = [KeyKind.DATA]
        if self.policy.class_(class_).index is not None:
            kinds.append(KeyKind.INDEX)
        return [ScopeHandle(self.policy.scope(kind, class_, tenant)) for kind in kinds]

    def warm_up(self, tenants: Iterable[str] | None, classes: Iterable[str] | None) -> None:
        """Resolve the active keys, and every index root that is searched under."""
        scopes = [
            handle
            for of_tenants in self.scopes(tenants, classes).values()
            for handles in of_tenants.values()
            for handle in handles
        ]
        # Each has the active key twice, by name and by id, and a branch key above it.
        if len(scopes) * 3 > self.policy.file.cache.entries:
            raise ConfigurationError(
                f"the cache holds {self.policy.file.cache.entries} keys, and these are {len(scopes) * 3}",
                hint="raise [cache] entries, or warm up the busiest tenants only",
            )
        self.resolver.warm(scopes, concurrent=self.policy.file.calls.concurrent)

    def report(
        self,
        tenants: Iterable[str] | None,
        classes: Iterable[str] | None,
        columns: Sequence[Scheme],
        lost: Mapping[str, LacreError],
    ) -> Readiness:
        """Look at every part, once; *lost* is what is wrong with triggers, by column."""
        scopes = self.scopes(tenants, classes)
        store = _raised(self.check_store)
        keys, held = self._keys(scopes, store)
        checks = [_store(store, held), *keys, _evidence(_raised(self.recorder.check))]
        if self.check_identity is not None:
            # The identity is in memory: its file is missed at the next start, not before.
            trouble = _raised(self.check_identity)
            checks.append(_told(Part.IDENTITY, trouble, Status.WARN))
        checks += [self._column(scheme, store, held) for scheme in columns]
        checks += [
            _told(Part.COLUMNS, error, Status.FAIL, subject=subject)
            for subject, error in lost.items()
        ]
        if store is None:
            checks += self._due()
        return Readiness(checks=tuple(checks))

    def _keys(
        self, scopes: dict[str, dict[str, list[ScopeHandle]]], store: LacreError | None
    ) -> tuple[list[Check], float]:
        # With the seconds for which every key is held: what a lost key store leaves.
        checks, held, gone = [], [], None
        for class_, of_tenants in scopes.items():
            found: list[tuple[float, LacreError, str]] = []
            for tenant, handles in of_tenants.items():
                for handle in handles:
                    trouble = gone or self._key(handle)
                    left = self.resolver.held_for(handle)
                    if not left and isinstance(trouble, KeyServiceUnreachable):
                        left = self._stale(handle)
                    held.append(left)
                    if trouble is not None:
                        found.append((left, trouble, tenant))
                    if store and isinstance(trouble, ConfigurationError | KeyStoreUnreachable):
                        gone = trouble  # one attempt at a store that does not answer is enough
            checks.append(_class(class_, found))
        return checks, min(held, default=0.0)

    def _key(self, handle: ScopeHandle) -> LacreError | None:
        ahead = self.policy.file.cache.age * _AHEAD
        if self.resolver.held_for(handle) <= ahead:
            return _raised(lambda: self.resolver.renew(handle, spare=ahead))
        return _raised(lambda: self.resolver.check(handle))

    def _stale(self, handle: ScopeHandle) -> float:
        # With [cache] stale_for values are read on, so a process that is asked to read can serve.
        # Roots of indexes never are: what says for how long is the class's data key.
        if not self.policy.file.cache.stale_for:
            return 0.0
        return self.resolver.reads_for(ScopeHandle(handle.scope.of_kind(KeyKind.DATA)))

    def _due(self) -> list[Check]:
        try:
            standings = self.deadlines.standings()
        except LacreError as error:
            return [_told(Part.COLUMNS, error, Status.FAIL, subject="[columns] of lacre.toml")]
        return [_due(each) for each in standings if each.deadline is not None and not each.done]

    def _column(self, scheme: Scheme, store: LacreError | None, held: float) -> Check:
        subject = f"{scheme.table}.{scheme.column}"
        if store is not None:
            return _told(Part.COLUMNS, store, _with_keys(held), subject=subject)
        try:
            state = self.column_state(scheme)
        except LacreError as error:
            return _told(Part.COLUMNS, error, Status.FAIL, subject=subject)
        if state is ColumnState.ENCRYPTED:
            return Check(part=Part.COLUMNS, subject=subject)
        wrong = ConfigurationError(f"declared as encrypted, its present state is {state}")
        return _told(Part.COLUMNS, wrong, Status.FAIL, subject=subject)


def _due(standing: Standing) -> Check:
    left = standing.days_left or 0
    if left > _SOON:
        return Check(part=Part.COLUMNS, subject=str(standing))
    said = f"it is not encrypted, and its deadline is {standing.deadline}"
    status = Status.FAIL if standing.overdue else Status.WARN
    return _told(Part.COLUMNS, PlaintextFound(said), status, subject=str(standing))


def _raised(ask: Callable[[], object]) -> LacreError | None:
    try:
        ask()
    except LacreError as error:
        return error
    return None


def _with_keys(held: float) -> Status:
    return Status.WARN if held > 0 else Status.FAIL


def _store(trouble: LacreError | None, held: float) -> Check:
    # A process whose keys are cached goes on without the key store until they expire.
    left = held if trouble is not None and held > 0 else None
    return _told(Part.KEY_STORE, trouble, _with_keys(held), serves_for=left)


def _evidence(trouble: LacreError | None) -> Check:
    # Refused from now on: a look without evidence does not happen.
    return _told(Part.EVIDENCE, trouble, Status.FAIL)


def _class(class_: str, found: Sequence[tuple[float, LacreError, str]]) -> Check:
    if not found:
        return Check(part=Part.KEYS, subject=class_)
    left, worst, _ = min(found, key=lambda entry: entry[0])
    return _told(
        Part.KEYS,
        worst,
        _with_keys(left),
        subject=class_,
        serves_for=left if left > 0 else None,
        tenants=tuple(dict.fromkeys(tenant for _, _, tenant in found)),
    )


def _told(part: Part, trouble: LacreError | None, status: Status, **more: Any) -> Check:
    if trouble is None:
        return Check(part=part, subject=more.get("subject", ""))
    do = _DO_KEYS.get(trouble.code, _DO[part]) if part is Part.KEYS else _DO[part]
    return Check(
        part=part,
        status=status,
        code=trouble.code,
        do=do,
        detail=f"{trouble} ({trouble.hint})" if trouble.hint else str(trouble),
        **more,
    )


class Serving:
    """What `Lacre` says and does about serving."""

    _probe: Probe

    def ready(
        self,
        *,
        tenants: Iterable[str] | None = None,
        classes: Iterable[str] | None = None,
        models: Any = None,
        database: Any = None,
    ) -> Readiness:
        """
        Return whether this process can serve now, part by part; true as long as it can.

        Cheap enough for a probe every few seconds: with warm keys it reads the key store and
        asks the key service nothing. Records no look and sees no value. What is wrong is in the
        report and not raised.

        Args:
            tenants: whose keys; the default tenant's by default.
            classes: those this process serves; all of lacre.toml's by default.
            models: a declarative base, or mapped classes, whose columns' states are looked at.
            database: the models' engine: whether SQLite has the triggers that searches need.

        Raises:
            ConfigurationError: a class or model that there is not, or no tenant named and no default.
        """
        looked: Any = ((), {})
        if models is not None:
            from lacre.sqlalchemy.token_triggers import looked_at

            looked = looked_at(models, database)
        return self._probe.report(tenants, classes, *looked)

    async def aready(
        self,
        *,
        tenants: Iterable[str] | None = None,
        classes: Iterable[str] | None = None,
        models: Any = None,
        database: Any = None,
    ) -> Readiness:
        """`ready`, in a thread: the event loop does not wait for it."""
        return await to_thread(
            self.ready, tenants=tenants, classes=classes, models=models, database=database
        )

    def warm_up(
        self, *, tenants: Iterable[str] | None = None, classes: Iterable[str] | None = None
    ) -> None:
        """
        Resolve the active keys, and the index roots, before the first request does.

        One call of the key service for each branch key and index root, `[calls] concurrent` at
        once at most; rows of the key store are read in few queries. A fork starts cold: warm up in
        the worker, not in the process that it is forked from.

        Args:
            tenants: whose keys; the default tenant's by default.
            classes: those this process serves; all of lacre.toml's by default.

        Raises:
            ConfigurationError: a class that there is not, no tenant named and no default, or more
                keys than the cache takes.
            KeyNotFound, KeyDisabled, KeyDestroyed, KeyServiceDenied, KeyServiceUnreachable
        """
        self._probe.warm_up(tenants, classes)

    async def awarm_up(
        self, *, tenants: Iterable[str] | None = None, classes: Iterable[str] | None = None
    ) -> None:
        """`warm_up`, in a thread: the event loop does not wait for it."""
        await to_thread(self.warm_up, tenants=tenants, classes=classes)
