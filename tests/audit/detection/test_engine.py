# SPDX-License-Identifier: Apache-2.0
"""The engine: the same findings in one go and in many, late events, bounded memory, what is off."""

import json
import random
from dataclasses import replace

import pytest

from lacre.audit.detection.carried import carried
from lacre.audit.detection.engine import Detector
from lacre.audit.detection.evaluator import moment
from lacre.audit.detection.finding import Severity
from lacre.audit.detection.rules import RULES
from lacre.audit.detection.sketch import EXACT, Distinct, Trail
from lacre.audit.entries import Entry
from lacre.audit.event import Event, Outcome
from lacre.audit.leaves import Leaf
from lacre.errors import MisuseError, Tampered
from tests.audit.detection.entries import (  # fmt: skip
    DAY,
    HOUR,
    MINUTE,
    MONDAY,
    bulk,
    found,
    leaves,
    look,
    search,
)


def busy(days: int = 3) -> list[Event]:
    """Days of a small team, with some that do too much."""
    drawn = random.Random(7)
    events: list[Event] = []
    for day in range(days):
        for hour in range(8, 17):
            for n in range(8):
                at = day * DAY + hour * HOUR + drawn.randrange(3500)
                rows = drawn.sample(range(5000), 150 if n == 3 and day == 2 else 12)
                events.append(
                    look(at, rows, principal=f"user:{n}", column=f"c{drawn.randrange(9)}")
                )
                events.append(search(at + 1, principal=f"user:{n}"))
                if drawn.random() < 0.1:
                    events.append(look(at, outcome=Outcome.FAILED, principal=f"user:{n}"))
        events.append(bulk(day * DAY + 20 * HOUR, range(500), columns=[f"c{n}" for n in range(7)]))
    return sorted(events, key=lambda event: event.time)


def test_findings_do_not_depend_on_where_the_log_was_cut() -> None:
    """A detector that is stopped and started anew, its state as JSON between, finds what one that ran on finds."""
    log = leaves(busy())
    whole = found(RULES.values(), log)
    state = None
    cut = []
    for begin in range(0, len(log), 50):
        detector = Detector(RULES.values(), key=b"k" * 16, state=state)
        cut += [finding for leaf in log[begin : begin + 50] for finding in detector.feed(leaf)]
        state = json.loads(json.dumps(detector.kept()))

    assert len({finding.rule for finding in whole}) >= 4
    assert cut == whole


def test_a_late_event_counts_when_it_happened() -> None:
    """Failures that are sequenced out of order, after others, are one burst where they were one."""
    fails = [look(n * MINUTE, outcome=Outcome.FAILED) for n in range(5)]
    later = look(9 * MINUTE)
    log = leaves([later, *fails])

    (finding,) = [each for each in found([RULES["failure-burst"]], log) if each.rule == "failure-burst"]  # fmt: skip
    assert finding.facts["found"] == 5
    assert finding.first == moment(MONDAY)


def test_a_backdated_event_cannot_hide_in_a_window_that_is_over() -> None:
    """Events that say they happened days apart and are sequenced at once count at that time, and the finding says so."""
    backdated = [look(day * DAY, range(day * 200, day * 200 + 200)) for day in range(10)]
    log = [
        Leaf(leaf.shard, leaf.seq, round((MONDAY + 30 * DAY) * 1e6), leaf.entry, b"")
        for leaf in leaves(backdated)
    ]

    (finding,) = found([RULES["many-rows"]], log)
    assert finding.facts["late"] == finding.facts["events"]


def test_memory_is_bounded_and_what_was_forgotten_is_said() -> None:
    """A rule keeps so many groups at most, forgets those seen longest ago, and says how many."""
    rule = RULES["dormant-account"]
    detector = Detector([rule])
    detector._evaluators[rule.id]._last._most = 50  # type: ignore[attr-defined]
    for leaf in leaves(look(n, principal=f"user:{n}") for n in range(80)):
        detector.feed(leaf)

    assert detector.forgotten == {"dormant-account": 30}
    assert len(detector.kept()["rules"]["dormant-account"][1]) == 50


def test_many_are_estimated_within_what_is_said() -> None:
    """Beyond what is counted exactly, the estimate is within four standard errors, in any order of adding."""
    drawn = random.Random(3)
    items = [drawn.getrandbits(64) for _ in range(20_000)]
    first, second = Distinct(), Distinct()
    first.add(items)
    second.add(reversed(items + items[:5000]))

    assert first.count() == second.count()
    assert abs(first.count() - 20_000) < 4 * 0.05 * 20_000
    assert Distinct.of_all([Distinct(items[:300]), Distinct(items[200:399])]).count() == EXACT - 1


def test_evidence_is_the_first_and_the_last_of_many() -> None:
    """A finding over many entries names ten from the beginning and ten from the end, and says how many there were."""
    trail = Trail()
    for seq in range(100):
        trail.add((202701, seq), float(seq), False)

    assert [seq for _, seq in trail.positions()] == [*range(10), *range(90, 100)]
    assert trail.events == 100
    assert Trail.again(json.loads(json.dumps(trail.kept()))).positions() == trail.positions()


