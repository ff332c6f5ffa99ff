# SPDX-License-Identifier: Apache-2.0
"""
The engine: leaves in, findings out; what it remembers is given back, and taken again.

The same leaves, rules, key and state give the same findings, in one go or in many. It reads no
clock: time is what leaves say, and what `passes` is told. Memory is bounded: each rule keeps a number
of groups at most and says how many it forgot. Does not read the log or raise alerts
(`lacre.stores.log.detecting`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, final

from lacre.audit.detection.evaluator import Evaluator
from lacre.audit.detection.evaluators import EVALUATORS
from lacre.audit.detection.finding import Finding
from lacre.audit.detection.observation import Leaf, Observation
from lacre.audit.detection.rule import How, Rule
from lacre.audit.detection.rules import RULES
from lacre.audit.entries import Entry
from lacre.errors import MisuseError

__all__ = ["STATE", "Detector"]

STATE = 2  # of the form that `kept` has
_TICK = 900.0  # seconds of the log's time between two looks at what is over


def _no_honeytokens(entry: Entry) -> Sequence[str]:
    return ()


@final
class Detector:
    """
    Evaluates *rules* over leaves in the log's order.

    Args:
        key: of the hashes that rows are counted by, at most 64 bytes; whoever knows it could choose
            rows that are not counted beyond those that are counted exactly.
        honeytokens: which honeytokens an entry touches.
        state: what `kept` gave. Of rules that are new since, nothing is remembered.
    """

    def __init__(
        self,
        rules: Iterable[Rule] = tuple(RULES.values()),
        *,
        key: bytes = b"",
        honeytokens: Callable[[Entry], Sequence[str]] = _no_honeytokens,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._key = key
        self._honeytokens = honeytokens
        self._evaluators: dict[str, Evaluator] = {
            rule.id: EVALUATORS[rule.how](rule)
            for rule in rules
            if rule.how is not How.CARRIED and not rule.asleep
        }
        self._all = tuple(self._evaluators.values())
        # Which evaluators an entry is for, by what it is at first sight; filled as kinds are seen.
        self._of: dict[tuple[str, str, bool, bool], list[Evaluator]] = {}
        self._tick = -1
        self.leaves = 0
        if state is not None:
            self._restore(state)

    def feed(self, leaf: Leaf) -> list[Finding]:
        """
        Take the next leaf.

        Raises:
            Tampered: a member of its entry is not of its type: no writer of lacre's wrote it.
        """
        seen = Observation(leaf, self._key, self._honeytokens(leaf.entry))
        found: list[Finding] = []
        self.leaves += 1
        tick = int(seen.sequenced // _TICK)
        if tick > self._tick:
            # What is over is told before what comes after it.
            if self._tick >= 0:
                found += self._passes(tick * _TICK)
            self._tick = tick
        kind = (seen.action, seen.status, seen.reads, bool(seen.tokens))
        some = self._of.get(kind)
        if some is None:
            some = self._of[kind] = [each for each in self._all if each.may(seen)]
        for each in some:
            exempt = each.rule.exempt
            if not exempt or seen.principal not in exempt:
                found += each.feed(seen)
        return found

    def passes(self, now: float) -> Iterator[Finding]:
        """It is *now*, in seconds, and every leaf that there is was fed."""
        for each in self._evaluators.values():
            if each.how is How.SILENCE:
                yield from each.passes(now)

    def _passes(self, now: float) -> Iterator[Finding]:
        for each in self._evaluators.values():
            # Between two leaves nothing was silent that the second will not tell.
            if each.how is not How.SILENCE:
                yield from each.passes(now)

    @property
    def forgotten(self) -> Mapping[str, int]:
        """How many groups each rule forgot because there were too many, where it was any."""
        return {name: each.dropped for name, each in self._evaluators.items() if each.dropped}

    def kept(self) -> dict[str, Any]:
        """Return everything that is remembered, as JSON."""
        return {
            "form": STATE,
            "tick": self._tick,
            "leaves": self.leaves,
            "rules": {name: each.kept() for name, each in self._evaluators.items()},
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        if state.get("form") != STATE:
            raise MisuseError(
                "the state of detection is of another release",
                hint="`lacre audit detect --anew` begins at the log's beginning",
            )
        self._tick, self.leaves = state["tick"], state["leaves"]
        for name, kept in state["rules"].items():
            if name in self._evaluators:
                self._evaluators[name].restore(kept)
