# SPDX-License-Identifier: Apache-2.0
"""
Whether a flush may move rows from one tenant to another: only where somebody says that it is meant.

A tenant column that changes by accident (a form, a relationship that is assigned) would hand a
person's data to another tenant, correctly encrypted. Moves nothing itself
(`lacre.sqlalchemy.writing`; of many rows `lacre.sqlalchemy.tenants`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy.orm import Mapper

from lacre.errors import MisuseError

__all__ = ["check_crossing", "is_moving", "moving_tenants"]

_allowed: ContextVar[bool] = ContextVar("lacre_moving_tenants", default=False)


@contextmanager
def moving_tenants() -> Iterator[None]:
    """Let flushes in the block move rows to another tenant, by an assignment to its attribute."""
    token = _allowed.set(True)
    try:
        yield
    finally:
        _allowed.reset(token)


def is_moving() -> bool:
    """Whether the running code is in such a block."""
    return _allowed.get()


def check_crossing(mapper: Mapper[Any]) -> None:
    """
    Raise unless a row of *mapper* may be moved to another tenant now.

    Raises:
        MisuseError
    """
    if not _allowed.get():
        raise MisuseError(
            f"a {mapper.class_.__name__} was given another tenant, whose keys would then protect it; nothing was written",
            hint="where it is meant: with lacre.sqlalchemy.moving_tenants(): session.flush(); of many rows, with what belongs to them: `lacre tenants move`",
        )
