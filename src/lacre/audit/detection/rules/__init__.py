# SPDX-License-Identifier: Apache-2.0
"""Every rule there is, by its id: of reading, of what governs reading, of the evidence itself."""

from collections.abc import Mapping

from lacre.audit.detection.rule import Rule
from lacre.audit.detection.rules.evidence import EVIDENCE
from lacre.audit.detection.rules.governing import GOVERNING
from lacre.audit.detection.rules.reading import READING

__all__ = ["RULES"]

RULES: Mapping[str, Rule] = {rule.id: rule for rule in (*READING, *GOVERNING, *EVIDENCE)}
