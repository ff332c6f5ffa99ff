# SPDX-License-Identifier: Apache-2.0
"""
A stored log, verified: everything in it, or what is new since it was verified last.

Reads; `lacre.audit.verification` and `lacre.audit.judging` decide. Long logs are examined by
several processes, each with connections of its own. Implements ``spec/evidence-log.md``, section 8.
Changes nothing, in the log or elsewhere.
"""

import gc
import multiprocessing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import final

import sqlalchemy as sa

from lacre._core.merkle import TILE as WIDTH
from lacre._core.merkle import Frontier, Tiles
from lacre.audit.comparing import StoredLeaf
from lacre.audit.judging import Verification
from lacre.audit.leaves import shard_name
from lacre.audit.notes import Checkpoint, Verifier, origin_of, read_checkpoint
from lacre.audit.stretches import STRETCH
from lacre.audit.verdict import KEPT, Signed, Verdict
from lacre.audit.verification import (
    Aspect,
    Examined,
    Expected,
    Problem,
    examine,
)
from lacre.audit.verified import Verified
from lacre.errors import ConfigurationError, Tampered
from lacre.stores.log import loading
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import CHECKPOINT, LEAF, SHARD, TILE
from lacre.stores.log.summed import StoredSums

__all__ = ["Anchors", "LogVerifier"]

# What an anchor gave when it was read, at which moment (microseconds); None where it could not be.
Anchors = Mapping[str, tuple[int, Sequence[str]] | None]

_ROW = (
    LEAF.c.seq, LEAF.c.sequenced, LEAF.c.id, LEAF.c.time, LEAF.c.action, LEAF.c.step, LEAF.c.status, LEAF.c.principal,
    LEAF.c.tenant, LEAF.c["class"], LEAF.c.place, LEAF.c.correlation, LEAF.c.count, LEAF.c.hash, LEAF.c.entry,
)  # fmt: skip
_APART = 16 * STRETCH  # fewer leaves are examined here: starting a process takes as long as these
_HASH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    shard: int
    begin: int
    end: int
    heads: tuple[int, ...]
    frontier: tuple[int, tuple[bytes, ...]]
    expected: Expected
    secret: bytes | None


