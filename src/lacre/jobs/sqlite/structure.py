# SPDX-License-Identifier: Apache-2.0
"""
What else in a schema speaks of the columns to protect, and what becomes of it.

Implements ``spec/protect-sqlite.md``, section "What speaks of the column". An index on one
protected column becomes one on its blind index; whatever would have to *compute* with the
plaintext inside the database is refused by name. Errs towards refusing: a word that may be the
column's name counts as its mention.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lacre.fields.checks import is_ciphertext, is_together
from lacre.jobs.columns import BIDX, BIDX2, RID
from lacre.jobs.sqlite.database import Catalogue
from lacre.jobs.sqlite.schema import (
    ColumnText,
    ConstraintText,
    Token,
    edited,
    identifiers,
    narrowed_trigger,
    quoted,
    same_name,
    tokens,
)

__all__ = ["IndexChange", "Structure", "holds_values", "protected_sql", "structure_of"]

Refuse = Callable[[str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexChange:
    """An index after the switch-over: *sql* makes it, None leaves it out."""

    name: str
    sql: str | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """
    The schema's part of a plan: protected columns that are unique, constraints of the table to
    leave out, indexes to replace, and triggers that must not see the job's own columns.
    """

    unique: frozenset[str]
    drop: tuple[ConstraintText, ...]
    indexes: tuple[IndexChange, ...]
    narrowed: tuple[tuple[str, str], ...]


def structure_of(
    catalogue: Catalogue,
    columns: Mapping[str, str | None],
    refuse: Refuse,
    notice: Callable[[str], None],
) -> Structure:
    """
    Examine everything that may mention *columns* (name to normaliser).

    Args:
        refuse: called with (reason, what to do).
    """
    for name in columns:
        _definition(catalogue, name, refuse, notice)
    _other_definitions(catalogue, list(columns), refuse)
    _foreign_keys(catalogue, list(columns), refuse)
    drop = tuple(_droppable(catalogue, list(columns), refuse))
    unique, indexes = _indexes(catalogue, columns, refuse)
    narrowed = tuple(_programs(catalogue, list(columns), refuse))
    return Structure(unique=frozenset(unique), drop=drop, indexes=tuple(indexes), narrowed=narrowed)


def protected_sql(
    catalogue: Catalogue,
    columns: Mapping[str, str | None],
    drop: tuple[ConstraintText, ...],
    *,
    unique: Collection[str],
    row_id: bool,
) -> str:
    """Return the table's definition after the switch-over. It refuses plaintext by itself."""

    def check(name: str, condition: str) -> str:
        # The name that models give it: a migration knows the constraint by it.
        return f"CONSTRAINT {quoted(f'ck_{catalogue.table}_{name}_lacre')} CHECK ({condition})"

    replace = {}
    for name in columns:
        not_null = " NOT NULL" if catalogue.text.column(name).not_null else ""
        replace[name] = f"{quoted(name)} BLOB{not_null} {check(name, holds_values(name))}"
    append = []
    for name, normaliser in columns.items():
        if normaliser is None:
            continue
        tokens = [name + BIDX, *([name + BIDX2] if name in unique else [])]
        # With the last of them, because it speaks of all.
        append += [f"{quoted(token)} BLOB" for token in tokens[:-1]]
        together = is_together(quoted(name), *map(quoted, tokens))
        append.append(f"{quoted(tokens[-1])} BLOB {check(tokens[-1], together)}")
    if row_id:
        # A default, so that a writer who does not know of lacre can still add a row. It has to
        # be unique, not secret.
        append.append(f"{quoted(RID)} TEXT NOT NULL DEFAULT (lower(hex(randomblob(16))))")
    return edited(catalogue.text, name=catalogue.table, replace=replace, drop=drop, append=append)


def holds_values(name: str, tokens: Sequence[str] = ()) -> str:
    """Return the SQL that asks whether a row of a protected column passes the CHECKs that the table got."""
    value = is_ciphertext(quoted(name))
    return f"({value}) AND {is_together(quoted(name), *map(quoted, tokens))}" if tokens else value


