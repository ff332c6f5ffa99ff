# SPDX-License-Identifier: Apache-2.0
"""What pages show, what they never show, and what they make of hostile text."""

import base64
import dataclasses
import datetime as dt
import html
import os
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import pytest
import sqlalchemy as sa

from lacre.audit.controls.definition import Standing
from lacre.audit.controls.snapshot import Snapshot
from lacre.audit.leaves import Position
from lacre.audit.proofs import check_proof
from lacre.context import Acting
from lacre.dashboard.pages.history import ACCESSES, RANGES, range_of
from lacre.dashboard.proving import Outcome, heads, prove
from lacre.kms.local import Identity
from lacre.kms.local.signing import IdentitySigner
from lacre.kms.signing import believed
from lacre.policy.decisions import Policy
from lacre.policy.model import Right
from lacre.stores.log.counts import LogCounts, Narrowed
from lacre.stores.log.reader import Filters
from lacre.stores.log.schema import ALERT, CHECKPOINT, LEAF, TILE
from lacre.stores.schema import KEY
from tests.dashboard.conftest import Asking, Entrance
from tests.dashboard.world import NOW, World, make_world

_FOLLOWED = 140  # links of the crawl


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            self.attributes[name] += 1
            if name in ("href", "src", "action") and value:
                self.found.append(value)


def crawled(browser: Asking) -> dict[str, str]:
    """Return every page that links lead to, so many at most, by its path."""
    found: dict[str, str] = {}
    waiting = ["/", "/rights?who=support", "/keys?state=all", "/alerts?state=all", "/trail/req-hostile", "/accesses?since=x", "/nothing"]  # fmt: skip
    kinds: Counter[str] = Counter()
    while waiting and len(found) < _FOLLOWED:
        path = waiting.pop(0)
        if path in found:
            continue
        answer = browser.get(path)
        found[path] = answer.text
        links = _Links()
        links.feed(answer.text)
        for link in links.found:
            kind = re.sub(r"[0-9a-f-]{8,}|\d+", "#", link.partition("=")[0])
            kinds[kind] += 1
            if link.startswith("/") and kinds[kind] <= 12 and "/logout" not in link and "/acknowledge" not in link:  # fmt: skip
                waiting.append(link)
    return found


def secrets_of(world: World, entrance: Entrance, browser: Asking) -> set[str]:
    """Return what must be in no answer: private keys, wrapped keys, tokens and the cookie."""
    found = {*entrance.tokens, browser.cookies["lacre-8321"]}
    for path in (world.home / "lacre" / "identities").glob("*.key"):
        found |= set(re.findall(r"[A-Za-z0-9_+/=-]{40,}", path.read_text()))
    engine = sa.create_engine(f"sqlite:///{world.home}/lacre/keys.db")
    with engine.connect() as connection:
        for row in connection.execute(sa.select(KEY.c.wrapped, KEY.c.mac)):
            for value in (row.wrapped, row.mac):
                if value is not None:
                    found |= {bytes(value).hex()[:40], base64.b64encode(value).decode()[:40], base64.urlsafe_b64encode(value).decode()[:40]}  # fmt: skip
    engine.dispose()
    return found


def test_no_page_has_a_secret_and_none_obeys_a_hostile_name(
    world: World, entrance: Entrance
) -> None:
    """Every page that links lead to: without a key or token, with hostile text as text, and no script."""
    browser = entrance.entered()
    pages = crawled(browser)
    secrets = secrets_of(world, entrance, browser)
    # Who may log in is not a secret to who is, but the token of forms belongs to forms alone.
    csrf = entrance.csrf()

    assert len(pages) > 60
    assert len(secrets) > 20
    for path, text in pages.items():
        links = _Links()
        links.feed(text)
        assert not [each for each in secrets if each in text], path
        assert text.count(csrf) == len(re.findall(r'name="csrf" value="', text)), path
        assert not links.tags & Counter(["script", "iframe", "object", "embed", "style", "base"])
        assert links.tags["img"] <= 1, path  # the brand's
        assert not [name for name in links.attributes if name.startswith("on") or name == "style"]
        assert not [each for each in links.found if not re.match(r"/(?!/)|#main$|\?", each)], path
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert "<script" not in text
    told = [text for text in pages.values() if html.escape("<script>alert(1)") in text]
    assert len(told) >= 4  # in the list, the event, the trail, its alert
    assert any("{{7*7}}" in text and "\\u202eevil\\x1b[31m" in text for text in told)


