# SPDX-License-Identifier: Apache-2.0
"""
The registry of controls: what a compliance report measures, and of which clauses it is evidence.

Never "compliant with": a control counts what lacre can see, a clause asks for more than that.
Counts nothing itself (`lacre.audit.controls.assessing`). ``docs/reference/controls.md`` is made of
this registry.
"""

import hashlib
import json
from collections.abc import Mapping

from lacre.audit.controls import assessing
from lacre.audit.controls.definition import Control, Regime

__all__ = ["CONTROLS", "GATES", "control_named", "registry_digest"]

_LGPD, _GDPR, _PCI = Regime.LGPD, Regime.GDPR, Regime.PCI
_RBI, _SOX, _ISO = Regime.RBI, Regime.SOX, Regime.ISO
_RBI_AUDIT = "Master Direction on IT Governance 2023: audit trails"
_RBI_KEYS = "Master Direction on IT Governance 2023: cryptographic controls"
_RBI_ACCESS = "Master Direction on IT Governance 2023: access controls"
_SOX_ITGC = "404 (IT general controls)"

CONTROLS = (
    Control(
        id="columns-encrypted",
        title="Classified columns are encrypted",
        numerator="columns whose signed state is encrypted",
        denominator="columns that [columns] names or the key store has a state of",
        window="when the snapshot was made",
        gate="a column that is not encrypted, whose deadline is over or was never set, and that no waiver excuses",
        weight=15,
        evidence="lacre columns list",
        clauses={
            _LGPD: ("6 VII", "46"), _GDPR: ("25(2)", "32(1)(a)"), _PCI: ("3.5.1", "3.5.1.2"),
            _RBI: (_RBI_KEYS,), _ISO: ("A.5.34", "A.8.24"),
        },
        assess=assessing.columns_encrypted,
    ),
    Control(
        id="active-keys",
        title="Values are under the key that encrypts now",
        numerator="values under the active key of their scope",
        denominator="values in the databases that were named",
        window="when the snapshot was made",
        weight=5,
        evidence="lacre reencrypt --coverage",
        clauses={_GDPR: ("32(1)(a)",), _PCI: ("3.7.4", "3.7.5"), _ISO: ("A.8.24",)},
        assess=assessing.active_keys,
    ),
    Control(
        id="keys-in-period",
        title="Keys are rotated in their cryptoperiod",
        numerator="active keys younger than their class's rotate_after or rotate_index_after",
        denominator="active keys that have such a period",
        window="when the snapshot was made",
        gate="an active key older than its period and the grace, or a compromised key that is not destroyed",
        weight=15,
        evidence="lacre keys due",
        clauses={
            _LGPD: ("46",), _GDPR: ("32(1)(a)",), _PCI: ("3.7.4", "3.7.5"),
            _RBI: (_RBI_KEYS,), _ISO: ("A.8.24",),
        },
        assess=assessing.keys_in_period,
    ),
    Control(
        id="purposes-listed",
        title="Uses say a purpose that the policy lists",
        numerator="looks, searches and writes for one of the policy's purposes",
        denominator="looks, searches and writes",
        window="the period",
        weight=5,
        evidence="lacre audit tail",
        clauses={_LGPD: ("6 I", "37"), _GDPR: ("5(1)(b)", "30(1)(b)"), _ISO: ("A.5.34",)},
        assess=assessing.purposes_listed,
    ),
    Control(
        id="looks-by-rule",
        title="A rule of the policy decided on uses",
        numerator="looks, searches and writes that a rule allowed, masked or prevented",
        denominator="looks, searches and writes, with those that failed or went by a legacy reader",
        window="the period",
        weight=5,
        evidence="lacre audit tail",
        clauses={
            _LGPD: ("6 VII", "46"), _GDPR: ("25(2)", "32(1)(b)"), _PCI: ("7.2.1", "10.2.1"),
            _RBI: (_RBI_ACCESS,), _SOX: (_SOX_ITGC,), _ISO: ("A.5.15", "A.8.3", "A.8.11"),
        },
        assess=assessing.looks_by_rule,
    ),
    Control(
        id="log-verified",
        title="The evidence log verifies",
        numerator="entries below a signed tree head that was made again from them",
        denominator="entries of the log",
        window="the whole log",
        gate="a log that does not verify: something was changed, is missing, or the tree forks",
        weight=15,
        evidence="lacre audit verify",
        clauses={
            _LGPD: ("6 X", "37"), _GDPR: ("5(1)(f)", "5(2)"), _PCI: ("10.3.2", "10.3.4"),
            _RBI: (_RBI_AUDIT,), _SOX: ("802", _SOX_ITGC), _ISO: ("A.5.33", "A.8.15"),
        },
        assess=assessing.log_verified,
    ),
    Control(
        id="log-anchored",
        title="Heads of the log are kept out of its reach",
        numerator="entries below the newest anchored head of their month",
        denominator="entries of the log",
        window="the whole log",
        weight=5,
        evidence="lacre audit verify",
        clauses={_GDPR: ("5(2)",), _PCI: ("10.3.3", "10.5.1"), _SOX: ("802",), _ISO: ("A.5.33", "A.8.15")},
        assess=assessing.log_anchored,
    ),
    Control(
        id="rules-on",
        title="Rules of detection are on",
        numerator="rules that are on",
        denominator="rules that there are",
        window="when the snapshot was made",
        weight=5,
        evidence="lacre audit rules",
        clauses={_LGPD: ("46", "50"), _GDPR: ("32(1)(d)", "33"), _PCI: ("10.4.1.1", "10.7.2"), _ISO: ("A.8.16",)},
        assess=assessing.rules_on,
    ),
    Control(
        id="alerts-seen-to",
        title="Alerts are seen to in time",
        numerator="alerts acknowledged in time, and those that still have time",
        denominator="alerts raised",
        window="the period",
        weight=5,
        evidence="lacre alerts list",
        clauses={_LGPD: ("48",), _GDPR: ("33",), _PCI: ("10.4.1", "10.4.3"), _ISO: ("A.5.25", "A.8.16")},
        assess=assessing.alerts_seen_to,
    ),
    Control(
        id="erasures-in-time",
        title="Erasures are done in time",
        numerator="shredded subjects whose certificate was signed in time",
        denominator="subjects whose shredding began",
        window="the period",
        gate="a shredding that began and has no certificate after the time for it",
        weight=5,
        evidence="lacre certificate verify",
        clauses={_LGPD: ("16", "18 VI"), _GDPR: ("5(1)(e)", "17"), _PCI: ("3.2.1",), _ISO: ("A.8.10",)},
        assess=assessing.erasures_in_time,
    ),
    Control(
        id="restore-drilled",
        title="A restore of the key store was rehearsed",
        numerator="1 where the last drill is not too long ago",
        denominator="1",
        window="before the snapshot was made",
        weight=5,
        evidence="lacre keys drill",
        clauses={_GDPR: ("32(1)(b)", "32(1)(c)"), _RBI: (_RBI_KEYS,), _ISO: ("A.5.30", "A.8.13")},
        assess=assessing.restore_drilled,
    ),
    Control(
        id="grants-approved",
        title="Grants have two approvers and an end",
        numerator="grants in force that two others approved and that end",
        denominator="grants in force",
        window="the period",
        gate="a grant that one person alone approved, without break-glass",
        weight=5,
        evidence="lacre audit tail",
        clauses={
            _PCI: ("3.7.6", "7.2.2", "7.2.4"), _RBI: (_RBI_ACCESS,), _SOX: (_SOX_ITGC,),
            _ISO: ("A.5.3", "A.5.18", "A.8.2"),
        },
        assess=assessing.grants_approved,
    ),
    Control(
        id="secrets-rotated",
        title="Secrets are rotated on schedule",
        numerator="secrets younger than their schedule",
        denominator="secrets that have one",
        window="when the snapshot was made",
        weight=3,
        evidence="lacre audit tail",
        clauses={_PCI: ("8.3.9", "8.6.3"), _RBI: (_RBI_ACCESS,), _ISO: ("A.5.17",)},
        assess=assessing.secrets_rotated,
    ),
    Control(
        id="uses-reconciled",
        title="What the key service saw is in the log",
        numerator="uses of keys in the key service's own log that match one of ours, both ways",
        denominator="uses of keys in either log",
        window="the period",
        weight=4,
        evidence="lacre audit tail",
        clauses={_GDPR: ("5(2)",), _PCI: ("10.2.1", "10.4.1"), _SOX: (_SOX_ITGC,), _ISO: ("A.5.23", "A.8.15")},
        assess=assessing.uses_reconciled,
    ),
    Control(
        id="policy-as-deployed",
        title="What is deployed is what the policy says",
        numerator="rendered policies that are deployed as they are",
        denominator="rendered policies",
        window="when the snapshot was made",
        gate="a difference that widens who may decrypt",
        weight=3,
        evidence="lacre policy render",
        clauses={_PCI: ("6.5.1", "7.2.1"), _SOX: (_SOX_ITGC,), _ISO: ("A.8.9", "A.8.32")},
        assess=assessing.policy_as_deployed,
    ),
    Control(
        id="manual-done",
        title="Manual controls are done when they are due",
        numerator="manual controls that are done and not due again",
        denominator="manual controls",
        window="when the snapshot was made",
        weight=5,
        evidence="lacre audit control",
        clauses={
            _LGPD: ("50",), _GDPR: ("24", "32(1)(d)"), _PCI: ("7.2.4", "11.4.1", "12.6.1", "12.10.2"),
            _RBI: ("Master Direction on IT Governance 2023: assurance",), _SOX: ("404",),
            _ISO: ("A.5.35", "A.6.3"),
        },
        assess=assessing.manual_done,
    ),
)  # fmt: skip

GATES = tuple(control.id for control in CONTROLS if control.gate)

_NAMED: Mapping[str, Control] = {control.id: control for control in CONTROLS}


def control_named(name: str) -> Control | None:
    """Return the control of that id."""
    return _NAMED.get(name)


def registry_digest() -> str:
    """Return the SHA-256 of what the controls are, in words: another release may count otherwise."""
    words = [control.defined() for control in CONTROLS]
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()
