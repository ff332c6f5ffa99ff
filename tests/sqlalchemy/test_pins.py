# SPDX-License-Identifier: Apache-2.0
"""
The names of SQLAlchemy that lacre leans on without a promise: each does what lacre needs.

A release that changes one fails here, and says which.
"""

import inspect
from types import NoneType
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Enum, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.orm import (
    MappedColumn,
    Session,
    SessionTransaction,
    joinedload,
    lazyload,
    mapped_column,
    with_loader_criteria,
)
from sqlalchemy.orm.attributes import InstrumentedAttribute, instance_state, manager_of_class
from sqlalchemy.orm.base import NO_VALUE
from sqlalchemy.orm.properties import ColumnProperty
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, ColumnClause, ColumnElement
from sqlalchemy.sql.lambdas import PyWrapper
from sqlalchemy.sql.util import extract_first_column_annotation

from lacre import UnsupportedQuery
from lacre.sqlalchemy.searching import InEither, Term
from lacre.sqlalchemy.selecting import NotInSQL, Selected
from lacre.sqlalchemy.whole_objects import _SHAPING
from tests.sqlalchemy.conftest import one_each
from tests.sqlalchemy.models import CPF, EMAIL, Colour, Customer, Order, Party, Person


def test_mapped_column_hooks() -> None:
    """`MappedColumn` scans, copies, and hands over columns and its property by these names."""
    assert "args" not in inspect.signature(MappedColumn._copy).parameters
    assert callable(MappedColumn.declarative_scan)
    assert isinstance(MappedColumn.columns_to_assign, property)
    assert isinstance(MappedColumn.mapper_property_to_assign, property)
    column = mapped_column(Enum(Colour), nullable=False)
    assert column.column.name is None or isinstance(column.column.name, str)
    assert column.columns_to_assign == [(column.column, column.columns_to_assign[0][1])]
    assert type(column._copy()) is MappedColumn


def test_attribute_options_of_a_dataclass() -> None:
    """`mapped_column(repr=, compare=)` keeps them in `_attribute_options`, which can be given to another."""
    options: Any = mapped_column(repr=False, compare=False)._attribute_options

    assert (options.dataclasses_repr, options.dataclasses_compare) == (False, False)


def test_property_hooks() -> None:
    """A property installs its attribute in `instrument_class`, then `post_instrument_class` is called."""
    assert list(inspect.signature(ColumnProperty.instrument_class).parameters) == ["self", "mapper"]
    assert list(inspect.signature(ColumnProperty.post_instrument_class).parameters) == [
        "self",
        "mapper",
    ]
    assert list(inspect.signature(manager_of_class(Customer).instrument_attribute).parameters)[
        :2
    ] == ["key", "inst"]
    assert issubclass(type(Customer.email), InstrumentedAttribute)


def test_merge_hook() -> None:
    """`merge` hands a property both dictionaries, and *load*, by position."""
    assert list(inspect.signature(ColumnProperty.merge).parameters)[1:7] == [
        "session",
        "source_state",
        "source_dict",
        "dest_state",
        "dest_dict",
        "load",
    ]


def test_attributes_of_a_state() -> None:
    """An `InstanceState` takes an attribute of somebody else's, and does not pickle it."""
    state = instance_state(Customer())
    state.__dict__["somebody_elses"] = "x"

    assert "somebody_elses" not in state.__getstate__()


def test_comparator_hooks() -> None:
    """A comparator's clause element and annotated columns come from these two."""
    comparator: Any = Customer.email.comparator

    assert callable(ColumnProperty.Comparator._memoized_method___clause_element__)
    assert isinstance(comparator.__clause_element__(), NotInSQL)
    column = comparator._orm_annotate_column(Customer.__table__.c.email)
    assert column._annotations["parententity"] is inspect_mapper()
    assert comparator._parentmapper is inspect_mapper()
    assert comparator.adapter is None


def test_condition_made_without_coercions() -> None:
    """A condition is what `in_` and `not_in` of the index column would have made of its term."""
    column: Any = Customer.__table__.c.cpf_bidx
    either: Any = Customer.cpf == CPF
    neither: Any = Customer.cpf != CPF
    found: Any
    for found, made in (
        (_asking(either), column.in_),
        (_asking(neither), column.not_in),
    ):
        usual = made(found.right)

        assert type(found) is type(usual) is BinaryExpression
        assert (found.operator, found.negate) == (usual.operator, usual.negate)
        assert found.right.expand_op is usual.right.expand_op is found.operator
        assert found.modifiers == usual.modifiers
        assert type(found.type) is type(usual.type)
        assert found.left._annotations["parententity"] is inspect_mapper()
        assert str(found) == str(usual)


def _asking(condition: Any) -> Any:
    parts = visitors.iterate(condition.spelt_out())
    found = (part for part in parts if isinstance(part, BinaryExpression))
    return next(part for part in found if isinstance(part.right, Term))


def inspect_mapper() -> Any:
    from sqlalchemy import inspect as inspected

    return inspected(Customer)


