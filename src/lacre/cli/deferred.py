# SPDX-License-Identifier: Apache-2.0
"""
Commands that are imported when they are called: a group knows their names and where they are.

`lacre keys list` needs neither the dashboard nor what plots a report, and starts without them.
Help names every command, and imports them all. Leans on `typer.core.TyperGroup` asking its
`commands` for the one that was named (tests/cli/test_deferred.py).
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

__all__ = ["deferred"]


class _Commands(Mapping[str, Any]):
    """Commands by name; each is imported the first time that it is asked for."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module, _, attribute = self._places[name].partition(":")
            self._made[name] = _command(name, getattr(import_module(module), attribute))
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _command(name: str, of: Any) -> Any:
    """What typer makes of a function, or of a group of commands."""
    holder = typer.Typer(
        add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    if isinstance(of, typer.Typer):
        holder.add_typer(of, name=name)
    else:
        holder.command(name)(of)
    return typer.main.get_group(holder).commands[name]


def deferred(places: Mapping[str, str]) -> type[TyperGroup]:
    """
    A group of the commands at `places`: "module:attribute" by name, in the order help shows them.

    For `typer.Typer(cls=...)`. An attribute is a function, or a `typer.Typer` that is a group.
    """

    class Group(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            assert not self.commands, "a deferred group has no commands of its own"
            self.commands = _Commands(places)  # type: ignore[assignment]  # read, never added to

        def list_commands(self, ctx: Any) -> list[str]:
            return list(self.commands)  # not their help: that would import them

    return Group
