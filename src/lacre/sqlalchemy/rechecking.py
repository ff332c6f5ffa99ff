# SPDX-License-Identifier: Apache-2.0
"""
Re-checking the hits of a short blind index, before the statement proper runs.

A first query reads the candidates' ids and ciphertexts under the very conditions asked; those
whose plaintext really matches become a condition of the statement. So counts, limits and
joins are right, and no false hit ever leaves. It needs the right to decrypt.

A query for whole objects of one table, and for nothing else, needs no second query: it brings the
ciphertexts along, and false hits are taken out of its result before anybody has it.

Of a statement marked by `candidates` the hits of a class that whoever asks may not decrypt stay
what they are, and are marked (`lacre.sqlalchemy.candidates`). Those of an index in parts do not.

Works for conditions joined by AND. Under OR or NOT a false hit cannot be taken out, so that is
refused.

Leans on names of SQLAlchemy that are not public, each pinned by a test: `Select._raw_columns`,
`_from_obj`, `_setup_joins`, `_having_criteria`, `_distinct_on`, `_pre_columns_clause`,
`_for_update_arg`, `_with_options`, `LoaderCriteriaOption.where_criteria` and
`deferred_where_criteria`, `_extra_criteria` of a loader's parts, `ClauseElement._deannotate`,
`sqlalchemy.sql.util.extract_first_column_annotation`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import LoaderCriteriaOption, Mapper, ORMExecuteState
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList
from sqlalchemy.sql.selectable import CompoundSelect, SelectBase
from sqlalchemy.sql.util import extract_first_column_annotation

from lacre.errors import UnsupportedQuery
from lacre.sqlalchemy.candidates import is_marked
from lacre.sqlalchemy.declared import row_facts
from lacre.sqlalchemy.judging import Candidates, Place
from lacre.sqlalchemy.parts import in_parts
from lacre.sqlalchemy.refusing import short_refused
from lacre.sqlalchemy.searching import Asking, Term
from lacre.sqlalchemy.selecting import check_selected
from lacre.sqlalchemy.shapes import Shape, is_usual, numbers_of_tokens, parameters_of, rewritten
from lacre.sqlalchemy.statements import refuse_written
from lacre.sqlalchemy.tenant_tables import typed_tenant
from lacre.sqlalchemy.token_columns import check_triggers
from lacre.sqlalchemy.whole_objects import Whole, entity_of_whole, is_of_one_table, is_quiet

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

    Or a `Whole`, whose result is to be re-checked.

    Raises:
        UnsupportedQuery: a condition stands where its hits cannot be re-checked, or has too many;
            or something inside a query writes encrypted columns.
    """
    statement: Any = state.statement
    found = parameters_of(statement) if isinstance(statement, sa.Select) else None
    shape: Shape | None = None
    if found is None:
        short = _walked(statement)
    else:
        key, asking.given = found
        shape = asking.binding.shapes.get(key)
        if shape is None:
            short = _walked(statement)
            shape = _shape(statement, asking.given, short)
            if shape is not None:
                asking.binding.remember(key, shape)
        else:
            short = [asking.given[place] for place in shape.short]
    asking.rechecked.update(id(term.asked) for term in short)
    if shape is not None and shape.terms:
        prepared = _prepared(state, asking, shape, short)
        if prepared is not None:
            return prepared
    if not short:
        return None
    statement = _with_tokens(state, statement, short)
    if is_marked(statement):
        statement, short = _unchecked(statement, short, asking)
    by_table: dict[tuple[Any, Any], list[Term]] = {}
    for term in short:
        comparator = term.asked.comparator
        place = (comparator._parententity, comparator.prop.columns[0].table)  # noqa: SLF001
        by_table.setdefault(place, []).append(term)
    if len(by_table) == 1:
        (((entity, _), terms),) = by_table.items()
        if entity_of_whole(statement) is entity and is_quiet(state, sa.inspect(entity).mapper):
            candidates = Candidates.of(asking.binding, terms)
            return Whole(candidates.beside(statement), candidates, asking.binding, terms)
    # What is asked of one table of an entity is asked together: its candidates are read once.
    for terms in by_table.values():
        statement = statement.where(_matching(state, asking, statement, terms))
    return statement


