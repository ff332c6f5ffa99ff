# SPDX-License-Identifier: Apache-2.0
"""
Epoch KMS keys in OpenBao: one Transit key, a version of it for each epoch, trimmed at its end.

Implements ``spec/sealing.md``, section 4.2. `min_decryption_version` alone can be lowered again, so
an epoch is destroyed by trim. A snapshot of the server from before holds the version all the same:
how long those are kept is for the policy to say, not for this module.
"""

import datetime as dt
from collections.abc import Callable
from typing import final

from lacre.errors import ConfigurationError, KeyServiceDenied
from lacre.keys.moments import moment_text
from lacre.kms.openbao.service import OpenBaoKeyService

__all__ = ["OpenBaoEpochKeys"]


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@final
class OpenBaoEpochKeys:
    """
    The versions of *kms_key*, which serves one key store's epochs and nothing else.

    Whatever else it wrapped would be destroyed with them. A copy of a key store, restored elsewhere,
    is not told from the one it is of.
    """

    def __init__(
        self,
        kms_key: str,
        *,
        service: OpenBaoKeyService,
        clock: Callable[[], dt.datetime] = _now,
    ) -> None:
        self._kms_key = kms_key
        self._service = service
        self._clock = clock

    def open(self, number: int, *, above: str | None) -> str:
        """
        Give the key a version above that of the epoch before, unless there is one already.

        Raises:
            ConfigurationError: a first epoch is to begin under a key that has versions already, so
                another key store may seal with it: what ends its epochs would end those of both.
        """
        newest = self._service.status(self._kms_key).version or 0
        if above is None and newest > 1:
            raise ConfigurationError(
                f"{self._kms_key} has version {newest} already: another key store may seal with it, and each would destroy the other's epochs; no epoch was begun",
                hint="make a Transit key for this key store alone, and name it: [sealing] kms_key",
            )
        if above is not None and newest <= int(above):
            self._service.rotate(self._kms_key)
        return self._kms_key

    def destroy(self, kms_key: str, material: str | None, *, kept: str | None) -> str:
        """Trim every version below *kept*."""
        assert kept is not None  # versions of Transit have numbers
        if not self.is_destroyed(kms_key, material):
            self._service.destroy_before(kms_key, int(kept))
        if not self.is_destroyed(kms_key, material):
            raise KeyServiceDenied(
                f"{kms_key} still has version {material}", hint="look at its min_available_version"
            )
        return moment_text(self._clock())

    def is_destroyed(self, kms_key: str, material: str | None) -> bool:
        """Whether the version is below what is available."""
        return material is not None and self._service.available_from(kms_key) > int(material)
