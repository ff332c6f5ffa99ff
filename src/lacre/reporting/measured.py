# SPDX-License-Identifier: Apache-2.0
"""
The measured facts of a snapshot as sections of a report: uses, alerts, columns, keys, erasures, log.

Judges nothing: that is in `lacre.audit.controls`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from lacre.audit.controls.definition import Body
from lacre.reporting.document import Block, Chart, Paragraph, Section, Series, plain, table

__all__ = [
    "accesses",
    "columns",
    "erasures",
    "evidence_log",
    "keys",
    "manual",
    "rights",
    "suspicious",
]

_SHOWN = 40  # rows of lists that may be long; the JSON has all of them
_BARS = 16
_DAYS = 31  # that a table has one by one
_NO_LOG = Paragraph("There is no evidence log ([audit] url), so nothing of this was counted.", "warn")  # fmt: skip


def _section(name: str, title: str, *blocks: Block) -> Section:
    return Section(name=name, title=title, blocks=blocks)


def accesses(body: Body) -> Section:
    """Who used what, as counts."""
    found = body["accesses"]
    if found is None:
        return _section("uses", "Uses of protected values", _NO_LOG)
    said = (
        f"Looks, searches and writes that the evidence log has: {found['entries']:,}, of values: {found['values']:,}, by principals: {found['principals']:,}."
        f" Of these, {found['searches']:,} searches; {found['masked']:,} gave a mask, {found['denied']:,} denied, {found['failed']:,} without a value that opened."
    )
    days, step = found["days"], max(1, -(-len(found["days"]) // 120))
    grouped = [days[i : i + step] for i in range(0, len(days), step)]
    labels = tuple(group[0][0][5:] for group in grouped)

    def of(which: int) -> tuple[int, ...]:
        return tuple(sum(day[which] for day in group) for group in grouped)

    per = "day" if step == 1 else f"{step} days"
    allowed = Series(name="allowed", values=of(1), tone="allowed")
    rest = (
        Series(name="masked", values=of(2), tone="masked"),
        Series(name="denied", values=of(3), tone="denied"),
        Series(name="failed", values=of(4), tone="failed"),
    )
    classes, fields, top = found["classes"], found["fields"], found["fields"][:_BARS]
    return _section(
        "uses",
        "Uses of protected values",
        Paragraph(said),
        Chart(kind="columns", title=f"Uses allowed, by {per}", labels=labels, series=(allowed,), unit="uses"),
        Chart(kind="columns", title=f"Masked, denied and failed, by {per}", labels=labels, series=rest, unit="uses"),
        Chart(kind="bars", title="Uses by class", labels=tuple(plain(each[0]) for each in classes[:_BARS]),
              series=(Series(name="uses", values=tuple(each[1] for each in classes[:_BARS]), tone="allowed"),), unit="uses"),
        Chart(kind="bars", title="Uses by field", labels=tuple(plain(each[0]) for each in top),
              series=(Series(name="uses", values=tuple(each[2] for each in top), tone="allowed"),), unit="uses"),
        table("Uses by field", ("field", "class", "#uses", "#values"), fields[:_SHOWN]),
        table("Uses by kind", ("action", "#uses"), found["actions"]),
        table("Uses by status", ("status", "#uses"), found["statuses"]),
        table("Uses by purpose", ("purpose", "#uses"), found["purposes"][:_SHOWN]),
        table("Uses by week" if len(days) > _DAYS else "Uses by day", ("from", "#allowed", "#masked", "#denied", "#failed"), _weeks(days)),
    )  # fmt: skip


def _weeks(days: Sequence[Sequence[Any]]) -> list[list[Any]]:
    # The chart has each day, and the JSON its numbers.
    step = 7 if len(days) > _DAYS else 1
    groups = [days[i : i + step] for i in range(0, len(days), step)]
    return [[group[0][0], *(sum(day[i] for day in group) for i in range(1, 5))] for group in groups]


def suspicious(body: Body) -> Section:
    """What detection found, and where its evidence is."""
    alerts, rules = body["alerts"], body["rules"]
    title = "Suspicious activities"
    if alerts is None:
        return _section("suspicious", title, _NO_LOG)
    by_rule: Counter[tuple[str, str]] = Counter()
    times: Counter[tuple[str, str]] = Counter()
    for each in alerts:
        by_rule[each["rule"], each["severity"]] += 1
        times[each["rule"], each["severity"]] += each["times"]
    late = sum(each["late"] for each in alerts)
    open_ = sum(each["state"] == "open" for each in alerts)
    said = f"Alerts raised in the period: {len(alerts):,}; open: {open_:,}; not seen to in time: {late:,}. About whom they are is in the log, not here."
    blocks: list[Block] = [
        Paragraph(said),
        table("Alerts by rule", ("rule", "severity", "#alerts", "#findings"),
              [(*key, count, times[key]) for key, count in by_rule.most_common()], toned=1),
        table(
            "Alerts, newest first" + (f", the first {_SHOWN} of {len(alerts):,}" if len(alerts) > _SHOWN else ""),
            ("raised", "rule", "severity", "#findings", "state", "in time", "evidence: shard and number"),
            [(each["raised"][:16].replace("T", " "), each["rule"], each["severity"], each["times"], each["state"],
              "no" if each["late"] else "yes", ", ".join(f"{a}:{b}" for a, b in each["evidence"][:4]) + (" …" if len(each["evidence"]) > 4 else ""))
             for each in alerts[:_SHOWN]],
            toned=2,
        ),
    ]  # fmt: skip
    if rules is None:
        blocks.append(Paragraph("No detection runs on this log: that nothing was raised says nothing.", "warn"))  # fmt: skip
    else:
        off = [(each["rule"], each["why"]) for each in rules if not each["on"]]
        blocks.append(table(f"Rules that are switched off, of {len(rules)}", ("rule", "why"), off))
    return _section("suspicious", title, *blocks)


def columns(body: Body) -> Section:
    """How columns stand, and under which keys their values are."""
    found, coverage = body["columns"], body["coverage"]
    rows = [
        (f"{each['store']}.{each['table']}.{each['column']}", each["class"], each["state"],
         each["deadline"] or "–", "overdue" if each["overdue"] else "excused" if each["excused"] and each["state"] != "encrypted" else "")
        for each in found
    ]  # fmt: skip
    blocks: list[Block] = [
        table("State of each column", ("column", "class", "state", "deadline", ""), rows, toned=2,
              empty="lacre.toml names no column, and none has a state.")
    ]  # fmt: skip
    if coverage:
        shown = coverage[:_BARS]
        parts = (("active", "active key", "good"), ("older", "keys of before", "warn"), ("compromised", "compromised", "bad"),
                 ("unreadable", "not readable", "failed"), ("plaintext", "no lacre value", "denied"))  # fmt: skip
        series = tuple(
            Series(name=name, values=tuple(_share(each[key], each["values"]) for each in shown), tone=tone)
            for key, name, tone in parts
        )  # fmt: skip
        blocks.append(
            Chart(kind="bars", title="Values under the key that encrypts now, in per cent", unit="%", highest=100,
                  labels=tuple(plain(f"{each['table']}.{each['column']}") for each in shown), series=series,
                  marks=tuple(f"{_share(each['active'], each['values'])} %" for each in shown))
        )  # fmt: skip
        blocks.append(
            table("Values of each column", ("column", "class", "#values", "#active key", "#keys of before", "#compromised", "#not readable", "#no lacre value"),
                  [(f"{each['table']}.{each['column']}", each["class"], each["values"], each["active"], each["older"], each["compromised"], each["unreadable"], each["plaintext"]) for each in coverage])
        )  # fmt: skip
    else:
        blocks.append(Paragraph("Values were not counted: lacre audit snapshot does with --models and --database.", "warn"))  # fmt: skip
    return _section("columns", "Columns and coverage", *blocks)


def _share(part: int, whole: int) -> int:
    return 100 * part // whole if whole else 0


def keys(body: Body) -> Section:
    """Keys by state and age, and what was done with them."""
    found = body["keys"]
    due = found["due"]
    said = (
        f"Keys in the period: {found['created']:,} made, {found['rotated']:,} made in the place of one before, {found['destroyed']:,} destroyed."
        f" Due: {due['overdue']:,} overdue, {due['waiting']:,} waiting for a step, {due['soon']:,} within 30 days."
    )
    ages = Chart(
        kind="columns",
        title="Active keys by age",
        labels=tuple(each[0] for each in found["ages"]),
        series=(
            Series(name="in their period", values=tuple(each[1] for each in found["ages"]), tone="allowed"),
            Series(name="past it", values=tuple(each[2] for each in found["ages"]), tone="failed"),
        ),
        unit="keys",
    )  # fmt: skip
    late = [(each["class"], each["kind"], each["version"], each["by"], each["days"]) for each in found["late"][:_SHOWN]]  # fmt: skip
    return _section(
        "keys",
        "Keys",
        Paragraph(said),
        ages,
        table("Active keys by age", ("age", "#in their period", "#past it"), found["ages"]),
        table("Keys by kind and state", ("kind", "state", "#keys"), found["states"], toned=1),
        table(
            "Active keys past their period",
            ("class", "kind", "#version", "due", "#days over"),
            late,
        ),
    )


def erasures(body: Body) -> Section:
    """Subjects that were shredded, and when nobody can read them any more."""
    found = body["erasures"]
    said = (
        f"Subjects in the period: {found['certified']:,} shredded and certified, {found['open']:,} shredded and not certified yet, {found['held']:,} refused because of a legal hold."
        f" Irrecoverable by now, because no backup of the key store brings their keys back: {found['irrecoverable']:,}."
    )
    rows = [
        (each["shredded"], each["certificate"][:16], each["verdict"], each["irrecoverable"], each["days"])
        for each in reversed(found["certificates"][-_SHOWN:])
    ]  # fmt: skip
    heads = ("shredded", "certificate", "verdict", "irrecoverable", "#days until then")
    return _section("erasures", "Erasures", Paragraph(said), table("Certificates", heads, rows))


def evidence_log(body: Body) -> Section:
    """The log: its months, whether it verifies, where its heads are kept."""
    log = body["log"]
    if log is None:
        return _section("log", "Evidence log", _NO_LOG)
    rows = [
        (each["shard"], each["state"], each["entries"], each["signed"], each["anchored"], "hold" if each["hold"] else "", each["root"][:16])
        for each in log["shards"]
    ]  # fmt: skip
    found = log["verification"]
    if found is None:
        said = Paragraph("The log was not verified when the snapshot was made.", "warn")
    elif found["sound"]:
        said = Paragraph(f"The log verified when the snapshot was made: {found['verified']:,} of {log['entries']:,} entries, under signed heads.", "good")  # fmt: skip
    else:
        said = Paragraph(f"The log does NOT verify: {plain('; '.join(found['findings'][:5]))}", "bad")  # fmt: skip
    anchors = [(each["anchor"], each["shard"], each["size"], str(each["at"])[:16].replace("T", " ")) for each in body["anchors"]]  # fmt: skip
    return _section(
        "log",
        "Evidence log",
        said,
        table("Months of the log", ("month", "state", "#entries", "#signed", "#anchored", "hold", "root"), rows),
        table("Anchors: the newest head of each", ("anchor", "month", "#entries", "since"), anchors),
    )  # fmt: skip


def manual(body: Body) -> Section:
    """What people do."""
    rows = [
        (each["name"], each["title"], f"{each['every']} days", each["done"] or "never", each["due"] or "now",
         "overdue" if each["overdue"] else "done", each["proof"][:16])
        for each in body["manual"]
    ]  # fmt: skip
    drills = body["drills"]
    last = f"The last drill of a restore of the key store was on {drills['last']}." if drills["last"] else "No drill of a restore of the key store is on record."  # fmt: skip
    return _section(
        "manual",
        "Manual controls",
        Paragraph(f"What people said they did; the proof is the SHA-256 of a document. {last}"),
        table("Manual controls", ("control", "what it is", "every", "done", "due", "state", "proof"), rows, toned=5),
    )  # fmt: skip


def rights(body: Body) -> Section:
    """Which role may do what with which class, as the policy says."""
    rows = [
        (each["class"], role, ", ".join(found), each["mask"])
        for each in body["policy"]["classes"]
        for role, found in each["rights"].items()
    ]
    purposes = body["policy"]["purposes"]
    said = "lacre.toml lists no purposes: any text is one." if purposes is None else f"lacre.toml lists {purposes} purposes; for any other, nothing is allowed."  # fmt: skip
    in_use = body["policy"]["in_use"]
    blocks: list[Block] = [
        Paragraph(said),
        table("Rights by class and role", ("class", "role", "rights", "mask"), rows),
    ]
    if in_use:
        blocks.append(
            table(
                "Policies that processes began to work by in the period",
                ("SHA-256",),
                [(each,) for each in in_use],
            )
        )
    return _section("rights", "Who may do what", *blocks)
