# SPDX-License-Identifier: Apache-2.0
"""Messages reach real receivers, over TLS that is verified, and what they quote does no harm there."""

import base64
import dataclasses
import datetime as dt
import email
import email.policy
import hashlib
import hmac
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lacre.audit.alerts import Alert, AlertState, Channel, Message, harmless
from lacre.audit.detection.finding import Severity
from lacre.errors import AlertNotDelivered, ConfigurationError
from lacre.policy.alerts import AlertSettings
from lacre.sinks.channels import http
from lacre.sinks.channels.log import Log
from lacre.sinks.channels.opening import open_channel, rules_of
from lacre.sinks.channels.sns import Topic
from tests.audit.looks import STAMP
from tests.components.authority import Authority
from tests.components.aws import AWS
from tests.components.processes import free_port
from tests.sinks.channels.receivers import http_receiver, mail_receiver

WHEN = dt.datetime(2026, 11, 22, 10, 0, tzinfo=dt.UTC)
SECRET = bytes(range(100, 132))
HOSTILE = "eve\r\nBcc: all@example.org\r\n\r\n<!channel> <https://evil.example|here> *b* `c` \u202e\x1b[2J https://evil.example/a\u2028{}"
CANARY = "canary-4711"


def message(**changed: Any) -> Message:
    """One alert about a principal with a hostile name."""
    alert = Alert(
        id="0192" * 8, rule="bulk-access", severity=Severity.HIGH, fingerprint="f" * 64, principal=HOSTILE,
        first=WHEN, last=WHEN, raised=WHEN, times=3, summary=f"500 rows by {HOSTILE}",
        facts={"threshold": 100, "found": 500, "agent": HOSTILE}, evidence=((202611, 1),), state=AlertState.OPEN,
    )  # fmt: skip
    return Message(alerts=(dataclasses.replace(alert, **changed),), stamp=STAMP)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the receivers' certificates."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def opened(tmp_path: Path, authority: Authority) -> Callable[..., Channel]:
    """What opens a channel as lacre.toml would; its secrets are files there."""

    def made(kind: str, *, trusted: bool = True, environ: dict[str, str] | None = None, **settings: Any) -> Channel:  # fmt: skip
        files = {name: settings.pop(name) for name in ("url", "secret", "password") if name in settings}  # fmt: skip
        for name, text in files.items():
            (tmp_path / name).write_text(f"{text}\n", "utf-8")
            settings[f"{name}_file"] = name
        if trusted:
            settings["ca_file"] = str(authority.file)
        read = AlertSettings.model_validate({"kind": kind, **settings})
        return open_channel("ops", read, base=tmp_path, environ=environ or {})

    return made


@pytest.fixture(scope="module")
def secret() -> str:
    """A signing secret as its file has it."""
    return "whsec_" + base64.b64encode(SECRET).decode()


def test_a_webhook_gets_signed_json(
    opened: Callable[..., Channel], authority: Authority, secret: str
) -> None:
    """Who holds the secret can check id, time and body; a retry has the same id; old and new secret both sign."""
    other = "whsec_" + base64.b64encode(bytes(24)).decode()
    with http_receiver(authority.issue("hook")) as got:
        url = f"https://localhost:{got.port}/hook/{CANARY}"
        channel = opened("webhook", url=url, secret=f"{other}\n{secret}")
        channel.send(message())
        channel.send(message())

    (path, headers, body), (_, again, _) = got.requests
    assert path == f"/hook/{CANARY}"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"].split()[1] == f"v1,{expected}"
    assert headers["webhook-id"] == again["webhook-id"]
    read = json.loads(body)
    assert (read["kind"], read["severity"], read["app"], read["count"]) == ("alert", "high", "shop", 1)  # fmt: skip
    assert read["alerts"][0]["principal"] == HOSTILE


