# SPDX-License-Identifier: Apache-2.0
"""
A local identity as the signer of notes.

Implements `lacre.audit.notes.Signer`, ``spec/evidence-log.md``, section 7. The identity's other
messages begin with a label ``lacre/...`` of 16 bytes; a note of the log never does, so neither is
taken for the other.
"""

from typing import final

from lacre.audit.notes import ED25519, Verifier, ed25519_key_id
from lacre.errors import MisuseError
from lacre.kms.local.identity import Identity, PublicIdentity

__all__ = ["IdentitySigner", "verifier_of"]


@final
class IdentitySigner:
    """Signs notes as *identity*, under its name."""

    __slots__ = ("_identity", "key_id", "name")

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self.name = identity.name
        self.key_id = ed25519_key_id(identity.name, identity.public.ed25519)

    def sign(self, message: bytes, /) -> bytes:
        """
        Sign the text of a note.

        Raises:
            MisuseError: it begins as a label of another use does.
        """
        if message.startswith(b"lacre/"):
            raise MisuseError("what begins with lacre/ is signed for another use")
        return self._identity.sign(message)

    def __repr__(self) -> str:
        return f"<IdentitySigner {self.name}>"


def verifier_of(identity: PublicIdentity) -> Verifier:
    """Return the verifier of notes that *identity* signs."""
    return Verifier(name=identity.name, kind=ED25519, public=identity.ed25519)
