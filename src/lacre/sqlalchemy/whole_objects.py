# SPDX-License-Identifier: Apache-2.0
"""
Queries for whole objects of one table, and for nothing else: their rows are their candidates.

Such a query brings along what its hits are judged by, and those that are none are taken out of
its result before anybody has it. Says which queries these are; makes no token and opens nothing.

Leans on private names of SQLAlchemy, each pinned by a test: those of `_SHAPING`,
`Select._raw_columns`, `_from_obj`, `_setup_joins`, `_where_criteria`, `ChunkedIteratorResult.chunks`
and `iterator`.
"""

from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import ORMExecuteState

from lacre.sqlalchemy.judging import Candidates
from lacre.sqlalchemy.loading import note_tenant
from lacre.sqlalchemy.searching import Term

__all__ = ["Whole", "entity_of_whole", "is_of_one_table", "is_quiet"]

# What a query for whole objects may have: options of its execution, and lazy relationships.
_HARMLESS = {
    "_result_disable_adapt_to_context",  # what every session gives
    "autoflush",
    "compiled_cache",
    "prebuffer_rows",
    "schema_translate_map",
}
_LAZY = (True, None, "select", "raise", "raise_on_sql", "noload", "dynamic", "write_only")
# And what it may not have, each of them empty in a plain SELECT. Private names, pinned by a test.
_SHAPING = (
    "_compile_state_funcs",
    "_correlate",
    "_correlate_except",
    "_distinct",
    "_distinct_on",
    "_group_by_clauses",
    "_having_criteria",
    "_hints",
    "_independent_ctes",
    "_memoized_select_entities",
    "_pre_columns_clause",
    "_prefixes",
    "_statement_hints",
    "_suffixes",
    "_with_context_options",
    "_with_options",
)


class Whole:
    """A query for whole objects, which brings along what its candidates are judged by."""

    def __init__(
        self, statement: Any, candidates: Candidates, binding: Any, terms: list[Term]
    ) -> None:
        candidates.decide(binding)
        self.statement = statement
        self._candidates = candidates
        self._binding = binding
        self._terms = terms

    def only_true(self, result: Any, told: Callable[..., None]) -> Any:
        """Return *result*, of `statement`, with nothing in it but the objects that are hits; *told* of them before."""
        found = [each for chunk in result.chunks(None) for each in chunk]
        hits = self._candidates.beside_objects(found)
        true = self._candidates.true_of(hits, self._binding, self._terms)
        kept = [found[n] for n in true]
        told(kept, excluded=len(found) - len(kept))
        rest = iter(kept)

        def chunks(size: int | None) -> Iterator[Any]:
            while chunk := list(islice(rest, size)):
                yield chunk

        result.chunks = chunks
        result.iterator = chain.from_iterable(chunks(None))
        return result.columns(0)


def entity_of_whole(statement: Any) -> Any | None:
    """Return the entity that *statement* is for objects of, and for nothing else, so that its rows are its candidates."""
    raw = statement._raw_columns  # noqa: SLF001
    if len(raw) != 1 or not isinstance(raw[0], sa.FromClause):
        return None
    entity: Any = raw[0]._annotations.get("parententity")  # noqa: SLF001
    whole = (
        entity is not None
        and not any(getattr(statement, name, None) for name in _SHAPING)
        and statement._for_update_arg is None  # noqa: SLF001
        and statement._limit_clause is None  # noqa: SLF001
        and statement._offset_clause is None  # noqa: SLF001
        and statement._fetch_clause is None  # noqa: SLF001
        and is_of_one_table(statement)
        and entity.mapper.inherits is None
        and entity.mapper.polymorphic_on is None
    )
    return entity if whole else None


def is_quiet(state: ORMExecuteState, mapper: Any) -> bool:
    """
    Whether nothing happens when an object is loaded that would tell a false hit from none.

    No further load, no listener, no change of an object that is there.
    """
    return (
        state.execution_options.keys() <= _HARMLESS
        and all(found.lazy in _LAZY for found in mapper.relationships)
        and not state.session.dispatch.loaded_as_persistent
        and all(
            listener is note_tenant
            for event in (mapper.class_manager.dispatch.load, mapper.class_manager.dispatch.refresh)
            for listener in event
        )
    )


def is_of_one_table(statement: Any) -> bool:
    # Then no row comes twice, and the database need not sort ciphertexts to find out.
    froms = {*statement.columns_clause_froms}
    for clause in statement._where_criteria:  # noqa: SLF001
        froms.update(clause._from_objects)  # noqa: SLF001
    return len(froms) == 1 and not statement._setup_joins and not statement._from_obj  # noqa: SLF001
