# SPDX-License-Identifier: Apache-2.0
"""
How keys and columns stand, counted from the key store: states, ages, what is past its day.

Opens no key. What it says of a column is what an operator signed; of a key, what its row says.
"""

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from lacre.errors import Tampered
from lacre.fields.column_state import ColumnState, ColumnStateRow, state_of
from lacre.fields.deadlines import Deadlines, Standing
from lacre.jobs.coverage import Coverage
from lacre.jobs.coverage import Standing as KeyStanding
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState
from lacre.keys.rotation import Urgency, due
from lacre.kms.local import PublicIdentity
from lacre.policy.columns import ColumnTarget
from lacre.policy.model import PolicyFile
from lacre.stores.sql import SQLKeyStore

__all__ = ["AGES", "column_facts", "coverage_facts", "key_facts"]

AGES = ((30, "under 30 days"), (90, "30 to 90 days"), (180, "90 to 180 days"), (365, "180 to 365 days"))  # fmt: skip
_OLDEST = "over 365 days"
_SOON = dt.timedelta(days=30)


def key_facts(
    store: SQLKeyStore, policy: PolicyFile, *, since: dt.datetime, now: dt.datetime
) -> dict[str, object]:
    """Return what a snapshot says of keys; those of subjects are counted by their state alone."""
    rows = store.rows()
    states: Counter[tuple[str, str]] = Counter((str(row.scope.kind), str(row.state)) for row in rows)  # fmt: skip
    for each in store.subject_keys():
        states["subject", str(each.state)] += each.number

    def period(row: KeyRow) -> dt.timedelta | None:
        declared = policy.classes.get(row.scope.class_)
        if declared is None:  # a class that lacre.toml no longer has
            return None
        return declared.rotate_index_after if row.scope.kind is KeyKind.INDEX else declared.rotate_after  # fmt: skip

    active = [row for row in rows if row.state is KeyState.ACTIVE and _counts(row)]
    timed = [(row, _moment(row.created) + after) for row in active if (after := period(row))]
    late = [(row, by) for row, by in timed if by <= now]
    found = due(rows, period=period, now=now, within=_SOON)
    made = [row for row in rows if _counts(row) and _moment(row.created) >= since]
    return {
        "states": [[kind, state, number] for (kind, state), number in sorted(states.items())],
        "ages": _ages(active, {row.key_id for row, _ in late}, now),
        "periods": {"all": len(timed), "kept": len(timed) - len(late)},
        "late": [
            {
                "class": row.scope.class_,
                "kind": str(row.scope.kind),
                "version": row.version,
                "by": by.date().isoformat(),
                "days": (now - by).days,
            }
            for row, by in sorted(late, key=lambda each: each[1])
        ],
        "due": {
            str(urgency): sum(each.urgency is urgency for each in found) for urgency in Urgency
        },
        "created": sum(row.version == 1 for row in made),
        "rotated": sum(row.version > 1 for row in made),
        "destroyed": sum(
            row.state is KeyState.DESTROYED and _moment(row.changed) >= since for row in rows
        ),
    }


def _counts(row: KeyRow) -> bool:
    # Seal and bucket keys go with their epoch, whose cadence is another.
    return row.scope.kind not in (KeyKind.SEAL, KeyKind.BUCKET)


def _ages(active: Iterable[KeyRow], late: set[bytes], now: dt.datetime) -> list[list[object]]:
    found: dict[str, list[int]] = {name: [0, 0] for name in (*(name for _, name in AGES), _OLDEST)}
    for row in active:
        days = (now - _moment(row.created)).days
        name = next((name for limit, name in AGES if days < limit), _OLDEST)
        found[name][row.key_id in late] += 1
    return [[name, *numbers] for name, numbers in found.items()]


def _moment(text: str) -> dt.datetime:
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return dt.datetime.min.replace(tzinfo=dt.UTC)  # nobody knows how old: late
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def column_facts(
    store: SQLKeyStore,
    policy: PolicyFile,
    *,
    now: dt.datetime,
    newest: Callable[[], float | None] | None = None,
) -> list[dict[str, object]]:
    """
    Return how every column stands that lacre.toml names or the key store has a state of.

    Args:
        newest: the time of the newest evidence, which knows what day it is.
    """
    signers = [PublicIdentity.from_text(line) for line in policy.local.signers]
    trusted = {signer.fingerprint: signer for signer in signers}
    rows = {(row.store, row.table, row.column): row for row in store.column_states()}
    facts: list[dict[str, object]] = []
    for name in sorted(policy.stores):
        targets = {key: each for key, each in policy.columns.items() if each.store == name}
        for (of_store, table, column), row in rows.items():
            if of_store == name:
                targets.setdefault(f"{table}.{column}", _untargeted(row))
        forged: set[tuple[str, str]] = set()
        present = _present(store, rows, trusted, forged)
        found = Deadlines(
            targets,
            present=present,
            clock=time.time,
            witnesses={"the key store": store.newest, "the newest evidence": newest or (lambda: None)},
        )  # fmt: skip
        standings = sorted(found.standings(), key=lambda each: (each.table, each.column))
        facts += [_column(each, policy, forged, now) for each in standings]
    return facts


def _present(
    store: SQLKeyStore,
    rows: dict[tuple[str, str, str], ColumnStateRow],
    trusted: dict[str, PublicIdentity],
    forged: set[tuple[str, str]],
) -> Callable[[str, str, str, str], ColumnState | None]:
    def present(of: str, table: str, column: str, class_: str) -> ColumnState | None:
        if (of, table, column) not in rows:
            return None
        try:
            return state_of(
                store, trusted, keystore=store.keystore_id,
                store=of, table=table, column=column, class_=class_,
            )  # fmt: skip
        except Tampered:
            forged.add((table, column))
            return None

    return present


def _untargeted(row: ColumnStateRow) -> ColumnTarget:
    # What the row says of its class is checked with its signature.
    return ColumnTarget.model_construct(
        class_=row.class_, store=row.store, target="encrypted", deadline=None
    )


def _column(
    standing: Standing, policy: PolicyFile, forged: set[tuple[str, str]], now: dt.datetime
) -> dict[str, object]:
    state = "none" if standing.state is None else str(standing.state)
    if (standing.table, standing.column) in forged:
        state = "forged"
    waived = any(
        waiver.finding == "plaintext"
        and waiver.of in (standing.table, str(standing))
        and (waiver.until is None or waiver.until >= now.date())
        for waiver in policy.waivers
    )
    open_still = standing.deadline is not None and not standing.overdue
    return {
        "store": standing.store,
        "table": standing.table,
        "column": standing.column,
        "class": standing.class_,
        "state": state,
        "deadline": None if standing.deadline is None else standing.deadline.isoformat(),
        "overdue": standing.overdue,
        "excused": state != "forged" and (open_still or waived),
    }


def coverage_facts(found: Sequence[Coverage]) -> list[dict[str, object]]:
    """Return the values of each column that was counted, and how they stand."""
    return [
        {
            "table": each.table,
            "column": each.column,
            "class": each.scheme.class_,
            "values": each.values,
            "active": each.active,
            "older": each.of(KeyStanding.OLDER),
            "compromised": each.of(KeyStanding.COMPROMISED),
            "unreadable": each.of(KeyStanding.UNUSABLE) + each.of(KeyStanding.UNKNOWN),
            "plaintext": each.of(KeyStanding.PLAINTEXT),
        }
        for each in found
    ]
