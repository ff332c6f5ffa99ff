# SPDX-License-Identifier: Apache-2.0
"""
The sequencer: takes what waits in the inbox and in outboxes, and makes leaves of it, one after another.

One sequences at a time (`lacre.stores.log.lease`). Entries, tree, tallies and what was touched are
of one transaction, and an entry leaves the inbox in the same; so one that is killed loses and
repeats nothing. A checkpoint is signed when its leaves have committed, and only of a tree that
begins with what was appended last; what only a sequencer says is committed together with the
checkpoint that covers it, so that without one it is nobody's. Implements ``spec/evidence-log.md``, section 5. Has no
thread of its own (`lacre.stores.log.running`) and anchors nothing.
"""

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import final

import sqlalchemy as sa

from lacre._core.merkle import leaf_hash
from lacre.audit.entries import Stamp, moment, written
from lacre.audit.event import Event
from lacre.audit.keeping import Heartbeat, Sequencing
from lacre.audit.leaves import leaf_text, shard_name, shard_of
from lacre.audit.notes import (
    Checkpoint,
    Signer,
    Verifier,
    origin_of,
    read_checkpoint,
    sign_checkpoint,
)
from lacre.audit.summing import tally_key
from lacre.errors import ConfigurationError, EvidenceUnavailable, Tampered
from lacre.stores.log import loading
from lacre.stores.log.head import Head, load_head, rested
from lacre.stores.log.lease import Lease
from lacre.stores.log.log import AuditLog
from lacre.stores.log.outboxes import Outbox, Waiting
from lacre.stores.log.ready import Ready, ready, says_the_same
from lacre.stores.log.remembered import Remembered
from lacre.stores.log.schema import CHECKPOINT, INBOX, LEAF, SHARD, TOUCHED
from lacre.stores.log.sink import OWN
from lacre.stores.log.tree import StoredTree

__all__ = ["Sequencer"]

_BATCH = 1000  # entries of one transaction; a checkpoint is signed after each that is full
_BACK = 5_000_000  # microseconds a clock may be behind the last leaf: what time services correct
_ROOM = 64 * 1024 * 1024  # bytes of entries that are held at once; one that is longer is none
_PASSED = 1000  # entries that are none and are left out by a statement; more are set aside


