# SPDX-License-Identifier: Apache-2.0
"""
What a verification found: the words in which `lacre audit verify` answers.

Decides nothing (`lacre.audit.judging`). Implements ``spec/evidence-log.md``, section 8.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lacre.audit.statements import Statement
from lacre.audit.verification import Aspect, Problem
from lacre.audit.verified import Verified

__all__ = ["KEPT", "ShardVerdict", "Signed", "Verdict"]


# What an auditor kept, where everything is verified again: it is compared as an anchor is, and is none.
KEPT = "the auditor's file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A root of *size* leaves that somebody else has: a checkpoint of the log, or of the anchor *anchor*."""

    size: int
    root: bytes
    anchor: str = ""

    @property
    def who(self) -> str:
        """Who has it, for a message."""
        return self.anchor if self.anchor == KEPT else f"anchor {self.anchor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardVerdict:
    """One month: its signed *size* and *root*, its state, how far outside anchors confirm it, and whether it is on hold."""

    shard: int
    size: int
    root: str
    state: str
    anchored: int
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    What is wrong with a log, and how much of it was looked at.

    *explained* are problems that an operator explained; *writers* the processes that did not say
    they ended and were heard of within a day; *purged* what operators purged; *summed* whether the
    sums that pages read were compared, which only a verification of everything does.
    """

    problems: tuple[Problem, ...]
    explained: tuple[Problem, ...]
    untold: int
    events: int
    pending: int
    shards: tuple[ShardVerdict, ...]
    anchors: Mapping[str, tuple[int, int]]
    writers: int
    purged: tuple[Statement, ...]
    summed: bool
    verified: Verified | None

    def holds(self, aspect: Aspect) -> bool:
        """Return whether nothing is wrong with this aspect. What was not told one by one nobody explained: completeness."""
        if self.untold and aspect is Aspect.COMPLETENESS:
            return False
        return not any(each.aspect == aspect for each in self.problems)

    @property
    def right(self) -> bool:
        return not self.problems and not self.untold
