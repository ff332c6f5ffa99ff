# SPDX-License-Identifier: Apache-2.0
"""
What is due in a key store: keys past their period, steps that wait, keys nobody can use.

Reads rows and decides; changes nothing and opens nothing, so what it says is as true as the rows
are (``spec/key-rows.md``, section 6). Does not know about versions of KMS keys: those are the key
service's.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState

__all__ = ["Due", "Urgency", "due"]


class Urgency(StrEnum):
    """How much it matters, most first."""

    OVERDUE = "overdue"  # past its day, or not usable now
    WAITING = "waiting"  # a step somebody began
    SOON = "soon"  # its day is near


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One thing to do. *by* is when a rotation is due, None where a step waits or a key is not usable."""

    row: KeyRow
    urgency: Urgency
    why: str
    do: str
    by: dt.datetime | None = None


def due(
    rows: Iterable[KeyRow],
    *,
    period: Callable[[KeyRow], dt.timedelta | None],
    now: dt.datetime,
    within: dt.timedelta = dt.timedelta(0),
) -> Sequence[Due]:
    """
    Return what is due, the most urgent first.

    Args:
        period: after how long a key of that row's class and kind is rotated; None is never.
        within: how long before its day a rotation counts as due soon.
    """

    def scope(row: KeyRow) -> tuple[str, ...]:
        pairs = row.scope.pairs()
        return (*(pairs[name] for name in sorted(pairs)), row.scope.subject or "")

    # Seal and bucket keys go with their epoch, whose cadence is another: `lacre seal --status`.
    mine = (row for row in rows if row.scope.kind not in (KeyKind.SEAL, KeyKind.BUCKET))
    held = sorted(mine, key=lambda row: (scope(row), -row.version))
    states = {row.key_id.hex(): row.state for row in held}
    found = [
        item
        for _, versions in groupby(held, scope)
        for item in _of_scope(list(versions), states, period, now, within)
    ]
    order = list(Urgency)
    return sorted(
        found,
        key=lambda item: (
            order.index(item.urgency),
            item.by or now,
            item.row.scope.tenant,
            item.row.scope.class_,
            item.row.scope.kind,
            -item.row.version,
        ),
    )


def _of_scope(
    versions: Sequence[KeyRow],
    states: dict[str, KeyState],
    period: Callable[[KeyRow], dt.timedelta | None],
    now: dt.datetime,
    within: dt.timedelta,
) -> Iterator[Due]:
    current = next((row for row in versions if row.state is not KeyState.PENDING), None)
    for row in versions:
        where = f"--tenant {row.scope.tenant} --class {row.scope.class_}"
        rotate = f"lacre keys rotate {where} --kind {row.scope.kind}"
        digits = row.key_id.hex()[:8]
        if row.state is KeyState.PENDING:
            if current is None or row.version > current.version:
                waits = "announced" if row.scope.kind is KeyKind.INDEX and current else "unfinished"
                do = rotate if current else f"lacre keys create {where}"
                if current and row.scope.kind is KeyKind.BRANCH:
                    do = f"lacre keys activate {where}"
                yield Due(row=row, urgency=Urgency.WAITING, why=f"{waits}, waits for activation", do=do)  # fmt: skip
        elif row.state is KeyState.COMPROMISED:
            do = rotate if row is current else f"lacre reencrypt, then lacre keys destroy {digits}"  # fmt: skip
            yield Due(row=row, urgency=Urgency.OVERDUE, why="compromised", do=do)
        elif row.state is KeyState.DISABLED:
            yield Due(row=row, urgency=Urgency.OVERDUE, why="disabled: not readable", do=f"lacre keys enable {digits}, or rotate and destroy")  # fmt: skip
        elif row is current and row.state is not KeyState.ACTIVE:
            yield Due(row=row, urgency=Urgency.OVERDUE, why=f"{row.state}: nothing can be encrypted", do=rotate)  # fmt: skip
        elif row.state is KeyState.ACTIVE:
            after = period(row)
            if after is None:
                continue
            # `created` is authenticated with the key, unlike `changed`; activation follows at once.
            by = _moment(row.created) + after
            if by <= now + within:
                late = by <= now
                yield Due(
                    row=row,
                    urgency=Urgency.OVERDUE if late else Urgency.SOON,
                    why=f"to be rotated by {by.date()}",
                    do=rotate,
                    by=by,
                )
        parent = None if row.scope.kind.under_kms else states.get(row.parent)
        if row.wrapped is not None and parent in (KeyState.DECRYPT_ONLY, KeyState.COMPROMISED):
            # A data key made at the very moment its branch key was rotated, or left behind.
            yield Due(row=row, urgency=Urgency.OVERDUE, why=f"wrapped by a branch key that is {parent}", do=f"lacre keys rotate {where} --kind branch")  # fmt: skip


def _moment(text: str) -> dt.datetime:
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return dt.datetime.min.replace(tzinfo=dt.UTC)  # nobody knows how old: due
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)
