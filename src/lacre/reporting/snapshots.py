# SPDX-License-Identifier: Apache-2.0
"""
Snapshots as they are kept: a directory of signed files, of which a trend is made.

A file is named by its day and its hash and is never written over. Those that nobody believed signed
are no history. Does not gather facts.
"""

import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from lacre.audit.controls.scoring import assess
from lacre.audit.controls.snapshot import LONGEST, Snapshot
from lacre.audit.notes import Signer, Verifier
from lacre.errors import ConfigurationError, LacreError
from lacre.recovery.files import write_new

__all__ = ["history_in", "keep_snapshot", "read_snapshot"]

_KEPT = 24  # earlier snapshots that a new one names


def keep_snapshot(snapshot: Snapshot, signer: Signer, directory: Path) -> Path:
    """Sign *snapshot* and write it to a new file in *directory*; return its path."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"{snapshot.body['made'][:10]}-{snapshot.sha256[:16]}.snapshot"
    if not path.exists():
        write_new(path, snapshot.signed(signer))
    return path


def read_snapshot(path: Path, verifiers: Collection[Verifier]) -> Snapshot:
    """
    Return the snapshot in the file at *path*.

    Raises:
        ConfigurationError: it cannot be read, or is no snapshot.
        Tampered: nobody believed signed it as it is.
    """
    try:
        with path.open("rb") as file:
            if not stat.S_ISREG(path.stat().st_mode):
                raise ConfigurationError(f"{path} is no file")
            data = file.read(LONGEST + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    return Snapshot.read(data, verifiers)


def history_in(
    directory: Path, verifiers: Collection[Verifier], *, app: str, env: str
) -> list[dict[str, object]]:
    """Return what a new snapshot of *app* and *env* says of those in *directory*, the oldest first: their scores and definitions."""
    found = sorted(_past(directory, verifiers, (app, env)), key=lambda each: (str(each["until"]), str(each["snapshot"])))  # fmt: skip
    return found[-_KEPT:]


def _past(
    directory: Path, verifiers: Collection[Verifier], of: tuple[str, str]
) -> Iterator[dict[str, object]]:
    for path in sorted(directory.glob("*.snapshot"))[-4 * _KEPT :]:
        try:
            snapshot = read_snapshot(path, verifiers)
            judged = assess(snapshot)
        except LacreError:
            continue  # of another release, or nobody's word
        if (snapshot.body["app"], snapshot.body["env"]) != of:
            continue  # the same operator's word, about something else
        yield {
            "snapshot": snapshot.sha256,
            "until": snapshot.body["period"]["until"],
            "definition": judged.definition,
            "tenths": judged.tenths,
            "status": judged.status,
        }
