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

Leans on names of SQLAlchemy that are not public, each pinned by a test: those of `_SHAPING`,
`Mapper._equivalent_columns`, `Select._raw_columns`, `_from_obj`, `_setup_joins`,
`ClauseElement._deannotate`, `sqlalchemy.sql.util.extract_first_column_annotation`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList
from sqlalchemy.sql.selectable import CompoundSelect
from sqlalchemy.sql.util import extract_first_column_annotation

from lacre.errors import UnsupportedQuery
from lacre.sqlalchemy.candidates import is_marked
from lacre.sqlalchemy.declared import row_facts, tenant_text
from lacre.sqlalchemy.loading import note_tenant
from lacre.sqlalchemy.searching import Asking, Term, in_parts, short_refused
from lacre.sqlalchemy.selecting import check_selected
from lacre.sqlalchemy.statements import refuse_written
from lacre.sqlalchemy.subjects import subject_key, subject_of_values
from lacre.sqlalchemy.tenant_tables import typed_tenant
from lacre.sqlalchemy.token_columns import check_triggers
from lacre.sqlalchemy.types import raw_of

__all__ = ["Whole", "is_candidates", "is_query", "rechecked"]

_CANDIDATES = "lacre_candidates"  # the execution option of a query for candidates
_QUERIES = (sa.Select, CompoundSelect)
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
        asking.rechecked.add(id(term.asked))
    short = list(dict.fromkeys(short))
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
        if _is_whole(state, statement, entity):
            return Whole(statement, _Candidates.of(state, asking.binding, terms))
    # What is asked of one table of an entity is asked together: its candidates are read once.
    for terms in by_table.values():
        statement = statement.where(_matching(state, asking.binding, statement, terms))
    return statement


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
        place = _Place(comparator)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates:
    """What is asked of one entity, and what its candidates are judged by."""

    state: ORMExecuteState
    binding: Any
    mapper: Any
    terms: list[Term]
    props: list[Any]
    subjects: list[str]  # the attributes that say whom values are about
    keys: list[Any]
    row: list[Any]
    columns: list[Any]  # after the keys: the row's id, ciphertexts, subjects, tenant
    has_tenant: bool
    most: int

    @classmethod
    def of(cls, state: ORMExecuteState, binding: Any, terms: list[Term]) -> "_Candidates":
        comparator: Any = terms[0].asked.comparator
        mapper = comparator._parentmapper  # noqa: SLF001 - pinned by a test
        props = list(dict.fromkeys(term.asked.comparator.prop for term in terms))
        several = any(term.asked.index.several for term in terms)
        for prop in props:
            binding.field(prop).may_recheck(marks=not several)

        # Of the table that was asked, which the statement has for certain, and no other of them:
        # one more would change what the statement's rows are made of.
        place = _Place(comparator)
        keys = place.keys
        row = [place.of(column) for column in row_facts(mapper).columns]
        # Of rows that name their tenant: another tenant's are hits by chance alone, under other keys.
        tenant = row_facts(mapper).tenant
        # Whom values are about, where that says which key they are under.
        subjects = list(dict.fromkeys(filter(None, (subject_key(mapper, prop) for prop in props))))
        known = [*subjects, *(() if tenant is None else (tenant,))]
        columns = [
            *row,
            *(place.mapped(prop.columns[0]) for prop in props),
            *(place.of(mapper.column_attrs[key].columns[0]) for key in known),
        ]
        return cls(
            state=state,
            binding=binding,
            mapper=mapper,
            terms=terms,
            props=props,
            subjects=subjects,
            keys=keys,
            row=row,
            columns=columns,
            has_tenant=tenant is not None,
            most=binding.application.guard.policy.file.search.candidates,
        )

    def true_of(self, found: Sequence[Any]) -> list[int]:
        """
        Return which of the candidates, each the values of `columns`, are hits in truth.

        Raises:
            UnsupportedQuery: there are too many.
        """
        if len(found) > self.most:
            several = any(term.asked.index.several for term in self.terms)
            way = "ask for more of the text" if several else "declare the index with bits=96"
            raise UnsupportedQuery(
                f"more than {self.most} rows are candidates for {', '.join(map(str, self.props))}",
                hint=f"narrow the query, or {way}; [search] candidates in lacre.toml bounds them",
            )
        mapper, props, first = self.mapper, self.props, len(self.row)
        tenant = self.binding.field(props[0]).searched_tenant()
        kept = [
            n
            for n, hit in enumerate(found)
            if not self.has_tenant or tenant_text(mapper, hit[-1]) == tenant
        ]
        for term in self.terms:
            asked = term.asked
            prop = asked.comparator.prop
            cell = first + props.index(prop)
            # What one condition ruled out is not opened for the next.
            items = [
                (
                    tuple(found[n][:first]) if first > 1 else found[n][0],
                    raw_of(found[n][cell]) if found[n][cell] is not None else None,
                )
                for n in kept
            ]
            key, of_items = subject_key(mapper, prop), None
            if key is not None:
                place = first + len(props) + self.subjects.index(key)
                of_items = [
                    None
                    if found[n][cell] is None
                    else subject_of_values(mapper, prop, found[n][place])
                    for n in kept
                ]
            field, true = self.binding.field(prop), set()
            for value in asked.values:
                held = field.recheck(
                    items, asked.index, value, question=asked.question, subjects=of_items
                )
                true |= {n for n, holds in zip(kept, held, strict=True) if holds}
            kept = sorted(true)
        return kept


