# SPDX-License-Identifier: Apache-2.0
"""
The statements of a job: companions and trigger at its start, the columns' exchange at its end.

Implements ``spec/protect-postgresql.md``, sections "Prepare" and "Switch over". Makes SQL of quoted
names and of what PostgreSQL itself says of a definition; runs nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from lacre.fields.checks import is_ciphertext, is_together
from lacre.jobs.columns import COMPANION, FORM, RID, PlannedColumn
from lacre.jobs.ledger import Objects
from lacre.jobs.postgresql.catalogue import UNMARK, UNMARK_NEW, Catalogue, Column
from lacre.jobs.postgresql.connection import cut, literal, qualified, quoted, verbatim
from lacre.jobs.postgresql.indexes import part_name
from lacre.jobs.postgresql.programs import Program
from lacre.jobs.postgresql.structure import Index

__all__ = [
    "check_names",
    "column_record",
    "companions_sql",
    "exchange_sql",
    "final_definitions",
    "function_of",
    "not_null_name",
    "prepared_definitions",
    "programs_sql",
    "restored_sql",
    "taken_back_sql",
    "unmarking_sql",
]


def column_record(column: Column) -> dict[str, Any]:
    """What `unprotect` has to bring back of *column*, in JSON's types."""
    return {
        "name": column.name,
        "declared": column.declared,
        "collation": column.collation,
        "default": column.default,
        "not_null": column.not_null,
        "comment": column.comment,
        "statistics": column.statistics,
        "privileges": [list(privilege) for privilege in column.privileges],
    }


def companions_sql(
    catalogue: Catalogue,
    targets: Sequence[tuple[str, str]],
    checked: Sequence[PlannedColumn],
    *,
    adds_row_id: bool,
) -> list[str]:
    """
    Return what adds the companions: nullable, without default, so that nothing is rewritten.

    Args:
        targets: name and type of each.
        checked: those whose companions are ciphertext, and get their CHECKs, not valid yet.
    """
    clauses = [f"ADD COLUMN {quoted(name)} {kind}" for name, kind in targets]
    clauses.append(f"ADD COLUMN {FORM} pg_catalog.int2")
    if adds_row_id:
        clauses.append(f"ADD COLUMN {RID} pg_catalog.uuid")
    for column in checked:
        companion = quoted(column.companion)
        conditions = [is_ciphertext(companion, dialect="postgresql")]
        if column.token_names:
            conditions.append(is_together(companion, *map(quoted, column.token_names)))
        clauses += [
            _check(name, condition)
            for name, condition in zip(
                check_names(catalogue.table, column), conditions, strict=True
            )
        ]
    statements = [f"ALTER TABLE {catalogue.sql} {', '.join(clauses)}"]
    if adds_row_id:
        # For rows to come only. It has to be unique, not secret.
        statements.append(
            f"ALTER TABLE {catalogue.sql} ALTER COLUMN {RID} SET DEFAULT pg_catalog.gen_random_uuid()"
        )
    return statements


def check_names(table: str, column: PlannedColumn) -> list[str]:
    """
    Return the names of the CHECKs on a protected column: of its shape, and of its index.

    Those that models give them: a migration knows a constraint by its name.
    """
    names = (column.name, *column.token_names[-1:])
    return [cut(f"ck_{table}_{name}_lacre") for name in names]


def _check(name: str, condition: str) -> str:
    return f"ADD CONSTRAINT {quoted(name)} CHECK ({condition}) NOT VALID"


def function_of(catalogue: Catalogue) -> str:
    """Return the unmarking function's name, qualified."""
    return qualified(catalogue.schema, cut(f"{catalogue.table}_lacre_form"))


