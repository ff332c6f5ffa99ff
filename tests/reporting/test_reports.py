"""Reports: pure, scored as they say, and deaf to what stored strings would have them do."""

import io
import json
import re

import pypdf
import pytest

from lacre.audit.controls.definition import Standing
from lacre.audit.controls.registry import CONTROLS
from lacre.audit.controls.scoring import CAP, assess
from lacre.audit.controls.snapshot import MEMBERS, Snapshot
from lacre.errors import ConfigurationError, Tampered
from lacre.kms.local import Identity
from lacre.kms.local.signing import verifier_of
from lacre.reporting.content import report_of
from lacre.reporting.html import html_report
from lacre.reporting.markdown import markdown_report
from lacre.reporting.pdf import pdf_report
from lacre.reporting.structured import structured, written
from tests.audit.controls.page import PAGE, page
from tests.reporting.sample import SIGNER, VERIFIER, body, snapshot

HOSTILE = "<script>alert(1)</script>\u202eevil\x1b[2J\r\n| `x` | [a](javascript:b) <b>&amp; https://evil.example"


def test_a_snapshot_is_read_as_it_was_signed() -> None:
    """One byte more, another signer, another format: none of them is a snapshot that is believed."""
    made = snapshot()
    data = made.signed(SIGNER)
    other = verifier_of(Identity.create("svc:audit").public)

    assert body().keys() == MEMBERS
    assert Snapshot.read(data, [VERIFIER]) == made
    for wrong in (data.replace(b'"searches":', b'"searchez":'), data.replace(b"\n", b" \n", 1)):
        with pytest.raises(Tampered):
            Snapshot.read(wrong, [VERIFIER])
    with pytest.raises(Tampered):
        Snapshot.read(data, [other])
    with pytest.raises(ConfigurationError):
        Snapshot.read(data.replace(b"snapshot-1", b"snapshot-2"), [VERIFIER])


def test_the_score_is_the_weighted_mean() -> None:
    """What was not assessed counts as 0, what had nothing to assess is left out, and all of it can be followed by hand."""
    judged = assess(snapshot())
    counting = [each for each in judged.controls if each.finding.standing is not Standing.NOTHING]
    by_hand = sum(each.weight * each.finding.share for each in counting) / sum(each.weight for each in counting)  # fmt: skip

    assert judged.status == "GATES HOLD"
    assert judged.tenths == int(by_hand * 1000)
    assert {each.control.id for each in judged.of(Standing.NOT_ASSESSED)} == {"grants-approved", "secrets-rotated", "uses-reconciled", "policy-as-deployed"}  # fmt: skip
    without = assess(snapshot(alerts=[]))
    assert [each.control.id for each in without.of(Standing.NOTHING)] == ["alerts-seen-to"]
    assert judged.worst.control.id == "manual-done"


@pytest.mark.parametrize(
    ("control", "change"),
    [
        ("log-verified", {"log": body()["log"] | {"verification": {"sound": False, "verified": 1, "findings": ["integrity, edited: 1"]}}}),
        ("columns-encrypted", {"columns": [body()["columns"][2] | {"excused": False}]}),
        ("keys-in-period", {"keys": body()["keys"] | {"late": [{"class": "pii", "kind": "data", "version": 1, "by": "2026-01-01", "days": 31}]}}),
        ("erasures-in-time", {"erasures": body()["erasures"] | {"overdue": 1, "late": 1}}),
        ("grants-approved", {"grants": {"passed": 1, "assessed": 2, "failing": 1}}),
        ("policy-as-deployed", {"drift": {"passed": 1, "assessed": 2, "failing": 1}}),
    ],
)  # fmt: skip
def test_a_gate_caps_the_score(control: str, change: dict[str, object]) -> None:
    """Whatever the rest is: the score is 49 at most and the status FAIL; unless the policy switched that gate off."""
    judged = assess(snapshot(**change))
    definition = body()["definition"]
    off = definition | {"gates": [each for each in definition["gates"] if each != control]}

    assert [each.control.id for each in judged.gates] == [control]
    assert (judged.status, judged.tenths) == ("FAIL", CAP * 10)
    assert judged.uncapped > CAP * 10
    assert assess(snapshot(**change, definition=off)).status == "GATES HOLD"


