# SPDX-License-Identifier: Apache-2.0
"""
The application: ``uvicorn --factory nexus.main:create_app``.

Every error is a problem (RFC 9457), and no response, log line or error holds a value that its reader
may not see.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from lacre.fastapi import Problem, install
from nexus import accounts, own_data, people
from nexus.models import Base
from nexus.service import Service
from nexus.settings import Settings

__all__ = ["create_app"]

CLASSES = ["pii"]


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application that *settings*, or the environment, describe."""
    service = Service.of(settings or Settings.from_environ())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.lacre.awarm_up(classes=CLASSES)
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="Nexus",
        version="1",
        description="People's data. A token of `POST /tokens` says who asks; staff says why in `X-Purpose`.",
        lifespan=lifespan,
        # `sign_up`, and not `sign_up_users_post`: what generated clients call it.
        generate_unique_id_function=lambda route: route.name,
    )
    app.add_exception_handler(HTTPException, _as_problem)  # type: ignore[arg-type]
    install(app)
    for module in (accounts, people, own_data):
        app.include_router(module.routes(service))

    @app.get("/ready", include_in_schema=False)
    async def ready() -> JSONResponse:
        report = await service.lacre.aready(classes=CLASSES, models=Base)
        return JSONResponse(report.to_json(), 200 if report else 503)

    @app.get("/live", include_in_schema=False)
    async def live() -> None:
        """The process answers; what it depends on is not its life."""

    return app


async def _as_problem(_: Request, error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    told = Problem(
        title=status.phrase,
        status=status,
        detail=f"{status.phrase}.",
        code=status.phrase.lower().replace(" ", "-"),
    )
    return JSONResponse(
        told.model_dump(exclude_none=True),
        status,
        headers=dict(error.headers or {}),
        media_type="application/problem+json",
    )