@final
class Sequencer:
    """
    Sequences *log*, for as long as it holds the lease.

    Args:
        signer: makes the one who signs checkpoints, when the first is due.
        verifiers: whose checkpoints are believed.
        heartbeat: seconds without a leaf after which one says that somebody is there.
        outboxes: where entries wait besides the inbox.
        lease: seconds after which another takes over from one that says nothing.
        operators: whose statements are taken; None leaves that to verification.
        remembered: where it keeps what it signed last, outside the database.
    """

    def __init__(
        self,
        log: AuditLog,
        stamp: Stamp,
        *,
        signer: Callable[[], Signer],
        verifiers: Collection[Verifier],
        heartbeat: float = 60.0,
        outboxes: Sequence[Outbox] = (),
        lease: float = 15.0,
        operators: Collection[Verifier] | None = None,
        remembered: Remembered | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._stamp = stamp
        self._signer = signer
        self._opened: Signer | None = None
        self._verifiers = verifiers
        self._operators = operators
        self._heartbeat = int(heartbeat * 1_000_000)
        self.outboxes = tuple(outboxes)
        self._clock = clock
        self._lease = Lease(length=lease)
        self._head: Head | None = None
        self._ahead: Future[tuple[list[Waiting], list[Ready], bool]] | None = None
        self._passed: dict[str, set[int]] = {}
        self._aside = 0  # of those of the inbox, how many were set aside
        self._more = False  # whether the inbox had more than was read
        # What was appended here last, by month, size and root: whoever sets the database back, or
        # adds to it, does not have this process sign another tree.
        self._vouched: tuple[int, int, bytes] | None = None
        self._remembered = remembered
        self._note = ""  # of the newest checkpoint that was signed here
        self.away: list[str] = []  # stores whose outbox did not answer in the last turn

    @property
    def holds(self) -> bool:
        """Whether it believes to be the one who sequences."""
        return self._lease.epoch is not None

    @property
    def passed(self) -> int:
        """How many entries it passed over, because no writer of lacre's wrote them."""
        return self._aside + sum(map(len, self._passed.values()))

    def after_fork(self) -> None:
        """In a child: hold nothing, and leave the parent's connections alone."""
        self._lease.forget()
        self._head = self._ahead = None
        for outbox in self.outboxes:
            outbox.after_fork()

    def close(self) -> None:
        """Close the connections to outboxes. The next turn opens new ones."""
        for outbox in self.outboxes:
            outbox.close()

    def turn(self) -> int:
        """
        Sequence what waits now; return how many entries that was, those of the log itself not counted.

        Takes the lease first where nobody holds it, and does nothing where another does.

        Raises:
            ConfigurationError: the clock was set back, or nobody can sign.
            EvidenceUnavailable: a database does not answer, or another sequencer took over.
            Tampered: the tree is not the one that was signed last; nothing is signed over it.
        """
        try:
            total = self._turn()
            if self.holds:
                self._sign()
                self._keep()
        except BaseException:
            # What was done in memory may have rolled back: the next turn reads it anew.
            self._head = self._ahead = None
            self._note = ""
            raise
        return total

    def _turn(self) -> int:
        if not self.holds and not self._begin():
            return 0
        self.away = []
        total = 0
        with ThreadPoolExecutor(1, "lacre-sequencer-reads") as reads:
            while (done := self._batch(reads)) or self._more:
                total += done
                if done >= _BATCH:
                    self._sign()
        self._beat()
        return total

    def rest(self) -> None:
        """Sequence what waits, say so, sign, and let another take the lease at once. Raises as `turn` does."""
        try:
            self._turn()
            if not self.holds:
                return
            head = self._load_once()
            with self._log.writing() as connection:
                now = self._now(head)
                self._lease.hold(connection, now)
                self._append(connection, head, now, [self._own(self._step("rested", head))])
                self._put_checkpoint(connection, head, now)
                self._lease.release(connection)
            self._remember(head)
            self._keep()
        finally:
            self._head = self._ahead = None
            self._note = ""
            self._lease.forget()

    # Taking over

    def _begin(self) -> bool:
        # Who cannot sign does not keep the lease from those who can.
        self._signs()
        with self._log.writing() as connection:
            if not self._lease.take(connection, self._micros()):
                return False
            try:
                head = self._load(connection)
                now = self._now(head)
                step = "began" if head is None or rested(connection, head) else "took-over"
                if head is None:
                    head = self._open(connection, now, None)
                self._append(connection, head, now, [self._own(self._step(step, head))])
                self._put_checkpoint(connection, head, now)
                loading.put_back(connection, INBOX)
            except BaseException:
                self._lease.forget()
                raise
        self._head = head
        self._remember(head)
        self._passed.pop("", None)
        self._aside = 0
        return True

    def _load_once(self) -> Head:
        if self._head is None:
            with self._log.snapshot() as connection:
                self._head = self._load(connection)
        if self._head is None:
            raise Tampered.signed("the log")
        return self._head

    def _load(self, connection: sa.Connection) -> Head | None:
        vouched = self._vouched
        if vouched is None and self._remembered is not None:
            vouched = self._remembered.read(self._verifiers)
        return load_head(connection, self._stamp, self._verifiers, vouched=vouched)

    # Sequencing

    def _batch(self, reads: ThreadPoolExecutor) -> int:
        head = self._load_once()
        outside = self._outside()
        ahead, self._ahead = self._ahead, None
        inside, found, self._more = self._inside() if ahead is None else ahead.result()
        sequenced = len(found)
        self._set_aside(head)
        if self._more and self._log.schema is not None:
            # There is more: it is read while this is written.
            gone = [each.position for each in inside]
            with suppress(RuntimeError):  # no thread begins any more where the process is ending
                self._ahead = reads.submit(self._inside, gone)
        for outbox, some in outside:
            found += self._read(outbox.name, some)
        if not found and not self._due(self._now(head)):
            return 0
        with self._log.writing() as connection:
            now = self._now(head)
            self._lease.hold(connection, now)
            there = loading.known(connection, [each.id for each in found]) if found else {}
            fresh: list[Ready] = []
            for each in found:
                if each.id not in there:
                    there[each.id] = each.line
                    fresh.append(each)
            self._pass_over("", inside, there)
            for outbox, some in outside:
                self._pass_over(outbox.name, some, there)
            self._append(connection, head, now, fresh)
            if not head.signed:
                self._put_checkpoint(connection, head, now)  # a new month's opening
            loading.remove(connection, INBOX, self._settled("", inside))
        self._remember(head)
        for outbox, some in outside:
            gone = self._settled(outbox.name, some)
            try:
                outbox.remove(gone)
            except EvidenceUnavailable:
                # They are leaves, and known by their ids when they are read again.
                self.away.append(outbox.name)
            else:
                sequenced += len(gone)
        return sequenced

    def _inside(self, gone: Sequence[int] = ()) -> tuple[list[Waiting], list[Ready], bool]:
        # Everything that is there but what is being written: an entry that committed late stands
        # before those of its writer that came after it. And whether there is more.
        these = [*gone, *self._passed.get("", ())]
        with self._log.reading() as connection:
            found = loading.first(connection, INBOX, _BATCH, without=these, room=_ROOM)
        waiting = [Waiting(row.position, bytes(row.id), bytes(row.entry)) for row in found.rows]
        self._passed.setdefault("", set()).update(found.too_long)
        return waiting, self._read("", waiting), found.more

    def _set_aside(self, head: Head) -> None:
        # More than a statement can be told to leave out. They stay in the inbox, under numbers below
        # zero, until somebody has looked, and are read again by whoever sequences next.
        passed = self._passed.get("", set())
        if len(passed) <= _PASSED:
            return
        with self._log.writing() as connection:
            self._lease.hold(connection, self._now(head))
            loading.set_aside(connection, INBOX, sorted(passed))
        self._aside += len(passed)
        passed.clear()

    def _outside(self) -> list[tuple[Outbox, list[Waiting]]]:
        found = []
        for outbox in self.outboxes:
            if outbox.name in self.away:
                continue
            if len(self._passed.get(outbox.name, ())) > _PASSED:
                self.away.append(outbox.name)  # nothing else is stopped by what waits there
                continue
            try:
                passed = tuple(self._passed.get(outbox.name, ()))
                some, too_long = outbox.waiting(_BATCH, passed, room=_ROOM)
            except EvidenceUnavailable:
                # Others are sequenced all the same; what waits there waits on.
                self.away.append(outbox.name)
                continue
            self._passed.setdefault(outbox.name, set()).update(too_long)
            if some:
                found.append((outbox, some))
        return found

    def _read(self, place: str, waiting: Sequence[Waiting]) -> list[Ready]:
        found = []
        for each in waiting:
            try:
                one = ready(
                    each.entry,
                    accepted=self._stamp,
                    numbered=not place,
                    operators=self._operators,
                )
                if one.id != each.id:
                    raise Tampered.signed("an entry of the log")
                found.append(one)
            except Tampered:
                # Left where it is, for somebody to look at: a log never holds what it cannot read.
                self._passed.setdefault(place, set()).add(each.position)
        return found

    def _pass_over(self, place: str, waiting: Sequence[Waiting], there: dict[bytes, bytes]) -> None:
        # An id that somebody else took first does not make evidence go away: what says something
        # else under it is left where it is.
        for each in waiting:
            if not says_the_same(there.get(each.id, each.entry), each.entry):
                self._passed.setdefault(place, set()).add(each.position)

    def _settled(self, place: str, waiting: Sequence[Waiting]) -> list[int]:
        passed = self._passed.get(place, ())
        return [each.position for each in waiting if each.position not in passed]

    def _append(
        self,
        connection: sa.Connection,
        head: Head,
        now: int,
        entries: Sequence[Ready],
    ) -> None:
        if not entries:
            return
        if shard_of(now) != head.shard:
            self._turn_month(connection, head, now)
        leaves: list[loading.Row] = []
        touched: list[loading.Row] = []
        hashes: list[bytes] = []
        counts: dict[loading.Row, list[int]] = {}
        shard, seq, before = head.shard, head.tree.size, leaf_text(now, b"")
        for each in entries:
            drawn = each.drawn
            hashes.append(leaf_hash(before + each.line))
            leaves.append(loading.leaf_row(shard, seq, each.id, now, drawn, hashes[-1], each.line))
            touched += loading.touched_rows(shard, seq, drawn)
            sums = counts.setdefault(tally_key(drawn), [0, 0])
            sums[0] += 1
            sums[1] += drawn.count
            seq += 1
        loading.insert(connection, LEAF, leaves)
        loading.insert(connection, TOUCHED, touched)
        loading.tally(connection, counts)
        head.tree.extend(connection, hashes)
        head.sequenced = now

    def _due(self, now: int) -> bool:
        # The lease is renewed in time, whether or not there is something to do.
        return self._lease.until - now < self._lease.length // 2

    def _beat(self) -> None:
        head = self._load_once()
        if self._now(head) - head.sequenced < self._heartbeat:
            return
        with self._log.writing() as connection:
            now = self._now(head)
            self._lease.hold(connection, now)
            beat = Heartbeat(time=now / 1_000_000, **OWN)
            self._append(connection, head, now, [self._own(beat)])
            self._put_checkpoint(connection, head, now)
        self._remember(head)

    # Shards

    def _turn_month(self, connection: sa.Connection, head: Head, now: int) -> None:
        # Every leaf of the old month has committed: this is the first of the new one.
        if head.tree.size > head.signed:
            self._put_checkpoint(connection, head, now)
        connection.execute(
            sa.update(SHARD).where(SHARD.c.shard == head.shard).values(state="closed")
        )
        opened = self._open(connection, now, head)
        head.shard, head.tree, head.signed = opened.shard, opened.tree, 0
        head.sequenced = now

    def _open(self, connection: sa.Connection, now: int, before: Head | None) -> Head:
        shard = shard_of(now)
        connection.execute(sa.insert(SHARD).values(shard=shard, state="open", hold=None))
        head = Head(shard=shard, tree=StoredTree.load(connection, shard), sequenced=now, signed=0)
        event = Sequencing(
            step="opened",
            epoch=self._lease.epoch or 0,
            since="" if before is None else moment(before.sequenced / 1_000_000),
            before="" if before is None else shard_name(before.shard),
            size=0 if before is None else before.tree.size,
            root="" if before is None else before.tree.root().hex(),
            time=now / 1_000_000,
            **OWN,
        )
        self._append(connection, head, now, [self._own(event)])
        return head

    # Signing

    def _sign(self) -> None:
        head = self._load_once()
        if head.tree.size == head.signed:
            return
        with self._log.writing() as connection:
            now = self._now(head)
            self._lease.hold(connection, now)
            self._put_checkpoint(connection, head, now)

    def _put_checkpoint(self, connection: sa.Connection, head: Head, now: int) -> None:
        signer = self._signs()
        checkpoint = Checkpoint(
            origin=origin_of(self._stamp.app, self._stamp.env, head.shard),
            size=head.tree.size,
            root=head.tree.root(),
        )
        note = sign_checkpoint(checkpoint, signer)
        # A signature that does not verify would leave a log that nobody can go on with.
        read_checkpoint(note, self._verifiers)
        connection.execute(
            sa.insert(CHECKPOINT).values(
                shard=head.shard,
                size=checkpoint.size,
                time=now,
                root=checkpoint.root,
                note=note,
            )
        )
        head.signed = checkpoint.size
        self._note = note

    def _remember(self, head: Head) -> None:
        # When it has committed, and not before: what rolled back is no part of the log.
        self._vouched = (head.shard, head.tree.size, head.tree.root())

    def _keep(self) -> None:
        if self._remembered is not None and self._note:
            self._remembered.write(self._note)

    def _signs(self) -> Signer:
        if self._opened is None:
            signer = self._signer()
            known = {(each.name, each.key_id) for each in self._verifiers}
            if (signer.name, signer.key_id) not in known:
                raise ConfigurationError(
                    f"[audit] signers do not have {signer.name}, the identity that signs here: nobody would believe its checkpoints",
                    hint="add its public text to [audit] signers",
                )
            self._opened = signer
        return self._opened

    # Time

    def _micros(self) -> int:
        return int(self._clock() * 1_000_000)

    def _now(self, head: Head | None) -> int:
        now = self._micros()
        if head is None or now >= head.sequenced:
            return now
        if head.sequenced - now > _BACK:
            raise ConfigurationError(
                f"the clock says {moment(now / 1_000_000)}, and the last entry was sequenced at {moment(head.sequenced / 1_000_000)}: a log's time does not go back",
                hint="set the clock right; what waits is sequenced when it is. If the clock was ahead before, wait until that time",
            )
        return head.sequenced

    def _step(self, step: str, head: Head) -> Sequencing:
        fresh = step == "began" and head.tree.size == 1 and head.signed == 0
        return Sequencing(
            step=step,
            epoch=self._lease.epoch or 0,
            since="" if fresh else moment(head.sequenced / 1_000_000),
            time=self._clock(),
            **OWN,
        )

    def _own(self, event: Event) -> Ready:
        return ready(written(event, self._stamp))
