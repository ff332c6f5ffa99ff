# SPDX-License-Identifier: Apache-2.0
"""
One key query for each result set, or for each chunk of one.

While rows are fetched, the column type notes which keys their values name; before the rows are
handed out those keys are resolved together, and the looks that follow find them cached. Nested
loads (selectin, subquery) note into the same set as the result they belong to. Decrypts nothing
and decides nothing but whether the principal may have the keys at all.

Leans on private names of SQLAlchemy, each pinned by a test: `ChunkedIteratorResult.chunks` and
`iterator`, `Result._yield_per`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from sqlalchemy.engine.result import ChunkedIteratorResult
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.orm.base import NO_VALUE
from sqlalchemy.orm.state import InstanceState

from lacre.sqlalchemy.declared import row_facts, sealed_properties, tenant_text
from lacre.sqlalchemy.types import noting

__all__ = ["Noted", "invoked", "loaded_tenant", "note_tenant"]


class Noted:
    """The keys that values fetched so far name and that nobody has resolved yet, by class, tenant and whether they are subjects'."""

    __slots__ = ("_placed", "binding", "keys")

    def __init__(self, binding: Any) -> None:
        self.binding = binding
        self._start()

    def _start(self) -> None:
        # A cell does not know its row: it notes its key for the tenant of whoever acts (None),
        # and where the row names another one, that is noted once the row is there.
        self.keys: defaultdict[tuple[str, str | None, bool], set[bytes]] = defaultdict(set)
        self._placed: set[bytes] = set()

    def place(self, class_: str, tenant: str, key_id: bytes, *, subjects: bool) -> None:
        """Note a key of a row that names its tenant."""
        self.keys[class_, tenant, subjects].add(key_id)
        self._placed.add(key_id)

    def resolve(self) -> None:
        """Resolve them, for whoever acts now."""
        if self.keys:
            keys, placed = self.keys, self._placed
            self._start()
            if placed:
                for (_, tenant, _), key_ids in keys.items():
                    if tenant is None:
                        key_ids.difference_update(placed)
            self.binding.prepare(keys)


def note_tenant(state: InstanceState[Any], *_: Any) -> None:
    """Note the keys of a row that was loaded and names its tenant: a listener of `load` and `refresh`."""
    noted = noting.get()
    if noted is None:
        return
    tenant = loaded_tenant(state)
    for prop in sealed_properties(state.mapper) if tenant is not None else ():
        held = state.dict.get(prop.key)
        if type(held) is bytes:
            subjects = prop.declared.subject is not None
            noted.place(prop.declared.class_, tenant, held[3:19], subjects=subjects)


def loaded_tenant(state: InstanceState[Any]) -> str | None:
    """Return the tenant that an object's row names, as far as that is known without loading it."""
    key = row_facts(state.mapper).tenant
    value = None if key is None else state.committed_state.get(key, state.dict.get(key))
    return None if value is None or value is NO_VALUE else tenant_text(state.mapper, value)


def invoked(state: ORMExecuteState, statement: Any | None) -> Any:
    """Run the statement of *state*, or *statement* in its place, and return its result."""
    if noting.get() is not None:
        # Within a chunk of another result, whose keys these belong to.
        return state.invoke_statement(statement)
    binding = state.session.info["lacre"]
    # Rows may be fetched at once, as AsyncSession.execute does, or when somebody asks for them.
    noted = Noted(binding)
    token = noting.set(noted)
    try:
        result = state.invoke_statement(statement)
    finally:
        noting.reset(token)
    noted.resolve()
    if isinstance(result, ChunkedIteratorResult):
        result.chunks = _noted(result.chunks, binding, state.statement)
        result.iterator = chain.from_iterable(result.chunks(result._yield_per))  # noqa: SLF001
    return result


def _noted(
    chunks: Callable[[int | None], Iterator[Any]], binding: Any, statement: Any
) -> Callable[[int | None], Iterator[Any]]:
    def noted_chunks(size: int | None) -> Iterator[Any]:
        # The statement that was given holds the values it asks for; loads that follow from it
        # while rows are fetched (subquery) ask again.
        _kept = statement
        fetched = iter(chunks(size))
        noted = Noted(binding)
        while True:
            token = noting.set(noted)
            try:
                chunk = next(fetched, None)
            finally:
                noting.reset(token)
            noted.resolve()
            if chunk is None:
                return
            yield chunk

    return noted_chunks
