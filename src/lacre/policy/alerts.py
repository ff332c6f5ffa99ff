# SPDX-License-Identifier: Apache-2.0
"""
`[alerts.NAME]` of `lacre.toml`: the channels that alerts go through. `[honeytokens]` beside it.

A secret (a webhook's URL, a signing secret, a password) is in a file or in the environment, under
the name that is given here, and never in this file. Does not open a channel
(`lacre.sinks.channels`).
"""

import datetime as dt
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lacre.audit.detection.finding import Severity
from lacre.policy.values import Span, Table

__all__ = ["AlertSettings", "HoneytokenSettings"]

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?")
_MAILBOX = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")  # fmt: skip
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _a_variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text) or text.startswith("LACRE_"):
        raise ValueError(
            "it is the name of an environment variable: A-Z, 0-9 and underscore, not beginning with LACRE_"
        )
    return text


def _a_host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise ValueError('a host is a name or an address, for example "mail.example.org"')
    return text


def _a_mailbox(text: str) -> str:
    if not _MAILBOX.fullmatch(text):
        raise ValueError('an address is "name@example.org", without a display name')
    return text


def _a_topic(text: str) -> str:
    if not _TOPIC.fullmatch(text):
        raise ValueError('a topic is "arn:aws:sns:REGION:ACCOUNT:NAME"')
    return text


Variable = Annotated[str, AfterValidator(_a_variable)]
Host = Annotated[str, AfterValidator(_a_host)]
Mailbox = Annotated[str, AfterValidator(_a_mailbox)]
Topic = Annotated[str, AfterValidator(_a_topic)]

# What each kind of channel takes: what it must have, of which sets one each, and what it may.
_TAKES: dict[str, tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]] = {
    "webhook": ((("url_file", "url_env"), ("secret_file", "secret_env")), ("ca_file",)),
    "slack": ((("url_file", "url_env"),), ("ca_file",)),
    "smtp": (
        (("host",), ("sender",), ("recipients",)),
        ("port", "tls", "user", "password_file", "password_env", "ca_file"),
    ),
    "sns": ((("topic",),), ()),
    "log": ((), ()),
}
_RULES = frozenset({"kind", "severity", "limit", "per"})


class AlertSettings(Table):
    """
    `[alerts.NAME]`: one channel, of a *kind*, for alerts from *severity* up.

    *limit* messages in *per*, and then one digest of the rest. A `webhook` gets JSON signed with a
    secret, a `slack` one what Slack shows; the URL of either is a secret too. `smtp` sends from
    *sender* to *recipients*. Whatever needs a *user* needs its password.
    """

    kind: Literal["webhook", "slack", "smtp", "sns", "log"]
    severity: Severity = Severity.LOW
    limit: int = Field(default=20, ge=1, le=1000)
    per: Span = dt.timedelta(minutes=10)
    url_file: str | None = None
    url_env: Variable | None = None
    secret_file: str | None = None
    secret_env: Variable | None = None
    ca_file: str | None = None
    host: Host | None = None
    port: int | None = Field(default=None, ge=1, le=65_535)
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    user: str | None = Field(default=None, min_length=1, max_length=255)
    password_file: str | None = None
    password_env: Variable | None = None
    sender: Mailbox | None = None
    recipients: tuple[Mailbox, ...] = Field(default=(), max_length=50)
    topic: Topic | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        needed, allowed = _TAKES[self.kind]
        taken = {name for each in needed for name in each} | set(allowed) | _RULES
        if others := sorted(self.model_fields_set - taken):
            raise ValueError(f"a channel of kind {self.kind} takes no {', '.join(others)}")
        for either in needed:
            if sum(1 for name in either if getattr(self, name)) != 1:
                raise ValueError(f"a channel of kind {self.kind} needs {' or '.join(either)}")
        passwords = [name for name in ("password_file", "password_env") if getattr(self, name)]
        if len(passwords) != (1 if self.user else 0):
            raise ValueError("user goes with one of password_file and password_env")
        if self.tls == "none" and (self.host not in _LOOPBACK or self.user):
            # Anybody on the way would read alerts, and the password.
            raise ValueError('tls = "none" is for a mail server on this machine, without a user')
        return self


class HoneytokenSettings(Table):
    """`[honeytokens]`: *key_file* is the key of their marks. On the machine that plants and the one that watches, and no other."""

    key_file: str = "lacre/honeytoken.key"
