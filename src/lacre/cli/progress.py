# SPDX-License-Identifier: Apache-2.0
"""A bar for what takes long: how far, how fast, and until when."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lacre.cli.terminal import talk
from lacre.jobs.pace import Progress as Position

__all__ = ["progress_bar"]


@contextmanager
def progress_bar() -> Iterator[Callable[[Position], None]]:
    """A bar on stderr, with rate and remaining time; on no terminal, nothing."""
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=talk, disable=not talk.is_terminal) as progress:
        tasks: dict[str, int] = {}

        def advance(position: Position) -> None:
            task = tasks.get(position.phase)
            if task is None:
                task = tasks[position.phase] = progress.add_task(
                    position.phase, total=position.total, rate=""
                )
            rate = "" if position.rate is None else f"{position.rate:,.0f} rows/s"
            progress.update(task, completed=position.done, total=position.total, rate=rate)  # type: ignore[arg-type]

        yield advance
