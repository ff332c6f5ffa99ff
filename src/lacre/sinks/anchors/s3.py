# SPDX-License-Identifier: Apache-2.0
"""
An anchor in S3: one object for each checkpoint, under Object Lock in compliance mode.

Nobody deletes or changes a locked version before its day, the account's root user included; what
they can do is to put another version, or a mark of deletion, over it, so every version is read,
not the newest. Give the credential ``s3:PutObject``, ``s3:PutObjectRetention``,
``s3:GetObjectVersion``, ``s3:ListBucketVersions`` and ``s3:GetBucketObjectLockConfiguration``, in
another account than the log's. Needs boto3 (``pip install 'lacre[aws]'``).
"""

import datetime as dt
from collections.abc import Callable
from typing import Any, final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lacre.audit.notes import Checkpoint
from lacre.errors import ConfigurationError, EvidenceUnavailable

__all__ = ["S3Anchor"]

_LONGEST = 16 * 1024


@final
class S3Anchor:
    """
    Keeps checkpoints in *bucket*, under *prefix*, locked until *keep_until* of the moment they are put.

    Args:
        keep_until: the day a lock ends, of the moment it begins.
    """

    def __init__(
        self,
        name: str,
        *,
        bucket: str,
        prefix: str,
        region: str,
        keep_until: Callable[[dt.datetime], dt.datetime],
        endpoint_url: str | None = None,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self.name = name
        self._bucket = bucket
        self._prefix = prefix
        self._region = region
        self._endpoint = endpoint_url
        self._keep_until = keep_until
        self._clock = clock
        self._made: Any = None
        self._locks = False

    def put(self, checkpoint: Checkpoint, note: str) -> None:
        """
        See `Anchor.put`.

        Raises:
            ConfigurationError: the bucket has no Object Lock: what is put there could be deleted.
        """
        try:
            self._check_lock()
            self._client().put_object(
                Bucket=self._bucket,
                Key=f"{self._prefix}{checkpoint.origin}/{checkpoint.size:018}",
                Body=note.encode(),
                ContentType="text/plain; charset=utf-8",
                ChecksumAlgorithm="SHA256",
                ObjectLockMode="COMPLIANCE",
                ObjectLockRetainUntilDate=self._keep_until(self._clock()),
            )
        except (BotoCoreError, ClientError) as error:
            raise self._unavailable(error) from None

    def read(self) -> list[str]:
        """See `Anchor.read`. Versions that are hidden by others, or by marks of deletion, are read too."""
        try:
            client, found = self._client(), []
            pages = client.get_paginator("list_object_versions")
            for page in pages.paginate(Bucket=self._bucket, Prefix=f"{self._prefix}lacre-audit/"):
                for each in page.get("Versions", ()):
                    answer = client.get_object(
                        Bucket=self._bucket, Key=each["Key"], VersionId=each["VersionId"]
                    )
                    with answer["Body"] as body:
                        found.append(body.read(_LONGEST).decode("utf-8", "replace"))
        except (BotoCoreError, ClientError) as error:
            raise self._unavailable(error) from None
        return found

    def __repr__(self) -> str:
        return f"<S3Anchor {self.name}>"

    def _check_lock(self) -> None:
        if self._locks:
            return
        try:
            answer = self._client().get_object_lock_configuration(Bucket=self._bucket)
            enabled = answer["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled"
        except ClientError as error:
            if (
                error.response.get("Error", {}).get("Code")
                != "ObjectLockConfigurationNotFoundError"
            ):
                raise
            enabled = False
        if not enabled:
            raise ConfigurationError(
                f"the bucket of the anchor {self.name} has no Object Lock: what is put there could be deleted",
                hint="make a bucket with --object-lock-enabled-for-bucket",
            )
        self._locks = True

    def _client(self) -> Any:
        if self._made is None:
            config = Config(
                connect_timeout=5,
                read_timeout=10,
                retries={"mode": "standard", "total_max_attempts": 3},
            )
            self._made = boto3.Session(region_name=self._region).client(
                "s3", endpoint_url=self._endpoint, config=config
            )
        return self._made

    def _unavailable(self, error: BotoCoreError | ClientError) -> EvidenceUnavailable:
        # AWS' own word for it; its sentence may quote identities.
        code = (
            error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None
        )
        return EvidenceUnavailable(
            f"the anchor {self.name} cannot be reached ({code or type(error).__name__})",
            hint=f"s3://{self._bucket}/{self._prefix} in {self._region}: does it answer, and may this credential use it?",
        )
