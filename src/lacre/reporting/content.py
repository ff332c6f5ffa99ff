# SPDX-License-Identifier: Apache-2.0
"""
What a report says of a snapshot: cover, result, scope, method, findings, how to check it.

The measured facts, section by section, are in `lacre.reporting.measured`. Knows no format.
"""

from lacre.audit.controls.definition import Regime, Standing
from lacre.audit.controls.scoring import CAP, Assessed, Assessment, assess
from lacre.audit.controls.snapshot import Snapshot
from lacre.reporting.document import (
    Block,
    Chart,
    Code,
    Document,
    Fact,
    Paragraph,
    Section,
    Series,
    Verdict,
    plain,
    table,
)
from lacre.reporting.measured import (
    accesses,
    columns,
    erasures,
    evidence_log,
    keys,
    manual,
    rights,
    suspicious,
)

__all__ = ["report_of"]

_STATEMENT = (
    "This report is evidence for the controls it names. It does not say that anybody complies with a law or a standard:"
    " these ask for more than a program sees."
)


def report_of(snapshot: Snapshot) -> tuple[Document, Assessment]:
    """
    Return the report of *snapshot*, and how it was judged. A pure function.

    Raises:
        ConfigurationError: it was made by a release whose controls are others.
    """
    judged, body = assess(snapshot), snapshot.body
    period = (
        f"{body['period']['since'][:10]} to {body['period']['until'][:16].replace('T', ' ')} UTC"
    )
    facts = (
        Fact(
            "Application",
            plain(f"{body['app']}, environment {body['env']}, service {body['service']}"),
        ),
        Fact("Period", period),
        Fact("Made", f"{body['made'].replace('T', ' ').replace('Z', '')} UTC"),
        Fact("Signed by", plain(f"{body['by']['name']} (key {body['by']['key']})")),
        Fact("Snapshot, SHA-256", snapshot.sha256),
        Fact("Definition, SHA-256", judged.definition),
        Fact("Policy, SHA-256", body["policy"]["sha256"]),
        Fact("lacre", plain(body["code"])),
    )
    sections = (
        _result(judged),
        _findings(judged),
        _scope(snapshot),
        _method(judged),
        _controls(judged),
        accesses(body),
        suspicious(body),
        columns(body),
        keys(body),
        erasures(body),
        evidence_log(body),
        manual(body),
        rights(body),
        _clauses(judged),
        _checking(snapshot, judged),
    )
    document = Document(
        title="Compliance report",
        subtitle=plain(f"{body['app']} · {body['env']}"),
        facts=facts,
        verdict=_verdict(judged),
        sections=sections,
        foot=f"Snapshot {snapshot.sha256}",
    )
    return document, judged


def _points(tenths: int) -> str:
    return f"{tenths // 10}.{tenths % 10}"


def _percent(each: Assessed) -> str:
    return "–" if each.tenths is None else f"{_points(each.tenths)} %"


def _verdict(judged: Assessment) -> Verdict:
    failed, missing = judged.gates, judged.of(Standing.NOT_ASSESSED)
    if failed:
        words = f"{len(failed)} of the gates failed: the score is capped at {CAP}"
    else:
        words = "no gate failed"
    if missing:
        words += f"; {len(missing)} controls were not assessed and count as 0"
    tone = "bad" if failed else "good" if judged.tenths >= 900 else "warn"
    return Verdict(score=_points(judged.tenths), status=judged.status, tone=tone, words=words)


