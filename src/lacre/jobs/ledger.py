# SPDX-License-Identifier: Apache-2.0
"""
The jobs' memory: what a job's row says, and whose word it is. Knows no database.

Implements ``spec/protect-sqlite.md``, section "The job's row". A row is written in the same
transactions as the data, so the two never disagree, whenever the process is killed. It holds
names, definitions and counts, never a value.

Whoever writes the database writes this table too, and a job runs the definitions that its row
holds. So the operator signs each row, and nothing of one is used before its signature is verified.
"""

import datetime as dt
import enum
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from hashlib import sha256
from typing import Any, Literal, Protocol
from uuid import UUID

from lacre._core.canonical import canonical
from lacre.errors import MisuseError, Tampered
from lacre.fields.column_state import Signer, Verifier
from lacre.jobs.columns import JOB, ColumnRequest, PlannedColumn, RowKey

__all__ = [
    "Direction",
    "Job",
    "Objects",
    "Phase",
    "Report",
    "Trust",
    "overtaken",
    "read_row",
    "signed_row",
    "to_go_on_with",
    "to_undo_of",
    "unchanged",
]

Direction = Literal["protect", "unprotect"]
# fill: both forms are there, and the marker says which counts. clean: the switch-over is done,
# freed pages are not yet gone. done: protected; kept, because the way back needs it.
Phase = Literal["fill", "clean", "done"]

_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (str, int, bool, bytes, dict, Decimal, dt.date, dt.datetime, UUID, enum.Enum)
}
Objects = tuple[tuple[str, str, str], ...]

# 16 bytes like every label, so that no other signed message of lacre begins with it.
_LABEL = b"lacre/1/job".ljust(16, b"\0")


