# SPDX-License-Identifier: Apache-2.0
"""
How each control counts: from the body of a snapshot, and nothing else.

One function for each control of `lacre.audit.controls.registry`, which says in words what is
counted here. Reads no clock: a snapshot says when it was made.
"""

from collections.abc import Callable, Mapping
from typing import Any

from lacre.audit.controls.definition import Body, Finding, counted, not_assessed, nothing

__all__ = [
    "active_keys",
    "alerts_seen_to",
    "columns_encrypted",
    "erasures_in_time",
    "grants_approved",
    "keys_in_period",
    "log_anchored",
    "log_verified",
    "looks_by_rule",
    "manual_done",
    "policy_as_deployed",
    "purposes_listed",
    "restore_drilled",
    "rules_on",
    "secrets_rotated",
    "uses_reconciled",
]

_NO_LOG = "no evidence log ([audit] url): there are only lines, which nobody counts"


def columns_encrypted(body: Body) -> Finding:
    """Columns that the policy or the key store names, in state encrypted."""
    columns = body["columns"]
    if not columns:
        return not_assessed("no column is named: [columns] in lacre.toml is the inventory")
    done = sum(each["state"] == "encrypted" for each in columns)
    bare = [each for each in columns if each["state"] != "encrypted" and not each["excused"]]
    return counted(
        done,
        len(columns),
        _of(len(columns) - done, "column is", "columns are", "not encrypted"),
        gate=_of(len(bare), "column holds", "columns hold", "plaintext without a deadline or waiver that is still open"),
    )  # fmt: skip


def active_keys(body: Body) -> Finding:
    """Values that are under the key that encrypts now."""
    if body["coverage"] is None:
        return not_assessed(
            "values were not counted: --models and --database of lacre audit snapshot"
        )
    values = sum(each["values"] for each in body["coverage"])
    active = sum(each["active"] for each in body["coverage"])
    if not values:
        return nothing("no values are stored")
    return counted(active, values, _of(values - active, "value is", "values are", "under keys of before"))  # fmt: skip


def keys_in_period(body: Body) -> Finding:
    """Active keys that are younger than their class allows."""
    keys = body["keys"]
    if not keys["periods"]["all"]:
        return not_assessed("no active key has a period: rotate_after of a class")
    late, grace = keys["late"], body["definition"]["settings"]["grace"]
    beyond = [each for each in late if each["days"] > grace]
    exposed = [each for each in keys["states"] if each[1] == "compromised"]
    gates = [
        _of(len(beyond), "active key is", "active keys are", f"past the period and {grace} days of grace"),
        _of(sum(each[2] for each in exposed), "compromised key is", "compromised keys are", "not destroyed"),
    ]  # fmt: skip
    return counted(
        keys["periods"]["kept"],
        keys["periods"]["all"],
        _of(len(late), "active key is", "active keys are", "past the period"),
        gate="; ".join(gate for gate in gates if gate),
    )


def purposes_listed(body: Body) -> Finding:
    """Uses for a purpose that the policy lists."""
    accesses = body["accesses"]
    if accesses is None:
        return not_assessed(_NO_LOG)
    if body["policy"]["purposes"] is None:
        return not_assessed("lacre.toml lists no purposes: any text is one")
    if not accesses["entries"]:
        return nothing("no value was used in the period")
    other = accesses["unlisted"]
    return counted(accesses["entries"] - other, accesses["entries"], _of(other, "use was", "uses were", "for a purpose that is not listed"))  # fmt: skip


def looks_by_rule(body: Body) -> Finding:
    """Uses that a rule allowed or prevented, and not failures or readers that are for a time only."""
    accesses = body["accesses"]
    if accesses is None:
        return not_assessed(_NO_LOG)
    if not accesses["entries"]:
        return nothing("no value was used in the period")
    statuses = dict(accesses["statuses"])
    good = statuses.get("compliant", 0) + statuses.get("prevented", 0)
    return counted(good, accesses["entries"], _of(accesses["entries"] - good, "use", "uses", "failed, or went by a legacy reader"))  # fmt: skip


def log_verified(body: Body) -> Finding:
    """Entries of the log that were verified up to a signed head."""
    log = body["log"]
    if log is None:
        return not_assessed(_NO_LOG)
    found = log["verification"]
    if found is None:
        return not_assessed("the log was not verified when the snapshot was made")
    if not log["entries"]:
        return nothing("the log is empty")
    gate = "" if found["sound"] else f"the log does not verify: {_listed(found['findings'])}"
    verified = found["verified"] if found["sound"] else 0
    why = _of(
        log["entries"] - verified, "entry is", "entries are", "not verified under a signed head"
    )
    return counted(verified, log["entries"], why, gate=gate)


