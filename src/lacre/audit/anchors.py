# SPDX-License-Identifier: Apache-2.0
"""
Anchors: places outside the log's database that keep its checkpoints.

An anchor that whoever can write the log's database cannot write is what tells a log that was set
back or rewritten, with the key of its signer or without. Implements ``spec/evidence-log.md``,
section 8.5. Is none (`lacre.sinks.anchors`), and believes nothing: what is read back is verified.
"""

from typing import Protocol

from lacre.audit.notes import Checkpoint

__all__ = ["Anchor"]


class Anchor(Protocol):
    """A place for checkpoints."""

    @property
    def name(self) -> str:
        """What ``[audit.anchors.NAME]`` calls it."""
        ...

    def put(self, checkpoint: Checkpoint, note: str) -> None:
        """
        Keep *note*, which is *checkpoint* signed. Once it returned, a crash loses nothing.

        Raises:
            EvidenceUnavailable: it cannot be kept now.
        """
        ...

    def read(self) -> list[str]:
        """
        Return every note that was ever kept.

        Raises:
            EvidenceUnavailable: they cannot be read now.
        """
        ...
