# SPDX-License-Identifier: Apache-2.0
"""`[classes.NAME.budget]` of `lacre.toml`: how many looks a principal has. Does not count them (`lacre.fields.budgets`)."""

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field

from lacre.policy.values import Name, Span, Table

__all__ = ["BudgetSettings"]

Looks = Annotated[int, Field(ge=1, le=1_000_000_000)]


class BudgetSettings(Table):
    """
    `[classes.NAME.budget]`: each principal has *looks* in *per*, and then gets masks, or is denied, until it is over.

    *roles* and *principals* have others; a principal's own counts, then the largest of its roles'.
    With *bulk* false, rows of a reading in bulk, which has a budget of its own, are not counted.
    """

    looks: Looks
    per: Span = dt.timedelta(hours=1)
    then: Literal["mask", "deny"] = "mask"
    bulk: bool = True
    roles: dict[Name, Looks] = Field(default_factory=dict)
    principals: dict[str, Looks] = Field(default_factory=dict)

    def of(self, principal: str, roles: frozenset[str]) -> int:
        """Return how many looks a principal has that acts in *roles*."""
        own = self.principals.get(principal)
        if own is not None:
            return own
        return max((self.roles[role] for role in roles if role in self.roles), default=self.looks)
