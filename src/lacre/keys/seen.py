# SPDX-License-Identifier: Apache-2.0
"""
The highest manifest of each local KMS key that a key store has seen.

It makes a rolled-back keystore file detectable, unless the key store is rolled back with it.
Does not authenticate the row: its MAC is made and checked by the local keystore.
"""

from dataclasses import dataclass
from typing import Protocol

__all__ = ["SeenSerial", "SerialMemory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSerial:
    """The highest serial seen of a KMS key, its manifest's hash (hex), and their MAC under version *version_id*."""

    kms_key: str
    serial: int
    hash: str
    version_id: str
    mac: bytes


class SerialMemory(Protocol):
    """Remembers the highest manifest seen of each KMS key."""

    def recall(self, kms_key: str) -> SeenSerial | None:
        """Return what was remembered last, or None."""
        ...

    def remember(self, seen: SeenSerial) -> None:
        """Keep *seen*, unless a higher serial was kept meanwhile."""
        ...