@final
class LogVerifier:
    """
    Verifies *log*.

    Args:
        signers: whose checkpoints are believed.
        operators: whose statements are.
        processes: how many may examine it at once.
    """

    def __init__(
        self,
        log: AuditLog,
        *,
        expected: Expected,
        signers: Collection[Verifier],
        operators: Collection[Verifier],
        processes: int = 1,
    ) -> None:
        if not signers:
            raise ConfigurationError(
                "lacre.toml does not say whose checkpoints are believed",
                hint='[audit] signers = ["..."]: the public texts of who signs the log',
            )
        self._log = log
        self._expected = expected
        self._signers = signers
        self._operators = operators
        self._processes = processes

    def verify(
        self,
        *,
        now: int,
        known: Verified | None = None,
        before: Verified | None = None,
        anchors: Anchors | None = None,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> Verdict:
        """
        Return what is wrong with the log at the moment *now*.

        Args:
            known: what was verified before: only what is new is read.
            before: the same, and everything is read: it is compared as anchors are.
            anchors: the checkpoints that were put elsewhere, as they were read there.
            progress: called with leaves examined, and how many there are.
        """
        course = Verification(self._expected, operators=self._operators, known=known)
        put = self._anchored(course, anchors or {})
        shards = self._shards(course)
        signed = {shard: self._signed(course, shard, put, known) for shard in shards}
        for shard, head in (before.heads if before is not None else {}).items():
            signed.setdefault(shard, []).append(Signed(size=head.size, root=head.root, anchor=KEPT))
        if (kept := known or before) is not None:
            for shard in kept.heads.keys() - set(shards):
                self._say(
                    course,
                    Aspect.COMPLETENESS,
                    "removed",
                    f"{shard_name(shard)} is not there any more",
                    shard,
                )
        for shard in {shard for found in put.values() for shard in found} - set(shards):
            self._say(
                course,
                Aspect.ANCHORED,
                "rollback",
                f"an anchor has {shard_name(shard)}, and the log does not",
                shard,
            )
        counts = {shard: self._leaves(shard) for shard in shards}
        total, done, pending = sum(counts.values()), 0, 0
        # Sums are of all leaves: who reads only the new ones has nothing to compare them with.
        sums = StoredSums(self._log) if known is None else None
        secret = None if sums is None else sums.secret
        for shard in shards:
            state, held = self._state(shard)
            newest = max(
                (each for each in signed[shard] if not each.anchor), key=_size, default=None
            )
            leaves = counts[shard]
            if known is not None and shard < known.shard:
                done += leaves
                if shard in known.heads:
                    course.passed(shard, newest, state=state, held=held, leaves=leaves)
                else:
                    self._say(
                        course,
                        Aspect.INTEGRITY,
                        "fork",
                        f"{shard_name(shard)} was not there when the log was last verified",
                        shard,
                    )
                continue
            if leaves == 0:
                course.absent(shard, newest, held=held)
                continue
            first, count, frontier = course.begin(
                shard, signed[shard], state=state, held=held, leaves=leaves
            )
            tiles = _StoredTiles(self._log, shard) if first == 0 else None
            for examined in self._examined(
                shard, first, first + count, signed[shard], frontier, secret
            ):
                course.absorb(examined)
                if sums is not None:
                    sums.take(examined)
                if tiles is not None:
                    tiles.take(course, examined)
                progress(done + examined.end, total)
            if tiles is not None:
                tiles.end(course)
            done += leaves
            pending = leaves - first - count
            if pending:
                self._unsigned(course, shard, first + count, now)
            progress(done, total)
        if sums is not None:
            sums.end(course, shards, gone=[shard for shard in shards if counts[shard] == 0])
        for name, found in (anchors or {}).items():
            if found is not None:
                course.anchored(name, self._notes(name, found[1], course, tell=False), at=found[0])
        return course.verdict(now=now, pending=pending)

    def _anchored(
        self, course: Verification, anchors: Anchors
    ) -> dict[str, dict[int, list[Checkpoint]]]:
        put: dict[str, dict[int, list[Checkpoint]]] = {}
        for name, found in anchors.items():
            put[name] = {}
            if found is None:
                self._say(
                    course, Aspect.ANCHORED, "unreadable", f"anchor {name} could not be read", 0
                )
                continue
            for each in self._notes(name, found[1], course, tell=True):
                year, _, month = each.origin.rpartition("/")[2].partition("-")
                put[name].setdefault(int(year) * 100 + int(month), []).append(each)
        return put

    def _notes(
        self, name: str, notes: Sequence[str], course: Verification, *, tell: bool
    ) -> Iterator[Checkpoint]:
        ours = f"lacre-audit/{self._expected.app}/{self._expected.env}/"
        for note in notes:
            try:
                found = read_checkpoint(note, self._signers)
                shard = found.origin.removeprefix(ours).replace("-", "")
                if found.origin != origin_of(self._expected.app, self._expected.env, int(shard)):
                    raise Tampered
            except (Tampered, ValueError):
                if tell:
                    self._say(
                        course,
                        Aspect.ANCHORED,
                        "foreign",
                        f"anchor {name} holds something that no signer of this log signed",
                        0,
                    )
                continue
            yield found

    def _shards(self, course: Verification) -> list[int]:
        with self._log.reading() as connection:
            found: set[object] = set()
            for table in (SHARD, CHECKPOINT):
                found |= set(connection.scalars(sa.select(table.c.shard).distinct()))
            # By steps, not DISTINCT: there are millions of leaves and a few months.
            after: object = -1
            step = sa.select(sa.func.min(LEAF.c.shard))
            while (shard := connection.scalar(step.where(LEAF.c.shard > after))) is not None:
                found.add(shard)
                after = shard
        # SQLite keeps text where a number belongs, for whoever writes it there.
        shards = {each for each in found if isinstance(each, int)}
        if len(shards) < len(found):
            self._say(course, Aspect.INTEGRITY, "edited", "something is of no month", 0)
        return sorted(shards)

    def _leaves(self, shard: int) -> int:
        query = sa.select(sa.func.max(LEAF.c.seq)).where(LEAF.c.shard == shard)
        with self._log.reading() as connection:
            newest = connection.scalar(query)
            if newest is not None and not isinstance(newest, int):
                newest = connection.scalar(query.where(LEAF.c.seq < 2**62))
        return 0 if newest is None else int(newest) + 1

    def _state(self, shard: int) -> tuple[str, bool]:
        with self._log.reading() as connection:
            row = connection.execute(
                sa.select(SHARD.c.state, SHARD.c.hold).where(SHARD.c.shard == shard)
            ).one_or_none()
        return ("unknown", False) if row is None else (row.state, row.hold is not None)

    def _signed(
        self,
        course: Verification,
        shard: int,
        put: Mapping[str, Mapping[int, Sequence[Checkpoint]]],
        known: Verified | None,
    ) -> list[Signed]:
        origin = origin_of(self._expected.app, self._expected.env, shard)
        found: list[Signed] = []
        query = sa.select(CHECKPOINT.c.size, CHECKPOINT.c.root, CHECKPOINT.c.note)
        query = query.where(CHECKPOINT.c.shard == shard)
        if known is not None and shard <= known.shard:
            # Those before were verified; the newest says how far the log goes.
            newest = sa.select(sa.func.max(CHECKPOINT.c.size)).where(CHECKPOINT.c.shard == shard)
            new = CHECKPOINT.c.size == newest.scalar_subquery()
            if shard == known.shard:
                new |= CHECKPOINT.c.size > known.frontier.size
            query = query.where(new)
        with self._log.reading() as connection:
            rows = connection.execute(query.order_by(CHECKPOINT.c.size)).all()
        for size, root, note in rows:
            try:
                checkpoint = read_checkpoint(note, self._signers)
                if (checkpoint.origin, checkpoint.size, checkpoint.root) != (
                    origin,
                    size,
                    bytes(root),
                ):
                    raise Tampered
            except (Tampered, TypeError, ValueError, AttributeError):
                self._say(
                    course,
                    Aspect.INTEGRITY,
                    "checkpoint",
                    f"the checkpoint of {size} leaves is not one that a signer of this log signed",
                    shard,
                )
                continue
            found.append(Signed(size=size, root=bytes(root)))
        for name, by_shard in put.items():
            found += [
                Signed(size=each.size, root=each.root, anchor=name)
                for each in by_shard.get(shard, ())
            ]
        return found

    def _examined(
        self, shard: int, begin: int, end: int, signed: Sequence[Signed], frontier: Frontier, secret: bytes | None
    ) -> Iterator[Examined]:  # fmt: skip
        tasks = list(_tasks(shard, begin, end, signed, frontier, self._expected, secret))
        if self._processes < 2 or end - begin < _APART:
            for task in tasks:
                yield _examine(self._log, task)
            return
        # Spawned: a fork would share this process's connections, and its threads' locks.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            self._processes,
            mp_context=context,
            initializer=_open,
            initargs=(
                self._log.database.engine.url.render_as_string(hide_password=False),
                self._log.schema,
            ),
        ) as pool:
            waiting: list[Future[Examined]] = []
            for task in tasks:
                waiting.append(pool.submit(_examine_apart, task))
                if len(waiting) > 2 * self._processes:
                    yield waiting.pop(0).result()
            for each in waiting:
                yield each.result()

    def _unsigned(self, course: Verification, shard: int, seq: int, now: int) -> None:
        with self._log.reading() as connection:
            moments = connection.execute(
                sa.select(sa.func.min(LEAF.c.sequenced), sa.func.max(LEAF.c.sequenced)).where(
                    LEAF.c.shard == shard, LEAF.c.seq >= seq
                )
            ).one()
        # In time to come, too: a log that rests has no sequencer whom such a moment would stop.
        # SQLite keeps text where a number belongs, for whoever writes it there.
        if any(
            each is not None
            and not (isinstance(each, int) and abs(now - each) <= self._expected.quiet)
            for each in moments
        ):
            self._say(
                course,
                Aspect.COMPLETENESS,
                "unsigned",
                f"leaves from {seq} on are not signed: no sequencer runs, or somebody else added them",
                shard,
                seq,
            )

    @staticmethod
    def _say(
        course: Verification,
        aspect: Aspect,
        code: str,
        said: str,
        shard: int,
        seq: int | None = None,
    ) -> None:
        course.tell(Problem(aspect=aspect, code=code, said=said, shard=shard, seq=seq))


