# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
A table of a PostgreSQL database, as the jobs see it: read from the catalogue, never changed.

Implements ``spec/protect-postgresql.md``, sections "Names" and "Row ids".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lacre.errors import ConfigurationError
from lacre.jobs.columns import RID, RowKey
from lacre.jobs.postgresql.connection import qualified, quoted, run

__all__ = ["UNMARK", "UNMARK_NEW", "Catalogue", "Column", "Leaf", "Trigger", "row_key"]

UNMARK = "~lacre_form"  # the unmarking trigger: BEFORE triggers fire in the order of their names
UNMARK_NEW = "~lacre_form_new"  # the same, of inserted rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """
    One column. *declared* is its type as SQL; *base* that of a domain, else the same; *kind* the
    base type's name in `pg_catalog` or of an extension, *labels* those of an enum.
    """

    name: str
    number: int
    declared: str
    base: str
    kind: str
    typmod: int
    labels: tuple[str, ...]
    category: str
    not_null: bool
    default: str | None
    generated: bool
    identity: bool
    collation: str | None
    own_collation: bool
    deterministic: bool
    comment: str | None
    statistics: int
    domain_checks: bool
    privileges: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A table that holds rows: the table itself, or one of its partitions."""

    oid: int
    schema: str
    name: str

    @property
    def sql(self) -> str:
        return qualified(self.schema, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """
    A trigger of the table's own. *kind* is `pg_trigger.tgtype`; *listed*: it says UPDATE OF;
    *source* of its function, *reads* the transition tables.
    """

    name: str
    definition: str
    enabled: str
    kind: int
    listed: bool
    reads: bool
    function: str
    source: str
    arguments: str
    comment: str | None

    @property
    def on_update(self) -> bool:
        return bool(self.kind & 16)


_COLUMNS = """
SELECT a.attname, a.attnum, format_type(a.atttypid, a.atttypmod),
       CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) ELSE format_type(a.atttypid, a.atttypmod) END,
       b.typname, CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END,
       ARRAY(SELECT e.enumlabel FROM pg_enum e WHERE e.enumtypid = b.oid ORDER BY e.enumsortorder)::text[],
       CASE WHEN b.typelem <> 0 AND b.typlen = -1 AND b.typcategory = 'A' THEN 'array' ELSE b.typtype::text END,
       a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attgenerated <> '', a.attidentity <> '',
       CASE WHEN a.attcollation <> 0 AND a.attcollation <> t.typcollation
            THEN (SELECT quote_ident(n.nspname) || '.' || quote_ident(c.collname) FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation) END,
       coalesce((SELECT c.collisdeterministic FROM pg_collation c WHERE c.oid = a.attcollation), true),
       col_description(a.attrelid, a.attnum), coalesce(a.attstattarget, -1)::int,
       t.typtype = 'd' AND (t.typnotnull OR EXISTS (SELECT 1 FROM pg_constraint k WHERE k.contypid = t.oid)),
       b.typnamespace = 'pg_catalog'::regnamespace OR EXISTS (SELECT 1 FROM pg_depend e JOIN pg_extension x ON x.oid = e.refobjid
           WHERE e.classid = 'pg_type'::regclass AND e.objid = b.oid AND e.refclassid = 'pg_extension'::regclass AND x.extname = 'citext')
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
     LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

_PRIVILEGES = """
SELECT a.attname, coalesce((SELECT quote_ident(r.rolname) FROM pg_roles r WHERE r.oid = x.grantee), 'PUBLIC'), x.privilege_type, x.is_grantable
FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped AND a.attacl IS NOT NULL
ORDER BY 1, 2, 3
"""

_TRIGGERS = """
SELECT t.tgname, pg_get_triggerdef(t.oid), t.tgenabled::text, t.tgtype::int, cardinality(t.tgattr::int2[]) > 0,
       t.tgoldtable IS NOT NULL OR t.tgnewtable IS NOT NULL, p.oid::regproc::text, coalesce(p.prosrc, ''),
       encode(t.tgargs, 'escape'), obj_description(t.oid, 'pg_trigger')
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgrelid = %s AND NOT t.tgisinternal ORDER BY t.tgname
"""


class Catalogue:
    """
    One table, and what PostgreSQL says of it.

    Args:
        table: its name, or SCHEMA.NAME.

    Raises:
        ConfigurationError: there is no such table.
    """

    def __init__(self, connection: Any, table: str) -> None:
        self.connection = connection
        schema, name = self._found(table)
        self.schema, self.table = schema, name
        row = run(
            connection,
            "SELECT c.oid, c.relkind::text, c.relpersistence::text, c.relispartition, c.relrowsecurity, c.relowner, c.relhasrules, "
            "c.relreplident::text, row_security_active(c.oid), pg_has_role(c.relowner, 'USAGE'), "
            "has_schema_privilege(c.relnamespace, 'CREATE'), greatest(c.reltuples, 0)::float8, "
            "EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhparent = c.oid OR i.inhrelid = c.oid) "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
            (schema, name),
        ).fetchone()
        (
            self.oid,
            self.kind,
            self.persistence,
            self.is_partition,
            self.row_security,
            self.owner,
            self.has_rules,
            self.replica_identity,
            self.hides_rows,
            self.is_owner,
            self.may_create,
            self.estimated_rows,
            self.inherits,
        ) = row
        self.columns = self._columns()
        self.names = tuple(column.name for column in self.columns)
        self.key = tuple(
            name
            for (name,) in run(
                connection,
                "SELECT a.attname FROM pg_constraint k CROSS JOIN LATERAL unnest(k.conkey) WITH ORDINALITY u(number, place) "
                "JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number "
                "WHERE k.conrelid = %s AND k.contype = 'p' ORDER BY u.place",
                (self.oid,),
            )
        )

    def _found(self, table: str) -> tuple[str, str]:
        schema, dot, name = table.partition(".")
        candidates = [(schema, name)] if dot else []
        candidates.append(("public", table))
        known = run(
            self.connection,
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2",
        ).fetchall()
        for one, other in candidates:
            for found in ((one, other), (one.lower(), other.lower())):
                if found in known:
                    return found
        listed = ", ".join(f"{one}.{other}" for one, other in known[:20])
        raise ConfigurationError(f"there is no table {table!r}", hint=f"tables: {listed}")

    def _columns(self) -> tuple[Column, ...]:
        privileges: dict[str, list[tuple[str, str, bool]]] = {}
        for name, grantee, kind, grantable in run(self.connection, _PRIVILEGES, (self.oid,)):
            privileges.setdefault(name, []).append((grantee, kind, grantable))
        columns = []
        for row in run(self.connection, _COLUMNS, (self.oid,)):
            (name, number, declared, base, kind, typmod, labels, category, not_null, default, generated, identity,
             collation, deterministic, comment, statistics, checks, known) = row  # fmt: skip
            columns.append(
                Column(
                    name=name,
                    number=number,
                    declared=declared,
                    base=base,
                    # A type of somebody's own may have any name.
                    kind=kind if known else "",
                    typmod=typmod,
                    labels=tuple(labels),
                    category=category,
                    not_null=not_null,
                    default=default,
                    generated=generated,
                    identity=identity,
                    collation=collation,
                    own_collation=collation is not None,
                    deterministic=deterministic,
                    comment=comment,
                    statistics=statistics,
                    domain_checks=checks,
                    privileges=tuple(privileges.get(name, ())),
                )
            )
        return tuple(columns)

    @property
    def sql(self) -> str:
        return qualified(self.schema, self.table)

    @property
    def shown(self) -> str:
        return self.table if self.schema == "public" else f"{self.schema}.{self.table}"

    @property
    def partitioned(self) -> bool:
        return bool(self.kind == "p")

    def spelt(self, name: str) -> str | None:
        """Return the column's name as the table has it: exactly, or as PostgreSQL folds it."""
        for wanted in (name, name.lower()):
            if wanted in self.names:
                return wanted
        return None

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def leaves(self) -> list[Leaf]:
        """Return the tables that hold the rows."""
        rows = run(
            self.connection,
            "SELECT c.oid, n.nspname, c.relname FROM pg_partition_tree(%s::oid::regclass) t JOIN pg_class c ON c.oid = t.relid "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.isleaf AND c.relkind = 'r' ORDER BY 2, 3",
            (self.oid,),
        ).fetchall()
        if not rows:
            rows = [] if self.partitioned else [(self.oid, self.schema, self.table)]
        return [Leaf(oid=oid, schema=schema, name=name) for oid, schema, name in rows]

    def parts(self) -> list[Leaf]:
        """Return the partitions there are, those that are partitioned themselves included."""
        rows = run(
            self.connection,
            "SELECT c.oid, n.nspname, c.relname FROM pg_partition_tree(%s::oid::regclass) t JOIN pg_class c ON c.oid = t.relid "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.level > 0",
            (self.oid,),
        ).fetchall()
        return [Leaf(oid=oid, schema=schema, name=name) for oid, schema, name in rows]

    def triggers(self) -> list[Trigger]:
        return [
            Trigger(
                name=row[0],
                definition=row[1],
                enabled=row[2],
                kind=row[3],
                listed=row[4],
                reads=row[5],
                function=row[6],
                source=row[7],
                arguments=row[8],
                comment=row[9],
            )
            for row in run(self.connection, _TRIGGERS, (self.oid,))
        ]

    def constraints(self) -> dict[str, tuple[str, bool]]:
        """Definition of every constraint of the table, and whether the server found it true."""
        rows = run(
            self.connection,
            "SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint WHERE conrelid = %s",
            (self.oid,),
        )
        return {name: (definition, valid) for name, definition, valid in rows}

    def definitions(self, columns: Iterable[str]) -> tuple[tuple[str, str, str], ...]:
        """(kind, name, definition) of *columns*, and of the constraints and indexes that name one."""
        wanted = [column for column in self.columns if column.name in set(columns)]
        numbers = [column.number for column in wanted]
        found = [
            (
                "column",
                column.name,
                f"{column.declared} {column.collation or ''} {'NOT NULL' if column.not_null else ''} {column.default or ''}",
            )
            for column in wanted
        ]
        found += [
            ("constraint", name, definition)
            for name, definition in run(
                self.connection,
                # From 18 on NOT NULL is a row here too; the column says it already.
                "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s AND conkey && %s::int2[] AND contype <> 'n'",
                (self.oid, numbers),
            )
        ]
        found += [
            ("index", name, definition)
            for name, definition in run(
                self.connection,
                "SELECT c.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
                # pg_depend knows what expressions and predicates mention.
                "WHERE i.indrelid = %s AND (i.indkey::int2[] && %s::int2[] OR EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass "
                "AND d.objid = i.indexrelid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid = ANY(%s::int2[])))",
                (self.oid, numbers, numbers),
            )
        ]
        return tuple(sorted(found))


_KEY_KINDS = frozenset({"uuid", "int2", "int4", "int8", "text", "varchar"})


def row_key(catalogue: Catalogue, *, look: bool = True) -> RowKey:
    """
    Choose what names the rows of a table: its primary key, where that never comes again.

    Args:
        look: also at the keys there are, which may read the whole table.
    """
    if RID in catalogue.names:
        return RowKey(columns=(RID,), added=False)
    why = _unusable(catalogue) or (_empty(catalogue) if look else "")
    if why:
        return RowKey(columns=(RID,), added=True, why=why)
    return RowKey(columns=catalogue.key, added=False)


def _unusable(catalogue: Catalogue) -> str:
    if not catalogue.key:
        return "the table has no primary key"
    for name in catalogue.key:
        column = catalogue.column(name)
        if column.kind not in _KEY_KINDS or column.declared != column.base:
            return f"the primary key's type {column.declared} is neither text, a whole number nor a UUID"
        if not column.deterministic:
            return (
                "the primary key takes different texts for one (its collation is not deterministic)"
            )
    cycling = run(
        catalogue.connection,
        "SELECT 1 FROM pg_depend d JOIN pg_sequence s ON s.seqrelid = d.objid WHERE d.classid = 'pg_class'::regclass "
        "AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %s AND d.refobjsubid = ANY(%s) AND s.seqcycle",
        (catalogue.oid, [catalogue.column(name).number for name in catalogue.key]),
    ).fetchone()
    if cycling:
        return "the sequence of its primary key may CYCLE and give a number again"
    return ""


def _empty(catalogue: Catalogue) -> str:
    texts = [n for n in catalogue.key if catalogue.column(n).kind in ("text", "varchar")]
    if texts:
        empty = " OR ".join(f"{quoted(name)} = ''" for name in texts)
        sql = f"SELECT 1 FROM {catalogue.sql} WHERE {empty} LIMIT 1"
        if run(catalogue.connection, sql).fetchone():
            return "some primary keys are empty"
    return ""
