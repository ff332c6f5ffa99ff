# SPDX-License-Identifier: Apache-2.0
"""
A grant, and where decisions find those that are in effect.

Does not approve, keep or revoke any.
"""

from dataclasses import dataclass
from typing import Protocol

from lacre.context import Acting

__all__ = ["Grant", "Grants", "NoGrants"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """
    What *principal* may do for a while: *right* on *class_*, for *purpose*, of *tenant*'s data or of every tenant's.

    *not_before* and *until* are seconds since 1970, UTC; in effect from the first and before the second.
    """

    id: str
    principal: str
    class_: str
    right: str
    purpose: str
    tenant: str | None = None
    not_before: float
    until: float
    break_glass: bool = False


class Grants(Protocol):
    """Grants that are in effect now: approved, begun, not over and not revoked."""

    def effective(self, acting: Acting, class_: str, right: str) -> Grant | None:
        """Return one that gives *acting* this right; None: there is none. Does no I/O."""


class NoGrants:
    """Nobody was granted anything."""

    def effective(self, acting: Acting, class_: str, right: str) -> Grant | None:
        return None