def unmarking_sql(
    catalogue: Catalogue,
    columns: Sequence[PlannedColumn],
    targets: Iterable[str],
    key: Sequence[str],
) -> list[str]:
    """
    Return what makes the trigger that takes marker and companions off a row they no longer fit.

    A writer who knows of lacre gives a changed value a new companion in the same statement, and
    no two ciphertexts are ever equal. So a value that changed beside an unchanged companion was
    written by one who does not; so was a changed row id, to which the companions are bound.
    """
    moved = _changed("record_image_ne", key)
    stale = []
    for column in columns:
        kept = _changed("record_image_eq", [column.companion])
        changed = _changed("record_image_ne", [column.name])
        there = f"NEW.{quoted(column.companion)} IS NOT NULL"
        stale.append(f"({kept} AND ({changed} OR ({there} AND {moved})))")
    targets = list(targets)
    cleared = " ".join(f"NEW.{quoted(name)} := NULL;" for name in (FORM, *targets))
    # There is nothing to compare an inserted row with. One copied out of the table and put back, under
    # another row id or with another value, brings marker and companions along: filled anew, always.
    brought = " OR ".join(f"NEW.{quoted(name)} IS NOT NULL" for name in (FORM, *targets))
    function = function_of(catalogue)
    body = f"BEGIN {cleared} RETURN NEW; END".replace("%%", "%")  # `literal` doubles it itself
    # Invoker's rights, and a search_path of its own: whoever writes to the table runs this.
    return [
        (
            f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER "
            f"SET search_path = pg_catalog, pg_temp AS {literal(body)}"
        ),
        (
            f"CREATE TRIGGER {quoted(UNMARK)} BEFORE UPDATE ON {catalogue.sql} FOR EACH ROW "
            f"WHEN (NEW.{FORM} IS NOT NULL AND ({' OR '.join(stale)})) EXECUTE FUNCTION {function}()"
        ),
        (
            f"CREATE TRIGGER {quoted(UNMARK_NEW)} BEFORE INSERT ON {catalogue.sql} FOR EACH ROW "
            f"WHEN ({brought}) EXECUTE FUNCTION {function}()"
        ),
        # Also for a subscriber's worker, and whoever sets session_replication_role.
        *(
            f"ALTER TABLE {catalogue.sql} ENABLE ALWAYS TRIGGER {quoted(name)}"
            for name in (UNMARK, UNMARK_NEW)
        ),
    ]


def _changed(function: str, names: Sequence[str]) -> str:
    # Byte by byte: a type's own `=` takes 1.0 for 1.00, and 'A' for 'a' in citext.
    new = ", ".join(f"NEW.{quoted(name)}" for name in names)
    old = ", ".join(f"OLD.{quoted(name)}" for name in names)
    return f"pg_catalog.{function}(ROW({new}), ROW({old}))"


def programs_sql(catalogue: Catalogue, programs: Sequence[Program], *, narrowed: bool) -> list[str]:
    """Return what defines *programs* anew: so that the job does not fire them, or as they were."""
    statements = []
    for program in programs:
        if narrowed and program.narrowed == program.definition:
            continue
        statements.append(f"DROP TRIGGER IF EXISTS {quoted(program.name)} ON {catalogue.sql}")
        statements.append(verbatim(program.narrowed if narrowed else program.definition))
        statements += program.after(catalogue.sql)
    return statements


def taken_back_sql(
    catalogue: Catalogue,
    targets: Sequence[str],
    programs: Sequence[Program],
    *,
    adds_row_id: bool,
) -> list[str]:
    """Return what takes away all that `companions_sql`, `unmarking_sql` and a fill have added."""
    table = catalogue.sql
    gone = [*targets, FORM, *([RID] if adds_row_id else [])]
    # Indexes and CHECKs over a column go with it.
    drops = ", ".join(f"DROP COLUMN {quoted(name)}" for name in gone)
    return [
        f"DROP TRIGGER {quoted(UNMARK)} ON {table}",
        f"DROP TRIGGER {quoted(UNMARK_NEW)} ON {table}",
        f"DROP FUNCTION {function_of(catalogue)}()",
        f"ALTER TABLE {table} {drops}",
        *programs_sql(catalogue, programs, narrowed=False),
    ]


def exchange_sql(
    catalogue: Catalogue,
    columns: Sequence[PlannedColumn],
    *,
    direction: str,
    indexes: Sequence[tuple[Index, str]],
    programs: Sequence[Program],
    row_id: str = "",
) -> list[str]:
    """
    Return what puts the companions in their columns' place. No statement scans or rewrites.

    Args:
        indexes: those to name, and their names until now.
        row_id: ``keep``, and make it NOT NULL; ``drop``; nothing.
    """
    table = catalogue.sql
    statements = [
        f"DROP TRIGGER {quoted(UNMARK)} ON {table}",
        f"DROP TRIGGER {quoted(UNMARK_NEW)} ON {table}",
        f"DROP FUNCTION {function_of(catalogue)}()",
        *(f"DROP TRIGGER {quoted(program.name)} ON {table}" for program in programs),
    ]
    drops = [f"DROP COLUMN {quoted(column.name)}" for column in columns]
    drops.append(f"DROP COLUMN {FORM}")
    if direction == "unprotect":
        drops += [
            f"DROP COLUMN IF EXISTS {quoted(name)}"
            for column in columns
            for name in column.token_names
        ]
        if row_id == "drop":
            drops.append(f"DROP COLUMN {RID}")
    statements.append(f"ALTER TABLE {table} {', '.join(drops)}")
    statements += [
        f"ALTER TABLE {table} RENAME COLUMN {quoted(column.name + COMPANION)} TO {quoted(column.name)}"
        for column in columns
    ]
    wanted = [column.name for column in columns if column.not_null]
    if row_id == "keep":
        wanted.append(RID)
    statements += [
        f"ALTER TABLE {table} {_check(not_null_name(name), f'{quoted(name)} IS NOT NULL')}"
        for name in wanted
    ]
    for index, made in indexes:
        statements += _named(catalogue, index, made)
    statements += [
        sql for program in programs for sql in (verbatim(program.definition), *program.after(table))
    ]
    return statements


