# SPDX-License-Identifier: Apache-2.0
"""
What an auditor keeps of a log that was verified, in a file of their own, to go on from there.

With it the next verification reads only what is new, and a log that was set back, or rewritten
with the stolen key of its signer, is found: neither agrees with the file. Implements
``spec/evidence-log.md``, section 8.4. Keep it where who writes the log's database cannot write.
"""

import json
from dataclasses import dataclass, field
from typing import Self

from lacre._core.merkle import Frontier
from lacre.audit.verification import Opening
from lacre.errors import ConfigurationError, MisuseError

__all__ = ["Head", "Verified"]

_FORMAT = "lacre-audit-verified-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How far a shard went, and its root there."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """
    A log of *app* and *env* that was right, up to the checkpoint that *frontier* is of, in *shard*.

    *heads* are the heads of its shards, *last* the moment of its last leaf, *rests* whether the
    sequencer rested then; *writers* are those that had not ended (the last number, and when),
    *openings* those that were not closed.
    """

    app: str
    env: str
    shard: int
    frontier: Frontier
    last: int
    rests: bool
    heads: dict[int, Head] = field(default_factory=dict)
    writers: dict[str, tuple[int, int]] = field(default_factory=dict)
    openings: dict[str, Opening] = field(default_factory=dict)

    def to_text(self) -> str:
        """Return the content of the file."""
        found = {
            "format": _FORMAT,
            "app": self.app,
            "env": self.env,
            "shard": self.shard,
            "size": self.frontier.size,
            "frontier": [each.hex() for each in self.frontier.hashes],
            "last": self.last,
            "rests": self.rests,
            "heads": {
                str(shard): [head.size, head.root.hex()] for shard, head in self.heads.items()
            },
            "writers": self.writers,
            "openings": self.openings,
        }
        return json.dumps(found, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """
        Read what `to_text` returned.

        Raises:
            ConfigurationError: it is anything else.
        """
        wrong = ConfigurationError(
            "this is not what a verification keeps",
            hint="verify the whole log, and keep a new file",
        )
        try:
            found = json.loads(text)
            if found["format"] != _FORMAT:
                raise wrong
            return cls(
                app=found["app"],
                env=found["env"],
                shard=found["shard"],
                frontier=Frontier(
                    found["size"], [bytes.fromhex(each) for each in found["frontier"]]
                ),
                last=found["last"],
                rests=found["rests"],
                heads={
                    int(shard): Head(size=size, root=bytes.fromhex(root))
                    for shard, (size, root) in found["heads"].items()
                },
                writers={name: (last, heard) for name, (last, heard) in found["writers"].items()},
                openings={name: Opening(*each) for name, each in found["openings"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MisuseError):
            raise wrong from None
