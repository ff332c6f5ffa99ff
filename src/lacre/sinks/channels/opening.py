# SPDX-License-Identifier: Apache-2.0
"""
The channels that `[alerts.NAME]` of `lacre.toml` describe, with their secrets from files or the environment.

Reads each secret once. Does not send.
"""

from collections.abc import Mapping
from pathlib import Path

from lacre.audit.alerts import Channel
from lacre.audit.delivery import Rules
from lacre.errors import ConfigurationError
from lacre.policy.alerts import AlertSettings
from lacre.sinks.channels.http import check_url, context_of
from lacre.sinks.channels.log import Log
from lacre.sinks.channels.mail import Mail
from lacre.sinks.channels.slack import Slack
from lacre.sinks.channels.webhook import Webhook, secrets_of

__all__ = ["open_channel", "rules_of"]

_PORTS = {"starttls": 587, "implicit": 465, "none": 25}


def rules_of(settings: AlertSettings) -> Rules:
    """Return what the channel takes, and how much."""
    return Rules(severity=settings.severity, limit=settings.limit, per=settings.per.total_seconds())


def open_channel(
    name: str,
    settings: AlertSettings,
    *,
    base: Path,
    environ: Mapping[str, str],
    endpoint_url: str | None = None,
    profile: str | None = None,
) -> Channel:
    """
    Return the channel called *name*; paths are relative to *base*.

    Args:
        endpoint_url: of AWS, as is *profile*.

    Raises:
        ConfigurationError: a secret is missing, or is not what it should be. Never quotes one.
    """
    where = f"[alerts.{name}]"
    if settings.kind == "log":
        return Log()
    if settings.kind == "sns":
        from lacre.sinks.channels.sns import Topic

        return Topic(settings.topic or "", endpoint_url=endpoint_url, profile=profile)
    context = context_of(None if settings.ca_file is None else base / settings.ca_file)

    def secret(of: str, *, lines: bool = False) -> str:
        file = getattr(settings, f"{of}_file")
        variable = getattr(settings, f"{of}_env")
        if file is not None:
            text = _file(base / file, f"{where} {of}_file")
        else:
            text = environ.get(variable or "", "")
        text = text.strip() if lines else text.partition("\n")[0].rstrip("\r")
        if not text:
            raise ConfigurationError(
                f"{where}: {of} is missing",
                hint=f"its file is empty: {file}" if file else f"set the environment variable {variable}",
            )  # fmt: skip
        return text

    if settings.kind == "smtp":
        return Mail(
            host=settings.host or "",
            port=settings.port or _PORTS[settings.tls],
            tls=settings.tls,
            sender=settings.sender or "",
            recipients=settings.recipients,
            context=context,
            user=settings.user,
            password=None if settings.user is None else secret("password"),
        )
    url = check_url(secret("url"), f"{where} url")
    if settings.kind == "slack":
        return Slack(url, context=context)
    secrets = secrets_of(secret("secret", lines=True), f"{where} secret")
    return Webhook(url, secrets, context=context)


def _file(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(
            f"{what} cannot be read", hint=f"{path}: a file of this user's, with one line"
        ) from None
