# SPDX-License-Identifier: Apache-2.0
"""
Grants in the key store: requests, and the acts about them. Rows are added, never changed or removed.

A part of `lacre.stores.sql.SQLKeyStore`, which opens the transactions. Authenticates nothing: what a
row is worth, `lacre.policy.grants.judging` says.
"""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from lacre.errors import MisuseError
from lacre.policy.grants.request import Act, GrantAct, GrantRecord, GrantRequest
from lacre.stores.schema import GRANT, GRANT_ACT

__all__ = ["GrantTable"]

_ACTS = frozenset(Act)


class GrantTable:
    """The part of a key store that keeps grants."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[sa.Connection]: ...

    @abstractmethod
    def _writing(self) -> AbstractContextManager[sa.Connection]: ...

    def grant_records(self, *, after: str = "", beginning: str = "") -> Sequence[GrantRecord]:
        """
        Return grants with the acts about them, the oldest first.

        Args:
            after: an RFC 3339 moment; only those that end after it.
            beginning: only those whose id begins so.
        """
        query = sa.select(GRANT).order_by(GRANT.c.requested, GRANT.c.id)
        if after:
            query = query.where(GRANT.c.until > after)
        if beginning:
            query = query.where(GRANT.c.id.startswith(beginning, autoescape=True))
        about = query.with_only_columns(GRANT.c.id).order_by(None)
        done = sa.select(GRANT_ACT).where(GRANT_ACT.c.grant.in_(about))
        acts: dict[str, list[GrantAct]] = defaultdict(list)
        with self._reading() as connection:
            requests = connection.execute(query).mappings().all()
            for row in connection.execute(done.order_by(GRANT_ACT.c.number)).mappings():
                acts[row["grant"]].append(_act(row))
        return [GrantRecord(request=_request(row), acts=tuple(acts[row["id"]])) for row in requests]

    def add_grant(self, request: GrantRequest, acts: Sequence[GrantAct] = ()) -> None:
        """
        Keep a request.

        Raises:
            MisuseError: there is one with its id.
        """
        values = asdict(request)
        values["class"] = values.pop("class_")
        try:
            with self._writing() as connection:
                connection.execute(GRANT.insert(), values)
                _add(connection, acts)
        except IntegrityError:
            raise MisuseError("there is a grant with this id") from None

    def add_grant_acts(self, acts: Sequence[GrantAct]) -> None:
        """
        Keep acts about one grant, all or none.

        Raises:
            MisuseError: somebody else did something about it at the same moment. Nothing was done.
        """
        try:
            with self._writing() as connection:
                _add(connection, acts)
        except IntegrityError:
            raise MisuseError(
                "somebody else did something about this grant at the same moment; nothing was done",
                hint="look at `lacre grant show`, then try again",
            ) from None


def _add(connection: sa.Connection, acts: Sequence[GrantAct]) -> None:
    if acts:
        connection.execute(GRANT_ACT.insert(), [asdict(each) | {"act": str(each.act)} for each in acts])  # fmt: skip


def _request(row: Any) -> GrantRequest:
    values = dict(row)
    return GrantRequest(
        class_=values.pop("class"),
        signature=bytes(values.pop("signature")),
        break_glass=bool(values.pop("break_glass")),
        **values,
    )


def _act(row: Any) -> GrantAct:
    values = dict(row)
    name, signature = values.pop("act"), bytes(values.pop("signature"))
    act = Act(name) if name in _ACTS else Act.OTHER
    return GrantAct(act=act, signature=signature, **values)