class Whole:
    """A query for whole objects, which brings along what its candidates are judged by."""

    def __init__(self, statement: Any, candidates: _Candidates) -> None:
        # One more than there may be, so that too many are noticed.
        self.statement = statement.add_columns(*candidates.columns).limit(candidates.most + 1)
        self._candidates = candidates

    def only_true(self, result: Any) -> Any:
        """Return *result*, of `statement`, with nothing in it but the objects that are hits."""
        found = [each for chunk in result.chunks(None) for each in chunk]
        true = self._candidates.true_of([each[1:] for each in found])
        rest = iter([found[n] for n in true])

        def chunks(size: int | None) -> Iterator[Any]:
            while chunk := list(islice(rest, size)):
                yield chunk

        result.chunks = chunks
        result.iterator = chain.from_iterable(chunks(None))
        return result.columns(0)


def _is_whole(state: ORMExecuteState, statement: Any, entity: Any) -> bool:
    """
    Whether *statement* is for objects of *entity* alone, so that its rows are its candidates.

    And nothing happens when one is loaded that would tell a false hit from none: no further
    load, no listener, no change of an object that is there.
    """
    raw = statement._raw_columns  # noqa: SLF001
    mapper = entity.mapper
    return (
        len(raw) == 1
        and isinstance(raw[0], sa.FromClause)
        and raw[0]._annotations.get("parententity") is entity  # noqa: SLF001
        and state.execution_options.keys() <= _HARMLESS
        and not any(getattr(statement, name, None) for name in _SHAPING)
        and statement._for_update_arg is None  # noqa: SLF001
        and statement._limit_clause is None  # noqa: SLF001
        and statement._offset_clause is None  # noqa: SLF001
        and statement._fetch_clause is None  # noqa: SLF001
        and _is_of_one_table(statement)
        and mapper.inherits is None
        and mapper.polymorphic_on is None
        and all(found.lazy in _LAZY for found in mapper.relationships)
        and not state.session.dispatch.loaded_as_persistent
        and all(
            listener is note_tenant
            for event in (mapper.class_manager.dispatch.load, mapper.class_manager.dispatch.refresh)
            for listener in event
        )
    )


class _Place:
    """The table of the attribute that is asked, as a query for candidates asks it."""

    def __init__(self, comparator: Any) -> None:
        self._comparator = comparator
        self.mapper = mapper = comparator._parentmapper  # noqa: SLF001 - pinned by a test
        self._table = table = comparator.prop.columns[0].table
        self._alone = len(mapper.tables) == 1 or mapper.inherits is None
        columns = mapper.primary_key if self._alone else table.primary_key
        self.keys = [self.mapped(column) for column in columns]

    def mapped(self, column: Any) -> Any:
        """Return *column* of the class as that of the entity which is asked."""
        return self._comparator.mapped(column, self.mapper.get_property_by_column(column).key)

    def of(self, column: Any) -> Any:
        """Return *column*, of whichever table of the class, of the row that the keys name."""
        table = column.table
        if self._alone or table is self._table:
            return self.mapped(column)
        # Tables of one inheritance have equal primary keys.
        same = self.mapper._equivalent_columns  # noqa: SLF001 - pinned by a test
        for found in same.get(column, ()):
            if found.table is self._table:
                return self.mapped(found)
        other = table.alias()
        pairs = [
            other.c[found.key] == self.mapped(key)
            for key in self._table.primary_key
            for found in same.get(key, ())
            if found.table is table
        ]
        return sa.select(other.c[column.key]).where(*pairs).scalar_subquery()


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


def _matching(state: ORMExecuteState, binding: Any, statement: Any, terms: list[Term]) -> Any:
    candidates = _Candidates.of(state, binding, terms)
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
    true = candidates.true_of([hit[len(keys) :] for hit in found])
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
