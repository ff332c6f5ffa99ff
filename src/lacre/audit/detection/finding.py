# SPDX-License-Identifier: Apache-2.0
"""
What a rule found, so that an auditor can follow it: the rule, its threshold, the entries it stands on.

Does not find, store or send anything.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Severity", "fingerprint"]


class Severity(StrEnum):
    """How soon somebody should look: `low` in a review, `medium` within a day, `high` now, `critical` at any hour."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for `low`, up to 3."""
        return tuple(Severity).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    One rule fired.

    *principal* is who it is about, empty where it is about the log itself. Two findings with one
    *fingerprint* are of the same thing, later. *first* and *last* are the times of the evidence.
    *facts* are JSON: `threshold`, `found`, and what else the rule has to say. *evidence* are
    positions in the log, (shard, seq), in order: the first and the last of them where there are
    many, `facts["events"]` says of how many.
    """

    rule: str
    severity: Severity
    principal: str
    fingerprint: str
    first: dt.datetime
    last: dt.datetime
    summary: str
    facts: Mapping[str, object]
    evidence: tuple[tuple[int, int], ...]


def fingerprint(rule: str, *group: str) -> str:
    """Return what findings of *rule* about the same *group* share: 64 hex digits."""
    return hashlib.sha256(json.dumps([rule, *group]).encode()).hexdigest()
