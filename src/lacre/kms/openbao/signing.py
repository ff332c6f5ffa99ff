# SPDX-License-Identifier: Apache-2.0
"""
A Transit key of OpenBao as the signer of notes: ed25519, which never leaves the server.

Implements `lacre.audit.notes.Signer`, ``spec/evidence-log.md``, section 7: signature type 0x01. Signs
with the version that was the newest when it was made. Needs ``update`` on ``MOUNT/sign/NAME`` and
``read`` on ``MOUNT/keys/NAME``.
"""

from base64 import b64decode, b64encode
from typing import Final, final

from lacre.audit.notes import ED25519, Verifier
from lacre.errors import ConfigurationError, Tampered
from lacre.kms.openbao.connection import Answer
from lacre.kms.openbao.transit import Transit, number

__all__ = ["OpenBaoSigner"]

_PREFIX: Final = "vault:v"


@final
class OpenBaoSigner:
    """
    Signs notes with *kms_key*, under its URI as the name. Asks for its public key once, when made.

    Raises:
        ConfigurationError: it is no ed25519 key, or one that derives keys.
        KeyServiceDenied, KeyServiceUnreachable, KeyNotFound
    """

    def __init__(self, transit: Transit, kms_key: str) -> None:
        self._transit = transit
        self.name = kms_key
        found = transit.read(kms_key)
        version = number(found, "latest_version") or 0
        keys = found.get("keys")
        named = keys.get(str(version)) if isinstance(keys, dict) else None
        text = named.get("public_key") if isinstance(named, dict) else None
        public = _decoded(text)
        if found.get("type") != "ed25519" or found.get("derived") is True or len(public) != 32:
            raise ConfigurationError(
                f"{kms_key} is no key that signs notes",
                hint="make it with type ed25519, and not derived",
            )
        self._version = version
        self.verifier = Verifier(name=kms_key, kind=ED25519, public=public)
        self.key_id = self.verifier.key_id

    def sign(self, message: bytes, /) -> bytes:
        """
        Sign the text of a note.

        Raises:
            Tampered: the answer is no signature of this key.
            KeyServiceDenied, KeyServiceUnreachable, KeyNotFound, KeyDisabled
        """
        body = {"input": b64encode(message).decode(), "key_version": self._version}
        signature = self._transit.ask(self.name, "sign", body, self._signature)
        self.verifier.verify(message, signature)
        return signature

    def __repr__(self) -> str:
        return f"<OpenBaoSigner {self.name}>"

    def _signature(self, answer: Answer) -> bytes:
        text = answer.data.get("signature")
        prefix = f"{_PREFIX}{self._version}:"
        if not isinstance(text, str) or not text.startswith(prefix):
            raise Tampered.signed("a note")
        return _decoded(text.removeprefix(prefix))


def _decoded(text: object) -> bytes:
    try:
        return b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return b""
