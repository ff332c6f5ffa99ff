# SPDX-License-Identifier: Apache-2.0
"""
What is left of plaintext: a byte-by-byte search of the files, and where no search reaches.

Implements ``spec/protect-sqlite.md``, section "What remains elsewhere". Finds text and blobs as
SQLite stores them; does not find whole numbers (a byte or two are everywhere) nor values split
between overflow pages, and counts honestly what it did not search for.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["REMAINS", "Residue", "find_plaintext"]

REMAINS = (
    "Disk blocks that the old file, its rollback journal or write-ahead log once used may keep plaintext until the file system reuses them; on an SSD, no program can overwrite them. Full-disk encryption is the answer to this.",
    "Snapshots of the file system or the virtual machine, taken before now, hold the old file.",
    "Backups and exports made before now hold plaintext until they expire. Delete them, or protect them as what they are.",
    "Replicas and copies of the database file elsewhere were not touched.",
    "Other tables, views' results cached by applications, logs, search indexes and message queues may hold copies of the same values.",
    "SQLite's temporary files and the memory of programs that read the table, and a swap file, may hold some of it until they end.",
)

# What a value is known by at first sight. Values shorter than this occur by chance.
_SHORTEST = 6
_SUFFIXES = ("", "-wal", "-journal", "-shm")
_ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be")


@dataclass(frozen=True, slots=True, kw_only=True)
class Residue:
    """
    What `find_plaintext` saw. *found* counts occurrences by file name; *searched*, *short*
    and *elsewhere* count distinct values: searched for, too short to tell, and left out because
    they occur in text that may stay.
    """

    found: dict[str, int]
    values_found: int
    searched: int
    short: int
    elsewhere: int
    bytes_read: int

    @property
    def clean(self) -> bool:
        return not self.values_found


def find_plaintext(
    path: Path, values: Iterable[str | bytes], *, elsewhere: Iterable[str] = ()
) -> Residue:
    """
    Search the database file and the files beside it, free pages included, for *values*.

    Args:
        values: protected values; text is searched for in UTF-8 and both UTF-16.
        elsewhere: text that legitimately stays in the file. A value that occurs in it is
            counted apart, because finding it would prove nothing.
    """
    wanted = {
        value.encode() if isinstance(value, str) else bytes(value): isinstance(value, str)
        for value in values
    }
    short = sum(len(value) < _SHORTEST for value in wanted)
    wanted = {value: is_text for value, is_text in wanted.items() if len(value) >= _SHORTEST}
    allowed = {
        value
        for _, value in _matches(
            "\n".join(elsewhere).encode(), _by_start({value: value for value in wanted})
        )
    }
    patterns: dict[bytes, bytes] = {}
    for value, is_text in wanted.items():
        if value not in allowed:
            for encoding in _ENCODINGS if is_text else ("",):
                patterns[value.decode().encode(encoding) if encoding else value] = value
    starts = _by_start(patterns)
    found: dict[str, int] = {}
    values_found: set[bytes] = set()
    size = 0
    for suffix in _SUFFIXES:
        file = path.with_name(path.name + suffix)
        if file.exists():
            data = file.read_bytes()
            size += len(data)
            hits = [value for _, value in _matches(data, starts)]
            found[file.name] = len(hits)
            values_found.update(hits)
    return Residue(
        found=found,
        values_found=len(values_found),
        searched=len(wanted) - len(allowed),
        short=short,
        elsewhere=len(allowed),
        bytes_read=size,
    )


def _by_start(patterns: dict[bytes, bytes]) -> dict[bytes, list[tuple[bytes, bytes]]]:
    starts: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for pattern, value in patterns.items():
        starts.setdefault(pattern[:_SHORTEST], []).append((pattern, value))
    return starts


def _matches(
    data: bytes, starts: dict[bytes, list[tuple[bytes, bytes]]]
) -> Iterator[tuple[int, bytes]]:
    """Yield (place, value) of every occurrence: one look-up at each byte, however many values."""
    if not starts:
        return
    for at in range(len(data) - _SHORTEST + 1):
        candidates = starts.get(data[at : at + _SHORTEST])
        if candidates is not None:
            for pattern, value in candidates:
                if data.startswith(pattern, at):
                    yield at, value
