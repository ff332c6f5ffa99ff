# SPDX-License-Identifier: Apache-2.0
"""What is due goes through each channel at least once, in its own time and within its limit."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from lacre import acting_as
from lacre.audit.alerts import Channel, Message
from lacre.audit.delivery import Deliverer, Rules, pause
from lacre.audit.detection.finding import Severity
from lacre.errors import AlertNotDelivered
from lacre.stores.log.alerts import AlertStore
from lacre.stores.log.deliveries import Deliveries
from lacre.stores.log.log import AuditLog
from lacre.testing import FrozenClock
from tests.audit.looks import STAMP
from tests.components.postgresql import Server
from tests.stores.log.alerting import finding, kept_in


class Receiver:
    """A channel's other end. While *failing* is set, that is raised."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.failing: Exception | None = None
        self.picky: Callable[[Message], bool] = lambda _: False
        self.gate: Callable[[], object] | None = None

    def send(self, message: Message) -> None:
        if self.gate is not None:
            self.gate()
        if self.failing is not None:
            raise self.failing
        if self.picky(message):
            raise AlertNotDelivered("refused", refused=True)
        self.messages.append(message)

    @property
    def principals(self) -> list[str]:
        return [alert.principal for message in self.messages for alert in message.alerts]


class Sending:
    """Alerts and their delivery; `restarted` is what another process would do next."""

    def __init__(self, kept: AuditLog, rules: Mapping[str, Rules]) -> None:
        self.clock = FrozenClock()
        self.receivers = {name: Receiver() for name in rules}
        self.alerts = AlertStore(kept, stamp=STAMP, clock=self.clock)
        self._kept, self._rules = kept, rules

    def restarted(self) -> Deliverer:
        channels: dict[str, Channel] = dict(self.receivers)
        return Deliverer(
            self.deliveries(), channels, stamp=STAMP, raise_=self.alerts.raise_, clock=self.clock, jitter=lambda: 1.0,
        )  # fmt: skip

    def deliveries(self) -> Deliveries:
        return Deliveries(self._kept, self._rules, clock=self.clock)

    def raise_(self, *principals: str, severity: Severity = Severity.HIGH) -> None:
        for principal in principals:
            self.alerts.raise_(finding(principal=principal, severity=severity))


