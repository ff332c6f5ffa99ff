# SPDX-License-Identifier: Apache-2.0
"""
What else in a database speaks of the columns to protect, and what becomes of it.

Implements ``spec/protect-postgresql.md``, section "What speaks of the column". Asks `pg_depend`.
Triggers are `lacre.jobs.postgresql.programs`. Changes nothing.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lacre.jobs.columns import BIDX, BIDX2
from lacre.jobs.postgresql.catalogue import Catalogue
from lacre.jobs.postgresql.connection import cut, run
from lacre.jobs.postgresql.programs import Program, Refuse, programs_of, word

__all__ = ["Index", "Structure", "indexes_of", "structure_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """
    An index over one column alone. *method* and *tail* are what its definition says before and
    after the column's name; *constraint*: UNIQUE of the table, *timing* when it is checked; *parts*:
    of a partitioned table's index, (schema, partition, name) of each partition's.
    """

    column: str
    name: str
    unique: bool
    method: str
    tail: str
    constraint: bool
    timing: str
    comment: str | None
    parts: tuple[tuple[str, str, str], ...] = ()

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Index":
        """Read what `record` made, also after its way through JSON."""
        return cls(**{**record, "parts": tuple((a, b, c) for a, b, c in record["parts"])})

    def record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """
    The schema's part of a plan: protected columns that are unique, the indexes there are over one
    of them (*found*), those to make (*made*: their final names, over blind indexes), and triggers.
    """

    unique: frozenset[str]
    found: tuple[Index, ...]
    made: tuple[Index, ...]
    programs: tuple[Program, ...]
    sentences: tuple[str, ...]


def structure_of(
    catalogue: Catalogue,
    columns: Mapping[str, str | None],
    refuse: Refuse,
    notice: Callable[[str], None],
) -> Structure:
    """
    Examine everything that speaks of *columns* (name to normaliser).

    Args:
        refuse: called with (reason, what to do).
    """
    _table(catalogue, refuse, notice)
    for name in columns:
        _definition(catalogue, name, refuse, notice)
    found = indexes_of(catalogue, list(columns), refuse)
    _dependents(catalogue, list(columns), {index.name for index in found}, refuse)
    _constraints(catalogue, list(columns), refuse)
    _leaves(catalogue, list(columns), refuse)
    _functions(catalogue, list(columns), notice)
    _publications(catalogue, notice, refuse)
    unique, made, sentences = _made(catalogue, columns, found, refuse)
    return Structure(
        unique=frozenset(unique),
        found=tuple(found),
        made=tuple(made),
        programs=programs_of(catalogue, list(columns), refuse),
        sentences=tuple(sentences),
    )


def _table(catalogue: Catalogue, refuse: Refuse, notice: Callable[[str], None]) -> None:
    if catalogue.kind not in ("r", "p"):
        refuse(f"{catalogue.shown} is not an ordinary table", "protect the table behind it")
    encoding = run(catalogue.connection, "SHOW server_encoding").fetchone()[0]
    if encoding == "SQL_ASCII":
        refuse(
            "the database's encoding is SQL_ASCII, so the server does not know what its texts say",
            "restore a dump of it into a database with the encoding that the texts have",
        )
    if catalogue.is_partition:
        refuse(f"{catalogue.shown} is a partition", "name the table that it is a partition of")
    elif catalogue.inherits and not catalogue.partitioned:
        refuse(
            f"{catalogue.shown} inherits, or is inherited from",
            "NO INHERIT first; partitioned tables are protected whole",
        )
    if catalogue.persistence == "t":
        refuse(f"{catalogue.shown} is a temporary table", "protect what it is made from")
    foreign = run(
        catalogue.connection,
        "SELECT c.relname FROM pg_partition_tree(%s::oid::regclass) t JOIN pg_class c ON c.oid = t.relid WHERE c.relkind = 'f'",
        (catalogue.oid,),
    ).fetchall()
    for (name,) in foreign:
        refuse(f"its partition {name} is a foreign table", "detach it first")
    if catalogue.has_rules:
        for (name,) in run(
            catalogue.connection,
            "SELECT rulename FROM pg_rewrite WHERE ev_class = %s",
            (catalogue.oid,),
        ):
            refuse(f"the rule {name} rewrites statements on the table", "drop it first")
    if not catalogue.is_owner or not catalogue.may_create:
        refuse(
            f"this role may not alter {catalogue.shown} or create in its schema",
            f"run as the table's owner, who needs CREATE on the schema {catalogue.schema}",
        )
    elif catalogue.hides_rows:
        refuse(
            f"row security hides rows of {catalogue.shown} from this role",
            "run as the table's owner without FORCE ROW LEVEL SECURITY, or as a role with BYPASSRLS",
        )
    if run(
        catalogue.connection, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
    ).fetchone()[0]:
        notice(
            "this role is a superuser: triggers and expressions of the table run as one; the table's owner is enough for this job"
        )
    if catalogue.replica_identity == "f":
        notice("REPLICA IDENTITY FULL writes the whole old row to WAL at each update")


def _definition(
    catalogue: Catalogue, name: str, refuse: Refuse, notice: Callable[[str], None]
) -> None:
    column = catalogue.column(name)
    if name in catalogue.key:
        refuse(
            f"{name} is part of the primary key",
            "give the table another key first: every index and foreign key shows a primary key in the clear",
        )
    if column.generated or column.identity:
        refuse(
            f"{name} is {'a generated' if column.generated else 'an identity'} column",
            "protect the columns it is computed from, and compute it in the application",
        )
    elif column.default is not None:
        notice(f"{name}: its default ends with the plaintext; the application has to set the value")
    if column.collation is not None or not column.deterministic or column.kind == "citext":
        notice(
            f"{name}: its {'type citext' if column.kind == 'citext' else 'collation'} ends with the plaintext; the normaliser decides what counts as equal"
        )
    if column.domain_checks:
        notice(f"{name}: the CHECKs of its domain {column.declared} end with the plaintext")
    if column.kind == "bpchar":
        notice(f"{name}: programs get its values without the padding of {column.declared}")
    partition_key = run(
        catalogue.connection,
        "SELECT 1 FROM pg_partitioned_table p WHERE p.partrelid = %s AND (%s = ANY(p.partattrs::int2[]) OR "
        "pg_get_partkeydef(p.partrelid) ~ %s)",
        (catalogue.oid, column.number, word(name)),
    ).fetchone()
    if partition_key:
        refuse(f"the table is partitioned by {name}", "a value chooses its partition in the clear")


def indexes_of(catalogue: Catalogue, names: Sequence[str], refuse: Refuse) -> list[Index]:
    """Return the indexes over one of *names* alone; any other that mentions one is refused."""
    found = []
    for row in run(
        catalogue.connection,
        "SELECT c.relname, i.indisunique, i.indisprimary, i.indisexclusion, a.amname, pg_get_indexdef(i.indexrelid), i.indnatts, "
        "i.indpred IS NOT NULL, i.indexprs IS NOT NULL, i.indkey::int2[], k.conname IS NOT NULL, "
        "CASE WHEN k.condeferred THEN 'DEFERRABLE INITIALLY DEFERRED' WHEN k.condeferrable THEN 'DEFERRABLE' ELSE '' END, "
        "obj_description(c.oid, 'pg_class'), o.opcdefault, i.indisreplident, "
        "ARRAY(SELECT d.refobjsubid FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = i.indrelid AND d.refobjsubid > 0)::int[] "
        "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam "
        "JOIN pg_opclass o ON o.oid = i.indclass[0] LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid "
        "WHERE i.indrelid = %s ORDER BY c.relname",
        (catalogue.oid,),
    ):
        (index, unique, primary, exclusion, method, definition, width, partial, expressions, keys, constraint, timing,
         comment, plain, identity, depends) = row  # fmt: skip
        numbers = {*keys, *depends}
        name = next((n for n in names if catalogue.column(n).number in numbers), None)
        if name is None or primary:
            continue
        kind = (
            "partial"
            if partial
            else "expression"
            if expressions
            else "exclusion"
            if exclusion
            else "multi-column"
            if width > 1
            else ""
        )
        tail = _tail(definition, method, name)
        if kind or tail is None:
            refuse(
                f"the {kind or method} index {index} mentions {name}",
                "drop it first: a blind index is over the whole of one column",
            )
        elif method not in ("btree", "hash") or not plain:
            refuse(
                f"the index {index} ({method}{'' if plain else ', an operator class of its own'}) answers what a blind index cannot",
                "drop it first, if the application can do without",
            )
        elif identity:
            refuse(f"{index} is the table's REPLICA IDENTITY", "choose another index for it first")
        else:
            found.append(
                Index(
                    column=name,
                    name=index,
                    unique=unique,
                    method=method,
                    tail=tail,
                    constraint=constraint,
                    timing=timing,
                    comment=comment,
                    parts=_parts(catalogue, index),
                )
            )
    return found


def _parts(catalogue: Catalogue, index: str) -> tuple[tuple[str, str, str], ...]:
    if not catalogue.partitioned:
        return ()
    rows = run(
        catalogue.connection,
        "SELECT n.nspname, r.relname, c.relname FROM pg_class p JOIN pg_namespace s ON s.oid = p.relnamespace "
        "CROSS JOIN LATERAL pg_partition_tree(p.oid) t JOIN pg_index i ON i.indexrelid = t.relid JOIN pg_class c ON c.oid = i.indexrelid "
        "JOIN pg_class r ON r.oid = i.indrelid JOIN pg_namespace n ON n.oid = r.relnamespace "
        "WHERE s.nspname = %s AND p.relname = %s AND t.level > 0 ORDER BY 1, 2",
        (catalogue.schema, index),
    )
    return tuple((schema, table, name) for schema, table, name in rows)


def _tail(definition: str, method: str, name: str) -> str | None:
    """What an index's definition says after its column's name."""
    using = f" USING {method} ("
    plain = name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else None
    _, found, rest = definition.partition(using)
    for spelling in ('"' + name.replace('"', '""') + '"', plain):
        if found and spelling is not None and rest.startswith(spelling):
            return rest[len(spelling) :]
    return None


def _second(catalogue: Catalogue, first: Index, refuse: Refuse) -> Index:
    # The index of a unique blind index's second column. NULLs are distinct in it: nearly all are.
    name = cut(f"{first.name}2")
    if _taken(catalogue, name):
        refuse(f"something called {name} exists already", "rename it: lacre needs the name")
    return replace(
        first,
        column=first.column.removesuffix(BIDX) + BIDX2,
        name=name,
        tail=")",
        comment=None,
        parts=tuple((schema, table, cut(f"{part}2")) for schema, table, part in first.parts),
    )


def _made(
    catalogue: Catalogue,
    columns: Mapping[str, str | None],
    found: Sequence[Index],
    refuse: Refuse,
) -> tuple[set[str], list[Index], list[str]]:
    unique: set[str] = set()
    made: list[Index] = []
    sentences: list[str] = []
    for index in found:
        name = index.column
        if index.unique:
            unique.add(name)
        if columns[name] is None:
            if index.unique:
                refuse(
                    f"{name} is unique ({index.name}) and has no normaliser",
                    f"name one, for example {name}:CLASS:exact",
                )
            sentences.append(
                f"drop the index {index.name}: {name} has no normaliser, so it cannot be searched"
            )
            continue
        nulls = " NULLS NOT DISTINCT" if "NULLS NOT DISTINCT" in index.tail else ""
        made.append(
            Index(
                column=name + BIDX,
                name=index.name,
                unique=index.unique,
                method="btree",
                tail=f"){nulls}",
                constraint=index.constraint,
                timing=index.timing,
                comment=index.comment,
                parts=index.parts,
            )
        )
        if index.unique:
            made.append(_second(catalogue, made[-1], refuse))
    for name, normaliser in columns.items():
        if normaliser is not None and not any(index.column == name + BIDX for index in made):
            index_name = cut(f"{catalogue.table}_{name}{BIDX}")
            if _taken(catalogue, index_name):
                refuse(
                    f"something called {index_name} exists already",
                    "rename it: lacre needs the name",
                )
            made.append(
                Index(
                    column=name + BIDX,
                    name=index_name,
                    unique=False,
                    method="btree",
                    tail=")",
                    constraint=False,
                    timing="",
                    comment=None,
                )
            )
    sentences += [
        f"make the {'unique ' if index.unique else ''}index {index.name} over {index.column}"
        for index in made
    ]
    return unique, made, sentences


def _taken(catalogue: Catalogue, name: str) -> bool:
    sql = "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s"
    return run(catalogue.connection, sql, (catalogue.schema, name)).fetchone() is not None


def _dependents(
    catalogue: Catalogue, names: Sequence[str], indexes: set[str], refuse: Refuse
) -> None:
    """Refuse what `pg_depend` knows beyond indexes, constraints, triggers and the column's own default."""
    for name in names:
        number = catalogue.column(name).number
        for (what,) in run(
            catalogue.connection,
            "SELECT DISTINCT CASE WHEN d.classid = 'pg_rewrite'::regclass THEN "
            "(SELECT pg_describe_object('pg_class'::regclass, r.ev_class, 0) FROM pg_rewrite r WHERE r.oid = d.objid) "
            "ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END FROM pg_depend d "
            "WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %s AND d.refobjsubid = %s "
            "AND d.classid NOT IN ('pg_constraint'::regclass, 'pg_trigger'::regclass) "
            "AND NOT (d.classid = 'pg_attrdef'::regclass AND EXISTS "
            "(SELECT 1 FROM pg_attrdef f WHERE f.oid = d.objid AND f.adrelid = d.refobjid AND f.adnum = d.refobjsubid)) "
            "AND NOT (d.classid = 'pg_class'::regclass AND EXISTS (SELECT 1 FROM pg_index i WHERE i.indexrelid = d.objid AND i.indrelid = d.refobjid))",
            (catalogue.oid, number),
        ).fetchall():
            refuse(
                f"{what} depends on {name}",
                "the database cannot compute with ciphertext: drop it, or move it to the application",
            )


