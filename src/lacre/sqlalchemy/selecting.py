# SPDX-License-Identifier: Apache-2.0
"""
``select(Model.attribute)``: an encrypted column among the columns of a query.

The database is asked for the ciphertext and for what identifies the row; what comes out is a
look, decided and recorded for each row that is fetched. Wherever else the database would have to
read the value (ordering, grouping, functions, subqueries), the element compiles to an error.

Leans on names of SQLAlchemy that are not public, each pinned by a test: the annotation ``bundle``,
`ColumnElement._make_proxy`, `Select._raw_columns`, `_setup_joins`, `_distinct`, `_distinct_on`,
`_textual_label_reference`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Bundle, FromStatement
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnElement, _textual_label_reference

from lacre.errors import MisuseError, UnsupportedQuery
from lacre.sqlalchemy.declared import row_facts, row_of_values, sealed_properties, tenant_text
from lacre.sqlalchemy.subjects import subject_key, subject_of_values
from lacre.sqlalchemy.types import EncryptedType, noting, raw_of, unwrapped

__all__ = ["NotInSQL", "Selected", "check_selected"]


_SELECTING = (sa.Select, FromStatement)  # a tuple: the union would be made anew for every element


class NotInSQL(ColumnElement[Any]):
    """An encrypted column where SQL would have to read it. Compiles to an error."""

    __visit_name__ = "lacre_not_in_sql"
    inherit_cache = False
    type = sa.types.NULLTYPE

    def __init__(self, prop: Any, selected: "Selected") -> None:
        self.prop = prop
        self.selected = selected

    @property
    def _from_objects(self) -> list[Any]:
        return [self.prop.columns[0].table]

    def _gen_cache_key(self, anon_map: Any, bindparams: Any) -> Any:
        return (NotInSQL, self.selected._gen_cache_key(anon_map, bindparams))  # noqa: SLF001

    def label(self, name: str | None) -> Any:
        """Return the column under another name in the result."""
        renamed: Any = self.selected._clone()  # type: ignore[no-untyped-call] # noqa: SLF001
        renamed.name = name
        return renamed.__clause_element__()

    def _make_proxy(self, *_: Any, **__: Any) -> Any:
        raise _nested(self.prop)


@compiles(NotInSQL)
def _refuse(element: Any, compiler: Any, **_: Any) -> str:
    raise unwrapped(
        UnsupportedQuery(
            f"{element.prop} is encrypted: the database cannot order, group or compute by it",
            hint="select the attribute or the whole object, and order or compute in the application",
        )
    )


class Selected(Bundle[Any]):
    """The columns that a look at an attribute needs: ciphertext, row id, and tenant where the row names one."""

    inherit_cache = True

    def __init__(self, comparator: Any) -> None:
        self.prop = prop = comparator.prop
        self.mapped_class = mapper = comparator._parentmapper.mapper  # noqa: SLF001 - pinned by a test
        self.facts = facts = row_facts(mapper)
        columns = [*facts.columns]
        keys = [*facts.keys]
        if facts.tenant is not None:
            columns.append(mapper.column_attrs[facts.tenant].columns[0])
            keys.append(facts.tenant)
        subject = subject_key(mapper, prop)
        if subject is not None:
            columns.append(mapper.column_attrs[subject].columns[0])
            keys.append(subject)
        super().__init__(
            prop.key,
            comparator.mapped(prop.columns[0], prop.key),
            *(comparator.mapped(*found) for found in zip(columns, keys, strict=True)),
        )

    def __clause_element__(self) -> Any:
        usual: Any = super().__clause_element__()  # type: ignore[no-untyped-call]
        element: Any = NotInSQL(self.prop, self)
        return element._annotate(dict(usual._annotations))._set_propagate_attrs(  # noqa: SLF001
            usual._propagate_attrs  # noqa: SLF001
        )

    def create_row_processor(
        self, query: Any, procs: Sequence[Callable[[Any], Any]], labels: Sequence[str]
    ) -> Callable[[Any], Any]:
        """Return what makes a look of a row."""
        noted = noting.get()
        if noted is None:
            raise unwrapped(
                MisuseError(
                    "an encrypted column is selected only in a session of lacre",
                    hint="Session = lacre.sqlalchemy(sessionmaker(engine))",
                )
            )
        field, mapper = noted.binding.field(self.prop), self.mapped_class
        held, prop, whose = procs[0], self.prop, subject_of_values
        ids = procs[1 : 1 + len(self.facts.keys)]
        rest = iter(procs[1 + len(self.facts.keys) :])
        tenant = next(rest) if self.facts.tenant is not None else None
        subject = next(rest, None)

        def look(row: Any) -> Any:
            sealed = held(row)
            if sealed is None:
                return None
            of_row = None if tenant is None else tenant_text(mapper, tenant(row))
            now = noting.get()
            if now is not None and now.keys:
                # The cells of the whole chunk are there; none of it was looked at yet.
                now.resolve()
            return field.look_at_stored(
                raw_of(sealed),
                row=row_of_values(mapper, [found(row) for found in ids]),
                tenant=of_row,
                subject=None if subject is None else whose(mapper, prop, subject(row)),
            )

        return look


def check_selected(statement: Any, element: Any) -> None:
    """
    Raise if *element*, part of *statement* or all of it, selects an encrypted column in vain.

    Raises:
        UnsupportedQuery: in a subquery or a set operation, with DISTINCT, or by name in ORDER BY.
    """
    if isinstance(element, _textual_label_reference):
        _check_name(statement, element)
    if not isinstance(element, _SELECTING):
        return
    found = [prop for column in element._raw_columns for prop in _selected_in(column)]  # noqa: SLF001
    if not found:
        return
    if element is not statement:
        raise _nested(found[0])
    if isinstance(element, FromStatement):
        raise UnsupportedQuery(
            f"{found[0]} is encrypted and is not selected from a statement of somebody else's",
            hint="select the whole object from it, and look at the attribute",
        )
    if element._distinct or element._distinct_on:  # noqa: SLF001
        raise UnsupportedQuery(
            f"{found[0]} is encrypted: equal values have different ciphertexts, which DISTINCT keeps apart",
            hint="select without DISTINCT and take the set in the application",
        )


def _check_name(statement: Any, reference: Any) -> None:
    # order_by("email"): a name in the place of an expression, which SQLAlchemy finds the column of.
    name = reference.element.split()[0]
    for column in getattr(statement, "_raw_columns", ()):
        found = {prop.key: prop for prop in _selected_in(column)}
        entity = column._annotations.get("parententity")  # noqa: SLF001
        if entity is not None and column.is_selectable:
            found |= {prop.columns[0].key: prop for prop in sealed_properties(entity.mapper)}
        if name in found:
            raise UnsupportedQuery(
                f"{found[name]} is encrypted: the database cannot order or group by it",
                hint="order in the application",
            )
    # Or a column of any table that the statement is from.
    tables = [found for found in visitors.iterate(statement) if isinstance(found, sa.Table)]
    for target, *_ in getattr(statement, "_setup_joins", ()):
        # A relationship that is joined has its tables in its mapper.
        related = getattr(getattr(target, "property", None), "mapper", None)
        tables += () if related is None else related.tables
    for table in tables:
        column = table.columns.get(name)
        if column is not None and isinstance(column.type, EncryptedType):
            raise UnsupportedQuery(
                f"{column} is encrypted: the database cannot order or group by it",
                hint="order in the application; a plain column of that name is named as an attribute",
            )


def _selected_in(column: Any) -> list[Any]:
    if isinstance(column, NotInSQL):
        return [column.prop]
    bundle = column._annotations.get("bundle")  # noqa: SLF001
    return [] if bundle is None else [prop for part in bundle.exprs for prop in _selected_in(part)]


def _nested(prop: Any) -> UnsupportedQuery:
    return unwrapped(  # type: ignore[return-value]
        UnsupportedQuery(
            f"{prop} is encrypted and is not selected in a subquery or a set operation",
            hint="select the primary key there, and the attribute in the outer query",
        )
    )
