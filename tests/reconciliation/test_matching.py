"""Which calls of a key service are ours, and which nobody recorded."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lacre.audit.entries import Entry
from lacre.audit.event import Outcome
from lacre.reconciliation.calls import ServiceLogs
from lacre.reconciliation.matching import Matched, Window, load_ours, match
from tests.reconciliation.trails import (
    ACCOUNT,
    ARN,
    NOW,
    REGION,
    THIEF,
    URI,
    exported,
    minutes,
    record,
    unwrap,
)

_DAY = timedelta(days=1)
# Something that the trail has before and after, so that it covers the window.
_AROUND = (record(NOW - _DAY, "ListKeys"), record(NOW, "ListKeys"))


def _matched(folder: Path, records: Sequence[dict[str, Any]], entries: Sequence[bytes]) -> Matched:  # fmt: skip
    exported(folder, *_AROUND, *records)
    window = Window(since=NOW - _DAY, until=NOW - minutes(15))
    with ServiceLogs(since=window.since) as logs:
        logs.read_cloudtrail(str(folder))
        logs.settle()
        assert logs.unreadable == ()
        load_ours(logs, [((202611, n), Entry.read(each)) for n, each in enumerate(entries)])
        return match(logs, window, [URI])


def test_by_id(tmp_path: Path) -> None:
    """A call and the unwrap that has its id are one, however far apart their clocks are."""
    call = record(NOW - minutes(60))
    done = _matched(tmp_path, [call], [unwrap(NOW - minutes(90), call["requestID"])])

    assert (done.calls, done.by_id, done.by_time) == (1, 1, 0)
    assert (done.bypass, done.unseen) == ((), ())


def test_bypass(tmp_path: Path) -> None:
    """Calls that nobody recorded are found, those alike together; so is a call that lacre never makes."""
    ours = record(NOW - minutes(61))
    calls = [
        record(NOW - minutes(n), userIdentity={"arn": THIEF}, sourceIPAddress="203.0.113.9")
        for n in (60, 59, 58)
    ]
    plain = record(NOW - minutes(57), "GenerateDataKey")
    done = _matched(tmp_path, [ours, *calls, plain], [unwrap(NOW - minutes(61), ours["requestID"], plain["requestID"])])  # fmt: skip
    thief, generated = done.bypass

    assert (thief.principal, thief.count, thief.kms_key) == (THIEF, 3, URI)
    assert (thief.first, thief.last) == (NOW - minutes(60), NOW - minutes(58))
    assert thief.addresses == ("203.0.113.9",)
    assert set(thief.requests) == {each["requestID"] for each in calls}
    assert (generated.name, generated.count) == ("GenerateDataKey", 1)


def test_another_key(tmp_path: Path) -> None:
    """An id matches only under the KMS key that the unwrap was of; calls of other keys are nobody's business."""
    other = ARN[:-4] + "0000"
    call = record(NOW - minutes(60))
    strange = record(
        NOW - minutes(60), resources=[{"ARN": other}], requestParameters={"keyId": other}
    )
    entry = unwrap(NOW - minutes(60), strange["requestID"], kms_key=URI)
    done = _matched(tmp_path, [call, strange], [entry])

    assert [(each.kms_key, each.count) for each in done.bypass] == [(URI, 1)]
    assert [each.count for each in done.unseen] == [1]


def test_a_key_that_is_moved_out(tmp_path: Path) -> None:
    """A ReEncrypt from our KMS key to a stranger's is a bypass, named by our key."""
    to = "arn:aws:kms:eu-central-1:999999999999:key/99999999-9999-9999-9999-999999999999"
    call = record(
        NOW - minutes(60), "ReEncrypt", requestParameters={"sourceKeyId": ARN, "destinationKeyId": to},
        resources=[{"ARN": to}, {"ARN": ARN}],
    )  # fmt: skip
    done = _matched(tmp_path, [call], [])

    assert [(each.name, each.kms_key) for each in done.bypass] == [("ReEncrypt", URI)]


def test_unseen(tmp_path: Path) -> None:
    """An unwrap that succeeded, and that the trail does not know, is found with its place in our log."""
    missing = unwrap(NOW - minutes(60), "11111111-2222-3333-4444-555555555555")
    failed = unwrap(NOW - minutes(60), attempts=3, outcome=Outcome.FAILED)
    done = _matched(tmp_path, [], [failed, missing])

    assert [(each.count, each.evidence) for each in done.unseen] == [(1, ((202611, 1),))]
    assert done.recorded == 1


