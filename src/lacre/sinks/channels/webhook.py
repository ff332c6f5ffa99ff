# SPDX-License-Identifier: Apache-2.0
"""
A webhook that gets JSON, signed as the Standard Webhooks specification says (1.0.0, scheme `v1`).

`webhook-id` is the same for each try of a message, for a receiver to take it once. The signature is
HMAC-SHA-256, under a secret of 24 to 64 bytes that is used for nothing else, over id, timestamp
and body: another id or time makes it void, so a recorded message can be replayed only as long as
the receiver takes old timestamps. Of two secrets (one line each) both sign, while one follows the other.

Does not encrypt: TLS does.
"""

import base64
import binascii
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Callable, Sequence

from lacre.audit.alerts import Message
from lacre.errors import ConfigurationError
from lacre.sinks.channels.http import post

__all__ = ["Webhook", "secrets_of"]

_PREFIX = "whsec_"


class Webhook:
    """One receiver; *secrets* are those that sign."""

    def __init__(
        self,
        url: str,
        secrets: Sequence[bytes],
        *,
        context: ssl.SSLContext,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.__url = url
        self.__secrets = tuple(secrets)
        self._context = context
        self._clock = clock

    def send(self, message: Message) -> None:
        """Deliver *message*."""
        body = json.dumps(message.written(), sort_keys=True).encode()
        moment = str(int(self._clock()))
        signed = b".".join((message.id.encode(), moment.encode(), body))
        signatures = [
            base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
            for secret in self.__secrets
        ]
        headers = {
            "webhook-id": message.id,
            "webhook-timestamp": moment,
            "webhook-signature": " ".join(f"v1,{each}" for each in signatures),
        }
        post(self.__url, body, headers, context=self._context, what="the webhook")


def secrets_of(text: str, where: str) -> list[bytes]:
    """
    Return the secrets in *text*, one a line: ``whsec_`` and base64.

    Raises:
        ConfigurationError: one is none. Names *where* it is from, and nothing of it.
    """
    found: list[bytes] = []
    for line in text.split():
        try:
            secret = base64.b64decode(line.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if not line.startswith(_PREFIX) or not 24 <= len(secret) <= 64:
            found = []
            break
        found.append(secret)
    if not found:
        raise ConfigurationError(
            f"{where} holds no signing secret",
            hint="whsec_ and the base64 of 24 to 64 random bytes: printf 'whsec_%s\\n' \"$(openssl rand -base64 32)\"",
        )
    return found