def _constraints(catalogue: Catalogue, names: Sequence[str], refuse: Refuse) -> None:
    numbers = {catalogue.column(name).number: name for name in names}
    for constraint, kind, keys, targets, mine, other in run(
        catalogue.connection,
        "SELECT conname, contype::text, coalesce(conkey, '{}')::int2[], coalesce(confkey, '{}')::int2[], conrelid = %s, conrelid::regclass::text "
        "FROM pg_constraint WHERE (conrelid = %s OR confrelid = %s) AND contype IN ('c', 'f', 'x') ORDER BY conname",
        (catalogue.oid,) * 3,
    ):
        name = next((numbers[n] for n in (keys if mine else ()) if n in numbers), None)
        if name is not None:
            words = {"c": "CHECK constraint", "f": "FOREIGN KEY", "x": "EXCLUDE constraint"}
            hint = (
                "refer to the other table by a key that is not personal data"
                if kind == "f"
                else "the database cannot compute with ciphertext: check the value in the application, then drop the constraint"
            )
            refuse(f"the {words[kind]} {constraint} mentions {name}", hint)
        name = next((numbers[n] for n in targets if n in numbers), None)
        if kind == "f" and name is not None:
            refuse(
                f"the foreign key {constraint} of {other} refers to {name}",
                f"two ciphertexts of one value differ, so the rows of {other} could not be matched: refer to a key that is not personal data",
            )