def test_only_equal_definitions_are_compared() -> None:
    """A snapshot with other weights is shown and no trend is made of it."""
    now = assess(snapshot())
    past = {"snapshot": "aa" * 32, "until": "2026-08-01T00:00:00Z", "tenths": 500, "status": "GATES HOLD"}  # fmt: skip
    same, other = past | {"definition": now.definition}, past | {"definition": "bb" * 32}

    assert assess(snapshot(history=[same])).change == now.tenths - 500
    assert assess(snapshot(history=[other])).change is None


def test_another_releases_controls_are_not_guessed() -> None:
    """A snapshot whose registry is another is refused, and the error names the release."""
    definition = body()["definition"] | {"registry": "00" * 32}
    with pytest.raises(ConfigurationError, match=r"0\.1\.0"):
        assess(snapshot(definition=definition))


def test_the_json_has_the_fields_of_the_source() -> None:
    """All fields of the source's report are there by name, and one snapshot gives one text."""
    made = snapshot()
    found = structured(made, assess(made))

    for name in ("period", "totalAccesses", "uniqueUsers", "fieldAccessCounts", "suspiciousActivities", "complianceScore"):  # fmt: skip
        assert name in found
    assert found["fieldAccessCounts"]["main.customers.email"] > 0
    assert found["snapshot"]["sha256"] == made.sha256
    assert written(made, assess(made)) == written(Snapshot.of(made.body), assess(made))
    assert json.loads(written(made, assess(made)))["evidence"] == made.body


def test_every_format_has_the_result_and_the_hash() -> None:
    """HTML, Markdown and PDF say the score, each control and the snapshot's hash; a PDF of one snapshot is one file."""
    made = snapshot()
    document, judged = report_of(made)
    pdf = pdf_report(document)
    text = "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages)

    assert pdf == pdf_report(document)
    for shown in (html_report(document), markdown_report(document), text):
        assert made.sha256 in shown
        assert f"{judged.tenths / 10}" in shown
        assert all(each.id in shown for each in CONTROLS)
        assert "evidence for the controls" in " ".join(shown.split())


def test_stored_strings_are_text_in_every_format() -> None:
    """A purpose, field, rule, class or application that is markup stays visible text: no element, link, control or turned text."""
    accesses = body()["accesses"]
    made = snapshot(
        app=HOSTILE, by={"name": HOSTILE, "key": HOSTILE},
        accesses=accesses | {"purposes": [[HOSTILE, 5]], "fields": [[HOSTILE, HOSTILE, 5, 5]], "classes": [[HOSTILE, 5]]},
        alerts=[body()["alerts"][0] | {"rule": HOSTILE}], columns=[body()["columns"][0] | {"table": HOSTILE}],
        rules=[{"rule": HOSTILE, "on": False, "why": HOSTILE}], anchors=[{"anchor": HOSTILE, "shard": HOSTILE, "size": 1, "at": HOSTILE}],
    )  # fmt: skip
    document, judged = report_of(made)
    html, markdown = html_report(document), markdown_report(document)
    pages = pypdf.PdfReader(io.BytesIO(pdf_report(document))).pages
    text = "\n".join(page.extract_text() for page in pages)

    for shown in (html, markdown, text, written(made, judged)):
        assert "\u202e" not in shown
        assert "\x1b" not in shown
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "default-src 'none'" in html
    assert not re.search(r"(?<!\\)[<>]", markdown)
    assert not re.search(r"(?<!\\)\]\(", markdown)
    assert " https://evil" not in markdown
    assert "<script>alert(1)</script>" in text
    assert not any(page.get("/Annots") for page in pages)


def test_the_page_of_controls_is_the_registry() -> None:
    """docs/reference/controls.md is what the registry makes: `python -m tests.audit.controls.page` writes it."""
    assert PAGE.read_text("utf-8") == page()