def _result(judged: Assessment) -> Section:
    blocks: list[Block] = [Paragraph(_STATEMENT)]
    worst = judged.worst
    lines = [f"The control that is lowest is {worst.control.id}: {_percent(worst)}."]
    if judged.uncapped != judged.tenths:
        lines.append(f"Without the gates the score would be {_points(judged.uncapped)}.")
    if judged.change is None:
        lines.append(
            "There is no earlier snapshot that was measured in the same way, so there is no trend."
        )
    else:
        sign = "+" if judged.change >= 0 else "-"
        lines.append(
            f"Since the snapshot before, which was measured in the same way: {sign}{_points(abs(judged.change))} points."
        )
    blocks.append(Paragraph(" ".join(lines)))
    comparable = [past for past in judged.history if past.comparable]
    if comparable:
        labels = (*(past.until[:10] for past in comparable), "this")
        values = (*(past.tenths // 10 for past in comparable), judged.tenths // 10)
        series = (Series(name="score", values=values, tone="accent"),)
        blocks.append(
            Chart(
                kind="line",
                title="Score, of snapshots measured alike",
                labels=labels,
                series=series,
                unit="points",
                highest=100,
            )
        )
        rows = [
            (past.until[:10], _points(past.tenths), past.status, past.snapshot[:16])
            for past in comparable
        ]
        blocks.append(
            table("Score of earlier snapshots", ("until", "#score", "status", "snapshot"), rows)
        )
    return Section(name="result", title="Result", blocks=tuple(blocks))  # fmt: skip


def _findings(judged: Assessment) -> Section:
    blocks: list[Block] = [
        Paragraph(
            f"Gate failed, {each.control.id}: {plain(each.finding.gate)}. {each.control.evidence} shows it.",
            "bad",
        )
        for each in judged.gates
    ]
    short = sorted(
        (
            each
            for each in judged.of(Standing.ASSESSED)
            if each.finding.passed < each.finding.assessed
        ),
        key=lambda each: (each.tenths or 0, -each.weight),
    )
    rows = [
        (each.control.id, _percent(each), plain(each.finding.why), each.control.evidence)
        for each in short
    ]
    blocks.append(
        table(
            "Assessed, and not in full",
            ("control", "#share", "what is missing", "shown by"),
            rows,
            empty="Every control that was assessed passed in full.",
        )
    )
    missing = [
        (each.control.id, each.weight, plain(each.finding.why))
        for each in judged.of(Standing.NOT_ASSESSED)
    ]
    blocks.append(
        table(
            "Not assessed: these count as 0",
            ("control", "#weight", "why"),
            missing,
            empty="Every control was assessed.",
        )
    )
    nothing = [(each.control.id, plain(each.finding.why)) for each in judged.of(Standing.NOTHING)]
    if nothing:
        blocks.append(
            table("Nothing to assess: left out of the score", ("control", "why"), nothing)
        )
    return Section(name="findings", title="Findings", blocks=tuple(blocks))  # fmt: skip


def _scope(snapshot: Snapshot) -> Section:
    body = snapshot.body
    held = body["policy"]["classes"]
    log = body["log"]
    counted = "were counted" if body["coverage"] is not None else "were not counted"
    shards = "" if log is None or not log["shards"] else f" of {len(log['shards'])} months"
    said = (
        f"Measured were {len(body['columns'])} columns of {len(held)} classes, {sum(each[2] for each in body['keys']['states']):,} keys in the key store,"
        f" and {'no evidence log' if log is None else format(log['entries'], ',') + ' entries of the evidence log' + shards}."
        f" Values in the data's databases {counted}."
    )
    beyond = (
        "Not measured: whatever goes past lacre to the database or the key service; copies that no policy names; processes and people,"
        " but for what they said they did under manual controls. In a process that holds a class's keys, decisions and masks are guard rails."
    )
    return Section(name="scope", title="Scope", blocks=(Paragraph(said), Paragraph(beyond)))


def _method(judged: Assessment) -> Section:
    formula = (
        "The score is 100 times the sum of weight times share, over the sum of the weights, rounded down. A share is what passed of what was assessed."
        " A control that was not assessed counts as 0; one that had nothing to assess in its window is left out."
        f" A gate that fails caps the score at {CAP} and makes the status FAIL."
    )
    pure = (
        "Everything here follows from one signed snapshot of counts and dates. It holds no value of a protected column, and names nobody but its signer."
        f" Two scores are compared only where their definition is the same; that of this report is {judged.definition}."
    )
    off = [each.control.id for each in judged.controls if each.control.gate and not each.gated]
    blocks: list[Block] = [Paragraph(formula), Paragraph(pure)]
    if off:
        blocks.append(Paragraph(f"The policy switched these gates off: {', '.join(off)}.", "warn"))
    return Section(name="method", title="Method", blocks=tuple(blocks))


def _tone(each: Assessed) -> str:
    if each.tenths is None:
        return "muted"
    if each.fails or each.finding.standing is Standing.NOT_ASSESSED:
        return "bad"
    return "good" if each.tenths >= 950 else "warn"


def _controls(judged: Assessment) -> Section:
    shown = judged.controls
    marks = tuple(
        ("FAIL" if each.fails else _percent(each))
        if each.finding.standing is Standing.ASSESSED
        else str(each.finding.standing)
        for each in shown
    )
    chart = Chart(
        kind="bars",
        title="Share of each control, in per cent",
        unit="%",
        highest=100,
        labels=tuple(each.control.id for each in shown),
        series=(
            Series(
                name="share", values=tuple((each.tenths or 0) // 10 for each in shown), tone="good"
            ),
        ),
        tones=tuple(_tone(each) for each in shown),
        marks=marks,
    )
    rows = [
        (
            each.control.id,
            each.control.title,
            _percent(each),
            each.finding.passed,
            each.finding.assessed,
            each.weight,
            "fails" if each.fails else _gate(each),
            str(each.finding.standing),
        )
        for each in shown
    ]
    heads = (
        "control",
        "what it is",
        "#share",
        "#passed",
        "#assessed",
        "#weight",
        "gate",
        "standing",
    )
    counts = [
        (each.control.id, each.control.numerator, each.control.denominator, each.control.window)
        for each in shown
    ]
    return Section(
        name="controls",
        title="Controls",
        blocks=(
            chart,
            table("Every control", heads, rows, toned=6),
            table("What is counted", ("control", "passed", "assessed", "window"), counts),
        ),
    )  # fmt: skip


def _gate(each: Assessed) -> str:
    known = each.finding.standing is not Standing.NOT_ASSESSED
    return "holds" if each.gated and each.control.gate and known else ""


def _clauses(judged: Assessment) -> Section:
    blocks: list[Block] = [
        Paragraph(
            "A control is evidence for these clauses. Whether it is enough is for whoever audits to say."
        )
    ]
    for regime in Regime:
        held: dict[str, list[str]] = {}
        for each in judged.controls:
            for clause in each.control.clauses.get(regime, ()):
                held.setdefault(clause, []).append(f"{each.control.id} ({_percent(each)})")
        rows = [(clause, ", ".join(names)) for clause, names in held.items()]
        blocks.append(table(f"{regime}: evidence for", ("clause", "controls"), rows))
    return Section(name="clauses", title="Evidence for clauses", blocks=tuple(blocks))


def _checking(snapshot: Snapshot, judged: Assessment) -> Section:
    lines = (
        f"head -n 1 FILE.snapshot | tr -d '\\n' | sha256sum      # {snapshot.sha256}\n"
        "lacre audit report --snapshot FILE.snapshot --format json\n"
        "lacre audit verify"
    )
    said = (
        "Whoever has the snapshot's file can make this report again, without the database: the second command checks the signature and prints the same"
        f" JSON, with the score {_points(judged.tenths)}. The third checks the evidence log itself."
    )
    return Section(name="check", title="Check this report", blocks=(Paragraph(said), Code(lines)))