def test_who_chooses_rows_cannot_choose_their_hashes() -> None:
    """Under another key other rows are those that an estimate is made of."""
    one, two = (Detector([RULES["many-rows"]], key=key) for key in (b"a" * 16, b"b" * 16))
    for leaf in leaves([look(0, range(900))]):
        one.feed(leaf)
        two.feed(leaf)

    assert one.kept() != two.kept()


@pytest.mark.parametrize("broken", [{"rows": 3}, {"subjects": "ab"}, {"roles": None}])
def test_an_entry_that_no_writer_wrote_is_refused(broken: dict[str, object]) -> None:
    """A member of another type is no evidence; a detector does not guess what was meant."""
    (leaf,) = leaves([look(0)])
    edited = Leaf(leaf.shard, leaf.seq, leaf.sequenced, Entry({**leaf.entry.members, **broken}), b"")  # fmt: skip

    with pytest.raises(Tampered):
        Detector().feed(edited)


def test_half_of_a_character_in_a_row_is_no_way_to_stop_detection() -> None:
    """What UTF-8 cannot write is a row like any other."""
    (leaf,) = leaves([look(0)])
    odd = Entry({**leaf.entry.members, "rows": ["\ud800"]})

    assert Detector().feed(Leaf(leaf.shard, leaf.seq, leaf.sequenced, odd, b"")) == []


def test_who_is_exempt_is_not_counted_and_others_are() -> None:
    """An exempt principal fires nothing; the rule stays for everybody else."""
    rule = replace(RULES["bulk-access"], exempt={"svc:export": "the nightly export"})
    log = leaves([bulk(0), bulk(1, principal="svc:other")])

    assert [finding.principal for finding in found([rule], log)] == ["svc:other"]


def test_a_rule_that_is_off_or_not_configured_finds_nothing() -> None:
    """It says why it sleeps."""
    off = replace(RULES["bulk-access"], off="no bulk readings are made here")

    assert found([off], leaves([bulk(0)])) == []
    assert off.asleep == "off: no bulk readings are made here"
    assert "hours" in RULES["outside-hours"].asleep


def test_what_follows_a_finding_is_told_together() -> None:
    """A thousand alike are one finding, and one of the rest when the window is over."""
    log = leaves([*(bulk(n) for n in range(1000)), look(3 * DAY)])

    first, rest = found([RULES["bulk-access"]], log)
    assert first.facts["found"] == 1
    assert rest.facts["found"] == 999
    assert rest.summary.startswith("999 more: svc:export")
    assert first.fingerprint == rest.fingerprint


def test_a_copy_that_grows_is_told_as_it_doubles() -> None:
    """Who goes on after the threshold is told again at twice as many, and not at each row."""
    log = leaves([look(n, range(n * 50, n * 50 + 50)) for n in range(200)])

    counts = [finding.facts["found"] for finding in found([RULES["many-rows"]], log)]
    assert len(counts) == 4
    assert all(isinstance(count, int) for count in counts)


def test_silence_is_told_once_while_it_lasts() -> None:
    """Somebody who watches is told that nothing comes, and not again with each look or by the entry that ends it."""
    detector = Detector([RULES["log-silent"]])
    first, second = leaves([look(0), look(HOUR)])

    assert detector.feed(first) == []
    assert list(detector.passes(MONDAY + MINUTE)) == []
    (finding,) = detector.passes(MONDAY + 10 * MINUTE)
    assert finding.evidence == (first.position,)
    assert [*detector.passes(MONDAY + 20 * MINUTE), *detector.feed(second)] == []


def test_state_of_another_release_is_not_guessed_at() -> None:
    """A state of another form is refused, with the way out."""
    with pytest.raises(MisuseError, match="another release"):
        Detector(state={"form": 0})


def test_what_others_found_is_a_finding_of_its_rule() -> None:
    """Reconciliation and verification find; the rule says how bad it is, and may be off."""
    now = moment(MONDAY)
    finding = carried("log-tampered", first=now, last=now, summary="leaf 7 was edited")

    assert finding is not None
    assert finding.severity is Severity.CRITICAL
    assert finding.summary == "leaf 7 was edited"
    off = {"log-tampered": replace(RULES["log-tampered"], off="tested elsewhere")}
    assert carried("log-tampered", first=now, last=now, rules=off) is None
    with pytest.raises(MisuseError):
        carried("many-rows", first=now, last=now)


def test_names_in_findings_are_shown_and_not_obeyed() -> None:
    """What an application wrote into an event cannot break a line of a finding."""
    (finding,) = found([RULES["bulk-access"]], leaves([bulk(0, principal="svc:\n{x}\x1b[31m")]))

    assert finding.summary.isprintable()
    assert "svc:\ufffd{x}\ufffd[31m" in finding.summary
