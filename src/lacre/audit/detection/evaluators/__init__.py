# SPDX-License-Identifier: Apache-2.0
"""The evaluators: few, each of many rules."""

from collections.abc import Mapping

from lacre.audit.detection.evaluator import Evaluator
from lacre.audit.detection.evaluators.habits import Baseline, Dormant, First, Hours, Peers
from lacre.audit.detection.evaluators.order import Numbers, Silence, Skew
from lacre.audit.detection.evaluators.sequences import After, Before, Grants, Widened
from lacre.audit.detection.evaluators.windows import Different, Each, Many, Share
from lacre.audit.detection.rule import How

__all__ = ["EVALUATORS"]

_ALL: tuple[type[Evaluator], ...] = (
    Each,
    Many,
    Different,
    Baseline,
    Peers,
    First,
    Hours,
    Dormant,
    Share,
    After,
    Before,
    Widened,
    Grants,
    Silence,
    Skew,
    Numbers,
)

EVALUATORS: Mapping[How, type[Evaluator]] = {kind.how: kind for kind in _ALL}