@pytest.mark.parametrize(
    "query",
    ["since=x", "action=none", "status=none", "before=x", "before=1-x", "since=2026-13-01", "principal=%00", "class=%00", "until=2026-11-22T10:00:00Z%00"],
)  # fmt: skip
def test_a_question_that_is_none_is_a_page_that_says_so(browser: Any, query: str) -> None:
    """It quotes nothing of the question."""
    answer = browser.get(f"/accesses?{query}")

    assert answer.status_code == 400
    assert "cannot be read" in answer.text


@pytest.mark.parametrize("path", ["/accesses/202611/99999999", "/accesses/1/1", f"/accesses/{'9' * 40}/{'9' * 40}", f"/accesses/{'9' * 5000}/1", f"/accesses/1/{'9' * 5000}/proof", "/accesses/-1/1", "/accesses/x/%D9%A1", "/trail/none", "/trail/%00", "/alerts/abcdef", "/alerts/%2e%2e", "/alerts/%25", "/keys/1"])  # fmt: skip
def test_what_is_not_there_is_a_page_that_says_so(browser: Any, path: str) -> None:
    """Whatever number or name somebody makes up."""
    assert browser.get(path).status_code == 404


def test_filters_show_what_the_log_has(world: World, browser: Any) -> None:
    """The rows of a filtered page are those that `LogReader` gives, and pages on lead through all of them."""
    everything = world.sources.reader.page(Filters(principal="svc:billing-13"), limit=10_000)
    path, seen = "/accesses?principal=svc:billing-13", list[str]()
    while path:
        text = browser.get(path).text
        seen += re.findall(r'role="rowheader"[^>]*><a href="/accesses/(\d+/\d+)"', text)
        older = re.search(r'rel="next" href="([^"]+)"', text)
        path = html.unescape(older[1]) if older else ""

    assert len(everything) > 100  # three pages
    assert seen == [f"{leaf.shard}/{leaf.seq}" for leaf in everything]


def test_heartbeats_are_shown_to_who_asks_for_them(browser: Any) -> None:
    """There is one a minute: they would be all of a quiet night's page."""

    assert ">heartbeat</td>" not in browser.get("/accesses").text
    assert ">heartbeat</td>" in browser.get("/accesses?action=heartbeat").text


def test_a_trail_is_in_order(world: World, browser: Any) -> None:
    """Everything of one correlation id, the first first."""
    leaves = [each for each in world.sources.reader.page(Filters(action="look"), limit=400) if each.entry.members.get("correlation")]  # fmt: skip
    correlation = Counter(each.entry.members["correlation"] for each in leaves).most_common(1)[0][0]
    expected = world.sources.reader.page(Filters(correlation=correlation))
    found = re.findall(r'<span><a href="/accesses/(\d+/\d+)"', browser.get(f"/trail/{correlation}").text)  # fmt: skip

    assert len(expected) > 1
    assert found == [f"{leaf.shard}/{leaf.seq}" for leaf in reversed(expected)]


def test_an_event_that_was_signed_is_proved_and_a_newer_one_waits(
    world: World, browser: Any
) -> None:
    """The page says which of both, and shows the path, the root and the signed checkpoint."""
    newest = world.sources.reader.page(limit=2)
    waits = browser.get(f"/accesses/{newest[0].shard}/{newest[0].seq}").text
    proved = browser.get(f"/accesses/{newest[1].shard}/{newest[1].seq}").text

    assert "not signed yet" in waits
    assert ">proved<" in proved
    assert "— svc:audit" in proved
    assert "The path, from the leaf up" in proved


def test_a_proof_is_a_file_that_verifies_without_the_log(world: World, browser: Any) -> None:
    """With the signer's public text and nothing else; there is none of what is not signed."""
    waits, signed = world.sources.reader.page(limit=2)
    answer = browser.get(f"/accesses/{signed.shard}/{signed.seq}/proof")
    none = browser.get(f"/accesses/{waits.shard}/{waits.seq}/proof")
    proven = check_proof(answer.text, believed(world.sources.policy.file))

    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert signed.entry.id in str(proven)
    assert none.status_code == 503