def test_terms_are_found_in_statements() -> None:
    """`in_` with an expanding parameter keeps its class, its callable and what was put on it."""
    condition: Any = Customer.email == EMAIL
    statement = select(Customer).where(condition, Customer.city == "x")
    [term] = [found for found in visitors.iterate(statement) if isinstance(found, Term)]
    where: Any = statement.whereclause

    assert isinstance(where, BooleanClauseList)
    assert where.operator is operators.and_
    assert isinstance(condition, InEither)
    assert condition in where.clauses
    assert condition.spelt_out().operator is operators.or_  # type: ignore[attr-defined]
    assert (~condition).spelt_out().operator is operators.and_  # type: ignore[attr-defined]
    assert (~~condition).spelt_out().operator is operators.or_  # type: ignore[attr-defined]
    assert condition._generate_cache_key().key != (~condition)._generate_cache_key().key  # type: ignore[union-attr]
    assert {found.name for found in condition._from_objects} == {"customers"}
    assert condition._propagate_attrs["plugin_subject"] is inspect_mapper()
    assert term.asked.values == (EMAIL,)
    assert term.callable is not None
    assert term.expanding


def test_private_parts_of_a_select() -> None:
    """HAVING, FOR UPDATE and DISTINCT ON are in these attributes, which a generated copy owns."""
    statement = select(func.count()).having(func.count() > 1).with_for_update()
    copied = statement.limit(1)
    copied._having_criteria = ()
    copied._for_update_arg = None

    assert "HAVING" not in str(copied)
    assert "FOR UPDATE" not in str(copied)
    assert "HAVING" in str(statement)
    assert "FOR UPDATE" in str(statement)
    first = one_each(select(Customer.id), Customer.city)
    whole = first.limit(1)
    whole._distinct_on = ()
    whole._pre_columns_clause = None

    assert "DISTINCT ON" in str(first.compile(dialect=postgresql.dialect()))
    assert "DISTINCT ON" not in str(whole.compile(dialect=postgresql.dialect()))


def test_private_parts_of_a_query_for_whole_objects() -> None:
    """What shapes the rows of a SELECT is in these attributes, all of them empty in a plain one."""
    plain: Any = select(Customer)
    rest = ("_limit_clause", "_offset_clause", "_fetch_clause", "_for_update_arg")
    found = {
        "_correlate": plain.correlate(Order),
        "_correlate_except": plain.correlate_except(Order),
        "_distinct": plain.distinct(),
        "_fetch_clause": plain.fetch(1),
        "_for_update_arg": plain.with_for_update(),
        "_group_by_clauses": plain.group_by(Customer.city),
        "_having_criteria": plain.having(func.count() > 1),
        "_hints": plain.with_hint(Customer, "x"),
        "_independent_ctes": plain.add_cte(select(Order.id).cte()),
        "_limit_clause": plain.limit(1),
        "_memoized_select_entities": plain.join(Customer.orders).with_only_columns(Customer.id),
        "_offset_clause": plain.offset(1),
        "_prefixes": plain.prefix_with("x"),
        "_statement_hints": plain.with_statement_hint("x"),
        "_suffixes": plain.suffix_with("x"),
        "_with_options": plain.options(lazyload(Customer.orders)),
    }

    empty: Any = (None, (), {}, False)

    assert all(
        any(getattr(plain, name, None) is e or getattr(plain, name, None) == e for e in empty)
        for name in (*_SHAPING, *rest)
    )
    for name, shaped in found.items():
        value = getattr(shaped, name)
        assert isinstance(value, ColumnElement) or value not in empty
    assert set(found) <= {*_SHAPING, *rest}
    [raw] = plain._raw_columns
    assert raw._annotations["parententity"] is Customer.__mapper__
    one: Any = select(Customer.email, Customer.city)
    assert [type(each._annotations.get("bundle")) for each in one._raw_columns] == [Selected, NoneType]  # fmt: skip
    assert isinstance(one._raw_columns[1], ColumnClause)


def test_tables_of_an_inheritance_and_what_columns_are_from() -> None:
    """Keys that are joined are equivalent; an annotated column knows its class, inside a function too."""
    child, parent = Person.__table__.c.id, Party.__table__.c.id
    assert parent in Person.__mapper__._equivalent_columns[child]  # type: ignore[attr-defined]
    assert child in Person.__mapper__._equivalent_columns[parent]  # type: ignore[attr-defined]
    named: Any = func.max(Customer.city)
    assert extract_first_column_annotation(named, "parententity") is Customer.__mapper__
    bare: Any = Customer.city.__clause_element__()
    assert "parententity" not in bare._deannotate()._annotations
    statement: Any = select(func.count())
    assert (statement._from_obj, statement._setup_joins) == ((), ())
    assert statement.select_from(Customer)._from_obj
    assert statement.join(Customer)._setup_joins


