# SPDX-License-Identifier: Apache-2.0
"""`[search]` of `lacre.toml`: the bounds of a search. Does not search (`lacre.sqlalchemy`)."""

from pydantic import Field

from lacre.policy.values import Table

__all__ = ["SearchSettings"]


class SearchSettings(Table):
    """`[search]`: *candidates* is how many rows are opened for one statement at most, to re-check them."""

    candidates: int = Field(default=10_000, ge=1, le=30_000)