def test_what_was_changed_does_not_verify(tmp_path: Any) -> None:
    """An entry, its hash, a tile, the root beside the note, or the note: each changed is found, on page and overview."""
    own = make_world(tmp_path, events=600)
    file, reader = own.sources.policy.file, own.sources.reader
    leaf = reader.leaf(Position(202611, 700))
    assert leaf is not None
    try:
        before = prove(own.log, file, leaf)
        with own.log.reading() as connection:
            rows = {table: connection.execute(sa.select(table)).mappings().all() for table in (CHECKPOINT, TILE)}  # fmt: skip
            entry = connection.execute(sa.select(LEAF.c.entry).where(LEAF.c.seq == 700, LEAF.c.shard == 202611)).scalar_one()  # fmt: skip
        here = sa.and_(LEAF.c.shard == 202611, LEAF.c.seq == 700)
        head = max(rows[CHECKPOINT], key=lambda row: (row["shard"], row["size"]))
        top = sa.and_(CHECKPOINT.c.shard == head["shard"], CHECKPOINT.c.size == head["size"])
        tile = next(row for row in rows[TILE] if row["shard"] == 202611 and row["level"] == 1)
        at = sa.and_(TILE.c.shard == 202611, TILE.c.level == 1, TILE.c.index == tile["index"])
        changes = [
            (sa.update(LEAF).where(here), {"entry": bytes(entry).replace(b"allowed", b"ALLOWED").replace(b"compliant", b"COMPLIANT").replace(b'"evidence"', b'"evidencE"')}, {"entry": entry}, False),
            (sa.update(CHECKPOINT).where(top), {"root": b"\0" * 32}, {"root": head["root"]}, True),
            (sa.update(CHECKPOINT).where(top), {"note": head["note"].replace("svc:audit ", "svc:audit A", 1)}, {"note": head["note"]}, True),
            (sa.update(TILE).where(at), {"hashes": b"\1" * len(tile["hashes"])}, {"hashes": tile["hashes"]}, True),
        ]  # fmt: skip
        found = []
        for statement, changed, back, whole in changes:
            with own.log.writing() as connection:
                connection.execute(statement.values(**changed))
            found.append((prove(own.log, file, leaf).outcome, any(each.outcome is Outcome.BROKEN for each in heads(own.log, file)), whole))  # fmt: skip
            with own.log.writing() as connection:
                connection.execute(statement.values(**back))
        after = prove(own.log, file, leaf)
    finally:
        own.close()

    assert before.outcome is Outcome.PROVED
    assert after == before
    assert [outcome for outcome, _, _ in found] == [Outcome.BROKEN] * 4
    # The overview compares heads and tiles; a single entry is what `lacre audit verify` reads.
    assert [of_heads for _, of_heads, _ in found] == [whole for _, _, whole in found]


def test_the_matrix_is_what_the_policy_decides(world: World, browser: Any) -> None:
    """For each role and class: `read` where a look would be allowed, `masked` where it would be masked."""
    text = browser.get("/rights?purpose=kyc").text
    policy = world.sources.policy
    words = {"allowed": "read", "masked": "masked"}
    rows = re.findall(r'<tr><th scope="row">(\w+)</th>(.*?)</tr>', text, re.DOTALL)

    assert len(rows) == 5
    for role, cells in rows:
        found = re.findall(r"<td>(.*?)</td>", cells, re.DOTALL)
        for class_, cell in zip(policy.file.classes, found, strict=True):
            acting = Acting("x", frozenset({role}), "kyc", None)
            outcome = str(policy.decide(acting, class_, Right.DECRYPT).outcome)
            assert (words.get(outcome, "-") in cell) == (outcome in words)
            assert (">write<" in cell) == (str(policy.decide(acting, class_, Right.ENCRYPT).outcome) == "allowed")  # fmt: skip


