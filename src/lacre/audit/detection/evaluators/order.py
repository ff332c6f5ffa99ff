# SPDX-License-Identifier: Apache-2.0
"""
The log's own order: silence, clocks, numbers.

Signs of trouble while it is fresh; whether the log is whole and unchanged, only its verification
says (`lacre audit verify`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lacre.audit.detection.evaluator import Evaluator, Groups
from lacre.audit.detection.finding import Finding
from lacre.audit.detection.observation import Observation
from lacre.audit.detection.rule import How, Rule
from lacre.audit.detection.sketch import Trail

__all__ = ["Numbers", "Silence", "Skew"]

_MISSING = 1000  # numbers of one recorder that are waited for


class Silence(Evaluator):
    """Nothing was sequenced for so long, and nobody had said that it rests."""

    how: ClassVar[How] = How.SILENCE

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._last: float | None = None
        self._position: tuple[int, int] = (0, 0)
        self._rests = False
        self._told = False

    def feed(self, seen: Observation) -> Iterable[Finding]:
        last, position = self._last, self._position
        silent = 0.0 if last is None or self._rests else seen.sequenced - last
        told = self._told
        self._last, self._position, self._told = seen.sequenced, seen.position, False
        self._rests = seen.action == "sequencing" and seen.step == "rested"
        if last is not None and silent > self.rule.threshold and not told:
            trail = Trail()
            trail.add(position, last, False)
            trail.add(seen.position, seen.sequenced, False)
            yield self.finding((str(position[0]), str(position[1])), trail, found=round(silent))

    def passes(self, now: float) -> Iterable[Finding]:
        if self._last is None or self._rests or self._told:
            return
        if now - self._last > self.rule.threshold:
            self._told = True
            trail = Trail()
            trail.add(self._position, self._last, False)
            group = (str(self._position[0]), str(self._position[1]))
            yield self.finding(group, trail, found=round(now - self._last))

    def kept(self) -> Any:
        return [self._last, self._position, self._rests, self._told]

    def restore(self, kept: Any) -> None:
        self._last, position, self._rests, self._told = kept
        self._position = (position[0], position[1])


class Skew(Evaluator):
    """An event's own time is after the moment it was sequenced, by the threshold; or *least* before."""

    how: ClassVar[How] = How.SKEW

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._quiet: Groups[list[float]] = Groups(lambda: [0.0])

    def feed(self, seen: Observation) -> Iterable[Finding]:
        rule, ahead = self.rule, seen.time - seen.sequenced
        if -rule.least < ahead < rule.threshold:
            return
        group = self.group(seen)
        quiet = self._quiet.at(group)
        if seen.sequenced < quiet[0]:
            return
        quiet[0] = seen.sequenced + rule.within
        trail = Trail()
        trail.add(seen.position, seen.sequenced, seen.late)
        side = "after the moment" if ahead > 0 else "before the moment"
        yield self.finding(group, trail, seen=seen, found=round(abs(ahead)), side=side)

    def kept(self) -> Any:
        return self._quiet.kept(list)

    def restore(self, kept: Any) -> None:
        self._quiet.restore(kept, list)

    @property
    def dropped(self) -> int:
        return self._quiet.dropped


@dataclass(slots=True)
class _Writer:
    """*after* is the highest number seen, *missing* are those below that are waited for, each until a moment."""

    after: int = 0
    missing: dict[int, float] = field(default_factory=dict)
    trail: list[int] = field(default_factory=list)
    service: str = ""

    def kept(self) -> Any:
        return [self.after, list(self.missing.items()), self.trail, self.service]

    @classmethod
    def again(cls, kept: Any) -> "_Writer":
        after, missing, trail, service = kept
        return cls(after, dict(missing), trail, service)


class Numbers(Evaluator):
    """Numbers of a recorder that were skipped and never came."""

    how: ClassVar[How] = How.NUMBERS

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._writers: Groups[_Writer] = Groups(_Writer)

    def feed(self, seen: Observation) -> Iterable[Finding]:
        name, number = seen.members.get("writer"), seen.members.get("number")
        if isinstance(name, str) and type(number) is int:
            writer = self._writers.at((name,))
            if writer.after and number > writer.after + 1:
                until = seen.sequenced + self.rule.within
                gap = range(writer.after + 1, number)
                writer.missing |= dict.fromkeys(gap[:_MISSING], until)
                writer.trail = list(seen.position)
            elif number <= writer.after:
                writer.missing.pop(number, None)
            writer.after = max(writer.after, number)
            writer.service = str(seen.members.get("service", ""))
        return ()

    def passes(self, now: float) -> Iterable[Finding]:
        for group, writer in self._writers.items():
            lost = [number for number, until in writer.missing.items() if until < now]
            if not lost:
                continue
            trail = Trail()
            trail.add((writer.trail[0], writer.trail[1]), writer.missing[lost[0]], False)
            for number in lost:
                del writer.missing[number]
            yield self.finding(
                (*group, str(lost[0])),
                trail,
                found=len(lost),
                begin=lost[0],
                service=writer.service,
            )

    def kept(self) -> Any:
        return self._writers.kept(_Writer.kept)

    def restore(self, kept: Any) -> None:
        self._writers.restore(kept, _Writer.again)

    @property
    def dropped(self) -> int:
        return self._writers.dropped
