# SPDX-License-Identifier: Apache-2.0
"""Epoch KMS keys in AWS: one key for each epoch, found again by its alias, deleted after a waiting time."""

import datetime as dt
from uuid import uuid4

import pytest

from lacre.errors import KeyDisabled, KeyUnavailable
from lacre.keys.hierarchy import KeyKind
from lacre.kms.aws.epochs import AwsEpochKeys
from lacre.kms.aws.service import AwsKeyService
from tests.components.aws import AWS, REGION
from tests.kms.aws.conftest import Serve
from tests.kms.aws.rows import context_of

CONTEXT = context_of(tenant="-", class_="-", kind=KeyKind.SEAL)


def epoch_keys(service: AwsKeyService, *, waiting: int = 7) -> AwsEpochKeys:
    """Return epoch keys under an alias of the test's own."""
    alias = f"aws-kms://{REGION}/alias/epochs-{uuid4().hex[:12]}"
    return AwsEpochKeys(alias, service=service, waiting=waiting, tags={"lacre-app": "shop"})


def test_each_epoch_has_a_key_of_its_own(aws: AWS, serve: Serve) -> None:
    """Asked for again an epoch's key is the same; another epoch has another; both are tagged."""
    service = serve(aws)
    keys = epoch_keys(service)

    first, second = keys.open(1, above=None), keys.open(2, above=None)
    assert first != second
    assert keys.open(1, above=None) == first

    key = service.describe(first)["KeyId"]
    tags = aws.client().list_resource_tags(KeyId=key)["Tags"]
    assert {each["TagKey"]: each["TagValue"] for each in tags} == {
        "lacre-app": "shop",
        "lacre-epoch": "1",
    }


def test_an_ended_epoch_waits_for_its_deletion(aws: AWS, serve: Serve) -> None:
    """Destroying schedules the deletion, says the day it is carried out, and says the same when asked again."""
    keys = epoch_keys(serve(aws), waiting=11)
    first, second = keys.open(1, above=None), keys.open(2, above=None)
    assert not keys.is_destroyed(first, None)

    final = keys.destroy(first, None, kept=None)

    assert keys.is_destroyed(first, None)
    assert not keys.is_destroyed(second, None)
    assert keys.destroy(first, None, kept=None) == final
    days = (dt.datetime.fromisoformat(final) - dt.datetime.now(dt.UTC)).days
    assert days in (10, 11)


def test_nothing_opens_under_a_key_that_waits(ministack: AWS, serve: Serve) -> None:
    """A seal key of an ended epoch is refused, although its ciphertext is whole. (moto would open it.)"""
    service = serve(ministack)
    keys = epoch_keys(service)
    kms_key = keys.open(1, above=None)
    wrapped = service.mint(kms_key, CONTEXT)
    service.unwrap(kms_key, wrapped, CONTEXT)

    keys.destroy(kms_key, None, kept=None)

    with pytest.raises(KeyUnavailable) as raised:
        service.unwrap(kms_key, wrapped, CONTEXT)
    assert isinstance(raised.value, KeyDisabled)