def test_an_unlisted_purpose_is_refused_everything(browser: Any) -> None:
    """As a look would be."""
    text = browser.get("/rights?purpose=curiosity").text

    assert "is not among the purposes" in text
    assert ">read</span> " not in text.split("<tbody>")[1].split("</tbody>")[0]


def test_columns_are_shown_as_their_signed_states_say(browser: Any) -> None:
    """What is past its deadline comes first; a column nobody began to protect has no state."""
    text = browser.get("/fields").text
    rows = re.findall(r'<tr><th scope="row">([\w.]+)</th>.*?<span class="tag[^"]*">([^<]+)</span>', text, re.DOTALL)  # fmt: skip

    assert rows[0] == ("accounts.holder", "dual, overdue")
    assert dict(rows)["customers.cpf"] == "encrypted"
    assert dict(rows)["partners.token"] == "none"


def test_keys_are_shown_with_their_age_and_what_is_due(browser: Any) -> None:
    """A key past its period is marked, and the command that rotates it is there."""
    text = browser.get("/keys").text

    assert "lacre keys rotate --tenant default --class payment --kind data" in text
    assert text.count("decrypt only</span>") == 2
    assert 'tag tag-poor">2026-11-16</span>' in text


def test_counts_are_those_of_the_tallies(world: World) -> None:
    """By step, name and filter: the database sums what `LogReader.tallies` lists."""
    counts, reader = LogCounts(world.log), world.sources.reader
    for name in RANGES:
        span = range_of(name, NOW)
        narrowed = Narrowed(actions=ACCESSES, class_="pii")
        found = counts.by("status", "principal", "class", since=span.since, until=span.until, hours=span.range.hours, narrowed=narrowed)  # fmt: skip
        assert list(found) == ["status", "principal", "class"]
        for dimension, counted in found.items():
            wanted: Counter[tuple[dt.datetime, str]] = Counter()
            for each in reader.tallies(span.since, span.until):
                if each.action in ACCESSES and each.class_ == "pii":
                    step = dt.timedelta(hours=span.range.hours)
                    begin = span.since + (each.hour - span.since) // step * step
                    wanted[begin, getattr(each, "class_" if dimension == "class" else dimension)] += each.events  # fmt: skip
            assert wanted
            assert {(each.begin, each.name): each.events for each in counted} == wanted


def test_a_plot_says_in_words_and_in_a_table_what_it_draws(world: World, browser: Any) -> None:
    """The sum in its description is that of its table, and of the log."""
    text = html.unescape(browser.get("/accesses?range=30d").text)
    said = re.search(r'aria-label="Accesses by outcome, each day, in UTC: ([\d,]+) accesses in all', text)  # fmt: skip
    table = text.split("<caption>Accesses by outcome")[1].split("</table>")[0]
    sums = re.findall(r'<td class="n">([\d,]+)</td></tr>', table)
    span = range_of("30d", NOW)
    events = sum(each.events for each in world.sources.reader.tallies(span.since, span.until) if each.action in ACCESSES)  # fmt: skip

    assert said
    assert int(said[1].replace(",", "")) == events
    assert sum(int(each.replace(",", "")) for each in sums) == events


def test_the_report_is_the_newest_signed_snapshot_judged(world: World, browser: Any) -> None:
    """Its score and every control, on the page and on the overview."""
    report = world.sources.report()
    assert report is not None
    text = browser.get("/report").text
    score = report.assessment.tenths

    assert f"{score / 10:.1f} of 100" in text
    assert f">{score // 10}</text>" in browser.get("/").text
    assert all(html.escape(each.control.title) in text for each in report.assessment.controls)
    assert (
        text.count(">not assessed</span>") == len(report.assessment.of(Standing.NOT_ASSESSED)) > 2
    )
    assert report.snapshot.sha256 in text


