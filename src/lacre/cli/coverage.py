# SPDX-License-Identifier: Apache-2.0
"""
How the command line shows which values are under which keys.

Subjects each have a key of their own: those that stand alike are told together, with their number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lacre.cli.terminal import data, out, table
from lacre.jobs.coverage import Coverage, Share, Standing
from lacre.keys.hierarchy import KeyKind

__all__ = ["coverage_records", "show_coverage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One share; or those of several subjects of one tenant, of which *first* is one."""

    first: Share
    values: int
    subjects: int | None


def show_coverage(found: Sequence[Coverage], *, as_json: bool) -> None:
    if as_json:
        data(coverage_records(found))
        return
    rows = [_cells(covered, line) for covered in found for line in _lines(covered)]
    columns = ("table", "column", "tenant", "key", "#version", "standing", "#values", "#share")
    out.print(table(columns, rows))
    for covered in found:
        out.print(f"{covered.table}.{covered.column}: {_percent(covered)} of {covered.values:,} values under the active key")  # fmt: skip


def coverage_records(found: Iterable[Coverage]) -> list[dict[str, object]]:
    """Return the coverage for a program; `key` and `version` are null where `subjects` is a number."""
    return [
        {
            "table": covered.table,
            "column": covered.column,
            "class": covered.scheme.class_,
            "values": covered.values,
            "active": covered.active,
            "share": covered.share,
            "keys": [_record(line) for line in _lines(covered)],
        }
        for covered in found
    ]


def _lines(covered: Coverage) -> list[_Line]:
    alike: dict[object, list[Share]] = {}
    for share in covered.shares:
        row = share.row
        of_subject = row is not None and row.scope.kind is KeyKind.SUBJECT
        which = (row.scope.tenant, share.standing) if row is not None and of_subject else share.key
        alike.setdefault(which, []).append(share)
    return [
        _Line(
            first=shares[0],
            values=sum(share.values for share in shares),
            subjects=len(shares) if isinstance(which, tuple) else None,
        )
        for which, shares in alike.items()
    ]


def _cells(covered: Coverage, line: _Line) -> list[str]:
    share, row = line.first, line.first.row
    if line.subjects is not None:
        key, version = f"{line.subjects:,} of subjects", "-"
    else:
        key = share.key.hex()[:8] if share.key is not None else "-"
        version = str(row.version) if row is not None else "-"
    counted = covered.values and share.standing not in (Standing.ELSEWHERE, Standing.ERASED)
    return [
        covered.table,
        covered.column,
        row.scope.tenant if row is not None else "-",
        key,
        version,
        str(share.standing),
        f"{line.values:,}",
        f"{100 * line.values / covered.values:.1f} %" if counted else "-",
    ]


def _percent(covered: Coverage) -> str:
    # Rounded down: 100 % is said of all of them only.
    return f"{int(covered.share * 1000) / 10:g} %"


def _record(line: _Line) -> dict[str, object]:
    share, row = line.first, line.first.row
    one = line.subjects is None
    since = share.since if one else None
    return {
        "key": share.key.hex() if one and share.key is not None else None,
        "subjects": line.subjects,
        "tenant": None if row is None else row.scope.tenant,
        "version": row.version if one and row is not None else None,
        "standing": str(share.standing),
        "values": line.values,
        "since": None if since is None else since.isoformat(),
    }
