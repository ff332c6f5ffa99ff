# SPDX-License-Identifier: Apache-2.0
"""What botocore logs of lacre's calls, and of those of others."""

import logging

import pytest

from lacre.kms.aws.unlogged import unlogged
from tests.components.aws import AWS


def test_other_clients_are_logged_as_before(moto: AWS, caplog: pytest.LogCaptureFixture) -> None:
    """The application's own calls of KMS are in botocore's log, before and after one of lacre's."""
    arn = moto.key()
    client = moto.client("kms")
    caplog.set_level(logging.DEBUG)

    def loggers() -> set[str]:
        caplog.clear()
        client.encrypt(KeyId=arn, Plaintext=b"theirs")
        return {record.name for record in caplog.records}

    before = loggers()
    with unlogged():
        during = loggers()

    # The names that `lacre.kms.aws.unlogged` leans on: those that tell what is sent.
    telling = {"botocore.auth", "botocore.endpoint", "botocore.parsers"}
    assert telling <= before
    assert not telling & during
    assert loggers() == before
