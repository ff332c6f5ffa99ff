# SPDX-License-Identifier: Apache-2.0
"""
`await lacre.prepare(obj)`: the keys of an object's values, before it is looked at.

Loads no attribute, decrypts nothing and records no look.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import object_session
from sqlalchemy.orm.state import InstanceState
from sqlalchemy.util import greenlet_spawn

from lacre.context import current
from lacre.errors import MisuseError
from lacre.sqlalchemy.binding import Application, Binding, left
from lacre.sqlalchemy.declared import sealed_properties
from lacre.sqlalchemy.loading import loaded_tenant
from lacre.sqlalchemy.types import SealedValue, raw_of

__all__ = ["prepare"]


async def prepare(application: Application, objects: Any) -> None:
    """
    Resolve the keys that the values of *objects*, one or several, name; for whoever acts.

    Raises:
        ActingError: nobody acts.
        EvidenceUnavailable: in mode `strict`, the opening of the looks cannot be recorded.
        MisuseError: something among *objects* is not mapped.
    """
    current()
    keys: dict[Binding, defaultdict[tuple[str, str | None, bool], set[bytes]]] = {}
    props: dict[Binding, set[Any]] = {}
    own = Binding(application)  # of objects that belong to no session, unpickled ones for example
    for state in _states(objects):
        session, tenant = object_session(state.obj()), loaded_tenant(state)
        for prop in sealed_properties(state.mapper):
            held = state.dict.get(prop.key)
            if not isinstance(held, bytes | SealedValue):
                continue
            binding = (session.info.get("lacre") if session else left(state)) or own
            props.setdefault(binding, set()).add(prop)
            raw = raw_of(held)
            if isinstance(raw, bytes | bytearray | memoryview):
                place = (prop.declared.class_, tenant, prop.declared.subject is not None)
                keys.setdefault(binding, defaultdict(set))[place].add(bytes(raw[3:19]))
    for binding, needed in props.items():
        work = partial(_resolve, binding, needed, keys.get(binding, {}))
        # Sessions on the event loop share their flights; others do their I/O in a thread.
        await (greenlet_spawn(work) if binding.awaiting else asyncio.to_thread(work))


def _resolve(
    binding: Binding, props: set[Any], keys: dict[tuple[str, str | None, bool], set[bytes]]
) -> None:
    for prop in props:
        binding.field(prop)
    binding.prepare(keys, columns={binding.field(prop).scheme.name for prop in props})


def _states(objects: Any) -> list[InstanceState[Any]]:
    state = inspect(objects, raiseerr=False)
    if isinstance(state, InstanceState):
        return [state]
    if not isinstance(objects, Iterable) or isinstance(objects, str | bytes):
        raise MisuseError(f"prepare takes mapped objects, not a {type(objects).__name__}")
    found = [inspect(entry, raiseerr=False) for entry in objects]
    if not all(isinstance(entry, InstanceState) for entry in found):
        raise MisuseError("prepare takes mapped objects: something in the iterable is none")
    return found