def test_the_overview_counts_what_there_is(world: World, browser: Any) -> None:
    """Open alerts as the table has them, columns by their states, keys by their age: compared with what the world was made of."""
    text = browser.get("/").text
    with world.log.reading() as connection:
        query = sa.select(ALERT.c.severity, sa.func.count()).where(ALERT.c.state == "open")
        alerts = {row[0]: row[1] for row in connection.execute(query.group_by(ALERT.c.severity))}
    figures = dict(re.findall(r'<h2 id="t-(\w+)">[^<]+</h2>\s*<p class="figure">\s*(\d+)', text))
    tallied = re.findall(r'<span><span class="tag[^"]*">(\w+)</span> (\d+)</span>', text)
    shown = {name: int(count) for name, count in tallied}

    assert figures == {"alerts": str(sum(alerts.values())), "fields": "5", "keys": "6"}
    assert '5 <span class="quiet small">of 8</span>' in text
    assert shown == alerts | {"overdue": 4, "soon": 2}
    assert "no heartbeat" not in text


def test_a_log_that_does_not_verify_is_said_first(world: World) -> None:
    """Above everything else, where a stranger signed its checkpoints."""
    file = world.sources.policy.file
    stranger = [Identity.create("svc:audit").public.to_text()]
    audit = file.audit.model_copy(update={"signers": stranger})
    policy = Policy(file.model_copy(update={"audit": audit}))
    browser = Entrance(sources=dataclasses.replace(world.sources, policy=policy)).entered()
    text = browser.get("/").text
    said = text.index("The evidence log does not verify")

    assert 'role="alert"' in text[:said]
    assert said < text.index("t-score")
    assert "does not verify" not in Entrance(sources=world.sources).entered().get("/").text


def test_a_snapshot_that_nobody_signed_is_shown_by_nobody(world: World) -> None:
    """Neither what it says: another score, another name."""
    import shutil

    base = world.home.parent / "forged"
    shutil.copytree(world.home / "lacre" / "snapshots", base / "lacre" / "snapshots")
    path = next((base / "lacre" / "snapshots").iterdir())
    path.write_bytes(path.read_bytes().replace(b"s3:evidence", b"s3:evidencX"))
    browser = Entrance(sources=dataclasses.replace(world.sources, base=base, log=None)).entered()
    answers = browser.get("/report"), browser.get("/")

    assert [each.status_code for each in answers] == [503, 200]
    assert "not readable" in answers[1].text
    assert not any("evidencX" in each.text for each in answers)


def test_a_snapshot_of_another_environment_is_none_of_this_one(world: World) -> None:
    """Whoever signs for both does not say of one what was measured in the other."""

    report = world.sources.report()
    assert report is not None
    signer = IdentitySigner(Identity.load(world.home / "lacre" / "identities" / "svc-audit.key"))
    other = Snapshot.of({**report.snapshot.body, "env": "staging"})
    base = world.home.parent / "staging"
    (base / "lacre" / "snapshots").mkdir(parents=True)
    (base / "lacre" / "snapshots" / "2026-11-23-x.snapshot").write_bytes(other.signed(signer))

    assert dataclasses.replace(world.sources, base=base).report() is None


def test_the_newest_snapshot_is_by_what_its_signer_says(world: World) -> None:
    """A file that was copied later is no newer."""

    report = world.sources.report()
    assert report is not None
    signer = IdentitySigner(Identity.load(world.home / "lacre" / "identities" / "svc-audit.key"))
    base = world.home.parent / "copied"
    snapshots = base / "lacre" / "snapshots"
    snapshots.mkdir(parents=True)
    (snapshots / "new.snapshot").write_bytes(report.snapshot.signed(signer))
    older = Snapshot.of({**report.snapshot.body, "made": "2020-01-01T00:00:00Z"})
    (snapshots / "old.snapshot").write_bytes(older.signed(signer))
    os.utime(snapshots / "new.snapshot", (1, 1))
    found = dataclasses.replace(world.sources, base=base).report()

    assert found is not None
    assert found.name == "new.snapshot"


def test_without_a_log_pages_say_what_is_missing(world: World) -> None:
    """Keys and fields are shown all the same; accesses say which setting they need."""

    entrance = Entrance(sources=dataclasses.replace(world.sources, log=None))
    browser = entrance.entered()
    answers = {path: browser.get(path) for path in ("/", "/keys", "/rights", "/accesses", "/alerts")}  # fmt: skip

    assert [each.status_code for each in answers.values()] == [200, 200, 200, 503, 503]
    assert "[audit] url" in answers["/accesses"].text
    assert "Evidence is kept as lines only" in answers["/"].text