def test_slack_is_given_no_markup(opened: Callable[..., Channel], authority: Authority) -> None:
    """What is quoted is plain text there: no mention, no link, no line of its own."""
    with http_receiver(authority.issue("slack")) as got:
        opened("slack", url=f"https://localhost:{got.port}/services/x").send(message())

    ((_, headers, body),) = got.requests
    read = json.loads(body)
    assert headers["content-type"] == "application/json"
    assert {block["text"]["type"] for block in read["blocks"]} == {"plain_text"}
    assert not set("<>*`~") & set(read["text"])
    assert "&lt;!channel&gt;" in read["text"]
    shown = read["text"] + "".join(block["text"]["text"] for block in read["blocks"])
    assert "://" not in shown
    assert not {"\u202e", "\x1b", "\r", "\u2028"} & set(shown)
    assert all(len(block["text"]["text"]) <= limit for block, limit in zip(read["blocks"], (150, 3000), strict=True))  # fmt: skip


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_mail_goes_over_tls_with_its_headers_whole(
    opened: Callable[..., Channel], authority: Authority, tls: str
) -> None:
    """A name with line breaks adds no header, no recipient and no part; the login is after TLS."""
    implicit = tls == "implicit"  # where this server cannot ask for a login
    login = {} if implicit else {"user": "lacre", "password": CANARY}
    asked = None if implicit else CANARY.encode()
    with mail_receiver(authority.issue("mail"), implicit=implicit, password=asked) as box:
        opened(
            "smtp", host="localhost", port=box.port, tls=tls, **login,
            sender="lacre@example.org", recipients=["a@example.org", "b@example.org"],
        ).send(message())  # fmt: skip

    ((sender, recipients, content),) = box.mails
    assert (sender, recipients) == ("lacre@example.org", ["a@example.org", "b@example.org"])
    assert box.logins == ([] if implicit else [b"lacre"])
    mail = email.message_from_bytes(content, policy=email.policy.default)
    assert sorted(mail.keys()) == [
        "Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "From", "MIME-Version", "Message-ID",
        "Subject", "To", "X-Lacre-Severity",
    ]  # fmt: skip
    assert mail["Message-ID"] == f"<{message().id}@example.org>"
    assert mail.get_content_type() == "text/plain"
    text = mail.get_content()
    assert "rule: bulk-access, high" in text
    assert "Bcc" not in {line.partition(":")[0] for line in text.splitlines()}
    assert "://" not in text + mail["Subject"]


def test_sns_takes_it_with_attributes(
    moto: AWS, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., Channel]
) -> None:
    """A subscriber of the topic gets the JSON, and can filter by severity; a topic that is gone is said."""
    for name, value in moto.environ().items():
        monkeypatch.setenv(name, value)
    topics, queues = moto.client("sns"), moto.client("sqs")
    arn = topics.create_topic(Name="alerts")["TopicArn"]
    url = queues.create_queue(QueueName="alerts")["QueueUrl"]
    queue = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]  # fmt: skip
    topics.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue)
    opened("sns", trusted=False, topic=arn).send(message())
    (got,) = queues.receive_message(QueueUrl=url)["Messages"]
    body = json.loads(got["Body"])

    assert json.loads(body["Message"])["alerts"][0]["principal"] == HOSTILE
    assert body["MessageAttributes"]["severity"]["Value"] == "high"
    assert len(body["Subject"]) <= 100
    assert body["Subject"].isascii()
    assert body["Subject"].isprintable()
    with pytest.raises(AlertNotDelivered, match="SNS answered NotFound"):
        Topic(arn + "-gone").send(message())


