# SPDX-License-Identifier: Apache-2.0
"""
Judging a log: what its stretches say together, against what was signed and anchored.

`Verification` is given shards, their heads and the stretches that `lacre.audit.verification`
examined, in order, and says at the end what is wrong. Implements ``spec/evidence-log.md``, section
8. Reads no database, no anchor and no clock.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from lacre._core.merkle import Frontier
from lacre.audit import stretches
from lacre.audit.leaves import shard_name, written_moment
from lacre.audit.notes import Checkpoint, Verifier
from lacre.audit.statements import Statement, held_shards, read_statement
from lacre.audit.stretches import grown_to, split
from lacre.audit.verdict import KEPT, ShardVerdict, Signed, Verdict
from lacre.audit.verification import (
    Aspect,
    Examined,
    Expected,
    Mark,
    Problem,
    Subject,
    tell_number,
    tell_overdrawn,
    tell_silence,
)
from lacre.audit.verified import Head, Verified
from lacre.errors import Tampered

__all__ = ["Verification"]

_DAY = 86_400 * 1_000_000


@dataclass(slots=True)
class _Shard:
    shard: int
    state: str
    held: bool
    signed: dict[int, list[Signed]]
    limit: int
    tree: Frontier
    end: Frontier
    root: bytes = b""
    good: int = 0
    anchored: int = 0
    torn: bool = False
    forked: bool = False


@final
class Verification:
    """
    A verification under way.

    Args:
        operators: whose statements count.
        known: what was verified before, to go on from; None verifies everything.
    """

    def __init__(
        self, expected: Expected, *, operators: Collection[Verifier], known: Verified | None = None
    ) -> None:
        self._expected = expected
        self._operators = operators
        self._known = known
        self._problems: list[Problem] = []
        self._untold = 0
        self._events = 0
        self._last = known.last if known else 0
        self._rests = known.rests if known else False
        self._writers = dict(known.writers) if known else {}
        self._openings = dict(known.openings) if known else {}
        self._done: list[_Shard] = []
        self._now: _Shard | None = None
        self._statements: list[Statement] = []
        self._absent: list[tuple[int, int, bytes]] = []
        self._anchors: dict[str, tuple[int, int]] = {}
        self._put: list[tuple[int, str, int, int]] = []

    def tell(self, problem: Problem) -> None:
        """Take note of a problem that somebody else found."""
        self._problems.append(problem)

    def begin(
        self, shard: int, signed: Sequence[Signed], *, state: str, held: bool, leaves: int
    ) -> tuple[int, int, Frontier]:
        """
        Go on with *shard*, which has *leaves* leaves and was signed and anchored as *signed* says.

        Returns the first leaf to examine, how many there are to the newest checkpoint, and the
        frontier that the first stretch goes on from.
        """
        name = shard_name(shard)
        limit = max((each.size for each in signed if not each.anchor), default=0)
        first, whole, part = 0, Frontier(), Frontier()
        if self._known is not None and shard == self._known.shard:
            first = self._known.frontier.size
            whole, part = split(self._known.frontier)
            if limit < first:
                self._say(
                    Aspect.COMPLETENESS,
                    "rollback",
                    f"{name} has {limit} signed leaves, and had {first} when it was last verified",
                    shard,
                )
        by_size: dict[int, list[Signed]] = {}
        for each in signed:
            if each.size > limit:
                self._say(
                    Aspect.ANCHORED,
                    "rollback",
                    f"{each.who} has {name} with {each.size} leaves, and the log has signed only {limit}: it was set back",
                    shard,
                )
            elif each.size > first:
                by_size.setdefault(each.size, []).append(each)
        if limit > leaves:
            which = f"leaves {leaves} to {limit - 1}" if leaves else "all leaves"
            self._say(
                Aspect.COMPLETENESS,
                "cut",
                f"{which} of {name} are signed and missing: its end was cut off",
                shard,
                seq=leaves,
            )
        self._now = _Shard(shard, state, held, by_size, limit, whole, Frontier())
        if self._known is not None and first:
            self._now.end, self._now.good = self._known.frontier, first
            self._now.root = self._now.end.root()
        self._done.append(self._now)
        return first, max(0, min(limit, leaves) - first), part

    def absent(self, shard: int, head: Signed | None, *, held: bool) -> None:
        """Go on past *shard*, of which there are no leaves: purged, or removed."""
        if head is None:
            return
        self._absent.append((shard, head.size, head.root))
        passed = _Shard(
            shard,
            "purged",
            held,
            {},
            head.size,
            Frontier(),
            Frontier(),
            root=head.root,
            good=head.size,
        )
        self._done.append(passed)

    def passed(
        self, shard: int, head: Signed | None, *, state: str, held: bool, leaves: int
    ) -> None:
        """Go on past *shard*, which was verified before: its head is what it was then."""
        assert self._known is not None
        known = self._known.heads[shard]
        if head is None or (head.size, head.root) != (known.size, known.root):
            self._say(
                Aspect.INTEGRITY,
                "fork",
                f"{shard_name(shard)} is not what it was when it was last verified",
                shard,
            )
        if head is not None and 0 < leaves < head.size:
            self._say(
                Aspect.COMPLETENESS,
                "cut",
                f"leaves of {shard_name(shard)} are missing",
                shard,
                seq=leaves,
            )
        if head is not None and leaves == 0:
            self._absent.append((shard, head.size, head.root))
            state = "purged"
        done = _Shard(
            shard,
            state,
            held,
            {},
            known.size,
            Frontier(),
            Frontier(),
            root=known.root,
            good=known.size,
        )
        self._done.append(done)

    def absorb(self, examined: Examined) -> None:
        """Take the next stretch of the shard that was begun last."""
        now = self._now
        assert now is not None
        self._problems += examined.problems
        self._untold += examined.untold
        self._events += examined.end - examined.begin
        if examined.end == examined.begin:
            return
        self._join(examined)
        self._follow_numbers(examined)
        self._follow_openings(examined)
        for mark in examined.marks:
            self._mark(now, mark)
        if examined.begin == 0 and not any(
            mark.seq == 0 and mark.members.get("step") == "opened" for mark in examined.marks
        ):
            self._say(
                Aspect.COMPLETENESS,
                "unchained",
                f"{shard_name(now.shard)} does not begin by naming the shard before it",
                now.shard,
                seq=0,
            )
        self._grow(now, examined)
        self._last, self._rests = examined.last, examined.rests

    def anchored(self, name: str, checkpoints: Iterable[Checkpoint], *, at: int) -> None:
        """Compare what the log says it put into anchor *name* with what was there at the moment *at*."""
        there = {(each.origin, each.size) for each in checkpoints}
        for sequenced, anchor, shard, size in self._put:
            origin = f"lacre-audit/{self._expected.app}/{self._expected.env}/{shard_name(shard)}"
            if anchor == name and sequenced < at and (origin, size) not in there:
                self._say(
                    Aspect.ANCHORED,
                    "lost",
                    f"anchor {name} lacks the checkpoint of {size} leaves that was put there",
                    shard,
                )

    def verdict(self, *, now: int, pending: int = 0) -> Verdict:
        """
        Return the judgement at the moment *now*, microseconds since 1970.

        Args:
            pending: leaves after the newest checkpoint.
        """
        self._end(now)
        explained = {
            tuple(each.about.split(" ", 1)): each.reason
            for each in self._statements
            if each.act == "explained"
        }
        problems, excused = [], []
        for each in self._problems:
            reason = explained.get(each.subject) if each.subject is not None else None
            if reason is None:
                problems.append(each)
            else:
                excused.append(replace(each, explained=reason))
        return Verdict(
            problems=tuple(problems),
            explained=tuple(excused),
            untold=self._untold,
            events=self._events,
            pending=pending,
            shards=tuple(
                ShardVerdict(shard=each.shard, size=each.limit, root=each.root.hex(), state=each.state, anchored=each.anchored, held=each.held)
                for each in self._done
            ),
            anchors=self._anchors,
            writers=sum(1 for _, heard in self._writers.values() if now - heard <= _DAY),
            purged=tuple(each for each in self._statements if each.act == "purged"),
            summed=self._known is None,
            verified=None if problems or self._untold else self._kept(),
        )  # fmt: skip

    def _say(
        self,
        aspect: Aspect,
        code: str,
        said: str,
        shard: int,
        *,
        seq: int | None = None,
        subject: Subject | None = None,
    ) -> None:
        self._problems.append(
            Problem(aspect=aspect, code=code, said=said, shard=shard, seq=seq, subject=subject)
        )

    def _join(self, examined: Examined) -> None:
        # From the stretch before to this one: as from one leaf to the next.
        if not self._last:
            return
        if examined.first < self._last:
            self._say(
                Aspect.COMPLETENESS,
                "clock",
                "it was sequenced before the leaf before it",
                examined.shard,
                seq=examined.begin,
            )
        elif examined.first - self._last > self._expected.quiet and not self._rests:
            self._problems.append(
                tell_silence(self._last, examined.first, examined.shard, examined.begin)
            )
        if self._rests and examined.began not in ("began", "took-over", "opened"):
            self._say(
                Aspect.COMPLETENESS,
                "unannounced",
                "the sequencer rested, and nobody said that it went on",
                examined.shard,
                seq=examined.begin,
            )

    def _follow_numbers(self, examined: Examined) -> None:
        said = Examined(shard=examined.shard, begin=examined.begin)
        for writer, numbers in examined.numbers.items():
            known = self._writers.get(writer)
            # A writer that began in a shard that is gone is heard of for the first time in its middle.
            if known is None and numbers.first != 1 and not self._absent:
                tell_number(said, numbers.seq, writer, 0, numbers.first)
            elif known is not None and numbers.first != known[0] + 1:
                tell_number(said, numbers.seq, writer, known[0], numbers.first)
            if numbers.ended:
                self._writers.pop(writer, None)
            else:
                self._writers[writer] = (numbers.last, numbers.heard)
        self._problems += said.problems

    def _follow_openings(self, examined: Examined) -> None:
        said = Examined(shard=examined.shard, begin=examined.begin)
        for seq, opening, looks in examined.closings:
            known = self._openings.pop(opening, None)
            if known is None and not self._absent:
                said.tell(
                    Aspect.COMPLETENESS, "unopened", "what is closed here was never opened", seq
                )
            elif known is not None and looks > known.bound:
                tell_overdrawn(said, seq)
        self._problems += said.problems
        self._openings |= examined.openings

    def _mark(self, now: _Shard, mark: Mark) -> None:
        members = mark.members
        if members["action"] == "sequencing":
            if mark.seq == 0 and members["step"] == "opened":
                self._chain(now, members)
        elif members["action"] == "anchor":
            shard, size = str(members["shard"])[:7].replace("-", ""), members["size"]
            if shard.isdecimal() and type(size) is int:
                self._put.append((mark.sequenced, str(members["anchor"]), int(shard), size))
        else:
            self._state(now, mark)

    def _chain(self, now: _Shard, members: Mapping[str, Any]) -> None:
        before = self._done[-2] if len(self._done) > 1 else None
        named = (members["before"], members["size"], members["root"])
        if before is None:
            wanted = ("", 0, "")
            said = f"it names {named[0]} as the shard before it, which is not there"
        else:
            wanted = (shard_name(before.shard), before.limit, before.root.hex())
            said = f"it does not name the end of {wanted[0]}: that was cut, replaced or removed"
        if named != wanted:
            self._say(Aspect.COMPLETENESS, "unchained", said, now.shard, seq=0)

    def _state(self, now: _Shard, mark: Mark) -> None:
        try:
            found = read_statement(str(mark.members["statement"]), self._operators)
            if (found.app, found.env) != (self._expected.app, self._expected.env):
                raise Tampered
        except Tampered:
            self._say(
                Aspect.INTEGRITY,
                "statement",
                "no operator of [local] signers signed what it states",
                now.shard,
                seq=mark.seq,
            )
            return
        self._statements.append(found)

    def _grow(self, now: _Shard, examined: Examined) -> None:
        if not examined.whole or now.torn:
            now.torn = True
            return
        for size, hashes in sorted(examined.heads.items()):
            now.end = grown_to(now.tree, size, hashes)
            self._compare(now, size, now.end.root())
        if examined.end % stretches.STRETCH == 0:
            now.tree = grown_to(now.tree, examined.end, examined.frontier)

    def _compare(self, now: _Shard, size: int, root: bytes) -> None:
        for each in now.signed.get(size, ()):
            if each.root == root:
                now.root, now.good = root, size
                if each.anchor not in ("", KEPT):
                    now.anchored = max(now.anchored, size)
                    self._anchors[each.anchor] = max(
                        self._anchors.get(each.anchor, (0, 0)), (now.shard, size)
                    )
            elif each.anchor:
                self._say(
                    Aspect.ANCHORED,
                    "fork",
                    f"{each.who} has another root of the first {size} leaves: the log was rewritten",
                    now.shard,
                    seq=size - 1,
                )
            elif not now.forked:
                now.forked = True
                self._say(
                    Aspect.INTEGRITY,
                    "root",
                    f"leaves {now.good} to {size - 1} are not those that were signed: one was edited, inserted, removed or moved",
                    now.shard,
                    seq=now.good,
                )

    def _end(self, now: int) -> None:
        if not self._done:
            self._say(Aspect.COMPLETENESS, "empty", "there is nothing in the log", 0)
        if self._last and now - self._last > self._expected.quiet and not self._rests:
            shard = self._done[-1].shard
            self._problems.append(tell_silence(self._last, now, shard, None))
        for writer, (last, heard) in self._writers.items():
            if now - heard > _DAY:
                said = f"writer {writer[:8]} was last heard of at {written_moment(heard)} (number {last}) and never said that it ended"
                self._say(
                    Aspect.COMPLETENESS, "unended", said, 0, subject=Subject("writer", writer)
                )
        for name, each in self._openings.items():
            if each.until + self._expected.quiet < now:
                said = (
                    f"looking was opened and never closed: up to {each.bound} looks are not known"
                )
                self._say(
                    Aspect.COMPLETENESS,
                    "unclosed",
                    said,
                    each.shard,
                    seq=each.seq,
                    subject=Subject("opening", name),
                )
        stated = {each.about for each in self._statements if each.act == "purged"}
        for shard, size, root in self._absent:
            if f"{shard_name(shard)} {size} {root.hex()}" not in stated:
                self._say(
                    Aspect.COMPLETENESS,
                    "removed",
                    f"the {size} leaves of {shard_name(shard)} are gone, and no operator signed that they are purged",
                    shard,
                )
        held = held_shards(self._statements)
        for done in self._done:
            if (shard_name(done.shard) in held) != done.held and self._known is None:
                self._say(
                    Aspect.INTEGRITY,
                    "hold",
                    f"{shard_name(done.shard)} is marked {'' if done.held else 'not '}on hold, and the statements of operators say otherwise",
                    done.shard,
                )

    def _kept(self) -> Verified | None:
        now = self._now
        if now is None or now.end.size != now.limit or now.good != now.limit:
            return None
        return Verified(
            app=self._expected.app,
            env=self._expected.env,
            shard=now.shard,
            frontier=now.end,
            last=self._last,
            rests=self._rests,
            heads={each.shard: Head(size=each.limit, root=each.root) for each in self._done},
            writers=self._writers,
            openings=self._openings,
        )