def _leaves(catalogue: Catalogue, names: Sequence[str], refuse: Refuse) -> None:
    """Partitions' own indexes, constraints and triggers, which the parent does not have."""
    if not catalogue.partitioned:
        return
    for what, partition in run(
        catalogue.connection,
        "SELECT 'index ' || c.relname, t.relid::regclass::text FROM pg_partition_tree(%s::oid::regclass) t JOIN pg_index i ON i.indrelid = t.relid "
        "JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_attribute a ON a.attrelid = t.relid AND a.attnum = ANY(i.indkey::int2[]) "
        "WHERE t.level > 0 AND NOT c.relispartition AND a.attname = ANY(%s) "
        "UNION SELECT 'constraint ' || k.conname, t.relid::regclass::text FROM pg_partition_tree(%s::oid::regclass) t JOIN pg_constraint k ON k.conrelid = t.relid "
        "JOIN pg_attribute a ON a.attrelid = t.relid AND a.attnum = ANY(k.conkey) "
        "WHERE t.level > 0 AND k.conislocal AND k.conparentid = 0 AND k.contype IN ('c', 'f', 'u', 'x') AND a.attname = ANY(%s) "
        "UNION SELECT 'trigger ' || g.tgname, t.relid::regclass::text FROM pg_partition_tree(%s::oid::regclass) t JOIN pg_trigger g ON g.tgrelid = t.relid "
        "WHERE t.level > 0 AND NOT g.tgisinternal AND g.tgparentid = 0 AND g.tgtype & 16 <> 0",
        (catalogue.oid, list(names), catalogue.oid, list(names), catalogue.oid),
    ).fetchall():
        refuse(
            f"the partition {partition} has an {what} of its own",
            "drop it, or make it on the partitioned table",
        )


