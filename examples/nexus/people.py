# SPDX-License-Identifier: Apache-2.0
"""
What staff does with people's data: lists and searches show masks, one record what the reader may see.

Whoever calls names the purpose; support finds by CPF and sees masks, an administrator reads and writes.
"""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, HTTPException, Query
from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from lacre.errors import KeyDestroyed
from lacre.fastapi import problems
from nexus.changing import change
from nexus.models import User
from nexus.schemas import Change, Found, Page, Search, UserOpen, UserShown
from nexus.service import Service

__all__ = ["routes"]


def routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["people"], responses=problems(400, 401, 403, 422, 503))
    purposes = ("support call", "administration", "fraud")
    staff = service.acting(purpose=purposes, roles={"support", "admin"})
    admin = service.acting(purpose=purposes, roles={"admin"})

    @router.get("/users", dependencies=[staff])
    async def list_users(
        after: UUID | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 50
    ) -> Page:
        """A page of all people, in the order of their ids. `after` is the last page's."""
        async with service.sessions() as session:
            return await _page(session, select(User), after, limit)

    @router.post("/users/search", dependencies=[staff])
    async def search_users(body: Search) -> Found:
        """
        Find people by CPF, however it is written, or by a part of their name, of three letters at least.

        A name's index tells candidates, which are looked at before they are answered, so it takes
        the right to read names: an administrator's.
        """
        async with service.sessions() as session:
            query = select(User).where(_asked(body))
            page = await _page(session, query, body.after, body.limit)
        return Found(users=page.users, after=page.after)

    @router.get(
        "/users/{user_id}",
        dependencies=[staff],
        response_model=UserOpen,
        responses=problems(404, 410),
    )
    async def show_user(user_id: UUID) -> Any:
        """One person: values for an administrator, masks for support."""
        async with service.sessions() as session:
            user = await session.get(User, user_id)
        if user is None:
            raise HTTPException(404)
        return user

    @router.patch(
        "/users/{user_id}", dependencies=[admin], status_code=204, responses=problems(404, 409, 410)
    )
    async def change_user(user_id: UUID, body: Change) -> None:
        """Change a person's data: null clears a field, a field that is left out stays."""
        async with service.sessions.begin() as session:
            user = await session.get(User, user_id)
            if user is None:
                raise HTTPException(404)
            change(user, body)

    return router


def _asked(body: Search) -> ColumnElement[bool]:
    if body.name is not None:
        return User.name.contains(body.name.reveal())
    return User.cpf == (body.cpf and body.cpf.reveal())


async def _page(session: AsyncSession, query: Select[Any], after: UUID | None, limit: int) -> Page:
    # By key and not by number: a page costs the same wherever it is, and what is written meanwhile
    # moves nobody from one page to another.
    if after is not None:
        query = query.where(User.id > after)
    found = (await session.scalars(query.order_by(User.id).limit(limit + 1))).all()
    page = found[:limit]
    return Page(
        users=[shown for user in page if (shown := _shown(user)) is not None],
        after=page[-1].id if len(found) > limit else None,
    )


def _shown(user: User) -> UserShown | None:
    try:
        return UserShown.model_validate(user)
    except KeyDestroyed:
        return None  # erased: there is nobody any more
