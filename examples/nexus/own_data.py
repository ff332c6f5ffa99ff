# SPDX-License-Identifier: Apache-2.0
"""What a person does with their own data: see it, change it, and learn who used it."""

import asyncio
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, HTTPException
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lacre.context import Acting
from lacre.fastapi import problems
from nexus.changing import change
from nexus.evidence import looks_at
from nexus.models import ErasureRequest, User
from nexus.schemas import Account, Asked, Change, Look, Report, UserOpen
from nexus.service import Service

__all__ = ["routes"]


def routes(service: Service) -> APIRouter:
    router = APIRouter(
        prefix="/me", tags=["own data"], responses=problems(400, 401, 403, 404, 410, 422, 503)
    )
    # Only as themselves: an administrator's own page gives no right to anybody else's.
    person = service.acting(purpose="own data", roles={"person"})
    asking = service.acting(purpose="access report", roles={"person"})

    @router.get("", response_model=UserOpen)
    async def show_me(acting: Annotated[Acting, person]) -> Any:
        """One's own data, in full."""
        async with service.sessions() as session:
            return await _own(session, acting)

    @router.patch("", status_code=204, responses=problems(409))
    async def change_me(acting: Annotated[Acting, person], body: Change) -> None:
        """Change one's own data: null clears a field, a field that is left out stays."""
        async with service.sessions.begin() as session:
            change(await _own(session, acting), body)

    @router.get("/report")
    async def report_on_me(acting: Annotated[Acting, asking]) -> Report:
        """What is held about oneself, and who used it, when, and what for (LGPD 18, GDPR 15)."""
        async with service.sessions() as session:
            user = await _own(session, acting)
            data = UserOpen.model_validate(user)
            account = Account(id=user.id, created=user.created, role=user.role)
        looks, complete = await asyncio.to_thread(_looks_at, service, user.id)
        return Report(account=account, data=data, looks=looks, complete=complete)

    @router.delete("", status_code=202)
    async def erase_me(acting: Annotated[Acting, person]) -> Asked:
        """
        Ask to be erased. As often as one likes; the first time counts.

        A request, because erasing destroys keys, and that is an operator's right and not a service's.
        """
        async with service.sessions.begin() as session:
            user = await _own(session, acting)
            await session.execute(
                insert(ErasureRequest).values(user_id=user.id).on_conflict_do_nothing()
            )
            request = await session.get_one(ErasureRequest, user.id)
        return Asked(asked=request.asked)

    return router


def _looks_at(service: Service, person: UUID) -> tuple[list[Look], bool]:
    service.lacre.recorder.flush()
    return looks_at(
        service.evidence,
        person,
        pseudonym=service.lacre.pseudonym(person),
        name_staff=service.settings.name_staff,
    )


async def _own(session: AsyncSession, acting: Acting) -> User:
    user = await session.get(User, UUID(acting.principal.removeprefix("user:")))
    if user is None:
        raise HTTPException(404)
    return user