def test_conditions_that_options_add() -> None:
    """A criteria option holds its condition in `where_criteria`, a loader's parts theirs in `_extra_criteria`."""
    condition = Customer.city == "x"
    statement: Any = select(Order).options(
        with_loader_criteria(Customer, condition), joinedload(Order.customer.and_(condition))
    )
    criteria, loader = statement._with_options
    [part] = loader.context

    assert criteria.deferred_where_criteria is False
    assert criteria.where_criteria.compare(condition)
    assert [found.compare(condition) for found in part._extra_criteria] == [True]


def test_what_a_result_of_objects_is_made_of(session: Session) -> None:
    """Its rows come from `chunks` by way of `iterator`: bare objects where `_source_supports_scalars`, else tuples."""
    session.add(Customer(city="x"))
    bare: Any = session.execute(select(Customer))
    rows: Any = session.execute(select(Customer.city, Customer))

    assert (bare._source_supports_scalars, rows._source_supports_scalars) == (True, False)
    assert (bare._yield_per, rows._yield_per) == (None, None)
    assert [type(each) for chunk in bare.chunks(None) for each in chunk] == [Customer]
    assert [type(each) for each in rows.iterator] == [tuple]


def test_a_variable_of_a_lambda() -> None:
    """It is given to an operator wrapped, while the lambda is looked at."""
    value = "x"
    with pytest.raises(UnsupportedQuery, match="variable of a lambda"):
        select(Customer).where(lambda: Customer.email == value)

    assert PyWrapper.__module__ == "sqlalchemy.sql.lambdas"


def test_private_parts_of_insert_and_update() -> None:
    """What a statement writes is in these attributes, under names or columns."""
    table: Any = Customer.__table__
    plain: Any = update(table).values(city="x")
    assert [getattr(key, "key", key) for key in plain._values] == ["city"]
    ordered: Any = update(table).ordered_values(("city", "x"))
    kept = [*(ordered._values or ()), *(p[0] for p in getattr(ordered, "_ordered_values", 0) or ())]
    assert [getattr(key, "key", key) for key in kept] == ["city"]
    several: Any = insert(table).values([{"city": "x"}, {"city": "y"}])
    assert [[getattr(k, "key", k) for k in row] for row in several._multi_values[0]] == [
        ["city"]
    ] * 2
    chosen: Any = insert(table).from_select(["city"], select(table.c.city))
    assert chosen._select_names == ["city"]
    conflict: Any = sqlite.insert(table).on_conflict_do_update(
        index_elements=["id"], set_={"city": "x"}
    )
    assert list(dict(conflict._post_values_clause.update_values_to_set)) == ["city"]
    assert sqlite.insert(table)._post_values_clause is None
    conditional: Any = update(table).where(table.c.city == "x")
    assert len(conditional._where_criteria) == 1
    assert len(list(update(table)._where_criteria)) == 0


def test_state_of_an_object(session: Session) -> None:
    """`committed_state` has the old value of what was assigned, NO_VALUE where it was not loaded."""
    order = Order(id=UUID(int=1))
    state: Any = instance_state(order)
    order.note = "x"
    assert state.committed_state["note"] is NO_VALUE
    assert state.key is None

    customer = Customer(email=EMAIL)
    session.add(customer)
    session.commit()
    state = instance_state(customer)
    customer.city = "x"
    assert state.committed_state["city"] is NO_VALUE
    assert state.key[1] == (customer.id,)
    assert state.has_identity


def test_events_of_a_session(session: Session) -> None:
    """A savepoint knows its parent; flushes and commits find the transaction they belong to."""
    root = session.get_transaction() or session.begin()
    nested = session.begin_nested()

    assert isinstance(nested, SessionTransaction)
    assert nested.nested
    assert nested.parent is root
    assert session.get_nested_transaction() is nested
    nested.rollback()
    assert session.get_nested_transaction() is None


def test_errors_that_are_not_wrapped() -> None:
    """SQLAlchemy wraps no error of this mixin in a StatementError, which quotes parameters."""
    from lacre import UnsupportedQuery
    from lacre.sqlalchemy.types import unwrapped

    error = unwrapped(UnsupportedQuery("no", hint="do this"))

    assert isinstance(error, DontWrapMixin)
    assert isinstance(error, UnsupportedQuery)
    assert (str(error), error.hint) == ("no", "do this")


def test_a_table_knows_its_sqlite_options() -> None:
    """Whether SQLite reuses a table's keys follows from these two options."""
    table: Any = Customer.__table__
    options = table.dialect_options["sqlite"]

    assert (options["autoincrement"], options["with_rowid"]) == (False, True)


def test_a_connection_knows_whether_it_is_in_autocommit_mode(session: Session) -> None:
    """`Connection._is_autocommit_isolation` says so, for an option of the connection or the engine."""
    usual: Any = session.connection()
    assert usual._is_autocommit_isolation() is False
    loose: Any = session.get_bind().execution_options(isolation_level="AUTOCOMMIT")  # type: ignore[union-attr]

    with loose.connect() as connection:
        assert connection._is_autocommit_isolation() is True
