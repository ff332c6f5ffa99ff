# SPDX-License-Identifier: Apache-2.0
"""What the routes of one process share: the application of lacre, sessions, and who may act."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fastapi import Request
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from lacre import Lacre, Origin, acting_as
from lacre.fastapi import TokenActing
from nexus.issuing import Issuer
from nexus.passwords import Passwords
from nexus.settings import Settings

__all__ = ["Service"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Made once for each process, before its event loop runs; *acting* makes routes' dependencies."""

    settings: Settings
    lacre: Lacre
    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    issuer: Issuer
    acting: TokenActing
    passwords: Passwords
    evidence: Path

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Compose the service that *settings* describe."""
        lacre = Lacre.load(settings.lacre)
        engine = create_async_engine(
            settings.database_url.get_secret_value(),
            pool_size=settings.database_connections,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args=settings.tls(),
        )
        issuer = Issuer(settings)
        return cls(
            settings=settings,
            lacre=lacre,
            engine=engine,
            sessions=lacre.sqlalchemy(async_sessionmaker(engine, expire_on_commit=False)),
            issuer=issuer,
            acting=TokenActing(lacre, issuer.tokens()),
            passwords=Passwords(),
            evidence=settings.lacre.resolve().parent / str(lacre.policy.file.audit.path),
        )

    def itself(self, purpose: str, request: Request | None = None) -> acting_as:
        """The service acting itself, where nobody is logged in yet: as what it is about to do."""
        origin = Origin() if request is None else self.acting.origin(request)
        return self.lacre.acting_as("svc:nexus", roles={purpose}, purpose=purpose, origin=origin)

    async def close(self) -> None:
        """Give back what a process holds; the evidence is on disk afterwards."""
        await self.engine.dispose()
        self.passwords.close()
        self.lacre.close()