def _walked(statement: Any) -> list[Term]:
    """
    Return what is asked of short indexes.

    Raises:
        UnsupportedQuery: as `rechecked`.
    """
    short, query = [], is_query(statement)
    # One pass for all there is to find: it takes as long as making the token.
    for element in visitors.iterate(statement):
        check_selected(statement, element)
        if query:
            refuse_written(element)
        if isinstance(element, Term) and not element.asked.index.exact:
            short.append(element)
    if not short:
        return short
    if not isinstance(statement, sa.Select):
        raise short_refused(
            short[0].asked, "in an UPDATE, a DELETE, a set operation or from_statement"
        )
    # `in_op` only: a NOT turns it into another operator, whose false hits are rows left out. NOT of
    # an index of several tokens is an expression around it.
    conditions = Counter(
        id(found.right)
        for found in _joined_by_and(statement.whereclause)
        if isinstance(found, BinaryExpression)
        and (found.operator is operators.in_op or isinstance(found.operator, operators.custom_op))
    )
    # A condition that was made once may stand in several places: each of them has to be one.
    for term, places in Counter(short).items():
        if conditions[id(term)] < places:
            raise short_refused(term.asked, "under OR, NOT or in a subquery")
    asked = {id(term.asked) for term in short}
    for element in _in_options(statement):
        if isinstance(element, Term) and id(element.asked) in asked:
            raise short_refused(element.asked, "in a loader option, a relationship or a subquery")
    return list(dict.fromkeys(short))


def _in_options(statement: Any) -> Iterator[Any]:
    # What an option adds is no part of the statement that is walked, and is not re-checked. Of a
    # condition made for the option alone no tokens are made; this is about one that is in both.
    for option in statement._with_options:  # noqa: SLF001
        if isinstance(option, LoaderCriteriaOption):
            added = [] if option.deferred_where_criteria else [option.where_criteria]
        else:
            added = [
                criterion
                for part in getattr(option, "context", ())
                for criterion in part._extra_criteria  # noqa: SLF001
            ]
        for criterion in added:
            yield from visitors.iterate(criterion)


def _shape(statement: Any, given: Sequence[Any], short: list[Term]) -> Shape | None:
    """Return what to remember of a statement that was walked; None: nothing."""
    place = {id(parameter): n for n, parameter in enumerate(given)}
    inside = [part for part in visitors.iterate(statement) if part is not statement]
    if any(isinstance(part, UpdateBase) for part in inside) or not all(
        id(term) in place for term in short
    ):
        return None
    terms = [parameter for parameter in given if isinstance(parameter, Term)]
    entity = entity_of_whole(statement) if terms else None
    replaceable = (
        isinstance(entity, Mapper)
        and all(term.asked.comparator._parententity is entity for term in terms)  # noqa: SLF001
        and not any(isinstance(part, SelectBase) for part in inside)
    )
    return Shape(
        short=tuple(place[id(term)] for term in short),
        terms=tuple(place[id(term)] for term in terms) if replaceable else (),
    )


def _prepared(
    state: ORMExecuteState, asking: Asking, shape: Shape, short: list[Term]
) -> Any | None:
    """Return what is executed in place of the statement, made once for all of its shape; None: nothing is."""
    statement: Any = state.statement
    if state.parameters or not is_usual(statement):
        return None
    terms = [asking.given[place] for place in shape.terms]
    if short and not is_quiet(state, terms[0].asked.comparator._parentmapper):  # noqa: SLF001
        return None
    dialect = state.session.get_bind(**state.bind_arguments).dialect.name
    if dialect != "postgresql" and any(term.asked.index.several for term in short):
        return None
    numbers = numbers_of_tokens(terms)
    found = shape.rewritten.get((dialect, numbers))
    if found is None:
        light = rewritten(statement, asking.given, numbers, dialect)
        if light is None:
            return None
        candidates = Candidates.of(asking.binding, short) if short else None
        found = (light if candidates is None else candidates.beside(light)), candidates
        shape.rewritten[dialect, numbers] = found
    light, candidates = found
    return light if candidates is None else Whole(light, candidates, asking.binding, short)


