# SPDX-License-Identifier: Apache-2.0
"""
Epoch KMS keys in AWS: one KMS key for each epoch, whose deletion is scheduled at its end.

Implements ``spec/sealing.md``, section 4.3. Rotation of a KMS key never destroys old material, so a
key of its own for each epoch is the only end there is; and it ends 7 to 30 days after it is asked
for, until when whoever may `kms:CancelKeyDeletion` brings it back. Nothing is wrapped under the
alias: it finds the key again after an interruption.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any, final

from lacre.errors import ConfigurationError, KeyNotFound
from lacre.keys.moments import moment_text
from lacre.kms.aws.service import AwsKeyService

__all__ = ["AwsEpochKeys"]

_ENDING = {"PendingDeletion", "PendingReplicaDeletion"}


@final
class AwsEpochKeys:
    """
    The epoch KMS keys of one service.

    Args:
        alias: ``aws-kms://REGION/alias/NAME``: the epochs' aliases are its name, a dash and the number.
        waiting: days until a scheduled deletion is carried out, 7 to 30.
        tags: of each key.
    """

    def __init__(
        self, alias: str, *, service: AwsKeyService, waiting: int, tags: Mapping[str, str]
    ) -> None:
        self._alias = alias
        self._service = service
        self._waiting = waiting
        self._tags = dict(tags)

    def open(self, number: int, *, above: str | None) -> str:
        """Create the epoch's key and its alias, unless the alias is there; return the key's URI."""
        alias = f"{self._alias}-{number}"
        try:
            return self._service.resolve(alias)
        except KeyNotFound:
            tags = self._tags | {"lacre-epoch": str(number)}
            return self._service.create(alias, description=f"lacre: epoch {number}", tags=tags)

    def destroy(self, kms_key: str, material: str | None, *, kept: str | None) -> str:
        """Schedule the key's deletion; return when it is carried out."""
        found = self._described(kms_key)
        if found.get("KeyState") not in _ENDING:
            found = self._service.schedule_deletion(kms_key, days=self._waiting)
        due = found.get("DeletionDate")
        if not isinstance(due, dt.datetime):
            raise ConfigurationError(f"AWS KMS does not say when {kms_key} is deleted")
        return moment_text(due)

    def is_destroyed(self, kms_key: str, material: str | None) -> bool:
        """Whether the key waits for its deletion, or is gone."""
        try:
            return self._described(kms_key).get("KeyState") in _ENDING
        except KeyNotFound:
            return True

    def _described(self, kms_key: str) -> dict[str, Any]:
        return self._service.describe(kms_key)
