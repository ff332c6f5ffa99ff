# SPDX-License-Identifier: Apache-2.0
"""
Re-checking the hits of a short blind index, before the statement proper runs.

A first query reads the candidates' ids and ciphertexts under the very conditions asked; those
whose plaintext really matches become a condition of the statement. So counts, limits and
joins are right, and no false hit ever leaves. It needs the right to decrypt.

Works for conditions joined by AND. Under OR or NOT a false hit cannot be taken out, so that is
refused.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList
from sqlalchemy.sql.selectable import CompoundSelect

from lacre.errors import UnsupportedQuery
from lacre.sqlalchemy.declared import row_id_column
from lacre.sqlalchemy.searching import Asking, Term, short_refused
from lacre.sqlalchemy.selecting import check_selected
from lacre.sqlalchemy.statements import refuse_written
from lacre.sqlalchemy.types import raw_of

__all__ = ["is_candidates", "is_query", "rechecked"]

_CANDIDATES = "lacre_candidates"  # the execution option of a query for candidates
_QUERIES = (sa.Select, CompoundSelect)
_MOST = 10_000  # candidates opened for one statement at most


def is_candidates(state: ORMExecuteState) -> bool:
    """Whether a query for candidates is executed, of a statement that is being asked already."""
    return bool(state.execution_options.get(_CANDIDATES))


def is_query(statement: Any) -> bool:
    """Whether *statement* only reads, except for what is inside it."""
    return isinstance(statement, _QUERIES)


def rechecked(state: ORMExecuteState, asking: Asking) -> Any | None:
    """
    Return the statement with its short-index conditions re-checked; None where it has none.

    Raises:
        UnsupportedQuery: a condition stands where its hits cannot be re-checked, or has too many;
            or something inside a query writes encrypted columns.
    """
    statement: Any = state.statement
    short = []
    query = is_query(statement)
    # One pass for all there is to find: it takes as long as making the token.
    for element in visitors.iterate(statement):
        check_selected(statement, element)
        if query:
            refuse_written(element)
        if isinstance(element, Term) and not element.asked.index.exact:
            short.append(element)
    if not short:
        return None
    if not isinstance(statement, sa.Select):
        raise short_refused(short[0].asked, "in an UPDATE, a DELETE or a set operation")
    # `in_op` only: a NOT turns it into another operator, whose false hits are rows left out.
    conditions = {
        id(found.right)
        for found in _joined_by_and(statement.whereclause)
        if isinstance(found, BinaryExpression) and found.operator is operators.in_op
    }
    for term in short:
        if id(term) not in conditions:
            raise short_refused(term.asked, "under OR, NOT or in a subquery")
        asking.rechecked.add(id(term.asked))
    for term in short:
        statement = statement.where(_matching(state, asking.binding, statement, term))
    return statement


def _joined_by_and(clause: Any) -> list[Any]:
    if isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
        return [found for part in clause.clauses for found in _joined_by_and(part)]
    if isinstance(clause, sa.sql.elements.Grouping):
        return _joined_by_and(clause.element)
    return [clause]


def _matching(state: ORMExecuteState, binding: Any, statement: Any, term: Term) -> Any:
    comparator, values = term.asked.comparator, term.asked.values
    prop, mapper = comparator.prop, comparator._parentmapper  # noqa: SLF001 - pinned by a test
    named = row_id_column(mapper)
    keys = [
        comparator.mapped(column, mapper.get_property_by_column(column).key)
        for column in mapper.primary_key
    ]
    row = [
        comparator.mapped(column, mapper.get_property_by_column(column).key)
        for column in ([named] if named is not None else mapper.primary_key)
    ]
    ciphertext = comparator.mapped(prop.columns[0], prop.key)
    query = (
        statement.with_only_columns(*keys, *row, ciphertext, maintain_column_froms=True)
        .order_by(None)
        .group_by(None)
        .limit(None)
        .offset(None)
        .distinct()
        .limit(_MOST + 1)
    )
    # There is no public way to take these two out of a statement: HAVING is about the groups it
    # had, and nobody locks rows that may not be hits. Private names, pinned by a test.
    query._having_criteria = ()  # noqa: SLF001
    query._for_update_arg = None  # noqa: SLF001
    # By way of the session, so that what is pending is flushed first, as for the statement itself.
    found = state.session.execute(
        query,
        state.parameters or {},
        execution_options={
            _CANDIDATES: True,
            "autoflush": state.execution_options.get("autoflush", True),
        },
        bind_arguments=state.bind_arguments,
    ).all()
    if len(found) > _MOST:
        raise UnsupportedQuery(
            f"more than {_MOST} rows are candidates for {prop}",
            hint="narrow the query, or declare the index with bits=96",
        )
    items = [
        (
            tuple(hit[len(keys) : -1]) if len(row) > 1 else hit[len(keys)],
            raw_of(hit[-1]) if hit[-1] is not None else None,
        )
        for hit in found
    ]
    field = binding.field(prop)
    kept = set()
    for value in values:
        kept |= {n for n, held in enumerate(field.recheck(items, term.asked.index, value)) if held}
    ids = [tuple(found[n][: len(keys)]) for n in sorted(kept)]
    if len(keys) == 1:
        return keys[0].in_([only for (only,) in ids])
    return sa.tuple_(*keys).in_(ids)
