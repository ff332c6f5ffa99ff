# SPDX-License-Identifier: Apache-2.0
"""
`[audit.anchors.NAME]` of `lacre.toml`: where checkpoints are kept outside the log's database.

Opens none of them (`lacre.sinks.anchors`).
"""

from typing import Annotated, Literal

from pydantic import Field

from lacre.policy.terms import TermText
from lacre.policy.values import Address, Region, Table

__all__ = ["AnchorSettings", "DatabaseAnchorSettings", "FileAnchorSettings", "S3AnchorSettings"]


class FileAnchorSettings(Table):
    """``kind = "file"``: a file that grows, best where the log's machine cannot change it."""

    kind: Literal["file"]
    path: str


class DatabaseAnchorSettings(Table):
    """``kind = "database"``: a table of another database, with other administrators."""

    kind: Literal["database"]
    url: str


class S3AnchorSettings(Table):
    """
    ``kind = "s3"``: objects of a bucket with Object Lock, locked in compliance mode for *keep*.

    *keep* is as long as the log is kept, where it is not said.
    """

    kind: Literal["s3"]
    bucket: str = Field(min_length=3, max_length=63)
    region: Region
    prefix: str = Field(default="", max_length=255)
    endpoint_url: Address | None = None
    keep: TermText | None = None


AnchorSettings = Annotated[
    FileAnchorSettings | DatabaseAnchorSettings | S3AnchorSettings, Field(discriminator="kind")
]
