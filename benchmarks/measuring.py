# SPDX-License-Identifier: Apache-2.0
"""
Rounds, ratios and a table: what every benchmark here shares. Standard library only.

Candidates take turns within each round, so that a machine that slows down slows all of them
down, and a ratio is always between figures of one run. Does not compare runs with each other.
"""

import datetime as dt
import json
import os
import platform
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = [
    "Bar",
    "Peer",
    "Timings",
    "bars_table",
    "judged",
    "machine",
    "rounds",
    "table",
    "verdict",
    "write_results",
]

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds for one operation, one figure for each round."""

    seconds: tuple[float, ...]

    @property
    def least(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """`what` over `beside` is at most (or at least) `limit`, in the median round; None: no bar, shown only."""

    what: str
    beside: str
    limit: float | None
    at_least: bool = False

    def text(self) -> str:
        if self.limit is None:
            return ""
        return f"{'>=' if self.at_least else '<='} {self.limit:g}x"

    def met(self, ratio: float) -> bool | None:
        if self.limit is None:
            return None
        return ratio >= self.limit if self.at_least else ratio <= self.limit


def rounds(
    candidates: Mapping[str, Callable[[], float]], count: int, *, warm: int = 2
) -> dict[str, Timings]:
    """
    Run *candidates* in turn, *count* times after *warm* rounds that do not count.

    Each returns the seconds of one operation in that round. The order is reversed in every
    second round: nobody always runs after the same neighbour.
    """
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(-warm, count):
        order = list(candidates) if turn % 2 else list(reversed(candidates))
        for name in order:
            seconds = candidates[name]()
            if turn >= 0:
                taken[name].append(seconds)
    return {name: Timings(tuple(figures)) for name, figures in taken.items()}


def timed(operation: Callable[[], object], values: int) -> float:
    """Return the seconds of one of the *values* operations that *operation* does."""
    start = time.perf_counter()
    operation()
    return (time.perf_counter() - start) / values


class Peer:
    """
    Another library, in its own environment and process, that answers one round at a time.

    The process is started once: its start and imports are nobody's figure.
    """

    def __init__(self, python: Path, script: Path, **settings: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PYTHON"))}
        environment |= settings
        self._process = subprocess.Popen(
            [python, "-s", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.versions: dict[str, str] = self._ask("versions")

    def seconds(self, name: str) -> float:
        return float(self._ask(name))

    def close(self) -> None:
        self._process.communicate("", timeout=30)

    def _ask(self, line: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"the peers' process ended while asked for {line}; its error is above")
        return json.loads(answer)


def judged(bars: Sequence[Bar], figures: Mapping[str, Timings]) -> list[dict[str, Any]]:
    """
    Return each bar with the median of the rounds' ratios, which decides, and the ratio of minima.

    Both figures of a round are of one moment, so a machine that changes its speed between rounds
    (as this kind does, by half) moves neither; a ratio of medians may compare two speeds.
    """
    judgements = []
    for bar in bars:
        what, beside = figures[bar.what], figures[bar.beside]
        median = statistics.median(
            ours / theirs for ours, theirs in zip(what.seconds, beside.seconds, strict=True)
        )
        medians, least = what.median / beside.median, what.least / beside.least
        if bar.at_least:  # "n times faster": the other way round
            median, medians, least = 1 / median, 1 / medians, 1 / least
        judgements.append(
            {
                "what": bar.what,
                "beside": bar.beside,
                "bar": bar.text(),
                "ratio": round(median, 3),
                "ratio_of_medians": round(medians, 3),
                "ratio_of_minima": round(least, 3),
                "met": bar.met(median),
            }
        )
    return judgements


def machine(packages: Sequence[str]) -> dict[str, Any]:
    """Return what the figures depend on; nothing that names a host, a user or a path."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "openssl of Python": ssl.OPENSSL_VERSION,
        "packages": {name: version(name) for name in packages},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return aligned text: the first column to the left, the others to the right."""
    widths = [max(len(line[i]) for line in (heads, *lines)) for i in range(len(heads))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (heads, rule, *lines)
    )


def verdict(met: bool | None) -> str:
    """Return the word for a bar: none where there is no bar."""
    return {True: "met", False: "MISSED", None: ""}[met]


def bars_table(judgements: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of what `judged` found."""
    lines = [
        (
            f"{one['what']} / {one['beside']}",
            one["bar"],
            f"{one['ratio']:.2f}x",
            f"{one['ratio_of_medians']:.2f}x",
            f"{one['ratio_of_minima']:.2f}x",
            verdict(one["met"]),
        )
        for one in judgements
    ]
    return table(("ratio", "bar", "of rounds", "of medians", "of minima", ""), lines)


def write_results(name: str, results: Mapping[str, Any]) -> Path:
    """Write *results* beside the benchmarks, by date and *name*; a second run of a day replaces it."""
    RESULTS.mkdir(exist_ok=True)
    day = dt.datetime.now(dt.UTC).date().isoformat()
    path = RESULTS / f"{day}-{name}.json"
    path.write_text(json.dumps({"date": day, **results}, indent=1) + "\n", encoding="utf-8")
    return path


def say(text: str) -> None:
    """Talk goes to stderr; figures go to stdout."""
    print(text, file=sys.stderr, flush=True)
