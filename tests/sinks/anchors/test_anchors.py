# SPDX-License-Identifier: Apache-2.0
"""Anchors keep what they are given, and S3 keeps it against whoever has its credential."""

import datetime as dt
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from lacre.audit.anchors import Anchor
from lacre.audit.notes import Checkpoint
from lacre.errors import ConfigurationError, EvidenceUnavailable
from lacre.policy.terms import Term
from lacre.sinks.anchors.database import DatabaseAnchor
from lacre.sinks.anchors.file import FileAnchor
from lacre.sinks.anchors.s3 import S3Anchor
from tests.components.aws import AWS, REGION

pytestmark = pytest.mark.any_sqlalchemy

ONE = Checkpoint(origin="lacre-audit/shop/test/2026-11", size=7, root=bytes(32))
TWO = Checkpoint(origin="lacre-audit/shop/test/2026-12", size=9, root=bytes(range(32)))


@pytest.fixture
def bucket(moto: AWS, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Any]:
    """A bucket with Object Lock, and a client of its administrator, whose credentials are the chain's."""
    for name, value in moto.environ().items():
        monkeypatch.setenv(name, value)
    client = moto.client("s3")
    name = f"anchors-{uuid4().hex[:8]}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name, client


def s3(moto: AWS, name: str) -> S3Anchor:
    return S3Anchor("outside", bucket=name, prefix="shop/", region=REGION, endpoint_url=moto.endpoint, keep_until=Term(years=7).after)  # fmt: skip


def check_keeps(anchor: Anchor) -> None:
    anchor.put(ONE, ONE.text())
    anchor.put(TWO, TWO.text())
    anchor.put(ONE, ONE.text())

    assert set(anchor.read()) == {ONE.text(), TWO.text()}


def test_a_file_keeps_checkpoints(tmp_path: Path) -> None:
    """A file that is not there yet holds nothing; then it holds all that was put, and a torn line as what it is."""
    anchor = FileAnchor("file", tmp_path / "anchors.jsonl")

    assert anchor.read() == []
    check_keeps(anchor)
    with (tmp_path / "anchors.jsonl").open("ab") as file:
        file.write(b'{"torn')
    assert anchor.read()[-1] == ""


def test_another_database_keeps_checkpoints(tmp_path: Path) -> None:
    """A database makes its table, keeps one row for each tree, and another tree of the same size beside it."""
    anchor = DatabaseAnchor("second", f"sqlite:///{tmp_path}/second.db")

    assert anchor.read() == []
    check_keeps(anchor)
    anchor.put(Checkpoint(origin=ONE.origin, size=7, root=bytes(range(32))), "another")
    assert len(anchor.read()) == 3
    anchor.close()


def test_what_cannot_be_reached_is_said_without_its_address(tmp_path: Path) -> None:
    """An anchor that is away is EvidenceUnavailable, and no URL with a password is in what is said."""
    database = DatabaseAnchor("second", f"sqlite:///{tmp_path}/no/SECRET/second.db")
    file = FileAnchor("file", tmp_path / "no" / "anchors.jsonl")

    with pytest.raises(EvidenceUnavailable) as told:
        database.put(ONE, ONE.text())
    assert "SECRET" not in f"{told.value} {told.value.hint}"
    with pytest.raises(EvidenceUnavailable):
        file.put(ONE, ONE.text())
    with pytest.raises(ConfigurationError):
        DatabaseAnchor("second", "nonsense")
    database.close()


def test_s3_refuses_to_delete_what_is_anchored(moto: AWS, bucket: tuple[str, Any]) -> None:
    """
    A version under Object Lock in compliance mode is not deleted, nor its lock shortened; hidden by a
    mark of deletion or another version it is still read.
    """
    name, client = bucket
    anchor = s3(moto, name)
    anchor.put(ONE, ONE.text())
    (version,) = client.list_object_versions(Bucket=name)["Versions"]
    place = {"Bucket": name, "Key": version["Key"], "VersionId": version["VersionId"]}
    lock = client.head_object(**place)

    assert lock["ObjectLockMode"] == "COMPLIANCE"
    assert lock["ObjectLockRetainUntilDate"] > dt.datetime.now(dt.UTC) + dt.timedelta(days=2555)
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(**place)
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(**place, BypassGovernanceRetention=True)
    client.put_object(Bucket=name, Key=version["Key"], Body=b"forged")
    client.delete_object(Bucket=name, Key=version["Key"])
    assert set(anchor.read()) == {ONE.text(), "forged"}


def test_a_bucket_without_object_lock_is_no_anchor(moto: AWS, bucket: tuple[str, Any]) -> None:
    """What could be deleted again is refused before anything is put there."""
    bucket[1].create_bucket(Bucket="plain-one")

    with pytest.raises(ConfigurationError, match="no Object Lock"):
        s3(moto, "plain-one").put(ONE, ONE.text())
    with pytest.raises(EvidenceUnavailable):
        s3(moto, "nowhere").read()