def _definition(
    catalogue: Catalogue, name: str, refuse: Refuse, notice: Callable[[str], None]
) -> None:
    column: ColumnText = catalogue.text.column(name)
    if catalogue.spelt(name) in catalogue.key:
        refuse(
            f"{name} is part of the primary key",
            "give the table another key first: every index and foreign key shows a primary key in the clear",
        )
    for constraint in column.constraints:
        if constraint.kind == "CHECK":
            refuse(
                f"{name} has a CHECK constraint, which cannot read ciphertext",
                "check the value in the application, then drop the constraint",
            )
        elif constraint.kind == "REFERENCES":
            refuse(
                f"{name} is a foreign key",
                "refer to the other table by a key that is not personal data",
            )
        elif constraint.kind == "GENERATED":
            refuse(
                f"{name} is a generated column",
                "protect the columns it is computed from, and compute it in the application",
            )
        elif constraint.kind == "COLLATE":
            notice(
                f"{name}: its collation ends with the plaintext; the normaliser decides what counts as equal"
            )
        elif constraint.kind == "DEFAULT" and constraint.tokens[-1].keyword != "NULL":
            notice(
                f"{name}: its default ends with the plaintext; the application has to set the value"
            )
        elif constraint.kind == "UNIQUE" and constraint.says("ON", "CONFLICT"):
            refuse(
                f"{name} is UNIQUE with ON CONFLICT, which an index cannot say",
                "drop the ON CONFLICT clause first",
            )


def _other_definitions(catalogue: Catalogue, names: list[str], refuse: Refuse) -> None:
    for column in catalogue.text.columns:
        for constraint in column.constraints:
            for name in names:
                if (
                    not same_name(column.name, name)
                    and constraint.kind in ("CHECK", "GENERATED", "DEFAULT")
                    and constraint.mentions(name)
                ):
                    refuse(
                        f"the {constraint.kind} clause of {column.name} mentions {name}",
                        "the database cannot compute with ciphertext: move it to the application",
                    )
    for constraint in catalogue.text.constraints:
        for name in names:
            if constraint.kind in ("CHECK", "FOREIGN") and constraint.mentions(name):
                kind = "CHECK constraint" if constraint.kind == "CHECK" else "FOREIGN KEY"
                refuse(
                    f"a {kind} of the table mentions {name}",
                    "the database cannot compute with ciphertext: drop it first",
                )


def _foreign_keys(catalogue: Catalogue, names: list[str], refuse: Refuse) -> None:
    run = catalogue.connection.execute
    for (other,) in run(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
    ).fetchall():
        for row in run(f"PRAGMA foreign_key_list({quoted(other)})").fetchall():
            if same_name(row[2], catalogue.table) and row[4] is not None:
                for name in names:
                    if same_name(row[4], name):
                        refuse(
                            f"a foreign key of {other} refers to {name}",
                            "refer to a key that is not personal data",
                        )


def _droppable(catalogue: Catalogue, names: list[str], refuse: Refuse) -> Iterator[ConstraintText]:
    for constraint in catalogue.text.constraints:
        if constraint.kind != "UNIQUE":
            continue
        over = constraint.columns()
        mentioned = [name for name in names if any(same_name(name, column) for column in over)]
        if not mentioned:
            continue
        if len(over) > 1:
            refuse(
                f"a UNIQUE constraint over {', '.join(over)} mentions {mentioned[0]}",
                "a blind index is over one column: drop the constraint first",
            )
        elif constraint.says("ON", "CONFLICT"):
            refuse(
                f"{mentioned[0]} is UNIQUE with ON CONFLICT, which an index cannot say",
                "drop the ON CONFLICT clause first",
            )
        else:
            yield constraint