def log_anchored(body: Body) -> Finding:
    """Entries of the log below a head that is kept where its database cannot reach."""
    log = body["log"]
    if log is None:
        return not_assessed(_NO_LOG)
    if not log["entries"]:
        return nothing("the log is empty")
    if not body["anchors"]:
        return not_assessed("no checkpoint was ever anchored")
    anchored = sum(each["anchored"] for each in log["shards"])
    left = log["entries"] - anchored
    return counted(anchored, log["entries"], _of(left, "entry is", "entries are", "newer than the last anchor"))  # fmt: skip


def rules_on(body: Body) -> Finding:
    """Rules of detection that are on."""
    rules = body["rules"]
    if rules is None:
        return not_assessed("no detection runs on this log")
    if not rules:
        return nothing("there are no rules of detection")
    off = [each["rule"] for each in rules if not each["on"]]
    return counted(len(rules) - len(off), len(rules), f"off: {_listed(off)}" if off else "")


def alerts_seen_to(body: Body) -> Finding:
    """Alerts of the period that somebody acknowledged in time, or still has time for."""
    alerts = body["alerts"]
    if alerts is None:
        return not_assessed(_NO_LOG)
    if not alerts:
        return nothing("no alert was raised in the period")
    late = sum(each["late"] for each in alerts)
    return counted(len(alerts) - late, len(alerts), _of(late, "alert was", "alerts were", "not seen to in time"))  # fmt: skip


def erasures_in_time(body: Body) -> Finding:
    """Erasures that are certified in time."""
    erasures, within = body["erasures"], body["definition"]["settings"]["erasure_within"]
    begun = erasures["certified"] + erasures["open"]
    if not begun:
        return nothing("no subject was erased in the period")
    return counted(
        begun - erasures["late"],
        begun,
        _of(erasures["late"], "erasure was", "erasures were", f"not certified within {within} days"),
        gate=_of(erasures["overdue"], "erasure is", "erasures are", f"begun and not certified after {within} days"),
    )  # fmt: skip


def restore_drilled(body: Body) -> Finding:
    """Whether a dump of the key store was restored in a drill lately."""
    last, within = body["drills"]["days"], body["definition"]["settings"]["drill_within"]
    if last is None:
        return counted(0, 1, "no drill of a restore is on record: lacre keys drill")
    return counted(int(last <= within), 1, "" if last <= within else f"the last drill was {last} days ago")  # fmt: skip


def manual_done(body: Body) -> Finding:
    """Manual controls that are done and not due again."""
    manual = body["manual"]
    if not manual:
        return not_assessed("the policy leaves out every manual control")
    late = [each["name"] for each in manual if each["overdue"]]
    return counted(len(manual) - len(late), len(manual), f"overdue: {_listed(late)}" if late else "")  # fmt: skip


def _of_facts(name: str, missing: str, none: str, gate: str = "") -> Callable[[Body], Finding]:
    # What another room counts, when it is there: passed, assessed, and what fails the gate.
    def assess(body: Body) -> Finding:
        facts: Mapping[str, Any] | None = body[name]
        if facts is None:
            return not_assessed(missing)
        if not facts["assessed"]:
            return nothing(none)
        left = facts["assessed"] - facts["passed"]
        why = f"{left:,} of {facts['assessed']:,} did not pass" if left else ""
        failed = facts["failing"] if gate else 0
        return counted(facts["passed"], facts["assessed"], why, gate=f"{failed:,} {gate}" if failed else "")  # fmt: skip

    return assess


grants_approved = _of_facts(
    "grants", "grants are not kept by this release", "no grant was in force",
    "grants were approved by one person alone, without break-glass",
)  # fmt: skip
secrets_rotated = _of_facts(
    "secrets", "secrets are not kept by this release", "no secret has a schedule"
)
uses_reconciled = _of_facts(
    "reconciliation", "the key service's own log was not compared", "the key service saw no use"
)
policy_as_deployed = _of_facts(
    "drift", "nobody compared the policy with what is deployed", "nothing is deployed",
    "differences widen who may decrypt",
)  # fmt: skip


def _of(number: int, one: str, several: str, what: str) -> str:
    return f"{number:,} {one if number == 1 else several} {what}" if number else ""


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
