# SPDX-License-Identifier: Apache-2.0
"""`[bulk]` of `lacre.toml`: the bounds of a reading in bulk. Does not read (`lacre.bulk`)."""

from pydantic import Field

from lacre.policy.values import Table

__all__ = ["BulkSettings"]


class BulkSettings(Table):
    """`[bulk]`: *rows* is the largest budget one reading may ask for; *batch* how many rows are in memory at once."""

    rows: int = Field(default=1_000_000, ge=0)
    batch: int = Field(default=10_000, ge=1, le=1_000_000)
