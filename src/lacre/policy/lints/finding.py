# SPDX-License-Identifier: Apache-2.0
"""A finding of a lint. Does not look for any."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Level"]


class Level(StrEnum):
    """`ERROR` stops the policy from loading; `WARNING` is said by `lacre policy check`."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong at *path* of the file, in a sentence, and what to do about it. *rule* is its name."""

    rule: str
    level: Level
    path: tuple[str, ...]
    sentence: str
    hint: str

    @property
    def where(self) -> str:
        """The path as errors and waivers write it."""
        return ".".join(self.path)
