# SPDX-License-Identifier: Apache-2.0
"""
What AWS KMS and botocore say went wrong, in the tree of `lacre.errors`.

Implements ``spec/key-services.md``, section 4.4. Decides by error code, HTTP status and class, never
by text, and hands no text on: texts of a provider quote principals, keys and requests.
"""

import datetime as dt
from email.utils import parsedate_to_datetime
from typing import Any

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from lacre.errors import (
    ConfigurationError,
    KeyDisabled,
    KeyNotFound,
    KeyServiceDenied,
    Tampered,
)
from lacre.kms.calling import TryAgain

__all__ = ["FAILURES", "failure"]

# Whatever a call of botocore raises that is not ours.
FAILURES = (boto.BotoCoreError, boto.ClientError, ResponseParserError)

_TAMPERED = {"InvalidCiphertextException", "IncorrectKeyException"}
_DENIED = {"AccessDeniedException", "AccessDenied", "UnauthorizedOperation", "UnauthorizedAccess"}
_CREDENTIALS = {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "InvalidToken",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
}
_CLOCK = {"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"}
_SIGNATURE = {"InvalidSignatureException", "SignatureDoesNotMatch"}
_STATES = {
    "DisabledException": "disabled",
    "KMSInvalidStateException": "in no state to be used",
}
_THROTTLES = {
    "LimitExceededException",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_FAILS = {
    "ConflictException",
    "DependencyTimeoutException",
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "KMSInternalException",
    "KeyUnavailableException",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
}
_TLS = (boto.SSLError,)
_CONNECTION = (
    boto.ConnectionError,
    boto.ConnectionClosedError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
)
_LATE = (boto.ConnectTimeoutError, boto.ReadTimeoutError)
_PROVIDER = (boto.CredentialRetrievalError, boto.MetadataRetrievalError)
_LOGIN = (boto.SSOError, boto.TokenRetrievalError)
_CLOCK_HINT = "set this machine's clock: AWS takes a signature for five minutes"
# Well inside the five minutes for which AWS takes a signature.
_SKEW = dt.timedelta(minutes=4)


def failure(error: Exception, permission: str, kms_key: str) -> Exception:
    """
    Return what to raise for *error*: of the tree, or `TryAgain`.

    Args:
        permission: what the call needs, for messages: ``kms:Decrypt``.
    """
    if isinstance(error, boto.ClientError):
        return _refusal(error.response, permission, kms_key)
    if isinstance(error, ResponseParserError):
        return TryAgain("answers what AWS would not")
    if isinstance(error, _LATE):
        return TryAgain("does not answer in time")
    if isinstance(error, _TLS):
        return TryAgain("cannot be trusted: the TLS handshake failed")
    if isinstance(error, _CONNECTION):
        return TryAgain("cannot be connected to")
    if isinstance(error, _PROVIDER):
        return TryAgain("cannot be asked: no credentials came from their provider")
    if isinstance(error, _LOGIN):
        return KeyServiceDenied(
            "the log-in to AWS is over", hint="log in again, for example with `aws sso login`"
        )
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return ConfigurationError(
            "there are no AWS credentials",
            hint="give the process a role, or log in with `aws sso login`",
        )
    return ConfigurationError(
        f"boto3 cannot work with its configuration ({type(error).__name__})",
        hint="look at [aws], at AWS_ in the environment and at ~/.aws/config",
    )


def _refusal(response: dict[str, Any], permission: str, kms_key: str) -> Exception:
    code = str(response.get("Error", {}).get("Code", ""))
    metadata = response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    if code in _TAMPERED:
        return Tampered()
    if code in _DENIED:
        return KeyServiceDenied(
            f"AWS KMS denies {permission} on {kms_key}",
            hint="the key's policy or the credential's gives that right; docs/how-to/aws-kms.md has both",
        )
    if code in _STATES:
        return KeyDisabled(
            f"{kms_key} is {_STATES[code]}", hint="`lacre keys status` says what it waits for"
        )
    if code == "NotFoundException":
        return KeyNotFound(
            f"AWS KMS has no {kms_key}", hint="look at the region, account and id of the URI"
        )
    if code in _CLOCK or (code in _SIGNATURE and _is_skewed(metadata)):
        return KeyServiceDenied("AWS refuses the time of the request", hint=_CLOCK_HINT)
    if code in _CREDENTIALS:
        return KeyServiceDenied(
            "AWS refuses the credentials", hint=_CREDENTIAL_HINTS.get(code, _UNKNOWN_HINT)
        )
    if code == "LimitExceededException" and permission == "kms:RotateKeyOnDemand":
        # A quota for the life of the key, no rate.
        return ConfigurationError(
            f"{kms_key} was rotated on demand as often as AWS KMS lets it",
            hint="let it rotate by itself: aws kms enable-key-rotation",
        )
    if code in _THROTTLES or status == 429:
        return TryAgain("throttles")
    if code in _FAILS or status >= 500:
        return TryAgain("fails")
    if not code or code.isdigit():
        # botocore puts the status for a code that is missing: a gateway's refusal, none of KMS.
        return TryAgain("answers what AWS would not")
    return ConfigurationError(
        f"AWS KMS does not take the request {permission} for {kms_key}",
        hint="it must be a symmetric key for encryption (`lacre keys status`); CloudTrail has the request",
    )


_EXPIRED_HINT = "the session token is past its end: log in again, or look at what should refresh it"
_UNKNOWN_HINT = "the access key is unknown here or deleted, or of another partition"
_CREDENTIAL_HINTS = {
    "ExpiredToken": _EXPIRED_HINT,
    "ExpiredTokenException": _EXPIRED_HINT,
    "TokenRefreshRequired": _EXPIRED_HINT,
    **dict.fromkeys(_SIGNATURE, "the secret of the access key is another one"),
}


def _is_skewed(metadata: dict[str, Any]) -> bool:
    # KMS has one code for a wrong secret and a wrong clock. What tells them apart without reading
    # text is the answer's own Date; it decides about a hint only.
    try:
        there = parsedate_to_datetime(metadata.get("HTTPHeaders", {}).get("date", ""))
        return abs(dt.datetime.now(dt.UTC) - there) > _SKEW
    except (TypeError, ValueError):
        return False
