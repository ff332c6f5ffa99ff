# SPDX-License-Identifier: Apache-2.0
"""
How large a table is, gets while it is protected, and stays until it is rewritten.

Implements ``spec/protect-postgresql.md``, sections "What remains elsewhere". Figures are estimates
before the job, and the server's own counts after it. Rewrites nothing: that is the operator's to time.
"""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lacre.jobs.postgresql.catalogue import Catalogue
from lacre.jobs.postgresql.connection import run

__all__ = ["REMAINS", "Sizes", "advice", "sizes_of"]

REMAINS = (
    "Pages of the table keep the old values of the dropped column, and of old row versions, until each row is written anew: see the advice below.",
    "Write-ahead log written before now, and its archive, hold the old values until they expire; so do replicas' files until the same rewrite reaches them.",
    "Backups, base backups and dumps made before now hold plaintext until they expire. Delete them, or protect them as what they are.",
    "Subscribers of logical replication and consumers of change data capture have copies of their own, which were not touched.",
    "Old statistics of the column (pg_statistic) and logged statements in the server's log may hold single values until vacuum and log rotation.",
    "Other tables, materialized views, caches, logs, search indexes and message queues may hold copies of the same values.",
    "Disk blocks that were freed, snapshots of the volume, and swap may hold some of it. Full-disk encryption is the answer to this.",
)

_TUPLE = 60  # bytes of WAL and headers about each written row, near enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """
    Bytes. *heap* and *total* (with TOAST and indexes) now; *growth* of the rows; *peak* and *needed*
    while the job runs, if nothing is vacuumed meanwhile; *wal* written; *free* where it is seen.
    """

    heap: int
    total: int
    growth: int
    peak: int
    needed: int
    wal: int
    free: int | None

    def record(self) -> dict[str, Any]:
        return asdict(self)


def sizes_of(connection: Any, catalogue: Catalogue, *, rows: int, growth: int) -> Sizes:
    """Estimate what protecting *rows* rows that grow by *growth* bytes takes."""
    heap, total = 0, 0
    for leaf in catalogue.leaves():
        size = run(
            connection,
            "SELECT pg_table_size(%s::oid::regclass), pg_total_relation_size(%s::oid::regclass)",
            (leaf.oid, leaf.oid),
        ).fetchone()
        heap, total = heap + size[0], total + size[1]
    # Every row is written once more, wider; its old version stays until it is vacuumed.
    written = heap + growth + rows * _TUPLE
    wal = 2 * written  # the rows, and a whole page for the first of each after a checkpoint
    return Sizes(
        heap=heap,
        total=total,
        growth=growth,
        peak=total + written,
        needed=written + wal,
        wal=wal,
        free=_free(connection),
    )


def _free(connection: Any) -> int | None:
    # Another machine's folder may exist here too, and says nothing.
    host = connection.info.host or ""
    if host not in ("localhost", "127.0.0.1", "::1") and not host.startswith("/"):
        return None
    row = run(
        connection, "SELECT setting FROM pg_settings WHERE name = 'data_directory'"
    ).fetchone()
    try:
        return shutil.disk_usage(Path(row[0])).free if row else None
    except OSError:
        return None


def advice(connection: Any, catalogue: Catalogue, before: int) -> tuple[str, ...]:
    """Return what to do about the pages that the job left behind, with figures."""
    heap = dead = 0
    for leaf in catalogue.leaves():
        size, count = run(
            connection,
            "SELECT pg_table_size(%s::oid::regclass), coalesce(pg_stat_get_dead_tuples(%s), 0)",
            (leaf.oid, leaf.oid),
        ).fetchone()
        heap, dead = heap + size, dead + count
    sentences = [
        f"{catalogue.shown} takes {heap:,} bytes without its indexes, {before:,} before the job; {dead:,} dead rows wait for vacuum{_loose(connection, catalogue)}",
        f'VACUUM (FULL, ANALYZE) "{catalogue.schema}"."{catalogue.table}" gives the space back and removes the old values from the pages: it holds ACCESS EXCLUSIVE for as long as the table takes to copy; pg_repack does the same without the lock',
    ]
    return tuple(sentences)


def _loose(connection: Any, catalogue: Catalogue) -> str:
    """What the extension pgstattuple counts, where it is installed and may be asked."""
    found = run(
        connection,
        "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
        "JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = 'pgstattuple_approx' "
        "JOIN pg_depend d ON d.objid = p.oid AND d.refobjid = e.oid AND d.deptype = 'e' "
        "WHERE e.extname = 'pgstattuple' AND has_function_privilege(p.oid, 'EXECUTE') LIMIT 1",
    ).fetchone()
    if found is None or catalogue.partitioned:
        return ""
    row = run(
        connection,
        f"SELECT approx_free_percent + dead_tuple_percent FROM {found[0]}.pgstattuple_approx(%s::oid::regclass)",  # noqa: S608
        (catalogue.oid,),
    ).fetchone()
    return f", {row[0]:.0f} % of its pages are free or dead"
