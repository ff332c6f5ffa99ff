# SPDX-License-Identifier: Apache-2.0
"""
What `lacre.toml` says of columns: which are to be encrypted until when, and which findings of the
planner somebody accepted, with the reason.

A column's present state is not said here but by a signed row (``spec/column-state.md``).
"""

import datetime as dt
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lacre.policy.values import Name, Table

__all__ = ["ColumnName", "ColumnTarget", "WaiverSettings"]


def _a_column(text: str) -> str:
    table, dot, column = text.rpartition(".")
    if not dot or not table or not column or not text.isprintable():
        raise ValueError('a column is named "TABLE.COLUMN", as in [columns."customers.cpf"]')
    return text


def _a_subject(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError('"TABLE", "TABLE.COLUMN" or "TABLE.COLUMN:INDEX"')
    return text


def _a_reason(text: str) -> str:
    if len(text.strip()) < 10:
        raise ValueError("say why, for whoever reads the report: ten characters or more")
    return text.strip()


ColumnName = Annotated[str, AfterValidator(_a_column)]


class ColumnTarget(Table):
    """
    `[columns."TABLE.COLUMN"]`: what a column is to become, and the last day on which it may be
    something else, in UTC. After it plaintext is refused.
    """

    class_: Name = Field(alias="class")
    store: Name = "main"
    target: Literal["encrypted"] = "encrypted"
    deadline: dt.date | None = None


class WaiverSettings(Table):
    """
    `[[waivers]]`: a finding of `lacre index plan --check`, or of the report (`plaintext`), that is accepted, and why.

    *of* is TABLE, TABLE.COLUMN or, of the plan, TABLE.COLUMN:INDEX; after the day *until* it counts again.
    """

    of: Annotated[str, AfterValidator(_a_subject)]
    finding: Name
    reason: Annotated[str, AfterValidator(_a_reason)]
    until: dt.date | None = None
