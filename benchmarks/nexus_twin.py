# SPDX-License-Identifier: Apache-2.0
"""
The plaintext twin of `examples/nexus`, for `nexus_load.py`: the same routes over a table in the clear.

The same server, driver, tokens, checks of requests and shapes of responses; no lacre besides the
verification of tokens, no policy, no evidence, no masks.
"""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from nexus.issuing import Issuer
from nexus.schemas import CPF, Date, Phone, Text
from nexus.settings import Settings
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import DateTime, Index, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lacre.fastapi import Caller

__all__ = ["Base", "User", "create_app"]


class Base(DeclarativeBase): ...


class User(Base):
    __tablename__ = "users"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    created: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    role: Mapped[str] = mapped_column(default="person")
    password_hash: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    cpf: Mapped[str | None] = mapped_column(unique=True)
    phone: Mapped[str | None]
    address: Mapped[str | None]
    born: Mapped[dt.date | None]


Index(
    "users_name",
    func.lower(User.name).label("name"),
    postgresql_using="gin",
    postgresql_ops={"name": "gin_trgm_ops"},
)


class Shown(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    created: dt.datetime
    email: str
    name: str
    cpf: str | None
    phone: str | None
    address: str | None
    born: dt.date | None


class Page(BaseModel):
    users: list[Shown]
    after: UUID | None


class Change(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Text = ""
    cpf: CPF | None = None
    phone: Phone | None = None
    address: Text | None = None
    born: Date | None = None


class Search(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cpf: CPF | None = None
    name: Text | None = None
    after: UUID | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50


def create_app() -> FastAPI:
    settings = Settings.from_environ()
    tokens = Issuer(settings).tokens()
    engine = create_async_engine(
        settings.database_url.get_secret_value(),
        pool_size=settings.database_connections,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args=settings.tls(),
    )
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    async def calling(request: Request) -> Caller:
        return tokens.verify(request.headers.get("authorization", "")[7:])

    Calling = Annotated[Caller, Depends(calling)]  # noqa: N806 - a type

    @app.get("/me", response_model=Shown)
    async def show_me(caller: Calling) -> Any:
        async with sessions() as session:
            return await _found(session, UUID(caller.principal.removeprefix("user:")))

    @app.patch("/me", status_code=204)
    async def change_me(caller: Calling, body: Change) -> None:
        async with sessions.begin() as session:
            user = await _found(session, UUID(caller.principal.removeprefix("user:")))
            for name in body.model_fields_set:
                setattr(user, name, getattr(body, name))

    @app.get("/users")
    async def list_users(
        _: Calling, after: UUID | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 50
    ) -> Page:
        async with sessions() as session:
            return await _page(session, select(User), after, limit)

    @app.post("/users/search")
    async def search_users(_: Calling, body: Search) -> Page:
        asked = (
            User.cpf == body.cpf
            if body.name is None
            else func.lower(User.name).contains(body.name.lower(), autoescape=True)
        )
        async with sessions() as session:
            return await _page(session, select(User).where(asked), body.after, body.limit)

    @app.get("/users/{user_id}", response_model=Shown)
    async def show_user(_: Calling, user_id: UUID) -> Any:
        async with sessions() as session:
            return await _found(session, user_id)

    @app.get("/ready")
    async def ready() -> None: ...

    return app


async def _found(session: AsyncSession, user_id: UUID) -> User:
    user = await session.get(User, user_id)
    if user is None:
        raise HTTPException(404)
    return user


async def _page(session: AsyncSession, query: Select[Any], after: UUID | None, limit: int) -> Page:
    if after is not None:
        query = query.where(User.id > after)
    found = (await session.scalars(query.order_by(User.id).limit(limit + 1))).all()
    users = [Shown.model_validate(user) for user in found[:limit]]
    return Page(users=users, after=users[-1].id if len(found) > limit else None)
