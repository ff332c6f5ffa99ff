# SPDX-License-Identifier: Apache-2.0
"""
On which line of a TOML text a setting stands.

For errors that people can click on. The standard library's parser tells no lines, so the text is
cut into statements, and each is given to that parser by itself. Does not judge what a setting says.
"""

import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence

__all__ = ["Places"]

Path = tuple[str | int, ...]


class Places:
    """The lines of *text*, which is valid TOML, by setting."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        for path, line in _statements(text):
            for length in range(1, len(path) + 1):
                self._lines.setdefault(path[:length], line)

    def line(self, path: Sequence[str | int]) -> int | None:
        """Return the line, from 1, of the setting at *path*, or of the nearest table around it that is written."""
        for length in range(len(path), 0, -1):
            found = self._lines.get(tuple(path[:length]))
            if found is not None:
                return found
        return None


def _statements(text: str) -> Iterator[tuple[Path, int]]:
    table: Path = ()
    several: Counter[Path] = Counter()
    pending, begun = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        begun = begun if pending else number
        pending = f"{pending}\n{line}" if pending else line
        try:
            said = tomllib.loads(pending)
        except tomllib.TOMLDecodeError:
            continue  # a value of several lines
        head = pending.lstrip().startswith("[")
        pending = ""
        path = _path(said)
        if not head:
            yield (*table, *path), begun
            continue
        if line.lstrip().startswith("[["):
            several[path] += 1
            table = (*path, several[path] - 1)
        else:
            table = path
        yield table, begun


def _path(said: dict[str, object]) -> Path:
    """The names that lead to the one thing *said*: of ``a.b = 1`` they are a and b."""
    path: list[str] = []
    value: object = said
    while isinstance(value, dict) and len(value) == 1:
        ((name, value),) = value.items()
        path.append(name)
    return tuple(path)