def _indexes(
    catalogue: Catalogue, columns: Mapping[str, str | None], refuse: Refuse
) -> tuple[set[str], list[IndexChange]]:
    run = catalogue.connection.execute
    unique: set[str] = set()
    changes: list[IndexChange] = []
    indexed: set[str] = set()
    taken = {name.lower() for (name,) in run("SELECT name FROM sqlite_master")}
    sources = {name: sql for kind, name, sql in catalogue.objects() if kind == "index"}
    for index, is_unique, origin, partial in catalogue.indexes():
        keys = [column for column, _ in catalogue.index_columns(index)]
        words = list(identifiers(_after_table(sources.get(index, ""))))
        mentioned = [
            name for name in columns if name in keys or any(same_name(name, word) for word in words)
        ]
        if not mentioned or origin == "pk":
            continue
        name = mentioned[0]
        if len(keys) > 1 or partial or keys != [name]:
            if origin == "c":
                kind = "partial" if partial else "multi-column" if len(keys) > 1 else "expression"
                refuse(
                    f"the {kind} index {index} mentions {name}",
                    "drop it first: a blind index is over the whole of one column",
                )
            continue
        if is_unique:
            unique.add(name)
            if columns[name] is None:
                refuse(
                    f"{name} is unique ({index if origin == 'c' else 'UNIQUE'}) and has no normaliser",
                    f"name one, for example {name}:CLASS:exact",
                )
                continue
        new_name = index if origin == "c" else f"{catalogue.table}_{name}{BIDX}"
        if columns[name] is None:
            changes.append(
                IndexChange(
                    name=index,
                    sql=None,
                    sentence=f"drop the index {index}: {name} has no normaliser, so it cannot be searched",
                )
            )
            continue
        if name in indexed and origin != "c":
            new_name = f"{new_name}_{len(indexed)}"
        indexed.add(name)
        if origin != "c" and new_name.lower() in taken:
            refuse(f"an index {new_name} exists already", "rename it: lacre needs the name")
        changes.append(_index(catalogue.table, new_name, name + BIDX, unique=is_unique))
        if is_unique:
            second = f"{new_name}2"
            if second.lower() in taken:
                refuse(f"an index {second} exists already", "rename it: lacre needs the name")
            changes.append(_index(catalogue.table, second, name + BIDX2, unique=True))
    for name, normaliser in columns.items():
        if normaliser is not None and name not in indexed:
            new_name = f"{catalogue.table}_{name}{BIDX}"
            if new_name.lower() in taken:
                refuse(f"an index {new_name} exists already", "rename it: lacre needs the name")
            changes.append(_index(catalogue.table, new_name, name + BIDX, unique=False))
    return unique, changes


def _index(table: str, index: str, column: str, *, unique: bool) -> IndexChange:
    sql = f"CREATE {'UNIQUE ' if unique else ''}INDEX {quoted(index)} ON {quoted(table)} ({quoted(column)})"
    return IndexChange(
        name=index,
        sql=sql,
        sentence=f"make the {'unique ' if unique else ''}index {index} over {column}",
    )


def _after_table(sql: str) -> list[Token]:
    """The tokens of a CREATE INDEX after the table's name."""
    found = list(tokens(sql))
    at = next((at for at, token in enumerate(found) if token.keyword == "ON"), len(found))
    return found[at + 2 :]


def _programs(catalogue: Catalogue, names: list[str], refuse: Refuse) -> Iterator[tuple[str, str]]:
    """Refuse triggers and views that need the plaintext; yield triggers to narrow."""
    run = catalogue.connection.execute
    for kind, program, owner, sql in run(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE type IN ('trigger', 'view')"
    ).fetchall():
        found = list(tokens(sql))
        own = kind == "trigger" and same_name(owner, catalogue.table)
        tables = [
            at
            for at, token in enumerate(found)
            if token.name is not None and same_name(token.name, catalogue.table)
        ]
        if not own and not tables:
            continue
        words = list(identifiers(found))
        mentioned = [name for name in names if any(same_name(name, word) for word in words)]
        if mentioned:
            refuse(
                f"the {kind} {program} mentions {', '.join(mentioned)}",
                "the database cannot compute with ciphertext: move it to the application",
            )
        elif len(tables) > (1 if own else 0) and _selects_all(found):
            refuse(
                f"the {kind} {program} selects every column of {catalogue.table}",
                "name the columns it needs",
            )
        elif any(
            found[at - 1].keyword == "INTO" and found[at + 1].text != "("
            for at in tables
            if 0 < at < len(found) - 1
        ):
            refuse(
                f"the {kind} {program} inserts into {catalogue.table} without naming columns",
                "name them: columns are added",
            )
        elif own:
            narrowed = narrowed_trigger(sql, catalogue.names)
            if narrowed != sql:
                yield program, narrowed


def _selects_all(found: list[Token]) -> bool:
    return any(
        token.text == "*"
        and (
            found[at - 1].keyword in ("SELECT", "DISTINCT", "ALL")
            or found[at - 1].text in (",", ".")
        )
        for at, token in enumerate(found)
        if at
    )