def _unchecked(statement: Any, short: list[Term], asking: Asking) -> tuple[Any, list[Term]]:
    """Return *statement*, and which terms are to be re-checked all the same; note the others."""
    if statement._for_update_arg is not None:  # noqa: SLF001
        raise UnsupportedQuery(
            "rows are not locked by candidates: among them are rows that nobody asked for",
            hint="read the candidates, then lock the rows that are meant, by primary key",
        )
    left = []
    for term in short:
        comparator: Any = term.asked.comparator
        searched = asking.binding.field(comparator.prop)
        if term.asked.index.several or searched.rechecks():
            left.append(term)
            continue
        asking.unchecked.append(term.asked)
        place = Place(comparator)
        key = row_facts(place.mapper).tenant
        if key is not None:
            # Rows of another tenant have tokens under other keys: hits by chance alone.
            column = place.mapper.column_attrs[key].columns[0]
            tenant = typed_tenant(column, searched.searched_tenant())
            statement = statement.where(place.of(column) == tenant)
    return statement, left


def _with_tokens(state: ORMExecuteState, statement: Any, short: list[Term]) -> Any:
    # Of an index of several tokens the condition is another on every database.
    several = {id(term): term.asked for term in short if term.asked.index.several}
    if not several:
        return statement
    dialect = state.session.get_bind(**state.bind_arguments).dialect.name
    if dialect == "sqlite":
        connection = state.session.connection(bind_arguments={**state.bind_arguments})
        for asked in several.values():
            prop = asked.comparator.prop
            column = prop.index_columns[prop.declared.indexes.index(asked.index)]
            check_triggers(connection, column.table, column.name)

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


def _joined_by_and(clause: Any) -> list[Any]:
    if isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
        return [found for part in clause.clauses for found in _joined_by_and(part)]
    if isinstance(clause, sa.sql.elements.Grouping):
        return _joined_by_and(clause.element)
    return [clause]


def _column_froms(statement: Any) -> list[Any]:
    """
    Return what the columns of *statement* are from: `Select.columns_clause_froms`, as it is run.

    That takes a column inside a function or a bundle for one of a table, and not of a class that
    may have several.
    """
    if statement._from_obj:  # noqa: SLF001
        # What a statement names itself is not changed by the classes of its columns.
        return list(statement.columns_clause_froms)
    found: list[Any] = []
    for part in [part for column in statement._raw_columns for part in _parts(column)]:  # noqa: SLF001
        froms = part._from_objects  # noqa: SLF001
        entity: Any = extract_first_column_annotation(part, "parententity")  # type: ignore[no-untyped-call]
        # Of a subquery among the columns nothing comes from.
        if entity is not None and {*froms} & {*entity.selectable._from_objects}:  # noqa: SLF001
            found.append(entity.__clause_element__())
        found += froms
    return found


def _parts(column: Any) -> list[Any]:
    bundle = column._annotations.get("bundle")  # noqa: SLF001
    return (
        [column] if bundle is None else [found for each in bundle.exprs for found in _parts(each)]
    )


def _matching(state: ORMExecuteState, asking: Asking, statement: Any, terms: list[Term]) -> Any:
    binding = asking.binding
    candidates = Candidates.of(binding, terms)
    candidates.decide(binding)
    keys, froms = candidates.keys, _column_froms(statement)
    columns = [*keys, *candidates.columns]
    if not froms and not statement._setup_joins:  # noqa: SLF001
        # It selects from no class: its rows are those of the table, as SQLAlchemy has it.
        columns = [column._deannotate() for column in columns]  # noqa: SLF001
    query = (
        statement.with_only_columns(*columns)
        .select_from(*froms)
        .order_by(None)
        .group_by(None)
        .limit(None)
        .offset(None)
        .limit(candidates.most + 1)
    )
    if not is_of_one_table(statement):
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
    true = candidates.true_of([hit[len(keys) :] for hit in found], binding, terms)
    asking.excluded += len(found) - len(true)
    ids = [tuple(found[n][: len(keys)]) for n in true]
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
