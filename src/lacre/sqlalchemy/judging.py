# SPDX-License-Identifier: Apache-2.0
"""
What the candidates of a re-check are judged by: which columns, of which table, and how.

Reads no row: whoever asks for them brings the columns. Holds no value.

Leans on private names of SQLAlchemy, pinned by a test: `Mapper._equivalent_columns`,
`Comparator._parentmapper`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm.attributes import instance_state

from lacre.errors import UnsupportedQuery
from lacre.sqlalchemy.declared import row_facts, tenant_text
from lacre.sqlalchemy.searching import Term
from lacre.sqlalchemy.subjects import subject_key, subject_of_values
from lacre.sqlalchemy.types import raw_of

__all__ = ["Candidates", "Place"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What the candidates of one entity are judged by. Holds no value."""

    mapper: Any
    props: list[Any]
    subjects: list[str]  # the attributes that say whom values are about
    keys: list[Any]
    row: list[Any]
    columns: list[Any]  # after the keys: the row's id, ciphertexts, subjects, tenant
    named: bool  # whether that id is another than the primary key
    has_tenant: bool
    several: bool  # whether an index of several tokens is among those asked
    most: int

    @classmethod
    def of(cls, binding: Any, terms: list[Term]) -> "Candidates":
        comparator: Any = terms[0].asked.comparator
        mapper = comparator._parentmapper  # noqa: SLF001 - pinned by a test
        props = list(dict.fromkeys(term.asked.comparator.prop for term in terms))

        # Of the table that was asked, which the statement has for certain, and no other of them:
        # one more would change what the statement's rows are made of.
        place = Place(comparator)
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
            mapper=mapper,
            props=props,
            subjects=subjects,
            keys=keys,
            row=row,
            columns=columns,
            named=row_facts(mapper).named,
            has_tenant=tenant is not None,
            several=any(term.asked.index.several for term in terms),
            most=binding.application.guard.policy.file.search.candidates,
        )

    def beside(self, statement: Any) -> Any:
        """Return the query for whole objects that brings along what of `columns` they do not say."""
        brought = self.columns if self.named else self.columns[len(self.row) :]
        # One more than there may be, so that too many are noticed.
        return statement.add_columns(*brought).limit(self.most + 1)

    def beside_objects(self, rows: Sequence[Any]) -> list[Any]:
        """Return the values of `columns`, of each of the *rows* of such a query."""
        if self.named:
            return [row[1:] for row in rows]
        # An object's identity is the primary key of its row, whatever was assigned to it since.
        states: list[Any] = [instance_state(row[0]) for row in rows]
        return [(*state.key[1], *row[1:]) for state, row in zip(states, rows, strict=True)]

    def decide(self, binding: Any) -> None:
        """
        Decide on re-checking them, before they are read.

        Raises:
            AccessDenied: no role has the right to decrypt.
        """
        for prop in self.props:
            binding.field(prop).may_recheck(marks=not self.several)

    def true_of(self, found: Sequence[Any], binding: Any, terms: list[Term]) -> list[int]:
        """
        Return which of the candidates, each the values of `columns`, are hits in truth of all *terms*.

        Raises:
            UnsupportedQuery: there are too many.
        """
        if len(found) > self.most:
            way = "ask for more of the text" if self.several else "declare the index with bits=96"
            raise UnsupportedQuery(
                f"more than {self.most} rows are candidates for {', '.join(map(str, self.props))}",
                hint=f"narrow the query, or {way}; [search] candidates in lacre.toml bounds them",
            )
        mapper, props, first = self.mapper, self.props, len(self.row)
        tenant = binding.field(props[0]).searched_tenant()
        kept = [
            n
            for n, hit in enumerate(found)
            if not self.has_tenant or tenant_text(mapper, hit[-1]) == tenant
        ]
        for term in terms:
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
            field, true = binding.field(prop), set()
            for value in asked.values:
                held = field.recheck(
                    items, asked.index, value, question=asked.question, subjects=of_items
                )
                true |= {n for n, holds in zip(kept, held, strict=True) if holds}
            kept = sorted(true)
        return kept


class Place:
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