def test_the_log_has_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A message is one line of ASCII at the level of its severity."""
    caplog.set_level(logging.INFO, "lacre.alerts.raised")
    Log().send(message())

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().isascii()
    assert record.getMessage().isprintable()
    assert json.loads(record.getMessage())["alerts"][0]["summary"].endswith(HOSTILE)


def test_nobody_untrusted_gets_anything(
    opened: Callable[..., Channel], authority: Authority, tmp_path: Path, secret: str
) -> None:
    """A certificate of another authority, or of another name, ends it before a byte of the message is sent."""
    stranger = Authority(tmp_path / "stranger")
    with http_receiver(stranger.issue("hook")) as got, mail_receiver(stranger.issue("mail")) as box:
        url = f"https://localhost:{got.port}/{CANARY}"
        mail = {"host": "localhost", "port": box.port, "user": "u", "password": CANARY, "sender": "a@b.c", "recipients": ["d@e.f"]}  # fmt: skip
        for channel in (
            opened("webhook", url=url, secret=secret),
            opened("slack", url=url),
            opened("smtp", **mail),
        ):
            with pytest.raises(
                AlertNotDelivered, match="certificate that is not trusted"
            ) as caught:
                channel.send(message())
            assert CANARY not in f"{caught.value!r} {caught.value.hint} {caught.value.__cause__!r}"
            assert caught.value.__suppress_context__
    with (
        http_receiver(authority.issue("hook"), host="127.0.0.2") as other,
        pytest.raises(AlertNotDelivered, match="certificate"),
    ):
        opened("slack", url=f"https://127.0.0.2:{other.port}/").send(message())

    assert got.requests == []
    assert box.mails == []
    assert box.logins == []
    assert other.requests == []


def test_mail_without_tls_is_not_sent(opened: Callable[..., Channel]) -> None:
    """A server that offers no STARTTLS, or from whose offer somebody took it out, gets no login and no mail."""
    with mail_receiver(None) as box:
        channel = opened("smtp", host="localhost", port=box.port, user="u", password=CANARY, sender="a@b.c", recipients=["d@e.f"])  # fmt: skip
        with pytest.raises(AlertNotDelivered) as caught:
            channel.send(message())
        plain = opened("smtp", host="localhost", port=box.port, tls="none", sender="a@b.c", recipients=["d@e.f"])  # fmt: skip
        plain.send(message())

    assert CANARY not in str(caught.value)
    assert len(box.mails) == 1


def test_a_redirect_is_not_followed(
    opened: Callable[..., Channel], authority: Authority, secret: str
) -> None:
    """The message goes where the operator said and nowhere else, whatever the receiver answers."""
    with http_receiver(authority.issue("a")) as got, http_receiver() as elsewhere:
        got.headers = {"Location": f"http://127.0.0.1:{elsewhere.port}/"}
        channel = opened("webhook", url=f"https://localhost:{got.port}/", secret=secret)
        for status in (301, 302, 303, 307, 308):
            got.status = status
            with pytest.raises(AlertNotDelivered, match="redirect"):
                channel.send(message())

    assert len(got.requests) == 5
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("status", "refused", "after"),
    [(400, True, 0), (413, True, 0), (404, False, 0), (429, False, 30), (500, False, 0), (503, False, 30)],
)  # fmt: skip
def test_a_refusal_says_which(
    opened: Callable[..., Channel], status: int, refused: bool, after: float
) -> None:
    """An answer tells this message is not wanted, or another time; what it says besides is not repeated."""
    with http_receiver() as got:
        got.status = status
        got.headers = {"Retry-After": "30"} if after else {}
        channel = opened("slack", url=f"http://127.0.0.1:{got.port}/{CANARY}")
        with pytest.raises(AlertNotDelivered, match=f"Slack answered {status}") as caught:
            channel.send(message())

    assert (caught.value.refused, caught.value.after) == (refused, after)
    assert "canary" not in f"{caught.value!r}{caught.value.hint}{channel!r}"


def test_who_does_not_answer_is_given_up(
    opened: Callable[..., Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that hangs, or is not there, ends in an error that names neither it nor the message."""
    monkeypatch.setattr(http, "TIMEOUT", 0.05)
    with http_receiver() as got:
        got.delay = 0.3
        with pytest.raises(AlertNotDelivered, match="did not answer in time"):
            opened("slack", url=f"http://127.0.0.1:{got.port}/{CANARY}").send(message())
    with pytest.raises(AlertNotDelivered, match="takes no connections") as caught:
        opened("slack", url=f"http://127.0.0.1:{free_port()}/{CANARY}").send(message())

    assert "127.0.0.1" not in str(caught.value)


