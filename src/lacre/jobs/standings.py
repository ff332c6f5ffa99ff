# SPDX-License-Identifier: Apache-2.0
"""
Where the columns of one store stand: those that `[columns]` names, and those that have a state.

Needs the key store and nothing secret: states are signed. Counts no row and moves no state.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from lacre.errors import Tampered
from lacre.fields.column_state import ColumnState, ColumnStateRow, ColumnStates, Verifier, state_of
from lacre.fields.deadlines import Deadlines, Standing
from lacre.policy.columns import ColumnTarget

__all__ = ["ListedStates", "standings"]


class ListedStates(ColumnStates, Protocol):
    """A key store, which lists its columns' states too."""

    @property
    def keystore_id(self) -> str: ...

    def column_states(self) -> Sequence[ColumnStateRow]: ...

    def newest(self) -> float | None: ...


def standings(
    keys: ListedStates,
    columns: Mapping[str, ColumnTarget],
    *,
    store: str,
    signers: Mapping[str, Verifier],
    evidence: Callable[[], float | None],
    clock: Callable[[], float] = time.time,
) -> tuple[list[Standing], list[str]]:
    """
    Return where each column of *store* stands, and a sentence for each state that somebody forged.

    Args:
        signers: whose signatures on states are believed, by fingerprint.
        evidence: when the newest evidence is of, which the clock may not be before.
    """
    rows = {(row.table, row.column): row for row in keys.column_states() if row.store == store}
    targets = {name: target for name, target in columns.items() if target.store == store}
    for (table, column), row in rows.items():
        targets.setdefault(f"{table}.{column}", _untargeted(row))
    forged: list[str] = []

    def present(_store: str, table: str, column: str, class_: str) -> ColumnState | None:
        if (table, column) not in rows:
            return None
        try:
            return state_of(
                keys, signers, keystore=keys.keystore_id,
                store=store, table=table, column=column, class_=class_,
            )  # fmt: skip
        except Tampered:
            forged.append(
                f"the state of {table}.{column} was not signed by an operator of this key store, for this class"
            )
            return None

    found = Deadlines(
        targets,
        present=present,
        clock=clock,
        witnesses={"the key store": keys.newest, "the newest evidence": evidence},
    )
    return found.standings(), forged


def _untargeted(row: ColumnStateRow) -> ColumnTarget:
    # What the row says of its class is checked with its signature.
    return ColumnTarget.model_construct(
        class_=row.class_, store=row.store, target="encrypted", deadline=None
    )
