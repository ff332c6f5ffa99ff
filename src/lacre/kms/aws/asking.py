# SPDX-License-Identifier: Apache-2.0
"""
One request to AWS, under a deadline, with its failures in the tree of `lacre.errors`.

Joins `clients`, `failures` and `lacre.kms.calling`. Of an answer it sees to
it that it is one of AWS; what it says is for the caller.
"""

from typing import Any, final

from botocore import xform_name

from lacre.errors import LacreError
from lacre.keys.requests import noted
from lacre.kms.aws.clients import AwsClients
from lacre.kms.aws.failures import FAILURES, failure
from lacre.kms.aws.unlogged import unlogged
from lacre.kms.calling import CallLimits, Calls, TryAgain
from lacre.sensitive import KeyMaterial

__all__ = ["Asking"]

# What an operation needs, where the permission is not named as the operation.
_PERMISSIONS = {"ReEncrypt": "kms:ReEncryptFrom and kms:ReEncryptTo"}
# What an answer of KMS has. One without it came from somebody in between, a captive portal for one:
# botocore takes any 200 for an answer, and a missing KeyId would pass for tampering.
_MEMBERS = {
    "CreateKey": {"KeyMetadata"},
    "Decrypt": {"KeyId", "Plaintext"},
    "DescribeKey": {"KeyMetadata"},
    "Encrypt": {"KeyId", "CiphertextBlob"},
    "GenerateDataKeyWithoutPlaintext": {"KeyId", "CiphertextBlob"},
    "GetKeyPolicy": {"Policy"},
    "GetKeyRotationStatus": {"KeyRotationEnabled"},
    "GetPublicKey": {"KeyId", "PublicKey"},
    "ReEncrypt": {"KeyId", "SourceKeyId", "CiphertextBlob"},
    "ScheduleKeyDeletion": {"KeyId", "DeletionDate"},
    "Sign": {"KeyId", "Signature"},
}
# What botocore lets out of its parser where a body is JSON and no object, holds other types than it
# should, or is no JSON at all: it takes it apart before it looks at it.
_UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)


@final
class Asking:
    """The requests of one process; a breaker for each region and set of limits."""

    def __init__(self, clients: AwsClients, limits: CallLimits) -> None:
        self.limits = limits
        self._clients = clients
        self._calls: dict[tuple[str, CallLimits], Calls] = {}

    def __call__(
        self,
        region: str,
        operation: str,
        kms_key: str,
        request: dict[str, Any],
        *,
        limits: CallLimits | None = None,
    ) -> dict[str, Any]:
        """
        Return AWS' answer.

        Args:
            kms_key: the key it is about, for messages.
            request: a member may be `KeyMaterial`.

        Raises:
            Tampered, KeyServiceDenied, KeyServiceUnreachable, KeyNotFound, KeyDisabled,
            ConfigurationError
        """
        limits = limits or self.limits
        # Two threads that come first make two, and `setdefault` keeps one.
        calls = self._calls.get((region, limits)) or self._calls.setdefault(
            (region, limits), Calls(f"AWS KMS in {region}", limits)
        )
        return calls(lambda: self._attempt("kms", region, operation, kms_key, request, limits))

    def resting(self) -> dict[str, bool]:
        """Return of each region that was asked whether its breaker is open."""
        found: dict[str, bool] = {}
        for (region, _), calls in list(self._calls.items()):
            found[region] = found.get(region, False) or calls.resting
        return found

    def optional(
        self, service: str, region: str, operation: str, request: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Return AWS' answer to one attempt, or None: denied, not there, or not known to this boto3."""
        try:
            return self._attempt(service, region, operation, "", request, self.limits)
        except (LacreError, TryAgain, AttributeError):
            return None

    def once(self) -> CallLimits:
        """Return limits that leave no time for a second attempt."""
        return CallLimits(deadline=self.limits.attempt, attempt=self.limits.attempt)

    def partition(self, region: str) -> str:
        """Return the partition of *region*, or raise `ConfigurationError`."""
        try:
            return self._clients.partition(region)
        except FAILURES as error:
            failed = failure(error, "", "")
        raise failed

    def _attempt(
        self,
        service: str,
        region: str,
        operation: str,
        kms_key: str,
        request: dict[str, Any],
        limits: CallLimits,
    ) -> dict[str, Any]:
        try:
            client = self._clients.client(service, region, attempt=limits.attempt)
            call = getattr(client, xform_name(operation))
            # Revealed for the call alone: a crash reporter reads the variables of our frames.
            with unlogged():
                answer: dict[str, Any] = call(
                    **{name: _revealed(given) for name, given in request.items()}
                )
        except FAILURES as error:
            failed = failure(error, _PERMISSIONS.get(operation, f"{service}:{operation}"), kms_key)
            noted(_request_of(getattr(error, "response", None)))
        except _UNREADABLE:
            failed = TryAgain("answers what AWS would not")
            noted()
        else:
            noted(_request_of(answer))
            if _MEMBERS.get(operation, set()) <= set(answer):
                return answer
            failed = TryAgain("answers what AWS would not")
        # Outside the handler: the text of AWS is in no `__context__` either.
        raise failed


def _request_of(answer: Any) -> object:
    # The id that CloudTrail has too. Of an error that botocore found no answer for there is none.
    found = answer.get("ResponseMetadata") if isinstance(answer, dict) else None
    return found.get("RequestId") if isinstance(found, dict) else None


def _revealed(given: Any) -> Any:
    return given.reveal() if isinstance(given, KeyMaterial) else given
