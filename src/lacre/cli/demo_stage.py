# SPDX-License-Identifier: Apache-2.0
"""
How an act of the demonstration shows a fact, and stops where a claim does not hold.

Does not know what the acts are about.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.text import Text

from lacre.cli.terminal import out
from lacre.errors import AccessDenied, LacreError, MisuseError

__all__ = ["bytes_around", "expect", "line", "refused", "shown", "timed"]

T = TypeVar("T")


def line(name: str, what: str) -> None:
    out.print(Text.assemble(("  " + name.ljust(32), "cyan"), what))


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise MisuseError(
            f"the demonstration failed: not true that {what}",
            hint="this is a defect of lacre; please report it",
        )


def refused(kind: type[LacreError], attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except kind as error:
        return f"{type(error).__name__}: {error}"
    raise MisuseError(
        f"the demonstration failed: {kind.__name__} was expected and nothing was raised",
        hint="this is a defect of lacre; please report it",
    )


def shown(thing: object, name: str) -> str:
    try:
        return str(getattr(thing, name))
    except AccessDenied as error:
        return type(error).__name__


def timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def bytes_around(path: Path, text: str) -> tuple[int, str]:
    content = path.read_bytes()
    at = content.find(text.encode())
    shown = content[max(at - 24, 0) : at + 30]
    return at, "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in shown)
