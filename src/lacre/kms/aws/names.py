# SPDX-License-Identifier: Apache-2.0
"""
Keys of AWS KMS by name: from the URI to the ARN, and which regions may be called.

Implements ``spec/key-services.md``, section 4.1. Resolves no alias and calls nothing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from lacre.errors import ConfigurationError
from lacre.keys.kms_keys import REGION, check_kms_key, is_alias, scheme_of
from lacre.policy.model import AwsSettings

__all__ = ["AwsKey", "aws_region_of", "check_regions", "region_of"]

_ARN = re.compile(rf"arn:[a-z-]+:kms:({REGION}):([0-9]{{12}}):key/([0-9a-z-]+)")
# Every partition's own domains (botocore's endpoints.json, and the dual-stack ones).
_AWS_HOST = re.compile(
    r".*\.(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu|api\.aws(?:\.ic\.gov|\.scloud)?|api\.amazonwebservices\.(?:com\.cn|eu)"
    r"|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov|(?:aws\.)?hci\.ic\.gov)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKey:
    """One key for ever: an alias is none."""

    region: str
    account: str
    id: str

    @staticmethod
    def of(kms_key: str) -> "AwsKey":
        """Return the key that a pinned URI names, or raise `ConfigurationError`."""
        if is_alias(kms_key):
            # Whoever may move an alias would choose the key.
            raise ConfigurationError(
                f"{kms_key} is an alias, and keys are wrapped under none",
                hint="run `lacre keys pin`, and review lacre.lock",
            )
        _check(kms_key)
        region, account, _, id_ = kms_key.removeprefix("aws-kms://").split("/")
        return AwsKey(region=region, account=account, id=id_)

    @staticmethod
    def of_arn(arn: str) -> "AwsKey | None":
        """Return the key that an ARN names; None where it is not a key's."""
        found = _ARN.fullmatch(arn)
        return AwsKey(region=found[1], account=found[2], id=found[3]) if found else None

    @property
    def multi_region(self) -> bool:
        return self.id.startswith("mrk-")

    def arn(self, partition: str) -> str:
        return f"arn:{partition}:kms:{self.region}:{self.account}:key/{self.id}"

    def replica(self, region: str) -> "AwsKey":
        """Return the same multi-Region key as another region holds it."""
        return replace(self, region=region)

    def __str__(self) -> str:
        return f"aws-kms://{self.region}/{self.account}/key/{self.id}"


def region_of(kms_key: str) -> str:
    """Return the region a URI names, an alias' too, or raise `ConfigurationError`."""
    _check(kms_key)
    return kms_key.removeprefix("aws-kms://").partition("/")[0]


def aws_region_of(endpoint_url: str) -> str | None:
    """Return the region of an AWS host name, "" where it names none; None for any other host."""
    host = (urlsplit(endpoint_url).hostname or "").rstrip(".")
    if not _AWS_HOST.fullmatch(host):
        return None
    return next((label for label in host.split(".") if re.fullmatch(REGION, label)), "")


def check_regions(settings: AwsSettings, kms_keys: Iterable[str] = ()) -> None:
    """
    Refuse settings that lead out of the regions they allow.

    Args:
        kms_keys: every ``aws-kms://`` URI of the policy, aliases too.

    Raises:
        ConfigurationError: a key or the endpoint is elsewhere, or FIPS is asked of a custom endpoint.
    """
    regions = {region_of(kms_key) for kms_key in kms_keys}
    if outside := sorted(regions - set(settings.regions)):
        raise ConfigurationError(
            f"a KMS key is in {', '.join(outside)}, which [aws] regions does not allow",
            hint="allow the region, or name a key in an allowed one",
        )
    if settings.endpoint_url is None:
        return
    if settings.fips:
        # AWS' FIPS endpoints are known by their names; of another host nobody can tell.
        raise ConfigurationError(
            "[aws] has both fips and endpoint_url",
            hint="leave endpoint_url out: fips chooses the region's FIPS endpoint",
        )
    there = aws_region_of(settings.endpoint_url)
    if there is not None and there not in settings.regions:
        raise ConfigurationError(
            f"[aws] endpoint_url is in {there or 'no region'}, which [aws] regions does not allow",
            hint="allow the region, or leave endpoint_url out",
        )
    if there is not None and (elsewhere := sorted(regions - {there})):
        raise ConfigurationError(
            f"[aws] endpoint_url is in {there}, and a KMS key in {', '.join(elsewhere)}",
            hint="leave endpoint_url out: every region has its own endpoint",
        )


def _check(kms_key: str) -> None:
    try:
        right = scheme_of(check_kms_key(kms_key)) == "aws-kms"
    except ValueError:
        right = False
    if not right:
        raise ConfigurationError(
            "AWS KMS holds the keys named aws-kms://REGION/ACCOUNT/key/ID", hint="look at its URI"
        )
