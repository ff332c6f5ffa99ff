# SPDX-License-Identifier: Apache-2.0
"""
A dependency in which a request acts.

It is an asynchronous generator, which FastAPI runs in the request's own task: the block that it
opens is the one that the endpoint is in, on the event loop and in the thread pool, and it is open
until the response was sent. Streamed bodies and background tasks act with it; whatever outlives
the response gets `ActingEnded`. A synchronous generator would act in another context.

Where it comes from goes into the evidence with everything that is done in it.

Does not decide on values (the policy does, at each look) and does not record a refused route.
"""

from collections.abc import AsyncIterator, Collection, Iterable
from typing import Annotated, Any, Literal, Protocol

from fastapi import Header, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.params import Depends
from fastapi.requests import HTTPConnection
from fastapi.security.base import SecurityBase

from lacre.context import NOWHERE, Acting, Origin, acting_as
from lacre.errors import AccessDenied, ConfigurationError
from lacre.fastapi.origins import Origins
from lacre.fastapi.tokens import Tokens

__all__ = ["Application", "TokenActing"]

PURPOSE_HEADER = "X-Purpose"
_WHY = "Why this is asked: it is recorded with every value that is looked at."


class Application(Protocol):
    """`Lacre`, as a dependency needs it."""

    def acting_as(
        self,
        principal: str,
        *,
        roles: Iterable[str] = (),
        purpose: str,
        tenant: str | None = None,
        across_yield: bool = False,
        origin: Origin = NOWHERE,
    ) -> acting_as: ...


class _Bearer(SecurityBase):
    """The token of a request or a websocket, and its scheme in the OpenAPI document."""

    def __init__(self) -> None:
        self.model = HTTPBearer(bearerFormat="JWT")
        self.scheme_name = "token"

    async def __call__(self, connection: HTTPConnection) -> str | None:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None


class TokenActing:
    """
    Makes the dependencies of routes, in which a request acts as its token says.

    Args:
        lacre: the application.
        tokens: what a token must be.
        proxies: addresses and networks whose `X-Forwarded-For` is believed; of every other
            connection its own address is recorded.
    """

    def __init__(
        self, lacre: Application, tokens: Tokens, *, proxies: Collection[str] = ()
    ) -> None:
        self._origins = Origins(proxies)
        self._lacre = lacre
        self._tokens = tokens
        self._bearer = _Bearer()

    def __call__(
        self, *, purpose: str | Collection[str], roles: Collection[str] | None = None
    ) -> Depends:
        """
        Return a dependency for ``dependencies=[...]``, or for ``Annotated[Acting, ...]``.

        Args:
            purpose: why this route is called. Several: the caller names one of them in the header
                `X-Purpose`, or gets 422.
            roles: those that one may act as here. The request acts as those of them that its token
                gives, and as none of its others; without any it is refused. All by default.

        Raises:
            ConfigurationError: no purpose, or one string where several names are meant.
        """
        if isinstance(roles, str):
            raise ConfigurationError(
                "roles is a set of names, not one string", hint=f'roles={{"{roles}"}}'
            )
        if not purpose or not all(purpose):
            raise ConfigurationError("a route has a purpose", hint='acting(purpose="support")')
        accepted = None if roles is None else frozenset(roles)
        if isinstance(purpose, str):
            return self._for_one(purpose, accepted)
        return self._for_several(tuple(purpose), accepted)

    def _for_one(self, purpose: str, accepted: frozenset[str] | None) -> Depends:
        async def act(
            connection: HTTPConnection,
            token: Annotated[str | None, Security(self._bearer)],
        ) -> AsyncIterator[Acting]:
            with self._block(connection, token, purpose, accepted) as acting:
                yield acting

        return _dependency(act)

    def _for_several(self, among: tuple[str, ...], accepted: frozenset[str] | None) -> Depends:
        one_of: Any = Literal[among]

        async def act(
            connection: HTTPConnection,
            token: Annotated[str | None, Security(self._bearer)],
            purpose: Annotated[one_of, Header(alias=PURPOSE_HEADER, description=_WHY)],
        ) -> AsyncIterator[Acting]:
            with self._block(connection, token, purpose, accepted) as acting:
                yield acting

        return _dependency(act)

    def origin(self, connection: HTTPConnection) -> Origin:
        """
        Return where a request comes from: for a block of your own, in a route that nobody is logged in for.

        Raises:
            InvalidValue: its `X-Reason` is no ticket or single word.
        """
        return self._origins.of(connection)

    def _block(
        self,
        connection: HTTPConnection,
        token: str | None,
        purpose: str,
        accepted: frozenset[str] | None,
    ) -> acting_as:
        caller = self._tokens.verify(token)
        roles = caller.roles if accepted is None else caller.roles & accepted
        if accepted is not None and not roles:
            raise AccessDenied(
                f"{caller.principal} has none of the roles that this route is for",
                hint=f"it is for {', '.join(sorted(accepted))}",
            )
        # Across a yield on purpose: what runs between is this very request.
        return self._lacre.acting_as(
            caller.principal,
            roles=roles,
            purpose=purpose,
            tenant=caller.tenant,
            across_yield=True,
            origin=self.origin(connection),
        )


def _dependency(act: Any) -> Depends:
    # Left open for the whole request, which is FastAPI's default: a streamed body is sent after
    # the endpoint returned.
    return Depends(act)