@pytest.fixture(params=["sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AuditLog]:
    """An evidence log's tables, on either database."""
    if request.param == "sqlite":
        with kept_in(tmp_path / "audit.db") as made:
            yield made
        return
    server: Server = request.getfixturevalue("postgresql")
    with server.database() as database, kept_in(database.text_url()) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Iterator[AuditLog]:
    """An evidence log's tables in a file."""
    with kept_in(tmp_path / "audit.db") as made:
        yield made


def test_each_channel_gets_each_alert_once(kept: AuditLog) -> None:
    """Every channel takes what it asks for, once over two senders that run at the same time."""
    sending = Sending(kept, {"mail": Rules(), "pager": Rules(severity=Severity.CRITICAL)})
    sending.raise_("a", "b")
    sending.raise_("c", severity=Severity.CRITICAL)
    senders = [threading.Thread(target=sending.restarted().send) for _ in range(2)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    sending.restarted().send()

    assert sorted(sending.receivers["mail"].principals) == ["a", "b", "c"]
    assert sending.receivers["pager"].principals == ["c"]
    assert [health.waiting for health in sending.deliveries().health()] == [0, 0]


def test_a_sender_that_died_is_taken_over_from(kept: AuditLog) -> None:
    """What was taken and not delivered is sent by the next sender, after the time it was held for."""
    sending = Sending(kept, {"mail": Rules()})
    sending.raise_("a")
    taken = sending.deliveries().take("mail")
    sending.restarted().send()
    held_back = list(sending.receivers["mail"].messages)
    sending.clock.advance(121)
    sending.restarted().send()

    assert taken is not None
    assert held_back == []
    assert sending.receivers["mail"].principals == ["a"]
    assert sending.receivers["mail"].messages[0].id == Message(alerts=taken.alerts, stamp=STAMP).id


def test_a_channel_that_is_down_is_told_of_on_another(
    kept: AuditLog, caplog: pytest.LogCaptureFixture
) -> None:
    """The other channel gets its alerts, then that the first is down; the first all of its own, later."""
    caplog.set_level(logging.CRITICAL, "lacre.alerts")
    sending = Sending(kept, {"mail": Rules(), "slack": Rules()})
    slack = sending.receivers["slack"]
    slack.failing = AlertNotDelivered("slack did not answer in time")
    sending.raise_("a")
    for _ in range(4):
        sending.restarted().send()
        sending.clock.advance(60)

    assert sending.receivers["mail"].principals == ["a", ""]
    assert [message.alerts[0].rule for message in sending.receivers["mail"].messages][1] == "channel-down"  # fmt: skip
    slack.failing = None
    sending.clock.advance(900)
    sending.restarted().send()
    assert slack.principals == ["a"]
    assert {health.failures for health in sending.deliveries().health()} == {0}


def test_pauses_grow_and_a_receiver_may_ask_for_longer(file: AuditLog) -> None:
    """A channel is left alone for twice as long after each failure, and for as long as it asks."""
    sending = Sending(file, {"slack": Rules()})
    slack, tries = sending.receivers["slack"], []
    slack.failing = AlertNotDelivered("busy", after=100)
    slack.gate = lambda: tries.append(sending.clock.now)
    sending.raise_("a")
    begun = sending.clock.now
    for _ in range(400):
        sending.restarted().send()
        if len(tries) == 2:
            slack.failing = AlertNotDelivered("away")
        sending.clock.advance(1)

    assert [moment - begun for moment in tries] == [0, 100, 200, 220, 260, 340]
    assert pause(1, 0.0) == 0.0
    assert pause(50, 1.0) == 900.0


def test_a_message_that_nobody_wants_blocks_no_other(file: AuditLog) -> None:
    """A refused message lets the others go, is tried again, and given up in the end."""
    sending = Sending(file, {"slack": Rules(limit=1000)})
    slack = sending.receivers["slack"]
    slack.picky = lambda message: message.alerts[0].principal == "a"
    sending.raise_("a", "b", "c")
    sending.restarted().send()
    got = sorted(slack.principals)
    for _ in range(12):
        sending.clock.advance(1000)
        sending.restarted().send()

    assert got == ["b", "c"]
    assert sending.deliveries().health()[0].waiting == 0


def test_a_channel_that_breaks_on_a_message_goes_on(
    file: AuditLog, caplog: pytest.LogCaptureFixture
) -> None:
    """What no channel should raise holds up no other message, and nothing of it is in the log."""
    sending = Sending(file, {"slack": Rules()})
    slack = sending.receivers["slack"]

    def breaks(message: Message) -> bool:
        if message.alerts[0].principal == "a":
            raise ValueError("canary-4711")
        return False

    slack.picky = breaks
    sending.raise_("a", "b")
    sending.restarted().send()

    assert slack.principals == ["b"]
    assert "ValueError" in caplog.text
    assert "canary" not in caplog.text


def test_a_flood_is_a_few_messages_and_a_digest(kept: AuditLog) -> None:
    """Past its limit a channel sends one digest of all the rest, the worst first, then waits."""
    sending = Sending(kept, {"mail": Rules(limit=3, per=600)})
    mail = sending.receivers["mail"]
    sending.raise_(*(f"user:{number}" for number in range(40)), severity=Severity.MEDIUM)
    sending.raise_("worst", severity=Severity.CRITICAL)
    sending.restarted().send()
    sending.raise_("late")
    sending.restarted().send()

    assert [len(message.alerts) for message in mail.messages] == [1, 1, 1, 38]
    assert mail.principals[0] == "worst"
    assert mail.messages[3].title == "lacre shop test: 38 more alerts, up to medium"
    assert "and 18 more" in mail.messages[3].lines
    sending.clock.advance(601)
    sending.restarted().send()
    assert mail.principals[-1] == "late"


def test_an_alert_that_nobody_wants_takes_no_digest_with_it(file: AuditLog) -> None:
    """However much else is raised meanwhile, those that were in a refused digest are sent one by one."""
    sending = Sending(file, {"mail": Rules(limit=2, per=600)})
    mail = sending.receivers["mail"]
    mail.picky = lambda message: any(each.principal == "poison" for each in message.alerts)
    sending.raise_("noise:1", "noise:2", "noise:3", severity=Severity.CRITICAL)
    sending.raise_("poison", "thief")
    for number in range(14):
        sending.restarted().send()
        sending.clock.advance(601)
        sending.raise_(*(f"flood:{number}:{n}" for n in range(3)), severity=Severity.CRITICAL)

    assert "thief" in mail.principals
    assert "poison" not in mail.principals
    assert {f"flood:9:{n}" for n in range(3)} <= set(mail.principals)


def test_what_is_acknowledged_or_old_is_not_sent(file: AuditLog) -> None:
    """An alert that somebody has seen to, or of a week ago, goes to no channel."""
    sending = Sending(file, {"mail": Rules()})
    sending.raise_("old")
    sending.clock.advance(8 * 24 * 3600)
    sending.raise_("seen")
    with acting_as("user:ana", purpose="review"):
        sending.alerts.acknowledge(sending.alerts.list()[0].id)
    sending.restarted().send()

    assert sending.receivers["mail"].messages == []


def test_worse_is_sent_again_with_another_id(file: AuditLog) -> None:
    """An alert that was sent and became more severe is sent again, also while its first message was under way."""
    sending = Sending(file, {"mail": Rules()})
    mail = sending.receivers["mail"]

    def worsen() -> None:
        mail.gate = None
        sending.alerts.raise_(finding(principal="a", severity=Severity.CRITICAL, evidence=[(202611, 2)]))  # fmt: skip

    mail.gate = worsen
    sending.raise_("a")
    sending.restarted().send()
    sending.restarted().send()

    assert [message.severity for message in mail.messages] == [Severity.HIGH, Severity.CRITICAL]
    assert len({message.id for message in mail.messages}) == 2


def test_following_sends_what_comes_later(file: AuditLog) -> None:
    """A sender that follows sends an alert that is raised after it began, while another channel hangs."""
    sending = Sending(file, {"mail": Rules(), "slow": Rules()})
    hanging, arrived, stop = threading.Event(), threading.Event(), threading.Event()
    sending.receivers["slow"].gate = hanging.wait
    sending.receivers["mail"].gate = arrived.set
    follower = threading.Thread(target=sending.restarted().follow, args=(stop,), kwargs={"every": 0.01})  # fmt: skip
    follower.start()
    sending.raise_("a")
    in_time = arrived.wait(20)
    stop.set()
    hanging.set()
    follower.join()

    assert in_time
    assert sending.receivers["mail"].principals == ["a"]