class _StoredTiles:
    # The tiles of a shard against its leaves: level 1 by the stretches, those above by level 1.

    def __init__(self, log: AuditLog, shard: int) -> None:
        self._shard = shard
        self._tiles = Tiles()  # of tiles: what are leaves to it are the hashes of level 1
        self._wanted: dict[tuple[int, int], bytearray] = {}
        self._whole = True
        self._count = 0
        with log.reading() as connection:
            rows = connection.execute(
                sa.select(TILE.c.level, TILE.c.index, TILE.c.hashes).where(TILE.c.shard == shard)
            )
            self._stored = {(row[0], row[1]): row[2] for row in rows if isinstance(row[2], bytes)}

    def take(self, course: Verification, examined: Examined) -> None:
        self._whole &= examined.whole
        made = [(1, self._count + at, each) for at, each in enumerate(examined.tiles)]
        self._count += len(made)
        made += [
            (level + 1, place, each) for level, place, each in self._tiles.extend(examined.tiles)
        ]
        for level, place, each in made:
            self._wanted.setdefault((level, place // WIDTH), bytearray()).extend(each)

    def end(self, course: Verification) -> None:
        if not self._whole:
            return
        wrong = sorted(
            at
            for at, hashes in self._wanted.items()
            if not self._stored.get(at, b"").startswith(hashes)
        )
        for level, index in wrong[:10]:
            course.tell(
                Problem(
                    aspect=Aspect.INTEGRITY,
                    code="tile",
                    said=f"tile {index} of level {level} is not of these leaves: proofs made of it will not verify",
                    shard=self._shard,
                    seq=index * WIDTH ** (level + 1),
                )
            )


def _size(signed: Signed) -> int:
    return signed.size


def _tasks(
    shard: int,
    begin: int,
    end: int,
    signed: Sequence[Signed],
    frontier: Frontier,
    expected: Expected,
    secret: bytes | None,
) -> Iterator[_Task]:
    sizes = sorted({each.size for each in signed if begin < each.size <= end})
    held, at = frontier, 0
    while begin < end:
        until = min(end, begin - begin % STRETCH + STRETCH)
        last = at
        while last < len(sizes) and sizes[last] <= until:
            last += 1
        yield _Task(
            shard=shard, begin=begin, end=until, heads=tuple(sizes[at:last]),
            frontier=(held.size, held.hashes), expected=expected, secret=secret,
        )  # fmt: skip
        begin, at, held = until, last, Frontier()


def _examine(log: AuditLog, task: _Task) -> Examined:
    with log.reading() as connection:
        rows = loading.stored(connection, LEAF, _ROW, task.shard, task.begin, task.end)
    return examine(
        map(StoredLeaf._make, rows),
        task.shard,
        task.begin,
        task.end,
        expected=task.expected,
        heads=task.heads,
        frontier=Frontier(*task.frontier),
        secret=task.secret,
    )


_opened: AuditLog | None = None


def _open(url: str, schema: str | None) -> None:
    global _opened
    gc.disable()  # millions of small objects, none of which refers to itself, in a process that ends soon
    _opened = AuditLog(url) if schema is None else AuditLog(url, schema=schema)


def _examine_apart(task: _Task) -> Examined:
    assert _opened is not None
    return _examine(_opened, task)
