# SPDX-License-Identifier: Apache-2.0
"""
A webhook that Slack, or what takes the same (Mattermost, Rocket.Chat), shows.

All that is quoted is in `plain_text` objects, which Slack does not read as markup; the one field
that it does, for notifications, has ``&``, ``<`` and ``>`` escaped as Slack asks: without them there
is no link, no mention of a channel and no picture. No names are looked up, no links unfurled.
"""

import json
import ssl

from lacre.audit.alerts import Message
from lacre.audit.detection.finding import Severity
from lacre.sinks.channels.http import post

__all__ = ["Slack"]

_SIGNS = {
    Severity.LOW: "\u26aa",
    Severity.MEDIUM: "\U0001f7e1",
    Severity.HIGH: "\U0001f7e0",
    Severity.CRITICAL: "\U0001f534",
}
_LONGEST = 2900  # characters of a section; Slack takes 3000


class Slack:
    """One incoming webhook."""

    def __init__(self, url: str, *, context: ssl.SSLContext) -> None:
        self.__url = url
        self._context = context

    def send(self, message: Message) -> None:
        """Deliver *message*."""
        title = f"{_SIGNS[message.severity]} {message.title}"
        text = "\n".join(message.lines)
        shown = {
            "text": _escaped(title),
            "parse": "none",
            "link_names": False,
            "unfurl_links": False,
            "unfurl_media": False,
            "blocks": [
                {"type": "header", "text": _plain(title[:150])},
                {"type": "section", "text": _plain(text[:_LONGEST])},
            ],
        }
        body = json.dumps(shown).encode()
        post(self.__url, body, {}, context=self._context, what="Slack")


def _plain(text: str) -> dict[str, object]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _escaped(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # What is left of markup makes bold or code of a word; a full-width sign makes nothing.
    return escaped.replace("`", "\uff40").replace("*", "\uff0a").replace("~", "\uff5e")
