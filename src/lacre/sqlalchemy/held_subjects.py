# SPDX-License-Identifier: Apache-2.0
"""
Whether rows that go to another tenant are of somebody who is under a legal hold: those stay.

A hold is of a subject of one tenant. In the other tenant the same id is somebody else, whom nobody
holds and anybody shreds. Asks the key store, in few queries for all rows of a flush or of a plan, and
changes nothing. A hold that is placed after it was asked comes too late for that flush.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.state import InstanceState

from lacre.errors import MisuseError, SubjectHeld
from lacre.keys.hierarchy import KeyKind, subject_digest
from lacre.sqlalchemy.binding import Binding
from lacre.sqlalchemy.crossing import is_moving
from lacre.sqlalchemy.declared import (
    row_facts,
    sealed_properties,
    tenant_if_named,
    tenant_of_identity,
)
from lacre.sqlalchemy.subjects import subject_of_identity

__all__ = ["check_unheld", "unheld_or_stay"]


def check_unheld(binding: Binding, instances: Iterable[Any]) -> None:
    """
    Raise where one of *instances*, which are to leave their tenant, holds a value of a held subject.

    Raises:
        SubjectHeld
    """
    guard = binding.application.guard
    wanted: dict[tuple[str, str], dict[bytes, None]] = {}
    for each in instances:
        state = instance_state(each)
        tenant = tenant_of_identity(state.mapper, state)
        for prop in sealed_properties(state.mapper):
            about = _about(state, prop)
            if tenant is None or about is None:
                continue
            scope = guard.policy.scope(KeyKind.SUBJECT, prop.declared.class_, tenant)
            wanted.setdefault((prop.declared.class_, tenant), {})[subject_digest(scope, about)] = None  # fmt: skip
    held: dict[bytes, str] = {}
    for (class_, tenant), digests in wanted.items():
        scope = guard.policy.scope(KeyKind.SUBJECT, class_, tenant)
        found = guard.store.subjects(scope, digests)
        held |= {n: tenant for n, rows in found.items() if rows.subject.hold is not None}
    if held:
        tenants = ", ".join(sorted(map(repr, set(held.values()))))
        raise SubjectHeld(
            f"{len(held)} subjects of these rows are under a legal hold in tenant {tenants}, and nobody would hold them in another; their rows were not moved",
            hint="lacre hold list shows who holds them and why; move the others, or lift the hold, move, and place it in the other tenant",
        )


def unheld_or_stay(session: Session, _context: Any, instances: Any) -> None:
    """Before a flush: `check_unheld`, of the rows that it would take to another tenant."""
    if not is_moving():
        return  # the flush refuses those that change their tenant
    chosen = None if not instances else {id(found) for found in instances}
    leaving = [
        found
        for found in session.dirty
        if (chosen is None or id(found) in chosen) and _leaves(instance_state(found))
    ]
    if leaving:
        check_unheld(session.info["lacre"], leaving)


def _leaves(state: InstanceState[Any]) -> bool:
    mapper = state.mapper
    key = row_facts(mapper).tenant if sealed_properties(mapper) else None
    if key is None or key not in state.committed_state:
        return False
    return tenant_if_named(mapper, state) != tenant_of_identity(mapper, state)


def _about(state: InstanceState[Any], prop: Any) -> str | None:
    # What the row holds, not what was assigned: NULL in place of a held value is a change as well.
    if prop.key in state.dict and state.committed_state.get(prop.key, state.dict[prop.key]) is None:
        return None
    try:
        return subject_of_identity(state.mapper, state, prop)
    except MisuseError:
        return None  # the column that says whose it is holds NULL, so there is no value