def not_null_name(name: str) -> str:
    """Return the name of the CHECK that stands in for NOT NULL for a moment."""
    return cut(f"{name}_lacre_null")


def _named(catalogue: Catalogue, index: Index, made: str) -> list[str]:
    schema = catalogue.schema
    if index.constraint:
        statements = [
            f"ALTER TABLE {catalogue.sql} ADD CONSTRAINT {quoted(index.name)} UNIQUE USING INDEX {quoted(made)} {index.timing}"
        ]
    else:
        statements = [f"ALTER INDEX {qualified(schema, made)} RENAME TO {quoted(index.name)}"]
    # Of a partition that was dropped or detached meanwhile, there is nothing to name.
    present = {(leaf.schema, leaf.name) for leaf in catalogue.parts()}
    statements += [
        f"ALTER INDEX {qualified(part_schema, part_name(table, index))} RENAME TO {quoted(name)}"
        for part_schema, table, name in index.parts
        if (part_schema, table) in present
    ]
    if index.comment is not None:
        statements.append(
            f"COMMENT ON INDEX {qualified(schema, index.name)} IS {literal(index.comment)}"
        )
    return statements


def restored_sql(
    catalogue: Catalogue,
    records: Iterable[Mapping[str, Any]],
    *,
    indexed: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[str]:
    """
    Return what a column had beside its values: of a protected one, comment and privileges.

    Args:
        indexed: the columns of their blind indexes, which get the privileges too.
    """
    table, statements = catalogue.sql, []
    for record in records:
        name = quoted(record["name"])
        if record.get("default") is not None:
            statements.append(
                f"ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT {verbatim(record['default'])}"
            )
        if record.get("statistics", -1) >= 0:
            statements.append(
                f"ALTER TABLE {table} ALTER COLUMN {name} SET STATISTICS {int(record['statistics'])}"
            )
        if record["comment"] is not None:
            statements.append(f"COMMENT ON COLUMN {table}.{name} IS {literal(record['comment'])}")
        names = [name, *map(quoted, indexed.get(record["name"], ()))]
        for grantee, privilege, grantable in record["privileges"]:
            listed = ", ".join(names)
            option = " WITH GRANT OPTION" if grantable else ""
            statements.append(
                f"GRANT {_PRIVILEGES[privilege]} ({listed}) ON {table} TO {verbatim(grantee)}{option}"
            )
    return statements


_PRIVILEGES = {name: name for name in ("SELECT", "INSERT", "UPDATE", "REFERENCES")}


def prepared_definitions(
    catalogue: Catalogue, sources: Sequence[str], targets: Sequence[str], key: Sequence[str]
) -> Objects:
    """What must still be so at the switch-over: the job's columns, and the table's triggers."""
    columns = dict.fromkeys([*sources, *targets, *key, FORM])
    found = catalogue.definitions(sources)
    found += tuple(
        item for item in catalogue.definitions(columns) if item[0] == "column" and item not in found
    )
    return tuple(sorted({*found, *_programs(catalogue)}))


def _programs(catalogue: Catalogue) -> Objects:
    return tuple(
        ("trigger", trigger.name, f"{trigger.definition} {trigger.enabled}")
        for trigger in catalogue.triggers()
    ) + tuple(
        ("function", trigger.name, trigger.source)
        for trigger in catalogue.triggers()
        if trigger.name in (UNMARK, UNMARK_NEW)
    )


def final_definitions(catalogue: Catalogue, columns: Sequence[PlannedColumn]) -> Objects:
    """What the switch-over left, and `unprotect` must find: columns, their CHECKs and indexes."""
    names = [
        name
        for column in columns
        for name in (column.name, *column.token_names)
        if name in catalogue.names
    ]
    return catalogue.definitions(names)
