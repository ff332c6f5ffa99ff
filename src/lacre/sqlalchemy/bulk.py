# SPDX-License-Identifier: Apache-2.0
"""
Encrypting for bulk statements: an INSERT or an UPDATE by primary key with a list of dictionaries.

As in the unit of work ciphertext and token are made together, what is decided is decided once
for each column and tenant, NULL and a value that is there already are what they are, and the
events follow the transaction. The caller's dictionaries stay as they are. Does not write for
statements that name their rows otherwise: those are refused (`lacre.sqlalchemy.statements`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapper, ORMExecuteState, Session

from lacre.audit.events import Written
from lacre.errors import AlreadyEncrypted, MisuseError, UnsupportedQuery
from lacre.fields.rows import row_text
from lacre.fields.writing import Writing
from lacre.sqlalchemy.combining import Combined, chunks
from lacre.sqlalchemy.compounds import Compound, compound_properties
from lacre.sqlalchemy.declared import (
    NOTHING,
    attribute_text,
    check_row_id,
    check_spelling_of,
    row_facts,
    row_of_values,
    sealed_properties,
    tenant_text,
)
from lacre.sqlalchemy.evidence import check_transaction, executed
from lacre.sqlalchemy.rechecking import is_query
from lacre.sqlalchemy.row_ids import default_of, generated, next_values
from lacre.sqlalchemy.statements import refuse_values
from lacre.sqlalchemy.subjects import subject_key, subject_of_values
from lacre.sqlalchemy.token_triggers import before_statement
from lacre.sqlalchemy.types import SealedForRow, SealedValue, raw_of
from lacre.sqlalchemy.violations import translated
from lacre.sqlalchemy.writing import index_keys

__all__ = ["Bulk", "written_in_bulk"]

_BULK = (None, "auto", "bulk")  # the strategies by which SQLAlchemy takes rows by their attributes

Row = Mapping[str, Any]


def written_in_bulk(state: ORMExecuteState) -> Any:
    """
    Execute the statement of *state* if it writes encrypted columns row by row; None if it writes none.

    Raises:
        UnsupportedQuery: it writes them in a way that knows no rows.
    """
    if is_query(state.statement):
        # What a query asks and what it would write are found in one pass (`lacre.sqlalchemy.session`).
        return None
    before_statement(state)
    mapper = state.bind_mapper if state.is_orm_statement else None
    if mapper is None or not (state.is_insert or state.is_update) or not state.parameters:
        refuse_values(state.statement, state.parameters)
        return None
    given: Any = state.parameters
    rows: Sequence[Row] = [given] if isinstance(given, Mapping) else list(given)
    bulk = Bulk(state.session, mapper, inserting=state.is_insert)
    if not bulk.concerns(rows):
        refuse_values(state.statement, state.parameters, by_key=True)
        return None
    refuse_values(state.statement, None, rows_given=True)
    if state.execution_options.get("dml_strategy") not in _BULK:
        refuse_values(state.statement, state.parameters)
    made = bulk.sealed(rows)
    try:
        with translated(state.session):
            result = state.invoke_statement(params=made[0] if isinstance(given, Mapping) else made)
    except BaseException:
        bulk.failed()
        raise
    bulk.executed()
    return result


class Bulk:
    """The rows of one statement on one mapped class."""

    def __init__(self, session: Session, mapper: Mapper[Any], *, inserting: bool) -> None:
        self._session = session
        self._mapper = mapper
        self._inserting = inserting
        self._binding = session.info["lacre"]
        self._facts = row_facts(mapper)
        self._properties = [
            (prop, prop.key, index_keys(mapper, prop)) for prop in sealed_properties(mapper)
        ]
        self._subjects = {prop: subject_key(mapper, prop) for prop, _, _ in self._properties}
        self._compounds = [Compound(prop) for prop in compound_properties(mapper)]
        self._writings: dict[Any, dict[str | None, tuple[Writing, list[str]]]] = {
            prop: {} for prop, _, _ in self._properties
        }
        self._cleared: dict[Any, tuple[Callable[[list[str]], Written], list[str]]] = {}
        self._combined = Combined(self._binding)
        self._connection: Any = None  # of the statement, once it is known
        self._in_part = False  # whether rows before the one that was refused stay

    @property
    def token_keys(self) -> frozenset[str]:
        """The attributes of index columns."""
        return frozenset(key for _, _, keys in self._properties for key in keys)

    def concerns(self, rows: Sequence[Row]) -> bool:
        """
        Whether a row has a value for an encrypted column, or gets one by default.

        Raises:
            UnsupportedQuery: a row names a column where it is the attribute that has the value.
        """
        if not self._properties:
            return False
        given: set[str] = set().union(*rows)
        for prop, key, token_keys in self._properties:
            column = prop.columns[0]
            wrong = {column.key, column.name} - {key} | {*token_keys}
            wrong |= {found.name for found in prop.token_columns}
            for name in wrong & given:
                raise UnsupportedQuery(
                    f"{self._mapper.class_.__name__} takes no value for {name!r}",
                    hint=f"give the value to {key!r}: its ciphertext and token are made of it",
                )
        for compound in self._compounds:
            names = {column.name for column in compound.prop.token_columns}
            for name in (names | {*compound.token_keys}) & given:
                raise UnsupportedQuery(
                    f"{self._mapper.class_.__name__} takes no value for {name!r}",
                    hint=f"give values to {', '.join(compound.keys)}: the token is made of them",
                )
        facts = self._facts
        if not self._inserting and (
            facts.tenant in given
            or (facts.named and facts.keys[0] in given)
            or given.intersection(filter(None, self._subjects.values())) - self._key_names()
        ):
            return True  # no row is moved away from its values
        return any(
            key in given or (self._inserting and prop.declared.default is not NOTHING)
            for prop, key, _ in self._properties
        )

    def sealed(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """
        Return what takes the place of the plaintext in *rows*, and what has to be there besides.

        Raises:
            AccessDenied, ConfigurationError, DuplicateValue, InvalidValue, MisuseError, UnsupportedQuery
        """
        connection = self._session.connection(bind_arguments={"mapper": self._mapper})
        for store in {prop.declared.store for prop, _, _ in self._properties}:
            check_transaction(self._session, connection, store)
        self._connection = connection
        check_row_id(self._mapper, connection.dialect)
        self._in_part = connection.dialect.name == "sqlite"
        if self._inserting:
            return self._inserted(connection, rows)
        if self._session.autoflush:
            self._session.flush()
        return self._updated(connection, rows)

    def executed(self) -> None:
        """Note the events: the statement was executed."""
        events = [
            writing.event(rows)
            for by_tenant in self._writings.values()
            for writing, rows in by_tenant.values()
            if rows
        ]
        events += [event_of(rows) for event_of, rows in self._cleared.values() if rows]
        if events:
            executed(self._session, self._connection, events)

    def failed(self) -> None:
        """Note the events where rows may be there all the same, for whoever commits them."""
        if self._in_part:
            self.executed()

    # INSERT

    def _inserted(self, connection: sa.Connection, rows: Sequence[Row]) -> list[dict[str, Any]]:
        made = self._known(connection, rows)
        ids, tenants = [], []
        facts, mapper = self._facts, self._mapper
        spelt = not facts.named and any(
            isinstance(column.type, sa.TypeDecorator) for column in mapper.primary_key
        )
        only = facts.keys[0] if len(facts.keys) == 1 and not spelt else None
        for row, more in zip(rows, made, strict=True):
            value = None if only is None else more.get(only) or row.get(only)
            if type(value) is UUID:
                ids.append(row_text(value))
            else:
                values = [more[key] if key in more else row.get(key) for key in facts.keys]
                if spelt:
                    check_spelling_of(mapper, values, connection.dialect)
                ids.append(row_of_values(mapper, values))
            tenants.append(None if facts.tenant is None else self._tenant({**row, **more}))
        plain: list[dict[str, Any]] = [{} for _ in rows]
        for prop, key, token_keys in self._properties:
            default = prop.declared.default
            whose = self._subjects[prop]
            if whose is not None:
                asked = [
                    (tenant, row.get(whose) if row.get(whose) is not None else more.get(whose))
                    for row, more, tenant in zip(rows, made, tenants, strict=True)
                    if (row[key] is not None if key in row else default is not NOTHING)
                ]
                self._get_ready(prop, asked)
            named = (prop, key, token_keys)
            for row, more, text, tenant, parts in zip(rows, made, ids, tenants, plain, strict=True):
                if key in row:
                    value = row[key]
                elif default is not NOTHING:
                    value = more[key] = default() if callable(default) else default
                else:
                    continue
                if value is None:
                    more.update(dict.fromkeys(token_keys))
                    continue
                subject = None
                if whose is not None:
                    subject = row.get(whose) if row.get(whose) is not None else more.get(whose)
                    subject = subject_of_values(mapper, prop, subject)
                place = (text, tenant, subject)
                self._seal(named, value, place, more)
                parts[key] = value
        for compound in self._compounds:
            for more, tenant, parts in zip(made, tenants, plain, strict=True):
                self._combined.row(
                    compound, [parts.get(key) for key in compound.keys], tenant, more
                )
        return made

    def _known(self, connection: sa.Connection, rows: Sequence[Row]) -> list[dict[str, Any]]:
        # The defaults of what is bound in the ciphertexts; SQLAlchemy would apply them too late.
        made: list[dict[str, Any]] = [{} for _ in rows]
        mapper, facts = self._mapper, self._facts
        columns: list[Any] = [*mapper.primary_key, *(facts.columns if facts.named else ())]
        keys = [str(mapper.get_property_by_column(column).key) for column in columns]
        if facts.tenant is not None:
            columns.append(mapper.column_attrs[facts.tenant].columns[0])
            keys.append(facts.tenant)
        for whose in dict.fromkeys(self._subjects.values()):
            if whose is not None and whose not in keys:
                columns.append(mapper.column_attrs[whose].columns[0])
                keys.append(whose)
        sequence = generated(mapper, connection.dialect)
        for key, column in zip(keys, columns, strict=True):
            without = [more for row, more in zip(rows, made, strict=True) if row.get(key) is None]
            if not without:
                continue
            if sequence is not None and column is sequence:
                for more, value in zip(
                    without, next_values(column, connection, len(without)), strict=True
                ):
                    more[key] = value
            elif isinstance(column.default, sa.ColumnDefault):
                for more in without:
                    more[key] = default_of(column)
        return made

    # UPDATE by primary key

    def _updated(self, connection: sa.Connection, rows: Sequence[Row]) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = [{} for _ in rows]
        given = set().union(*rows)
        properties = [named for named in self._properties if named[1] in given]
        compounds = [found for found in self._compounds if given & {*found.keys}]
        needed = {part for compound in compounds for part in compound.parts}
        read = [named for named in self._properties if named in properties or named[0] in needed]
        stored = self._stored(connection, rows, read)
        self._prefetch(stored, read)
        for prop, key, _ in properties:
            whose = self._subjects[prop]
            about = [
                (held[1], held[2][whose])
                for row in rows
                if whose is not None and row.get(key) is not None
                if (held := stored.get(self._key_text(row))) is not None
            ]
            self._get_ready(prop, about)
        for row, more in zip(rows, made, strict=True):
            key = self._key_text(row)
            held = stored.get(key)
            if held is None:
                raise MisuseError(
                    f"an UPDATE of {self._mapper.class_.__name__} names a row that is not there",
                    hint="insert it, or leave it out",
                )
            text, tenant, values = held
            self._refuse_moved(row, text, tenant, values)
            for named in properties:
                prop, key, token_keys = named
                if key not in row:
                    continue
                value = row[key]
                before, *tokens = values[prop]
                if value is None:
                    more.update(dict.fromkeys(token_keys))
                    if before is not None:
                        self._clear(prop, tenant).append(text)
                    continue
                place = (text, tenant, self._subject(prop, values))
                if before is not None and self._binding.field(prop).holds(
                    raw_of(before), value, row=text, tenant=tenant, subject=place[2]
                ):
                    # There already: byte for byte what it was, with the tokens that were made with it.
                    more[key] = SealedValue(raw_of(before))
                    more.update(zip(token_keys, tokens, strict=True))
                else:
                    self._seal(named, value, place, more)
            for compound in compounds:
                if {*compound.keys} & row.keys():
                    parts = [
                        row[part.key]
                        if part.key in row
                        else self._opened(part, values, text, tenant)
                        for part in compound.parts
                    ]
                    self._combined.row(compound, parts, tenant, more)
        return made

    def _opened(self, prop: Any, values: dict[Any, Any], row: str, tenant: str | None) -> Any:
        # The value of a part that the statement leaves alone: for the token, and for nobody.
        before = values[prop][0]
        if before is None:
            return None
        return self._binding.field(prop).reopened(
            raw_of(before), row=row, tenant=tenant, subject=self._subject(prop, values)
        )

    def _stored(
        self, connection: sa.Connection, rows: Sequence[Row], properties: Sequence[Any]
    ) -> dict[str, tuple[str, str | None, dict[Any, Any]]]:
        """
        Return id text, tenant and the present values of the rows, by the text of their primary key.

        Whom values are about is among them, by the name of the attribute.
        """
        mapper, facts = self._mapper, self._facts
        keys: list[Any] = list(mapper.primary_key)
        whose: list[Any] = list(facts.columns) if facts.named else []
        if facts.tenant is not None:
            whose.append(mapper.column_attrs[facts.tenant].columns[0])
        subjects = [key for key in dict.fromkeys(self._subjects.values()) if key is not None]
        whose += [mapper.column_attrs[key].columns[0] for key in subjects]
        columns = [
            column for prop, _, _ in properties for column in (prop.columns[0], *prop.token_columns)
        ]
        query = sa.select(*keys, *whose, *columns).select_from(mapper.persist_selectable)
        if any(prop in compound.parts for prop in properties for compound in self._compounds):
            # Nobody else writes a part until the token is there that is made of all.
            query = query.order_by(*keys).with_for_update(key_share=True)
        found = {}
        identities = [self._identity(row) for row in rows]
        for chunk in chunks(identities):
            condition = (
                keys[0].in_([only for (only,) in chunk])
                if len(keys) == 1
                else sa.tuple_(*keys).in_(chunk)
            )
            for hit in connection.execute(query.where(condition)):
                parts = iter(hit)
                identity = [next(parts) for _ in keys]
                named = [next(parts)] if facts.named else identity
                tenant = None if facts.tenant is None else tenant_text(mapper, next(parts))
                about = {key: next(parts) for key in subjects}
                values: dict[Any, Any] = about | {
                    prop: [next(parts) for _ in (prop.columns[0], *prop.token_columns)]
                    for prop, _, _ in properties
                }
                text = row_of_values(mapper, identity, columns=keys)
                found[text] = (row_of_values(mapper, named), tenant, values)
        return found

    def _prefetch(
        self, stored: dict[str, tuple[str, str | None, dict[Any, Any]]], properties: Sequence[Any]
    ) -> None:
        # One query for the keys that the comparison with what is there needs.
        for prop, _, _ in properties:
            by_tenant: dict[str | None, list[Any]] = {}
            for _, tenant, values in stored.values():
                held = values[prop][0]
                if held is not None:
                    by_tenant.setdefault(tenant, []).append(raw_of(held))
            for tenant, raw in by_tenant.items():
                self._binding.field(prop).prefetch(raw, tenant=tenant)

    def _identity(self, row: Row) -> tuple[Any, ...]:
        mapper = self._mapper
        keys = [str(mapper.get_property_by_column(column).key) for column in mapper.primary_key]
        if any(row.get(key) is None for key in keys):
            raise MisuseError(
                f"an UPDATE of {mapper.class_.__name__} by primary key leaves the key out",
                hint=f"give every row its {', '.join(keys)}",
            )
        return tuple(row[key] for key in keys)

    def _key_text(self, row: Row) -> str:
        return row_of_values(
            self._mapper, self._identity(row), columns=tuple(self._mapper.primary_key)
        )

    def _key_names(self) -> set[str]:
        mapper = self._mapper
        return {str(mapper.get_property_by_column(column).key) for column in mapper.primary_key}

    def _subject(self, prop: Any, held: Row) -> str | None:
        key = self._subjects[prop]
        return None if key is None else subject_of_values(self._mapper, prop, held.get(key))

    def _get_ready(self, prop: Any, asked: Sequence[tuple[str | None, Any]]) -> None:
        # Of many subjects the keys that are missing are made together, not row by row.
        by_tenant: dict[str | None, dict[str, None]] = {}
        for tenant, subject in asked:
            text = subject_of_values(self._mapper, prop, subject)
            if text is not None:
                by_tenant.setdefault(tenant, {})[text] = None
        for tenant, subjects in by_tenant.items():
            (self._writings[prop].get(tenant) or self._writing(prop, tenant))[0].get_ready(subjects)

    def _refuse_moved(self, row: Row, text: str, tenant: str | None, held: Row) -> None:
        facts, mapper = self._facts, self._mapper
        another = any(
            (None if row[key] is None else attribute_text(mapper, key, row[key]))
            != (None if held[key] is None else attribute_text(mapper, key, held[key]))
            for key in filter(None, self._subjects.values())
            if key in row
        )
        if (
            another
            or (facts.tenant in row and self._tenant(row) != tenant)
            or (
                facts.named
                and facts.keys[0] in row
                and row_of_values(self._mapper, [row[facts.keys[0]]]) != text
            )
        ):
            raise UnsupportedQuery(
                f"a bulk UPDATE does not move a row of {self._mapper.class_.__name__} to another tenant, row id or subject",
                hint="load the object, assign and flush: every value of it is encrypted anew",
            )

    def _clear(self, prop: Any, tenant: str | None) -> list[str]:
        found = self._cleared.get((prop, tenant))
        if found is None:
            event_of = self._binding.field(prop).clearing(tenant=tenant)
            found = self._cleared[prop, tenant] = (event_of, [])
        return found[1]

    # Both

    def _tenant(self, row: Row) -> str | None:
        key = self._facts.tenant
        return None if key is None else tenant_text(self._mapper, row.get(key))

    def _seal(
        self,
        named: tuple[Any, str, tuple[str, ...]],
        value: Any,
        place: tuple[str, str | None, str | None],
        more: dict[str, Any],
    ) -> None:
        prop, key, token_keys = named
        row, tenant, subject = place
        writing, rows = self._writings[prop].get(tenant) or self._writing(prop, tenant)
        if type(value) is SealedValue:
            raise AlreadyEncrypted(
                f"the value given to {writing} is encrypted already",
                hint="pass the plaintext; a ciphertext opens in its own row only",
            )
        sealed, _, tokens = writing.stored(row, value, subject)
        # What an UPDATE is given, SQLAlchemy hands to the objects of these rows.
        more[key] = (SealedForRow if self._inserting else SealedValue)(sealed)
        rows.append(row if subject is None else writing.name(row, subject))
        more.update(zip(token_keys, tokens, strict=True))

    def _writing(self, prop: Any, tenant: str | None) -> tuple[Writing, list[str]]:
        writing = self._binding.field(prop).writing(tenant=tenant)
        found = self._writings[prop][tenant] = (writing, [])
        return found