def test_refused_mail_says_how_much(opened: Callable[..., Channel], authority: Authority) -> None:
    """A wrong password, a recipient and a mail that are not taken are told apart, without what was answered."""
    settings: dict[str, Any] = {"host": "localhost", "sender": "a@b.c", "recipients": ["d@e.f", "g@h.i"]}  # fmt: skip
    with (
        mail_receiver(authority.issue("mail"), password=b"right") as box,
        pytest.raises(AlertNotDelivered, match="answered 535") as login,
    ):
        opened("smtp", port=box.port, user="u", password=CANARY, **settings).send(message())
    with mail_receiver(authority.issue("mail")) as box:
        channel = opened("smtp", port=box.port, **settings)
        box.refusing = ["d@e.f"]
        with pytest.raises(AlertNotDelivered, match="refused 1 of 2 recipients") as some:
            channel.send(message())
        box.refusing, box.data = [], "554 canary-answered"
        with pytest.raises(AlertNotDelivered, match="answered 554") as unwanted:
            channel.send(message())

    assert (login.value.refused, some.value.refused, unwanted.value.refused) == (False, False, True)
    assert "canary" not in f"{login.value}{some.value}{unwanted.value}{channel!r}"


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "webhook", "url_file": "url"},
        {"kind": "webhook", "url_file": "u", "url_env": "U", "secret_file": "s"},
        {"kind": "slack", "url": "https://hooks.example/secret"},
        {"kind": "slack", "url_env": "LACRE_URL"},
        {"kind": "slack", "url_file": "u", "topic": "arn:aws:sns:us-east-1:123456789012:x"},
        {"kind": "smtp", "host": "mail.example.org", "sender": "a@b.c", "recipients": ["a@b.c\r\nBcc: d@e.f"]},
        {"kind": "smtp", "host": "mail.example.org", "sender": "a@b.c", "recipients": ["d@e.f"], "tls": "none"},
        {"kind": "smtp", "host": "localhost", "sender": "a@b.c", "recipients": ["d@e.f"], "user": "u"},
        {"kind": "smtp", "host": "localhost", "sender": "a@b.c", "recipients": []},
        {"kind": "sns", "topic": "arn:aws:sqs:us-east-1:123456789012:x"},
        {"kind": "log", "per": "9 days"},
        {"kind": "log", "limit": 0},
    ],
)  # fmt: skip
def test_a_channel_that_is_not_whole_is_refused(settings: dict[str, Any]) -> None:
    """A secret in the file, a setting of another kind, a mailbox with a line break: none is a channel."""
    with pytest.raises(ValueError, match="validation error"):
        AlertSettings.model_validate(settings)


def test_a_wrong_secret_is_said_without_being_shown(
    opened: Callable[..., Channel], tmp_path: Path, secret: str
) -> None:
    """A URL without TLS, a secret of too few bytes, a file that is missing are errors that quote nothing."""
    for url in (f"http://example.org/{CANARY}", f"https://u:{CANARY}@example.org/", f"ftp://example.org/{CANARY}", f"https://example.org/{CANARY} x"):  # fmt: skip
        with pytest.raises(ConfigurationError, match=r"\[alerts.ops\] url") as caught:
            opened("slack", url=url, trusted=False)
        assert CANARY not in f"{caught.value}{caught.value.hint}"
    for wrong in (
        CANARY,
        "whsec_" + base64.b64encode(CANARY.encode()).decode(),
        f"{secret}\n{CANARY}",
    ):
        with pytest.raises(ConfigurationError, match=r"\[alerts.ops\] secret") as caught:
            opened("webhook", url="https://example.org/", secret=wrong, trusted=False)
        assert CANARY not in f"{caught.value}{caught.value.hint}"
    settings = AlertSettings(kind="slack", url_env="SLACK_URL")
    with pytest.raises(ConfigurationError, match="url is missing"):
        open_channel("ops", settings, base=tmp_path, environ={})
    with pytest.raises(ConfigurationError, match="url_file cannot be read"):
        open_channel("ops", AlertSettings(kind="slack", url_file="no"), base=tmp_path, environ={})
    assert open_channel("ops", settings, base=tmp_path, environ={"SLACK_URL": "https://x.example/"})


def test_what_lacre_toml_says_of_a_channel_is_its_rules() -> None:
    """Severity and limit are read as they are written."""
    read = AlertSettings.model_validate({"kind": "log", "severity": "high", "limit": 2, "per": "1 hour"})  # fmt: skip

    assert rules_of(read).severity is Severity.HIGH
    assert (rules_of(read).limit, rules_of(read).per) == (2, 3600.0)


def test_harmless_text_is_one_line_without_links() -> None:
    """Controls, directions and links are gone, and no more is kept than asked for."""
    text = harmless(HOSTILE * 10, 120)

    assert len(text) == 120
    assert text.isprintable()
    assert "://" not in text
    assert harmless("plain", 5) == "plain"
