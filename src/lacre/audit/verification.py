# SPDX-License-Identifier: Apache-2.0
"""
What a stretch of the log says of itself: its leaves against their hashes, columns and one another.

`examine` reads leaves in order, of one shard, and can be run for several stretches at once; what
the stretches say together is judged in `lacre.audit.judging`. Implements ``spec/evidence-log.md``,
section 8. Reads no database and believes no column: the entry and the moment of sequencing are what
was signed, whatever stands beside them is compared with them.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from lacre._core.merkle import TILE, Frontier
from lacre.audit.alike import Alike, alike
from lacre.audit.comparing import StoredLeaf, is_drawn, micros_of, sum_up
from lacre.audit.entries import Entry
from lacre.audit.leaves import shard_of, written_moment
from lacre.audit.summing import HOUR, Sums
from lacre.errors import Tampered

__all__ = [
    "Aspect",
    "Examined",
    "Expected",
    "Mark",
    "Numbers",
    "Opening",
    "Problem",
    "Subject",
    "examine",
]

_sha256 = hashlib.sha256
_SECOND = 1_000_000
_MOST = (
    100  # problems of a kind told one by one of a stretch; a log that was rewritten has millions
)


class Aspect(StrEnum):
    """What a problem is of: whether what is there was signed, whether all is there, whether outside anchors agree."""

    INTEGRITY = "integrity"
    COMPLETENESS = "completeness"
    ANCHORED = "anchored"


class Subject(NamedTuple):
    """What an operator's explanation would have to be about."""

    about: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    One thing that is wrong. *code* is stable, *said* for people; *shard* and *seq* say where.

    *subject* is what an explanation could be about, and *explained* the reason that one gives.
    """

    aspect: Aspect
    code: str
    said: str
    shard: int = 0
    seq: int | None = None
    subject: Subject | None = None
    explained: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Whose log it is, and the longest time between two leaves, in microseconds."""

    app: str
    env: str
    quiet: int


@dataclass(slots=True)
class Numbers:
    """What a stretch has of one writer: its first number and its last, when, and whether it ended."""

    first: int
    last: int
    seq: int
    heard: int
    ended: bool = False


class Mark(NamedTuple):
    """An entry about the log itself."""

    seq: int
    sequenced: int
    members: Mapping[str, Any]


class Opening(NamedTuple):
    """Looking that was opened and not closed yet: until when, and how many looks at most."""

    shard: int
    seq: int
    until: int
    bound: int


@dataclass(slots=True)
class Examined:
    """
    What was found in a stretch of *shard* that begins at leaf *begin* and ends before *end*.

    *tiles* are the hashes of its whole tiles, *heads* the frontiers at the sizes that were asked for,
    both within the stretch's own tree; *whole* says that no leaf was missing in it. *sums* are what its
    leaves add up to, where that was asked for.
    """

    shard: int
    begin: int
    end: int = 0
    whole: bool = True
    problems: list[Problem] = field(default_factory=list)
    told: dict[str, int] = field(default_factory=dict)
    untold: int = 0
    tiles: list[bytes] = field(default_factory=list)
    heads: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    frontier: tuple[bytes, ...] = ()
    first: int = 0
    last: int = 0
    began: str = ""
    rests: bool = False
    numbers: dict[str, Numbers] = field(default_factory=dict)
    openings: dict[str, Opening] = field(default_factory=dict)
    closings: list[tuple[int, str, int]] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    sums: Sums | None = None

    def tell(
        self, aspect: Aspect, code: str, said: str, seq: int, subject: Subject | None = None
    ) -> None:
        """Take note of a problem."""
        # Of each kind: what anybody can have found a hundred times must not hide what else there is.
        self.told[code] = self.told.get(code, 0) + 1
        if self.told[code] <= _MOST:
            self.problems.append(
                Problem(
                    aspect=aspect, code=code, said=said, shard=self.shard, seq=seq, subject=subject
                )
            )
        else:
            self.untold += 1


_TYPES = (int, int, bytes, int, str, str, str, str, str, str, str, str, int, bytes, bytes)
_LATEST = 253_402_300_800_000_000  # the end of the year 9999
_MARKED = frozenset({"sequencing", "explanation", "retention", "anchor"})


