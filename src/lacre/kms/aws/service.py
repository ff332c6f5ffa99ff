# SPDX-License-Identifier: Apache-2.0
"""
AWS KMS as a key service: mints, unwraps and moves keys under symmetric KMS keys, by pinned ARN.

Implements ``spec/key-services.md``, section 4. A key is never named by an alias, the wrap context is
the encryption context, and every answer has to name the key that was asked for. Never calls
`GenerateDataKey`: a key that is minted stays in KMS until somebody may unwrap it. Caches nothing.

Safe between threads and across fork.
"""

from collections.abc import Mapping
from typing import Any, Never, Self, final

from lacre.errors import (
    ConfigurationError,
    KeyNotFound,
    KeyServiceUnreachable,
    MisuseError,
    Tampered,
)
from lacre.keys.ports import KmsKeyStatus
from lacre.kms.aws.asking import Asking
from lacre.kms.aws.clients import AwsClients
from lacre.kms.aws.names import AwsKey, check_regions, region_of
from lacre.kms.aws.status import described, is_symmetric, status_of
from lacre.kms.calling import CallLimits
from lacre.policy.model import AwsSettings
from lacre.sensitive import KeyMaterial

__all__ = ["AwsKeyService"]

_CIPHERTEXT = 6144  # bytes at most, by the API


