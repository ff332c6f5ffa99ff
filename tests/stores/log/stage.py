# SPDX-License-Identifier: Apache-2.0
"""A log in an SQLite file, made by the real sequencer at moments that a test chooses, to be attacked."""

import datetime as dt
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from lacre.audit.entries import written
from lacre.audit.event import Event
from lacre.audit.keeping import Anchored, Explained, LookingClosed, LookingOpened, Purged
from lacre.audit.leaves import shard_name
from lacre.audit.notes import read_checkpoint
from lacre.audit.statements import Statement, sign_statement
from lacre.audit.verdict import Verdict
from lacre.audit.verification import Expected
from lacre.audit.verified import Verified
from lacre.kms.local import Identity
from lacre.kms.local.signing import IdentitySigner, verifier_of
from lacre.sinks.anchors.file import FileAnchor
from lacre.stores.log.log import AuditLog
from lacre.stores.log.remembered import Remembered
from lacre.stores.log.schema import CHECKPOINT, INBOX, SHARD
from lacre.stores.log.sequencer import Sequencer
from lacre.stores.log.sink import OWN, LogSink
from lacre.stores.log.verifying import Anchors, LogVerifier
from tests.audit.looks import STAMP, searched

AUDIT = Identity.create("svc:audit")
OPERATOR = Identity.create("operator")
STRANGER = Identity.create("operator")

# Two minutes before a month ends: every log of this stage has two shards.
BEGIN = dt.datetime(2026, 11, 30, 23, 58, tzinfo=dt.UTC).timestamp()
FIRST, SECOND = 202611, 202612


@dataclass(slots=True)
class Clock:
    """Time that goes on when it is told to."""

    now: float = BEGIN

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Stage:
    """A log, its clock, its sequencer and one writer; the anchor outside is a file beside it."""

    path: Path
    log: AuditLog
    clock: Clock
    sequencer: Sequencer
    sink: LogSink
    outside: FileAnchor

    def look(self, count: int = 1, *, principal: str = "svc:x", after: float = 1.0) -> None:
        """Hand over *count* events, one after another, and sequence them each time."""
        for _ in range(count):
            self.clock.now += after
            self.sink.append([event(principal, self.clock.now)])
            self.sequencer.turn()

    def burst(self, count: int, *, principal: str = "svc:x") -> None:
        """Hand over *count* events at once."""
        self.clock.now += 1
        self.sink.append([event(principal, self.clock.now) for _ in range(count)])
        self.sequencer.turn()

    def enter(self, *events: Event) -> None:
        """Put entries into the inbox as commands do: without a writer."""
        with self.log.writing() as connection:
            connection.execute(
                sa.insert(INBOX), [{"id": bytes.fromhex(each.id), "entry": written(each, STAMP)} for each in events]
            )  # fmt: skip
        self.sequencer.turn()

    def idle(self, minutes: int) -> None:
        """Let time pass, with heartbeats."""
        for _ in range(minutes):
            self.clock.now += 60
            self.sequencer.turn()

    def anchor(self) -> None:
        """Put the newest checkpoint outside, and say so in the log."""
        with self.log.reading() as connection:
            row = connection.execute(
                sa.select(CHECKPOINT)
                .order_by(CHECKPOINT.c.shard.desc(), CHECKPOINT.c.size.desc())
                .limit(1)
            ).one()
        self.outside.put(read_checkpoint(row.note, [verifier_of(AUDIT.public)]), row.note)
        self.enter(
            Anchored(anchor="outside", shard=shard_name(row.shard), size=row.size, root=row.root.hex(), time=self.clock.now, **OWN)
        )  # fmt: skip

    def statement(self, act: str, about: str, *, signer: Identity = OPERATOR) -> str:
        """Return a statement of the operator's, or of somebody else's."""
        said = Statement(app="shop", env="test", act=act, about=about, reason="maintenance", at=dt.datetime.fromtimestamp(self.clock.now, dt.UTC).isoformat())  # fmt: skip
        return sign_statement(said, IdentitySigner(signer))

    def explain(self, about: str, what: str, *, signer: Identity = OPERATOR) -> None:
        """Explain a problem."""
        note = self.statement("explained", f"{about} {what}", signer=signer)
        self.enter(Explained(about=about, what=what, statement=note, time=self.clock.now, **OWN))

    def retain(
        self, step: str, shard: int, size: int, root: str, *, signer: Identity = OPERATOR
    ) -> None:
        """Enter a purge, a hold or its end."""
        name = shard_name(shard)
        note = self.statement(
            step, f"{name} {size} {root}" if step == "purged" else name, signer=signer
        )
        if step != "purged":
            self.run(
                sa.update(SHARD)
                .where(SHARD.c.shard == shard)
                .values(hold="maintenance" if step == "held" else None)
            )
        self.enter(
            Purged(
                step=step,
                shard=name,
                size=size,
                root=root,
                statement=note,
                time=self.clock.now,
                **OWN,
            )
        )

    def opening(self, name: str, *, bound: int = 5, minutes: float = 1) -> None:
        """Open looking, as mode `strict` does."""
        until = dt.datetime.fromtimestamp(self.clock.now + minutes * 60, dt.UTC).isoformat()
        event = LookingOpened(opening=name, columns=("main.customers.email",), bound=bound, until=until, time=self.clock.now, principal="svc:x", roles=(), purpose="test", tenant="default")  # fmt: skip
        self.enter(event)

    def closing(self, name: str, looks: int = 1) -> None:
        """Close it."""
        self.enter(LookingClosed(opening=name, looks=looks, time=self.clock.now, principal="svc:x", roles=(), purpose="test", tenant="default"))  # fmt: skip

    def verify(
        self,
        *,
        known: Verified | None = None,
        anchors: Anchors | None = None,
        anchored: bool = False,
        later: float = 1.0,
        processes: int = 1,
        quiet: float = 120.0,
    ) -> Verdict:
        """Verify, as an auditor who knows the public texts does; *anchored*: with the anchor outside."""
        verifier = LogVerifier(
            self.log,
            expected=Expected(app="shop", env="test", quiet=round(quiet * 1e6)),
            signers=[verifier_of(AUDIT.public)],
            operators=[verifier_of(OPERATOR.public)],
            processes=processes,
        )
        now = int((self.clock.now + later) * 1_000_000)
        if anchored:
            anchors = {"outside": (now, self.outside.read())}
        return verifier.verify(now=now, known=known, anchors=anchors)

    def run(self, *statements: sa.Executable | str) -> None:
        """Do something to the database, with all rights on it."""
        with self.log.writing() as connection:
            for each in statements:
                if isinstance(each, str):
                    connection.exec_driver_sql(each)
                else:
                    connection.execute(each)

    def copy(self, directory: Path) -> "Stage":
        """Return the same log, in a file of its own."""
        self.log.close()
        # Past the lease of the sequencer that it is a copy of.
        made = opened(directory, Clock(self.clock.now + 20), source=self.path)
        if (self.path.parent / "outside.jsonl").exists():
            shutil.copy(self.path.parent / "outside.jsonl", directory / "outside.jsonl")
        return made

    def close(self) -> None:
        """Close connections."""
        self.log.close()