def examine(
    leaves: Iterable[StoredLeaf],
    shard: int,
    begin: int,
    end: int,
    *,
    expected: Expected,
    heads: Collection[int] = (),
    frontier: Frontier | None = None,
    secret: bytes | None = None,
) -> Examined:
    """
    Examine *leaves*, in order, which should be those from *begin* to before *end* of *shard*.

    Args:
        heads: the sizes of trees whose frontier is wanted: those of checkpoints.
        frontier: of the leaves between the beginning of the stretch and *begin*, where that is
            no multiple of `STRETCH`.
        secret: what sums are made with, which are not without one.
    """
    found = Examined(shard=shard, begin=begin, sums=None if secret is None else Sums(secret))
    tree = _Stretch(found, Frontier() if frontier is None else frontier)
    wanted = frozenset(heads)
    expected_seq, previous, second, text = begin, 0, -1, b""
    tell, whole = found.tell, True
    whose, common = (expected.app, expected.env), _Common(found)
    for leaf in leaves:
        # SQLite keeps text where a number belongs, for whoever writes it there.
        if tuple(map(type, leaf)) != _TYPES or not 0 < leaf.sequenced < _LATEST:
            whole = False
            tell(
                Aspect.INTEGRITY,
                "edited",
                "a column holds what lacre never puts there",
                expected_seq,
            )
            expected_seq += 1
            continue
        seq, sequenced, line = leaf[0], leaf[1], leaf[14]
        if seq != expected_seq:
            whole = False
            _tell_missing(found, expected_seq, seq)
        expected_seq = seq + 1
        if sequenced // _SECOND != second:
            second = sequenced // _SECOND
            text = written_moment(sequenced)[:20].encode()
            if shard_of(sequenced) != shard:
                tell(Aspect.INTEGRITY, "month", "its moment is not of this month", seq)
        computed = _sha256(b"\x00%b%06dZ\n%b" % (text, sequenced % _SECOND, line)).digest()
        if computed != leaf[13]:
            tell(
                Aspect.INTEGRITY,
                "edited",
                "entry and hash do not belong together: one was changed",
                seq,
            )
        # Whatever is stored as its hash: the tree is made of what the leaf says.
        if whole:
            tree.take(computed)
            if expected_seq in wanted:
                found.heads[expected_seq] = tree.hashes()
        # All is right with most leaves, and of those nothing is told: what is wrong is found below.
        said = alike(leaf)
        if (
            said is not None
            and said[0].whose == whose
            and not found.rests
            and previous
            and 0 <= sequenced - previous <= expected.quiet
            and common.take(leaf, *said)
        ):
            previous = sequenced
            continue
        members = _members(found, leaf, expected)
        if previous:
            if sequenced < previous:
                tell(
                    Aspect.COMPLETENESS, "clock", "it was sequenced before the leaf before it", seq
                )
            elif sequenced - previous > expected.quiet and not found.rests:
                _tell_silence(found, previous, sequenced, seq)
            if found.rests and not _takes_up(members):
                tell(
                    Aspect.COMPLETENESS,
                    "unannounced",
                    "the sequencer rested, and nobody said that it went on",
                    seq,
                )
        else:
            found.first = sequenced
            found.began = _step(members) if members is not None else ""
        previous = sequenced
        found.rests = False
        if members is not None:
            found.rests = members["action"] == "sequencing" and members["step"] == "rested"
            _follow(found, seq, sequenced, members)
    if expected_seq < end:
        whole = False
        _tell_missing(found, expected_seq, end)
    found.end, found.last, found.whole = end, previous, whole
    found.frontier = tree.hashes() if whole else ()
    common.end()
    if found.sums is not None:
        found.sums.end()
    return found


