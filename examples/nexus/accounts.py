# SPDX-License-Identifier: Apache-2.0
"""Signing up and logging in: the routes that need no token."""

from fastapi import APIRouter, HTTPException, Request
from sqlalchemy import select, update

from lacre.fastapi import problems
from lacre.pydantic import Protected
from nexus.models import User
from nexus.schemas import Created, Credentials, Registration, TokenGiven
from nexus.service import Service

__all__ = ["routes"]


def routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["accounts"], responses=problems(400, 422, 503))

    @router.post("/users", status_code=201, responses=problems(409))
    async def sign_up(request: Request, body: Registration) -> Created:
        """
        Create a user. The database decides whether its e-mail address and CPF are new.

        Nobody looks first: between looking and writing another request would have written.
        """
        told = {
            name: value.reveal()
            for name in Registration.model_fields
            if isinstance(value := getattr(body, name), Protected)
        }
        user = User(password_hash=await service.passwords.hash(told.pop("password")), **told)
        with service.itself("registration", request):
            async with service.sessions.begin() as session:
                session.add(user)
        return Created(id=user.id)

    @router.post("/tokens", responses=problems(401))
    async def log_in(request: Request, body: Credentials) -> TokenGiven:
        """Give a token for a password. Which of the two was wrong is not said."""
        with service.itself("login", request):
            async with service.sessions() as session:
                known = await session.execute(
                    select(User.id, User.role, User.password_hash).where(
                        User.email == body.email.reveal()
                    )
                )
        found = known.one_or_none()
        password = body.password.reveal()
        hashed = None if found is None else found.password_hash
        if not await service.passwords.is_right(password, hashed) or found is None:
            raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})
        renewed = await service.passwords.renewed(password, found.password_hash)
        if renewed is not None:
            async with service.sessions.begin() as session:
                changed = update(User).where(User.id == found.id).values(password_hash=renewed)
                await session.execute(changed)
        return TokenGiven(
            access_token=service.issuer.issue(str(found.id), {"person", found.role}),
            expires_in=service.issuer.seconds,
        )

    return router
