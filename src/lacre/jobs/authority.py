# SPDX-License-Identifier: Apache-2.0
"""
On whose word a job moves column states, and where each move is recorded.

Implements ``spec/column-state.md``. Does not decide when a state moves: the jobs do.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from lacre.audit.event import Event, Place, who
from lacre.audit.events import Protection
from lacre.context import Acting, current
from lacre.errors import ConfigurationError
from lacre.fields.column_state import ColumnState, ColumnStates, Signer, Verifier, move
from lacre.jobs.columns import PlannedColumn
from lacre.jobs.ledger import Job
from lacre.keys.moments import moment_text
from lacre.keys.recording import recorded

__all__ = ["Authority"]


def _named(acting: Acting) -> str:
    return acting.tenant or ""


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """
    Where column states are kept, who signs them and the jobs, for which key store, whose
    signatures are believed (*signers*, the signer's own among them), and where moves are recorded.

    *tenant* tells whose keys the fields take, as they tell it.
    """

    states: ColumnStates
    signer: Signer
    signers: Sequence[Verifier]
    keystore: str
    record: Callable[[Sequence[Event]], None] = field(repr=False)
    tenant: Callable[[Acting], str] = field(default=_named, repr=False)
    now: Callable[[], dt.datetime] = field(default=_now, repr=False)

    def move(self, job: Job, to: ColumnState) -> None:
        """
        Bring every column of *job* to state *to*; those that are there stay as they are.

        Raises:
            EvidenceUnavailable: the move cannot be recorded, so it is not made.
        """
        now, acting = self.now().astimezone(dt.UTC), current()
        changed = moment_text(now)
        for column in job.columns:
            event = Protection(
                **who(acting, time=now.timestamp(), tenant=self.tenant(acting)),
                place=Place(job.store, job.table, column.name, column.class_),
                step=str(to),
                count=column.values,
            )
            present = self.states.get(job.store, job.table, column.name)
            # A row that is there already is written anew only where somebody forged it: no change.
            there = present is not None and present.state is to
            with nullcontext() if there else recorded(self.record, self.states, [event]):
                move(
                    self.states,
                    self.signer,
                    keystore=self.keystore,
                    store=job.store,
                    table=job.table,
                    column=column.name,
                    class_=column.class_,
                    to=to,
                    changed=changed,
                )

    def require_clear(self, store: str, table: str, columns: Sequence[PlannedColumn]) -> None:
        """
        Raise where the key store says that a column is encrypted that is found in the clear.

        Raises:
            ConfigurationError: this may be an old copy of the database.
        """
        for column in columns:
            present = self.states.get(store, table, column.name)
            if present is not None and present.state is ColumnState.ENCRYPTED:
                raise ConfigurationError(
                    f"the key store says that {table}.{column.name} is encrypted, and this database holds it in the clear",
                    hint="this may be an old copy of the database: restore the present one, or use another --store name",
                )
