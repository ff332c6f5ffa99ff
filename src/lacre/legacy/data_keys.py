# SPDX-License-Identifier: Apache-2.0
"""
Who opens the data keys that stand beside legacy values: a function that the caller gives.

`of_client` makes one of a boto3 client that the caller made, `of_settings` of `[aws]` in lacre.toml. There is no ambient default: a
reader that found credentials by itself would read with whoever's rights happen to be there. The KMS key is named by the
configuration, never by the value.
"""

from collections.abc import Callable, Mapping
from typing import Any

from lacre.errors import ConfigurationError, KeyServiceUnreachable, Tampered
from lacre.policy.model import AwsSettings, CallSettings

__all__ = ["Unwrap", "of_client", "of_settings", "unwrapped"]

# The wrapped key, and the encryption context it was wrapped in; returns the data key.
Unwrap = Callable[[bytes, Mapping[str, str]], bytes]

_LONGEST = 6144  # of AWS KMS' CiphertextBlob


def unwrapped(unwrap: Unwrap, wrapped: bytes, context: Mapping[str, str]) -> bytes:
    """Return a data key of 32 bytes, or raise `Tampered`, or what *unwrap* raises."""
    if not 1 <= len(wrapped) <= _LONGEST:
        raise Tampered
    key = unwrap(wrapped, context)
    if len(key) != 32:
        raise Tampered
    return key


def of_client(client: Any, *, key_id: str) -> Unwrap:
    """
    Return what opens data keys with *client*, boto3's for KMS, under *key_id* and no other key.

    Retries and time-outs are the client's own.
    """
    from lacre.kms.aws.failures import FAILURES, failure
    from lacre.kms.aws.unlogged import unlogged
    from lacre.kms.calling import TryAgain

    def unwrap(wrapped: bytes, context: Mapping[str, str]) -> bytes:
        try:
            with unlogged():
                answer = client.decrypt(**_request(wrapped, context, key_id))
        except FAILURES as error:
            failed = failure(error, "kms:Decrypt", key_id)
        else:
            return bytes(answer["Plaintext"])
        if isinstance(failed, TryAgain):
            raise KeyServiceUnreachable(f"AWS KMS {failed.reason}")
        raise failed

    return unwrap


def of_settings(settings: AwsSettings, calls: CallSettings, *, kms_key: str) -> Unwrap:
    """
    Return what opens data keys with `[aws]` and `[calls]` of lacre.toml.

    Args:
        kms_key: ``aws-kms://REGION/ACCOUNT/key/ID``, no alias.

    Raises:
        ConfigurationError: the SDK is not installed, the region is not allowed, or it is no such key.
    """
    try:
        from lacre.kms.aws.asking import Asking
        from lacre.kms.aws.clients import AwsClients
        from lacre.kms.aws.names import AwsKey, check_regions
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed", hint="pip install 'lacre[aws]'"
        ) from None
    from lacre.kms.calling import CallLimits

    key = AwsKey.of(kms_key)
    check_regions(settings, [kms_key])
    limits = CallLimits(deadline=calls.deadline, attempt=calls.attempt)
    ask = Asking(AwsClients(settings, attempt=calls.attempt), limits)

    def unwrap(wrapped: bytes, context: Mapping[str, str]) -> bytes:
        request = _request(wrapped, context, key.arn(ask.partition(key.region)))
        return bytes(ask(key.region, "Decrypt", kms_key, request)["Plaintext"])

    return unwrap


def _request(wrapped: bytes, context: Mapping[str, str], key_id: str) -> dict[str, Any]:
    request: dict[str, Any] = {"CiphertextBlob": wrapped, "KeyId": key_id}
    if context:
        request["EncryptionContext"] = dict(context)
    return request
