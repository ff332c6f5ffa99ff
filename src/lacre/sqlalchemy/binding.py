# SPDX-License-Identifier: Apache-2.0
"""
What ties a session, and through it an object, to one application.

The tie is in ``session.info``: no registry, so two applications in one process do not meet. Of an
object that left its session it is an attribute of its `InstanceState`, which is not pickled (pinned
by a test).
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy.orm import Mapper, object_session
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.state import InstanceState

from lacre.audit.entries import Stamp
from lacre.audit.event import Outcome
from lacre.audit.recorder import Recorder
from lacre.context import current
from lacre.errors import ActingError, ConfigurationError, EvidenceUnavailable, LacreError
from lacre.fields.column_state import ColumnState
from lacre.fields.deadlines import Deadlines
from lacre.fields.guard import Guard
from lacre.fields.held import HeldField
from lacre.fields.scheme import Scheme
from lacre.keys.hierarchy import KeyKind
from lacre.keys.resolver import ScopeHandle
from lacre.policy.model import Right
from lacre.sqlalchemy.declared import logical_table, sealed_properties
from lacre.sqlalchemy.outbox import Outbox
from lacre.sqlalchemy.shapes import Shape
from lacre.sqlalchemy.types import SealedValue
from lacre.sqlalchemy.violations import Duplicate

__all__ = ["Application", "Binding", "binding_of", "leave", "left"]

_HANDLES = 1000  # scopes kept at most
_SHAPES = 500  # shapes of statements, as many as SQLAlchemy keeps compiled
_LEFT = "lacre_left"  # among the attributes of an InstanceState


class Application(Protocol):
    """What a session needs of `Lacre`."""

    guard: Guard
    recorder: Recorder
    stamp: Stamp

    @property
    def deadlines(self) -> Deadlines:
        """The columns that are to be encrypted, and until when."""
        ...

    def column_state(self, scheme: Scheme) -> ColumnState:
        """Return the authenticated state of the column."""
        ...


class Binding:
    """
    One application, as the sessions of one `sessionmaker` use it.

    *awaiting* says that it is an `async_sessionmaker`, and the application one that awaits.
    """

    def __init__(self, application: Application, *, awaiting: bool = False) -> None:
        self.application = application
        self.awaiting = awaiting
        # Whether columns are made ready when objects are loaded, because a look could not do it, or
        # its opening would be one for each column.
        self.gets_ready = awaiting or application.guard.openings is not None
        self.has_deadlines = application.deadlines.any
        outboxes = application.guard.policy.file.audit.outboxes
        self.outbox = Outbox(frozenset(outboxes), application.stamp)
        self._known: WeakSet[Mapper[Any]] = WeakSet()
        self._fields: dict[Any, HeldField] = {}
        self._pending: dict[Any, HeldField] = {}
        self._handles: dict[tuple[str, str, bool], ScopeHandle] = {}
        self.shapes: dict[Any, Shape] = {}  # of statements, by what SQLAlchemy tells them apart by
        self._plain: WeakKeyDictionary[Mapper[Any], tuple[tuple[str, tuple[str, ...]], ...]] = (
            WeakKeyDictionary()
        )

    def field(self, prop: Any) -> HeldField:
        """
        Return the field of an encrypted property.

        Raises:
            ConfigurationError: lacre.toml has no such class or store, or the column's present
                state is not `encrypted`.
        """
        field = self._fields.get(prop)
        if field is None:
            field = self._made(prop)
            state = self.application.column_state(field.scheme)
            if state is not ColumnState.ENCRYPTED:
                raise ConfigurationError(
                    f"{field.scheme} is declared as encrypted, its present state is {state}",
                    hint="finish `lacre protect` before this model is used; until then the column holds plaintext",
                )
            self._fields[prop] = field
        return field

    def remember(self, key: Any, shape: Shape) -> None:
        """Remember what was found of a statement, for every other of its shape."""
        if len(self.shapes) >= _SHAPES:
            self.shapes.clear()
        self.shapes[key] = shape

    def refuse_overdue(self, mapper: Mapper[Any]) -> None:
        """
        Raise where *mapper* maps as plaintext what had to be encrypted by now.

        Raises:
            PlaintextFound: the deadline of ``lacre.toml`` is past and the column's state is not
                `encrypted`.
        """
        found = self._plain.get(mapper)
        if found is None:
            found = self._plain[mapper] = self._mapped_plain(mapper)
        for table, columns in found:
            self.application.deadlines.refuse_overdue(table, columns)

    def _mapped_plain(self, mapper: Mapper[Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
        sealed = {prop.columns[0] for prop in sealed_properties(mapper)}
        found = []
        for table in mapper.tables:
            watched = self.application.deadlines.watched(logical_table(mapper, table))
            plain = [c.name for c in table.c if c.name in watched and c not in sealed]
            if plain:
                found.append((logical_table(mapper, table), tuple(plain)))
        return tuple(found)

    def field_of_pending(self, prop: Any) -> HeldField:
        """
        Return the field for a look at what was assigned and not flushed.

        Where nothing can be awaited it is returned without the column's state, which says
        nothing of a value that the column does not hold; the flush asks for it.
        """
        if not self.awaiting or prop in self._fields:
            return self.field(prop)
        field = self._pending.get(prop)
        if field is None:
            field = self._pending[prop] = self._made(prop)
        return field

    def _made(self, prop: Any) -> HeldField:
        scheme = prop.scheme
        stores = self.application.guard.policy.file.stores
        if scheme.store not in stores:
            raise ConfigurationError(
                f"lacre.toml has no store {scheme.store!r}",
                hint=f"add [stores.{scheme.store}], or name one of {sorted(stores)}",
            )
        return HeldField(self.application.guard, scheme)

    def get_ready(self, mapper: Mapper[Any]) -> None:
        """
        Read the states of the encrypted columns of *mapper* and of every class mapped beside it, once.

        Where objects are loaded by awaiting: a look at one could not read them any more. What
        is wrong with one is not said here, but by the look.
        """
        if mapper in self._known:
            return
        for found in (mapper, *mapper.registry.mappers):
            if found in self._known:
                continue
            self._known.add(found)
            for prop in sealed_properties(found):
                with suppress(LacreError):
                    self.field(prop)

    def prepare(
        self,
        keys: Mapping[tuple[str, str | None, bool], Collection[bytes]],
        *,
        columns: Collection[str] | None = None,
    ) -> None:
        """
        Resolve *keys*, ids by class, tenant and whether they are subjects', for whoever acts: one query for each.

        In mode `strict` an opening is recorded first: for *columns*, whose failure is an error, or
        for every column of the class that is mapped.

        Tenant None is whoever acts' own. Nothing is resolved where nobody acts or for a reader
        who gets nothing, and a key that cannot be had is no error here: the look that needs it
        says so.
        """
        guard = self.application.guard
        try:
            acting = current()
        except ActingError:
            return
        for (class_, tenant, subjects), key_ids in keys.items():
            if tenant is not None and acting.tenant not in (None, tenant):
                continue
            try:
                decision = guard.policy.decide(acting, class_, Right.DECRYPT)
                if key_ids and decision.outcome is not Outcome.DENIED:
                    name = tenant or guard.policy.tenant(acting)
                    if guard.openings is not None:
                        opened = self._columns(class_) if columns is None else columns
                        guard.openings.ensure(acting, name, opened)
                    guard.resolver.prepare(self._handle(class_, name, subjects), key_ids)
            except LacreError as error:
                if columns is not None and isinstance(error, EvidenceUnavailable):
                    raise
                continue

    def _columns(self, class_: str) -> Collection[str]:
        # Which of them are looked at is not known yet, and afterwards nothing may be awaited.
        return [
            field.scheme.name for field in self._fields.values() if field.scheme.class_ == class_
        ]

    def _handle(self, class_: str, tenant: str, subjects: bool) -> ScopeHandle:
        handle = self._handles.get((class_, tenant, subjects))
        if handle is None:
            if len(self._handles) >= _HANDLES:
                self._handles.clear()
            kind = KeyKind.SUBJECT if subjects else KeyKind.DATA
            scope = self.application.guard.policy.scope(kind, class_, tenant)
            handle = self._handles[class_, tenant, subjects] = ScopeHandle(scope)
        return handle

    def violated(self, duplicate: Duplicate) -> Scheme | None:
        """Return the scheme whose unique blind index *duplicate* is about, or None."""
        for prop, field in self._fields.items():
            if any(duplicate.is_of(column) for column in prop.token_columns):
                return field.scheme
        return None


def leave(state: InstanceState[Any], binding: Any) -> None:
    """Remember *binding* with an object that leaves its session, so that it can still be looked at."""
    # Among the state's own attributes, of which only those that SQLAlchemy names are pickled.
    state.__dict__[_LEFT] = binding


def left(state: InstanceState[Any]) -> Any:
    """Return the binding of the session that an object left, or None."""
    return state.__dict__.get(_LEFT)


def binding_of(instance: Any, held: bytes | SealedValue | None = None) -> Any:
    """
    Return the application binding of the session an object belongs to, or last belonged to.

    Of a value that was assigned to an object before any session had it: that of whoever acts, so
    that reading it back is decided and recorded like every look.

    Raises:
        ConfigurationError: neither is a session of `lacre.sqlalchemy`.
        NoPrincipal, ActingEnded: nobody acts who could read it back.
    """
    session = object_session(instance)
    binding = session.info.get("lacre") if session is not None else left(instance_state(instance))
    pending = isinstance(held, SealedValue) and held.has_pending
    if binding is None and session is None and pending:
        binding = _binding_of_acting()
    if binding is None:
        raise ConfigurationError(
            f"this {type(instance).__name__} belongs to no session that lacre was bound to",
            hint="make the session with Session = lacre.sqlalchemy(sessionmaker(engine)), and add or merge the object",
        )
    return binding


def _binding_of_acting() -> Binding | None:
    acting = current()
    if acting.application is None:
        return None
    # Kept with what else ends with the block. Awaiting: a value that no database has needs
    # nothing that is asked of one.
    kept = acting.decisions.get(Binding)
    if kept is None:
        kept = acting.decisions[Binding] = Binding(acting.application, awaiting=True)
    return kept