def event(principal: str, now: float) -> Event:
    """Return a search of *principal*."""
    return replace(searched(principal=principal), time=now)


def opened(
    directory: Path,
    clock: Clock | None = None,
    *,
    source: Path | None = None,
    heartbeat: float = 60.0,
) -> Stage:
    """Return a new log in *directory*, or a copy of the one at *source*."""
    clock = clock or Clock()
    path = directory / "audit.db"
    if source is not None:
        for each in source.parent.glob("*.db*"):
            shutil.copy(each, directory / each.name)
    log = AuditLog(f"sqlite:///{path}")
    if source is None:
        log.upgrade()
    sequencer = sequencer_of(log, clock, heartbeat=heartbeat)
    return Stage(
        path,
        log,
        clock,
        sequencer,
        LogSink(log, STAMP, clock=clock),
        FileAnchor("outside", directory / "outside.jsonl"),
    )


def sequencer_of(
    log: AuditLog,
    clock: Clock,
    *,
    heartbeat: float = 60.0,
    signer: Identity = AUDIT,
    remembered: Remembered | None = None,
    checked: bool = True,
) -> Sequencer:
    """Return a sequencer of *log*; *checked*: it knows the operators, and takes no statement of anybody else."""
    return Sequencer(
        log, STAMP, signer=lambda: IdentitySigner(signer), verifiers=[verifier_of(AUDIT.public)], heartbeat=heartbeat, operators=[verifier_of(OPERATOR.public)] if checked else None, remembered=remembered, clock=clock
    )  # fmt: skip


def codes(verdict: Verdict) -> list[str]:
    """Return what is wrong, as ``aspect code`` each once, sorted."""
    return sorted({f"{each.aspect} {each.code}" for each in verdict.problems})


__all__ = [
    "AUDIT",
    "BEGIN",
    "FIRST",
    "OPERATOR",
    "SECOND",
    "STRANGER",
    "Clock",
    "Stage",
    "codes",
    "event",
    "opened",
    "sequencer_of",
]