class Trust(Protocol):
    """Who signs jobs, for which key store, and whose signatures are believed."""

    @property
    def signer(self) -> Signer: ...

    @property
    def signers(self) -> Sequence[Verifier]: ...

    @property
    def keystore(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    One job on one table.

    *original*, *prepared* and *final* are the definitions of the table, its indexes and its
    triggers before the job, while it runs, and after its switch-over. *details* is what else
    its database's package needs, in JSON's types.
    """

    job_id: int
    table: str
    direction: Direction
    phase: Phase
    store: str
    columns: tuple[PlannedColumn, ...]
    key: RowKey
    original: Objects
    prepared: Objects
    final: Objects
    details: Mapping[str, Any] = field(default_factory=dict)
    done: int = 0

    def stepped(self, **changes: Any) -> "Job":
        return replace(self, **changes)

    def asked(
        self, store: str, columns: Sequence[ColumnRequest], *, fold: Callable[[str], str]
    ) -> bool:
        """Whether the job was started with these arguments; *fold* is what names are compared by."""
        mine = {(fold(c.name), c.class_, c.normaliser, c.bits, c.reader) for c in self.columns}
        theirs = {(fold(c.name), c.class_, c.normaliser, c.bits, c.reader) for c in columns}
        return store == self.store and mine == theirs and len(columns) == len(theirs)

    def __str__(self) -> str:
        arguments = " ".join(
            f"--column {column.name}:{column.class_}"
            + (f":{column.normaliser}" if column.normaliser else "")
            + (f":{column.bits}" if column.bits else "")
            for column in self.columns
        )
        reader = next((f" --from {column.reader}" for column in self.columns if column.reader), "")
        return (
            f"lacre {self.direction} --table {self.table} {arguments}{reader} --store {self.store}"
        )


def _signed_bytes(
    job_id: int, table: str, direction: str, phase: str, record: str, *, signer: str, keystore: str
) -> bytes:
    # The record by its hash: a part of a canonical map ends at 65535 bytes, a definition may not.
    return _LABEL + canonical(
        {
            "direction": direction,
            "job": str(job_id),
            "keystore": keystore,
            "phase": phase,
            "record": sha256(record.encode("ascii")).hexdigest(),
            "signer": signer,
            "table": table,
        }
    )


def overtaken() -> MisuseError:
    return MisuseError(
        "another process works on this table and moved the job on",
        hint="wait for it, then run the same command again",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    What a finished job did. *resumed*: a job that was under way was brought to its end.
    *verified*: every row was converted back and compared. *joined*: it filled rows beside the
    process that does the rest. *locks* that others felt, and *advice*, are sentences for the operator.
    """

    table: str
    columns: tuple[str, ...]
    rows: int
    lost_races: int
    resumed: bool
    verified: bool = True
    joined: bool = False
    locks: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


def to_go_on_with(
    jobs: Sequence[Job],
    table: str,
    columns: Sequence[ColumnRequest],
    store: str,
    *,
    fold: Callable[[str], str],
) -> Job | None:
    """
    Return which of *jobs* `protect` with these arguments goes on with, or finds done; else None.

    Raises:
        MisuseError: another job is under way, or protected some of these columns.
    """
    for job in jobs:
        asked = job.asked(store, columns, fold=fold)
        if job.phase != "done" or job.direction != "protect":
            if job.direction != "protect" or not asked:
                raise _another(job)
            return job
        if asked:
            return job
        wanted = {fold(column.name) for column in columns}
        done = [column.name for column in job.columns if fold(column.name) in wanted]
        if done:
            raise MisuseError(
                f"already protected: {', '.join(done)} of {job.table}",
                hint=f"the command that did it: {job}",
            )
    return None


def to_undo_of(
    jobs: Sequence[Job],
    table: str,
    columns: Sequence[ColumnRequest],
    store: str,
    *,
    fold: Callable[[str], str],
) -> Job:
    """
    Return which of *jobs* `unprotect` with these arguments undoes, or goes on undoing.

    A `protect` that still fills can be undone too: the plaintext is where it was.

    Raises:
        MisuseError: there is none, or another has to be undone or finished first.
    """
    for job in jobs:
        if _is_under_way(job) and job.asked(store, columns, fold=fold):
            return job
        if job.direction == "unprotect" or job.phase != "done":
            raise _another(job)
    if not jobs:
        raise MisuseError(f"no column of {table} is protected", hint="there is nothing to undo")
    last = jobs[-1]
    wanted = {fold(column.name) for column in columns}
    if moved := [c.name for c in last.columns if c.reader and fold(c.name) in wanted]:
        raise MisuseError(
            f"{', '.join(moved)} of {last.table} was moved in from another library, whose ciphertext lacre does not write",
            hint="there is no way back but a backup; its values are read by the application, or exported",
        )
    if not last.asked(store, columns, fold=fold):
        raise MisuseError(
            f"the last job on {table} was: {last}",
            hint="give unprotect the same arguments; later jobs are undone before earlier ones",
        )
    return last


def _is_under_way(job: Job) -> bool:
    return job.direction == "unprotect" or job.phase == "fill"


def unchanged(present: Sequence[tuple[str, str, str]], left: Objects, by: str) -> None:
    """
    Make sure that the table, its indexes and its triggers are defined as the job left them.

    Raises:
        MisuseError: they are not; what differs is named.
    """
    if tuple(present) != left:
        changed = sorted({f"{kind} {name}" for kind, name, _ in set(present) ^ set(left)})
        raise MisuseError(
            f"the definitions are no longer what {by} made: {', '.join(changed)}",
            hint="undo these changes; they can be made again when the job is over",
        )


def signed_row(job: Job, trust: Trust) -> tuple[str, str, str, str, str, bytes]:
    """Return table, direction, phase, record, signer and signature of *job*'s row."""
    record = json.dumps(
        {
            "store": job.store,
            "columns": [
                asdict(column) | {"python_type": _type_name(column.python_type)}
                for column in job.columns
            ],
            "key": asdict(job.key),
            "original": job.original,
            "prepared": job.prepared,
            "final": job.final,
            "details": job.details,
        }
    )
    signer = trust.signer.fingerprint
    signature = trust.signer.sign(
        _signed_bytes(
            job.job_id,
            job.table,
            job.direction,
            job.phase,
            record,
            signer=signer,
            keystore=trust.keystore,
        )
    )
    return job.table, job.direction, job.phase, record, signer, signature


def _type_name(python_type: type) -> str:
    return "Enum" if issubclass(python_type, enum.Enum) else python_type.__name__


def _another(job: Job) -> MisuseError:
    return MisuseError(
        f"another job is under way on {job.table}: {job}",
        hint="finish that one first, by running it again",
    )


def _objects(listed: Sequence[Sequence[str]]) -> Objects:
    return tuple((kind, name, sql) for kind, name, sql in listed)


def _verified(row: Sequence[Any], trust: Trust) -> None:
    """Raise unless a trusted identity signed everything of *row* but its count."""
    job_id, table, direction, phase, record, signer, signature, _ = row
    texts = (table, direction, phase, record, signer)
    by_fingerprint = {verifier.fingerprint: verifier for verifier in trust.signers}
    try:
        # SQLite types values, not columns: what is signed here is text, and nothing else is.
        if not all(isinstance(text, str) for text in texts) or signer not in by_fingerprint:
            raise Tampered
        if not isinstance(signature, bytes) or not record.isascii():
            raise Tampered
        by_fingerprint[signer].verify(
            _signed_bytes(
                job_id, table, direction, phase, record, signer=signer, keystore=trust.keystore
            ),
            signature,
        )
    except (Tampered, MisuseError):
        error = Tampered()
        error.add_note(
            f"the row {job_id} of {JOB} is not what an operator of this key store signed; nothing of it was used"
        )
        error.hint = (
            f"restore the database, {JOB} included, from a backup; "
            "if the operator's identity was replaced, keep the old one's public text among [local] signers"
        )
        raise error from None


def read_row(row: Sequence[Any], trust: Trust) -> Job:
    """
    Return the job of *row*: id, table, direction, phase, record, signer, signature and count.

    Raises:
        Tampered: no trusted operator signed it as it is; a note says where.
    """
    _verified(row, trust)
    job_id, table, direction, phase, text, _, _, done = row
    record = json.loads(text)
    columns = (
        PlannedColumn(**(column | {"python_type": _TYPES[column["python_type"]]}))
        for column in record["columns"]
    )
    key = record["key"]
    return Job(
        job_id=job_id,
        table=table,
        direction=direction,
        phase=phase,
        store=record["store"],
        columns=tuple(columns),
        key=RowKey(columns=tuple(key["columns"]), added=key["added"], why=key["why"]),
        original=_objects(record["original"]),
        prepared=_objects(record["prepared"]),
        final=_objects(record["final"]),
        details=record["details"],
        # Not signed, because every batch changes it; shown, and acted on nowhere.
        done=done if isinstance(done, int) else 0,
    )
