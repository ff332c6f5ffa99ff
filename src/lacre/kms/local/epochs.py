# SPDX-License-Identifier: Apache-2.0
"""
Epoch KMS keys of the local keystore: a manifest for each epoch, in a directory of its own.

Implements ``spec/sealing.md``, section 4.1. The directory is inside the keystore's and in no dump;
a backup that takes it along brings destroyed epochs back. The file of an ended epoch is written over
and removed: on a disk that copies on writing, a journal or a snapshot, its old blocks may live on,
sealed to the identities that could open it.
"""

import datetime as dt
import os
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import final

from lacre.errors import KeyNotFound
from lacre.keys.moments import moment_text
from lacre.kms.local.administration import KeystoreAdministration
from lacre.kms.local.files import stamp_of
from lacre.kms.local.identity import PublicIdentity
from lacre.kms.local.manifest import check_key_name, manifest_path
from lacre.kms.local.service import SCHEME

__all__ = ["LocalEpochKeys"]


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@final
class LocalEpochKeys:
    """
    The epoch KMS keys of one keystore directory.

    Args:
        name: what their names begin with.
        recipients: who may open them: the application and whoever seals.
    """

    def __init__(
        self,
        name: str,
        *,
        administration: KeystoreAdministration,
        directory: Path,
        recipients: Collection[PublicIdentity],
        clock: Callable[[], dt.datetime] = _now,
    ) -> None:
        self._name = name
        self._administration = administration
        self._directory = directory
        self._recipients = recipients
        self._clock = clock

    def open(self, number: int, *, above: str | None) -> str:
        """Make the epoch's manifest, unless it is there; return its URI."""
        name = check_key_name(f"{self._name}.epoch-{number}")
        try:
            stamp_of(manifest_path(self._directory, name))
        except KeyNotFound:
            self._administration.create_key(name, self._recipients)
        return SCHEME + name

    def destroy(self, kms_key: str, material: str | None, *, kept: str | None) -> str:
        """Write over the epoch's manifest and remove it; final at once, as far as this disk is."""
        path = self._path(kms_key)
        with suppress(FileNotFoundError):
            # Over the same blocks where the file system does that; the name goes either way.
            with path.open("r+b", buffering=0) as file:
                file.write(os.urandom(os.fstat(file.fileno()).st_size))
                os.fsync(file.fileno())
            path.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return moment_text(self._clock())

    def is_destroyed(self, kms_key: str, material: str | None) -> bool:
        """Whether its file is gone."""
        return not os.path.lexists(self._path(kms_key))

    def _path(self, kms_key: str) -> Path:
        return manifest_path(self._directory, check_key_name(kms_key.removeprefix(SCHEME)))