def _functions(catalogue: Catalogue, names: Sequence[str], notice: Callable[[str], None]) -> None:
    for name in names:
        found = run(
            catalogue.connection,
            "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
            "WHERE n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema' AND p.prorettype <> 'trigger'::regtype "
            "AND p.prosrc ~* %s AND p.prosrc ~* %s ORDER BY 1 LIMIT 10",
            (word(catalogue.table), word(name)),
        ).fetchall()
        for (function,) in found:
            notice(
                f"the function {function} mentions {catalogue.table} and {name}: it gets ciphertext"
            )


def _publications(catalogue: Catalogue, notice: Callable[[str], None], refuse: Refuse) -> None:
    for (name,) in run(
        catalogue.connection,
        "SELECT DISTINCT pubname FROM pg_publication_tables WHERE schemaname = %s AND tablename = %s",
        (catalogue.schema, catalogue.table),
    ).fetchall():
        notice(
            f"the publication {name} sends this table: its subscribers get the new columns, and need them first"
        )
        if catalogue.replica_identity == "n" or (
            catalogue.replica_identity == "d" and not catalogue.key
        ):
            refuse(
                f"the publication {name} sends {catalogue.shown}, whose rows have no REPLICA IDENTITY, so none can be updated",
                "give the table a primary key, or ALTER TABLE ... REPLICA IDENTITY FULL",
            )
    subscribed = run(
        catalogue.connection,
        "SELECT 1 FROM pg_subscription_rel WHERE srrelid = %s",
        (catalogue.oid,),
    ).fetchone()
    if subscribed:
        refuse(
            f"a subscription writes {catalogue.shown}",
            "protect the table of the publisher, and drop the subscription first: it would go on sending plaintext",
        )
