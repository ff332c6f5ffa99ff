# SPDX-License-Identifier: Apache-2.0
"""
The unwraps in our own evidence: of the log, or of files of its lines, and since when there is any.

Verifies nothing: `lacre audit verify` says whether the log is whole.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lacre.audit.entries import Entry
from lacre.audit.events import KeyUnwrapped
from lacre.errors import ConfigurationError, Tampered
from lacre.policy.model import PolicyFile
from lacre.stores.log.opening import open_log

__all__ = ["Recorded", "recorded"]

Recorded = tuple[tuple[int, int] | None, Entry]

_EARLIER = timedelta(days=1)  # before the window, for what belongs to its first calls
# Entries are canonical: a quotation mark inside a text is escaped, so this is a member or nothing.
_MARK = f'"action":"{KeyUnwrapped.action}"'.encode()
_PAGE = 1000


def recorded(
    settings: PolicyFile, base: Path, *, since: datetime, also: Sequence[Path] = ()
) -> tuple[datetime | None, Iterator[Recorded]]:
    """
    Return when our evidence began, None where there is none, and the unwraps it has since a day before *since*.

    Args:
        base: what paths of *settings* are relative to.
        also: files of lines of other applications that use the same KMS keys.

    Raises:
        ConfigurationError: a file cannot be read, or holds other lines than entries.
    """
    earliest = since - _EARLIER
    if settings.audit.url is not None:
        began, own = _of_log(settings, base, earliest)
    else:
        assert settings.audit.path is not None  # [audit] has one of the two
        path = base / settings.audit.path
        began, own = _began(path), _of_lines(path, earliest)

    def every() -> Iterator[Recorded]:
        yield from own
        for path in also:
            yield from _of_lines(path, earliest)

    return began, every()


def _of_log(
    settings: PolicyFile, base: Path, earliest: datetime
) -> tuple[datetime | None, Iterator[Recorded]]:
    from lacre.stores.log.reader import Filters, LogReader

    def unwraps() -> Iterator[Recorded]:
        wanted = Filters(action=KeyUnwrapped.action, since=earliest)
        before = None
        with closing(open_log(settings, base)) as log:
            while page := LogReader(log).page(wanted, before, _PAGE):
                yield from ((leaf.position, leaf.entry) for leaf in page)
                before = page[-1].position

    with closing(open_log(settings, base)) as log:
        first = next(LogReader(log).after(limit=1), None)
    return None if first is None else _time(first.entry), unwraps()


def _of_lines(path: Path, earliest: datetime) -> Iterator[Recorded]:
    try:
        with path.open("rb") as file:
            for line in file:
                if _MARK in line and line.endswith(b"\n"):
                    entry = Entry.read(line.rstrip(b"\n"))
                    if _time(entry) >= earliest:
                        yield None, entry
    except OSError:
        failed = "cannot be read"
    except Tampered:
        failed = "holds lines that are no entries"
    else:
        return
    raise ConfigurationError(f"{path} {failed}", hint="name a file that [audit] path names")


def _began(path: Path) -> datetime | None:
    try:
        with path.open("rb") as file:
            line = file.readline()
        return _time(Entry.read(line.rstrip(b"\n"))) if line else None
    except OSError:
        return None
    except Tampered:
        raise ConfigurationError(
            f"{path} does not begin with an entry", hint="restore it, or move it aside"
        ) from None


def _time(entry: Entry) -> datetime:
    return datetime.fromisoformat(str(entry.members["time"])).astimezone(UTC)
