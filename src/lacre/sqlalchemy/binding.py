# SPDX-License-Identifier: Apache-2.0
"""
What ties a session, and through it an object, to one application.

The tie is in ``session.info``: no registry, so two applications in one process do not meet.
"""

from typing import Any, Protocol

from sqlalchemy.orm import object_session

from lacre.audit.recorder import Recorder
from lacre.errors import ConfigurationError
from lacre.fields.column_state import ColumnState
from lacre.fields.guard import Guard
from lacre.fields.held import HeldField
from lacre.fields.scheme import Scheme
from lacre.sqlalchemy.types import SealedValue
from lacre.sqlalchemy.violations import Duplicate

__all__ = ["Application", "Binding", "binding_of"]


class Application(Protocol):
    """What a session needs of `Lacre`."""

    guard: Guard
    recorder: Recorder

    def column_state(self, scheme: Scheme) -> ColumnState:
        """Return the authenticated state of the column."""
        ...


class Binding:
    """One application, as the sessions of one `sessionmaker` use it."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self._fields: dict[Any, HeldField] = {}

    def field(self, prop: Any) -> HeldField:
        """
        Return the field of an encrypted property.

        Raises:
            ConfigurationError: lacre.toml has no such class or store, or the column's present
                state is not `encrypted`.
        """
        field = self._fields.get(prop)
        if field is None:
            scheme = prop.scheme
            stores = self.application.guard.policy.file.stores
            if scheme.store not in stores:
                raise ConfigurationError(
                    f"lacre.toml has no store {scheme.store!r}",
                    hint=f"add [stores.{scheme.store}], or name one of {sorted(stores)}",
                )
            state = self.application.column_state(scheme)
            if state is not ColumnState.ENCRYPTED:
                raise ConfigurationError(
                    f"{scheme} is declared as encrypted, its present state is {state}",
                    hint="finish `lacre protect` before this model is used; until then the column holds plaintext",
                )
            field = self._fields[prop] = HeldField(self.application.guard, scheme)
        return field

    def violated(self, duplicate: Duplicate) -> Scheme | None:
        """Return the scheme whose unique blind index *duplicate* is about, or None."""
        for prop, field in self._fields.items():
            if prop.index_column is not None and duplicate.is_of(prop.index_column):
                return field.scheme
        return None


def binding_of(instance: Any, held: SealedValue | None = None) -> Any:
    """
    Return the application binding of the session an object belongs to, or last belonged to.

    Raises:
        ConfigurationError: neither is a session of `lacre.sqlalchemy`.
    """
    session = object_session(instance)
    binding = (
        session.info.get("lacre")
        if session is not None
        else (held.binding if held is not None else None)
    )
    if binding is None:
        raise ConfigurationError(
            f"this {type(instance).__name__} belongs to no session that lacre was bound to",
            hint="make the session with Session = lacre.sqlalchemy(sessionmaker(engine)), and add or merge the object",
        )
    return binding