class _Common:
    # Leaves whose entries are alike: their numbers one by one, their sums at the end.

    def __init__(self, found: Examined) -> None:
        self._numbers, self._sums = found.numbers, found.sums
        self._counted: list[tuple[Alike, int]] = []

    def take(self, leaf: StoredLeaf, same: Alike, number: str, about: str) -> bool:
        # Whether its number is the next of its writer, which is told nothing of.
        if same.writer is not None:
            known = self._numbers.get(same.writer)
            # As it is written: so it is a number, and in its one spelling.
            if known is None or known.ended or number != str(known.last + 1):
                return False
            known.last, known.heard = known.last + 1, leaf[1]
        if self._sums is not None:
            self._counted.append((same, leaf[3] // HOUR))
            if about:
                self._sums.touch(leaf[0], about)
            else:
                for resource in same.touched:
                    self._sums.touch(leaf[0], resource)
        return True

    def end(self) -> None:
        # Counted together, by the interpreter's own counting.
        if self._sums is not None:
            for (same, hour), events in Counter(self._counted).items():
                self._sums.add((hour * HOUR, *same.tally), events, events * same.count)


class _Stretch:
    # The tree of a stretch: whole tiles, and what follows them.

    def __init__(self, found: Examined, frontier: Frontier) -> None:
        rest = frontier.size % TILE
        tiles = len(frontier.hashes) - rest.bit_count()
        self._whole = Frontier(frontier.size - rest, frontier.hashes[:tiles])
        self._tile = Frontier(rest, frontier.hashes[tiles:])
        self._found = found
        self._waiting: list[bytes] = []
        self._room = TILE - rest

    def take(self, leaf: bytes) -> None:
        self._waiting.append(leaf)
        if len(self._waiting) == self._room:
            self._tile.extend(self._waiting)
            root = self._tile.root()
            self._whole.join(8, root)
            self._found.tiles.append(root)
            self._tile, self._waiting, self._room = Frontier(), [], TILE

    def hashes(self) -> tuple[bytes, ...]:
        self._tile.extend(self._waiting)
        self._room -= len(self._waiting)
        self._waiting = []
        return self._whole.hashes + self._tile.hashes


def tell_silence(since: int, until: int, shard: int, seq: int | None) -> Problem:
    """Return the problem of a time without a leaf."""
    moments = f"{written_moment(since)} to {written_moment(until)}"
    return Problem(
        aspect=Aspect.COMPLETENESS,
        code="silence",
        said=f"no heartbeat from {moments}: the sequencer had stopped, or leaves are missing",
        shard=shard,
        seq=seq,
        subject=Subject("silence", written_moment(since)),
    )


def _tell_silence(found: Examined, since: int, until: int, seq: int) -> None:
    problem = tell_silence(since, until, found.shard, seq)
    found.tell(problem.aspect, problem.code, problem.said, seq, problem.subject)


def _tell_missing(found: Examined, wanted: int, seq: int) -> None:
    if seq < wanted:
        found.tell(Aspect.INTEGRITY, "order", "leaves are not in their order", seq)
        return
    which = f"leaf {wanted} is" if seq == wanted + 1 else f"leaves {wanted} to {seq - 1} are"
    found.tell(Aspect.COMPLETENESS, "gap", f"{which} missing", wanted)


def _members(found: Examined, leaf: StoredLeaf, expected: Expected) -> Mapping[str, Any] | None:
    # The entry's members, if the catalogue has it; every column against what it says.
    seq = leaf[0]
    try:
        entry = Entry.read(leaf.entry)
        same = is_drawn(entry, leaf)
        if found.sums is not None:
            sum_up(found.sums, entry, leaf, same=same)
    except (Tampered, ValueError, TypeError, KeyError, AttributeError):
        found.tell(Aspect.INTEGRITY, "unknown", "it is no entry of the catalogue", seq)
        return None
    members = entry.members
    if not same:
        found.tell(
            Aspect.INTEGRITY,
            "columns",
            "the columns beside the entry say something else than the entry",
            seq,
        )
    if members["app"] != expected.app or members["env"] != expected.env:
        found.tell(
            Aspect.INTEGRITY, "foreign", "the entry is of another application or environment", seq
        )
    return members


def _follow(found: Examined, seq: int, sequenced: int, members: Mapping[str, Any]) -> None:
    writer, action = members.get("writer"), members["action"]
    if writer is not None:
        _number(found, seq, sequenced, str(writer), members)
    if action in _MARKED:
        found.marks.append(Mark(seq, sequenced, members))
    elif action == "opening":
        try:
            until, bound = micros_of(members["until"]), int(members["bound"])
        except (ValueError, TypeError, OverflowError):
            found.tell(Aspect.INTEGRITY, "unknown", "it is no opening that lacre wrote", seq)
            return
        found.openings[str(members["opening"])] = Opening(found.shard, seq, until, bound)
    elif action == "closing" and type(members["looks"]) is not int:
        found.tell(Aspect.INTEGRITY, "unknown", "it is no closing that lacre wrote", seq)
    elif action == "closing":
        opened = found.openings.pop(str(members["opening"]), None)
        if opened is None:
            found.closings.append((seq, str(members["opening"]), members["looks"]))
        elif members["looks"] > opened.bound:
            tell_overdrawn(found, seq)


def tell_overdrawn(found: Examined, seq: int) -> None:
    """Take note of more looks than were opened."""
    found.tell(
        Aspect.COMPLETENESS, "overdrawn", "more looks were taken than its opening allowed", seq
    )


def _number(
    found: Examined, seq: int, sequenced: int, writer: str, members: Mapping[str, Any]
) -> None:
    number = members.get("number")
    if type(number) is not int or number < 1:
        found.tell(Aspect.INTEGRITY, "unknown", "its writer gave it no number", seq)
        return
    known = found.numbers.get(writer)
    if known is None:
        known = found.numbers[writer] = Numbers(number, number, seq, sequenced)
    elif number == known.last + 1:
        known.last, known.heard = number, sequenced
    else:
        tell_number(found, seq, writer, known.last, number)
        known.last, known.heard = max(number, known.last), sequenced
    if known.ended:
        found.tell(
            Aspect.COMPLETENESS, "after-end", f"writer {writer[:8]} wrote after it had ended", seq
        )
    if members["action"] == "recording":
        known.ended = members["step"] == "ended"
        if members["step"] == "began" and number != 1:
            found.tell(
                Aspect.COMPLETENESS,
                "number",
                f"writer {writer[:8]} begins with number {number}",
                seq,
            )


def tell_number(found: Examined, seq: int, writer: str, last: int, number: int) -> None:
    """Take note of a number that does not follow *last*."""
    if number <= last:
        found.tell(
            Aspect.INTEGRITY,
            "repeated",
            f"number {number} of writer {writer[:8]} is there twice",
            seq,
        )
        return
    which = f"event {last + 1}" if number == last + 2 else f"events {last + 1} to {number - 1}"
    found.tell(
        Aspect.COMPLETENESS, "number", f"{which} of writer {writer[:8]} never came to the log", seq,
        Subject("number", f"{writer}:{last + 1}"),
    )  # fmt: skip


def _step(members: Mapping[str, Any]) -> str:
    return str(members["step"]) if members["action"] == "sequencing" else ""


def _takes_up(members: Mapping[str, Any] | None) -> bool:
    return members is not None and _step(members) in ("began", "took-over", "opened")
