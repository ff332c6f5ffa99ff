# SPDX-License-Identifier: Apache-2.0
"""
A key of AWS KMS as the signer of notes: ECC_NIST_P256, which never leaves KMS.

Implements `lacre.audit.notes.Signer`, ``spec/evidence-log.md``, section 7: signature type 0x02. An
alias will do: who moves it changes the id of the key, and nobody believes what it signs then.
Needs kms:Sign and kms:GetPublicKey.
"""

from typing import Any, final

from lacre.audit.notes import ECDSA_P256, Verifier
from lacre.errors import ConfigurationError, Tampered
from lacre.keys.kms_keys import is_alias
from lacre.kms.aws.asking import Asking
from lacre.kms.aws.clients import AwsClients
from lacre.kms.aws.names import AwsKey, check_regions, region_of
from lacre.kms.calling import CallLimits
from lacre.policy.model import AwsSettings

__all__ = ["AwsSigner"]

_ALGORITHM = "ECDSA_SHA_256"


@final
class AwsSigner:
    """
    Signs notes with *kms_key*, under its URI as the name. Asks for its public key once, when made.

    Raises:
        ConfigurationError: the key does not sign with P-256.
        KeyServiceDenied, KeyServiceUnreachable, KeyNotFound
    """

    def __init__(self, settings: AwsSettings, kms_key: str, *, limits: CallLimits) -> None:
        check_regions(settings, [kms_key])
        self._ask = Asking(AwsClients(settings, attempt=limits.attempt), limits)
        self._region = region_of(kms_key)
        self._id = _id_of(kms_key, self._ask)
        self.name = kms_key
        answer = self._ask(self._region, "GetPublicKey", kms_key, {"KeyId": self._id})
        if _ALGORITHM not in answer.get("SigningAlgorithms", ()):
            raise ConfigurationError(
                f"{kms_key} does not sign with {_ALGORITHM}",
                hint="make it with key spec ECC_NIST_P256 and usage SIGN_VERIFY",
            )
        self.verifier = Verifier(name=kms_key, kind=ECDSA_P256, public=bytes(answer["PublicKey"]))
        self.key_id = self.verifier.key_id

    def sign(self, message: bytes, /) -> bytes:
        """
        Sign the text of a note.

        Raises:
            Tampered: the answer is no signature of this key.
            KeyServiceDenied, KeyServiceUnreachable, KeyNotFound, KeyDisabled
        """
        request: dict[str, Any] = {"KeyId": self._id, "Message": message, "MessageType": "RAW", "SigningAlgorithm": _ALGORITHM}  # fmt: skip
        signature = self._ask(self._region, "Sign", self.name, request)["Signature"]
        if not isinstance(signature, bytes):
            raise Tampered.signed("a note")
        # Another key answered, where an alias was moved since: nobody would believe it.
        self.verifier.verify(message, signature)
        return signature

    def __repr__(self) -> str:
        return f"<AwsSigner {self.name}>"


def _id_of(kms_key: str, ask: Asking) -> str:
    if is_alias(kms_key):
        return "alias/" + kms_key.partition("/alias/")[2]
    key = AwsKey.of(kms_key)
    return key.arn(ask.partition(key.region))