def test_attempts_without_an_answer(tmp_path: Path) -> None:
    """Attempts that timed out take as many calls as they were, of their key and context, in reach of the clocks."""
    lost = [record(NOW - minutes(60) + timedelta(seconds=n)) for n in range(3)]
    late = record(NOW - minutes(50))
    elsewhere = record(NOW - minutes(60), requestParameters={"keyId": ARN, "encryptionContext": {"lacre-row": "digest-two"}})  # fmt: skip
    entry = unwrap(NOW - minutes(60), attempts=2, outcome=Outcome.FAILED)
    done = _matched(tmp_path, [*lost, late, elsewhere], [entry])

    assert (done.calls, done.by_time) == (5, 2)
    assert sum(each.count for each in done.bypass) == 3


def test_attempts_pair_as_many_as_can(tmp_path: Path) -> None:
    """An attempt that reaches two calls leaves the later one to the attempt that reaches no other."""
    calls = [record(NOW - minutes(60)), record(NOW - minutes(59) + timedelta(seconds=30))]
    entries = [
        unwrap(NOW - minutes(60) + timedelta(seconds=40), attempts=1, outcome=Outcome.FAILED),
        unwrap(NOW - minutes(58) + timedelta(seconds=20), attempts=1, outcome=Outcome.FAILED),
    ]
    done = _matched(tmp_path, calls, entries)

    assert (done.by_time, done.bypass) == (2, ())


def test_not_judged_yet(tmp_path: Path) -> None:
    """Neither a call nor an unwrap is judged that may still be on its way, or that the trail does not reach."""
    young = record(NOW - minutes(5))
    on_its_way = unwrap(NOW - minutes(4), "11111111-2222-3333-4444-555555555555")
    done = _matched(tmp_path, [young], [on_its_way])

    assert (done.calls, done.bypass, done.unseen) == (0, (), ())
    assert done.unjudged == 2

    before = unwrap(NOW - _DAY - minutes(5), "11111111-2222-3333-4444-555555555555")
    done = _matched(tmp_path / "other", [], [before])
    assert (done.unseen, done.unjudged) == ((), 1)


def test_a_call_that_was_logged_twice(tmp_path: Path) -> None:
    """What CloudTrail delivers twice is one call."""
    call = record(NOW - minutes(60))
    done = _matched(exported(tmp_path, call), [call], [])

    assert [each.count for each in done.bypass] == [1]


def test_refused(tmp_path: Path) -> None:
    """A call that the service refused is found apart from those it answered."""
    refused = record(NOW - minutes(60), errorCode="AccessDenied", userIdentity={"arn": THIEF})
    answered = record(NOW - minutes(59), userIdentity={"arn": THIEF})
    done = _matched(tmp_path, [refused, answered], [])

    assert sorted((each.refused, each.count) for each in done.bypass) == [(False, 1), (True, 1)]
    assert done.refused == 1


def test_multi_region(tmp_path: Path) -> None:
    """A multi-Region key that a replica unwrapped is the key that lacre.toml names."""
    id_ = "mrk-" + "a" * 32
    there = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/{id_}"
    call = record(NOW - minutes(60), resources=[{"ARN": there}], requestParameters={"keyId": there}, awsRegion="eu-west-1")  # fmt: skip
    exported(tmp_path, *_AROUND, call)
    uri = f"aws-kms://{REGION}/{ACCOUNT}/key/{id_}"
    with ServiceLogs(since=NOW - _DAY) as logs:
        logs.read_cloudtrail(str(tmp_path))
        logs.settle()
        places = load_ours(logs, [(None, Entry.read(unwrap(NOW - minutes(60), call["requestID"], kms_key=uri)))])  # fmt: skip
        done = match(logs, Window(since=NOW - _DAY, until=NOW), places)

    assert (done.by_id, done.bypass, done.unseen) == (1, (), ())


@pytest.mark.parametrize("number", [4_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_bounded(tmp_path: Path, number: int) -> None:
    """However many calls there are, they are matched with 192 MiB for the database."""
    calls = [record(NOW - minutes(2000) + timedelta(seconds=n)) for n in range(number)]
    for start in range(0, number, 4_000):
        exported(tmp_path, *calls[start : start + 4_000])
    entries = (
        ((202611, n), Entry.read(unwrap(NOW, each["requestID"])))
        for n, each in enumerate(calls[1:])
    )
    with ServiceLogs(since=NOW - 2 * _DAY, memory=192) as logs:
        logs.read_cloudtrail(str(tmp_path))
        logs.settle()
        places = load_ours(logs, entries)
        done = match(logs, Window(since=NOW - 2 * _DAY, until=NOW), places)

    assert (done.calls, done.by_id) == (number, number - 1)
    assert [each.requests for each in done.bypass] == [(calls[0]["requestID"],)]
