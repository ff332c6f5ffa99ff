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
from lacre.sqlalchemy.declared import row_facts, row_id_column, tenant_text
from lacre.sqlalchemy.searching import Asking, Term, in_parts, short_refused
from lacre.sqlalchemy.selecting import check_selected
from lacre.sqlalchemy.statements import refuse_written
from lacre.sqlalchemy.subjects import subject_key, subject_of_values
from lacre.sqlalchemy.types import raw_of

__all__ = ["is_candidates", "is_query", "rechecked"]

_CANDIDATES = "lacre_candidates"  # the execution option of a query for candidates
_QUERIES = (sa.Select, CompoundSelect)


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
    # `in_op` only: a NOT turns it into another operator, whose false hits are rows left out. NOT of
    # an index of several tokens is an expression around it.
    conditions = {
        id(found.right)
        for found in _joined_by_and(statement.whereclause)
        if isinstance(found, BinaryExpression)
        and (found.operator is operators.in_op or isinstance(found.operator, operators.custom_op))
    }
    for term in short:
        if id(term) not in conditions:
            raise short_refused(term.asked, "under OR, NOT or in a subquery")
        asking.rechecked.add(id(term.asked))
    statement = _with_tokens(state, statement, short)
    by_entity: dict[Any, list[Term]] = {}
    for term in short:
        by_entity.setdefault(term.asked.comparator._parententity, []).append(term)  # noqa: SLF001
    # What is asked of one entity is asked together: its candidates are read once.
    for terms in by_entity.values():
        statement = statement.where(_matching(state, asking.binding, statement, terms))
    return statement


def _with_tokens(state: ORMExecuteState, statement: Any, short: list[Term]) -> Any:
    # Of an index of several tokens the condition is another on every database.
    several = {id(term): term.asked for term in short if term.asked.index.several}
    if not several:
        return statement
    dialect = state.session.get_bind(**state.bind_arguments).dialect.name

    def replaced(clause: Any) -> list[Any]:
        if isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
            return [found for part in clause.clauses for found in replaced(part)]
        if isinstance(clause, sa.sql.elements.Grouping):
            return replaced(clause.element)
        asked = several.get(id(getattr(clause, "right", None)))
        return [clause if asked is None else in_parts(asked, dialect)]

    copy = statement._generate()  # noqa: SLF001
    copy._where_criteria = tuple(  # noqa: SLF001
        found
        for clause in statement._where_criteria  # noqa: SLF001
        for found in replaced(clause)
    )
    return copy


def _is_of_one_table(statement: Any) -> bool:
    # Then no row comes twice, and the database need not sort ciphertexts to find out.
    froms = {*statement.columns_clause_froms}
    for clause in statement._where_criteria:  # noqa: SLF001
        froms.update(clause._from_objects)  # noqa: SLF001
    return len(froms) == 1 and not statement._setup_joins and not statement._from_obj  # noqa: SLF001


def _joined_by_and(clause: Any) -> list[Any]:
    if isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
        return [found for part in clause.clauses for found in _joined_by_and(part)]
    if isinstance(clause, sa.sql.elements.Grouping):
        return _joined_by_and(clause.element)
    return [clause]


def _matching(state: ORMExecuteState, binding: Any, statement: Any, terms: list[Term]) -> Any:
    comparator: Any = terms[0].asked.comparator
    mapper = comparator._parentmapper  # noqa: SLF001 - pinned by a test
    props = list(dict.fromkeys(term.asked.comparator.prop for term in terms))
    for prop in props:
        binding.field(prop).may_recheck()
    named = row_id_column(mapper)
    keys = [
        comparator.mapped(column, mapper.get_property_by_column(column).key)
        for column in mapper.primary_key
    ]
    row = [
        comparator.mapped(column, mapper.get_property_by_column(column).key)
        for column in ([named] if named is not None else mapper.primary_key)
    ]
    ciphertexts = [comparator.mapped(prop.columns[0], prop.key) for prop in props]
    most = binding.application.guard.policy.file.search.candidates
    # Of rows that name their tenant: another tenant's are hits by chance alone, under other keys.
    facts = row_facts(mapper)
    whose = (
        []
        if facts.tenant is None
        else [comparator.mapped(mapper.column_attrs[facts.tenant].columns[0], facts.tenant)]
    )
    # Whom values are about, where that says which key they are under.
    subjects = list(dict.fromkeys(filter(None, (subject_key(mapper, prop) for prop in props))))
    about = [comparator.mapped(mapper.column_attrs[key].columns[0], key) for key in subjects]
    query = (
        statement.with_only_columns(
            *keys, *row, *ciphertexts, *about, *whose, maintain_column_froms=True
        )
        .order_by(None)
        .group_by(None)
        .limit(None)
        .offset(None)
        .limit(most + 1)
    )
    if not _is_of_one_table(statement):
        query = query.distinct()
    # There is no public way to take these out of a statement: HAVING is about the groups it had,
    # DISTINCT ON would keep one candidate of several (the second is SQLAlchemy 2.1's form of it),
    # and nobody locks rows that may not be hits. Private names, pinned by a test.
    query._having_criteria = ()  # noqa: SLF001
    query._distinct_on = ()  # noqa: SLF001
    query._pre_columns_clause = None  # noqa: SLF001
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
    if len(found) > most:
        several = any(term.asked.index.several for term in terms)
        way = "ask for more of the text" if several else "declare the index with bits=96"
        raise UnsupportedQuery(
            f"more than {most} rows are candidates for {', '.join(map(str, props))}",
            hint=f"narrow the query, or {way}; [search] candidates in lacre.toml bounds them",
        )
    tenant = binding.field(props[0]).searched_tenant()
    kept = [n for n, hit in enumerate(found) if not whose or tenant_text(mapper, hit[-1]) == tenant]
    first = len(keys) + len(row)
    for term in terms:
        asked = term.asked
        cell = first + props.index(asked.comparator.prop)
        # What one condition ruled out is not opened for the next.
        items = [
            (
                tuple(found[n][len(keys) : first]) if len(row) > 1 else found[n][len(keys)],
                raw_of(found[n][cell]) if found[n][cell] is not None else None,
            )
            for n in kept
        ]
        prop = asked.comparator.prop
        key, of_items = subject_key(mapper, prop), None
        if key is not None:
            place = first + len(props) + subjects.index(key)
            of_items = [
                None if found[n][cell] is None else subject_of_values(mapper, prop, found[n][place])
                for n in kept
            ]
        field, true = binding.field(prop), set()
        for value in asked.values:
            held = field.recheck(
                items, asked.index, value, question=asked.question, subjects=of_items
            )
            true |= {n for n, holds in zip(kept, held, strict=True) if holds}
        kept = sorted(true)
    ids = [tuple(found[n][: len(keys)]) for n in kept]
    if state.session.get_bind(**state.bind_arguments).dialect.name != "postgresql":
        return (
            keys[0].in_([only for (only,) in ids]) if len(keys) == 1 else sa.tuple_(*keys).in_(ids)
        )
    # One parameter for each key, however many rows there are: one statement, which the server
    # prepares once. And of a list of rows it would nest thousands deeper than it has stack for.
    held = [sa.literal([row[n] for row in ids], sa.ARRAY(key.type)) for n, key in enumerate(keys)]
    if len(keys) == 1:
        return keys[0] == sa.any_(held[0])
    rows = sa.func.unnest(*held).table_valued(*(f"key{n}" for n in range(len(keys))))
    return sa.tuple_(*keys).in_(sa.select(rows.render_derived()))