@final
class AwsKeyService:
    """
    The KMS keys of AWS, as the process' credentials may use them.

    Args:
        clients: of boto3.
        limits: of one operation. For a multi-Region key with replicas they are divided: each of
            the regions gets an equal share of the deadline, so that the whole still holds.
    """

    def __init__(self, settings: AwsSettings, *, clients: AwsClients, limits: CallLimits) -> None:
        check_regions(settings)
        self._settings = settings
        self._ask = Asking(clients, limits)

    @classmethod
    def open(cls, settings: AwsSettings, *, limits: CallLimits) -> Self:
        """Return the service that `[aws]` describes. Calls nothing yet, and looks for no credentials."""
        clients = AwsClients(settings, attempt=limits.attempt)
        return cls(settings, clients=clients, limits=limits)

    def mint(self, kms_key: str, context: Mapping[str, str]) -> bytes:
        """Return 32 new random bytes, wrapped. Never fails over: the primary region mints."""
        key = AwsKey.of(kms_key)
        arn = self._arn(key)
        answer = self._ask(
            key.region,
            "GenerateDataKeyWithoutPlaintext",
            str(key),
            {"KeyId": arn, "KeySpec": "AES_256", "EncryptionContext": dict(context)},
        )
        return _blob(answer, KeyId=arn)

    def unwrap(self, kms_key: str, wrapped: bytes, context: Mapping[str, str]) -> KeyMaterial:
        """
        Return the key.

        A declared replica of a multi-Region key stands in where the primary region gives no answer.
        A denial, a disabled key and a ciphertext that does not open are answers.
        """
        key = AwsKey.of(kms_key)
        others = self._settings.replicas.get(key.region, ()) if key.multi_region else ()
        if not others:
            return self._unwrap(key, wrapped, context, self._ask.limits)
        limits = _share(self._ask.limits, len(others) + 1)
        try:
            return self._unwrap(key, wrapped, context, limits)
        except KeyServiceUnreachable:
            pass
        for region in others:
            try:
                return self._unwrap(key.replica(region), wrapped, context, limits)
            except (KeyServiceUnreachable, KeyNotFound):
                # A replica that is declared and not there says nothing about the key.
                continue
        raise KeyServiceUnreachable(
            f"AWS KMS gives no answer about {key}: not in {', '.join((key.region, *others))}",
            hint="cached keys serve until they expire; bring one of the regions back",
        )

    def wrap(self, kms_key: str, key: KeyMaterial, context: Mapping[str, str]) -> bytes:
        """Wrap a key that comes from another key service. Needs kms:Encrypt, which only a migration has."""
        named = AwsKey.of(kms_key)
        arn = self._arn(named)
        request = {"KeyId": arn, "Plaintext": key, "EncryptionContext": dict(context)}
        return _blob(self._ask(named.region, "Encrypt", str(named), request), KeyId=arn)

    def rewrap(
        self,
        kms_key: str,
        wrapped: bytes,
        context: Mapping[str, str],
        *,
        to: str,
        to_context: Mapping[str, str],
    ) -> bytes:
        """
        Wrap anew under *to*. The key stays inside KMS, where both are in one region.

        ReEncrypt does not cross regions: from one to another it is unwrapped and wrapped here.
        """
        source, destination = AwsKey.of(kms_key), AwsKey.of(to)
        if source.region != destination.region:
            material = self._unwrap(source, wrapped, context, self._ask.limits)
            return self.wrap(to, material, to_context)
        arns = {"SourceKeyId": self._arn(source), "KeyId": self._arn(destination)}
        answer = self._ask(
            source.region,
            "ReEncrypt",
            str(source) if source == destination else f"{source} and {destination}",
            {
                "CiphertextBlob": _sized(wrapped),
                "SourceKeyId": arns["SourceKeyId"],
                "SourceEncryptionContext": dict(context),
                "DestinationKeyId": arns["KeyId"],
                "DestinationEncryptionContext": dict(to_context),
            },
        )
        return _blob(answer, **arns)

    def version_of(self, wrapped: bytes) -> None:
        """Tell nothing: a ciphertext of KMS is opaque, and which material it was made with unsaid."""
        _sized(wrapped)

    def status(self, kms_key: str) -> KmsKeyStatus:
        """Return how a KMS key is, or the one an alias stands for now."""
        region, name = self._named(kms_key)
        return status_of(self._ask, region, name, kms_key)

    def rotate(self, kms_key: str) -> None:
        """
        Give the KMS key new material, now. KMS does not number it.

        Asked once only: KMS limits how often a key rotates on demand, and a request without an
        answer may have been carried out.
        """
        key = AwsKey.of(kms_key)
        request = {"KeyId": self._arn(key)}
        self._ask(key.region, "RotateKeyOnDemand", str(key), request, limits=self._ask.once())

    def resolve(self, alias: str) -> str:
        """
        Return the URI of the key that *alias* stands for now. Only a person who pins it asks.

        Raises:
            ConfigurationError: it is no symmetric key for encryption.
            KeyNotFound, KeyServiceDenied, KeyServiceUnreachable
        """
        region, name = self._named(alias)
        metadata = described(self._ask, region, name, alias)
        key = AwsKey.of_arn(str(metadata.get("Arn")))
        if key is None or key.region != region or self._arn(key) != metadata.get("Arn"):
            raise ConfigurationError(f"AWS KMS describes {alias} as a key that is not in {region}")
        if not is_symmetric(metadata):
            raise ConfigurationError(
                f"{alias} stands for a key that does not encrypt symmetrically",
                hint="create a key with KeySpec SYMMETRIC_DEFAULT and KeyUsage ENCRYPT_DECRYPT",
            )
        return str(key)

    def describe(self, kms_key: str) -> dict[str, Any]:
        """Return what KMS says of a pinned key."""
        key = AwsKey.of(kms_key)
        return described(self._ask, key.region, self._arn(key), kms_key)

    def create(self, alias: str, *, description: str, tags: Mapping[str, str]) -> str:
        """
        Create a symmetric key that *alias* stands for; return the key's URI.

        Asked once only: after a request without an answer there may be a key without an alias,
        which its tags tell.
        """
        region, name = self._named(alias)
        request = {
            "Description": description,
            "Tags": [{"TagKey": key, "TagValue": tags[key]} for key in sorted(tags)],
        }
        once = self._ask.once()
        answer = self._ask(region, "CreateKey", alias, request, limits=once)
        key = AwsKey.of_arn(str(answer.get("KeyMetadata", {}).get("Arn")))
        if key is None or key.region != region:
            raise ConfigurationError(f"AWS KMS made a key for {alias} that is not in {region}")
        self._ask(
            region, "CreateAlias", alias, {"AliasName": name, "TargetKeyId": key.id}, limits=once
        )
        return str(key)

    def schedule_deletion(self, kms_key: str, *, days: int) -> dict[str, Any]:
        """Have a pinned key deleted in *days* days; return KMS' answer, with the date."""
        key = AwsKey.of(kms_key)
        request = {"KeyId": self._arn(key), "PendingWindowInDays": days}
        return self._ask(key.region, "ScheduleKeyDeletion", kms_key, request)

    def resting(self) -> dict[str, bool]:
        """Return of each region that was asked whether its breaker is open."""
        return self._ask.resting()

    def __repr__(self) -> str:
        return f"<AwsKeyService of {', '.join(self._settings.regions)}>"

    def __reduce__(self) -> Never:
        raise MisuseError("a key service holds credentials; it does not pickle or copy")

    def _unwrap(
        self, key: AwsKey, wrapped: bytes, context: Mapping[str, str], limits: CallLimits
    ) -> KeyMaterial:
        arn = self._arn(key)
        request = {
            # Pinned here too: without it KMS would open what any key wrapped that we may use.
            "KeyId": arn,
            "CiphertextBlob": _sized(wrapped),
            "EncryptionContext": dict(context),
        }
        answer = self._ask(key.region, "Decrypt", str(key), request, limits=limits)
        plaintext = answer["Plaintext"]
        if answer["KeyId"] == arn and type(plaintext) is bytes and len(plaintext) == 32:
            return KeyMaterial(plaintext)
        # A crash reporter reads the variables of frames.
        answer.clear()
        del plaintext
        raise Tampered

    def _arn(self, key: AwsKey) -> str:
        return key.arn(self._ask.partition(key.region))

    def _named(self, kms_key: str) -> tuple[str, str]:
        region = region_of(kms_key)
        name = kms_key.removeprefix(f"aws-kms://{region}/")
        return region, name if name.startswith("alias/") else self._arn(AwsKey.of(kms_key))


def _share(limits: CallLimits, regions: int) -> CallLimits:
    deadline = limits.deadline / regions
    return CallLimits(deadline=deadline, attempt=min(limits.attempt, deadline))


def _sized(wrapped: bytes) -> bytes:
    # What KMS would not take as a ciphertext at all was never one.
    if not 1 <= len(wrapped) <= _CIPHERTEXT:
        raise Tampered
    return bytes(wrapped)


def _blob(answer: dict[str, Any], **named: str) -> bytes:
    # Wrapped under another key than ours it would be readable by whoever has that one.
    if any(answer[name] != arn for name, arn in named.items()):
        answer.clear()
        raise Tampered
    return _sized(answer["CiphertextBlob"])
