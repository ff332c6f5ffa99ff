# SPDX-License-Identifier: Apache-2.0
"""
Requests of a FastAPI application act as whom their verified token names.

::

    tokens = Tokens(
        keys=key_set, algorithms=["Ed25519"], issuer="https://id.example.org", audience="shop",
        roles={"support", "admin"},
    )
    acting = TokenActing(lacre, tokens)
    app = FastAPI(responses=problems(401, 403, 422, 503))
    install(app)

    @app.get("/customers/{id}", dependencies=[acting(purpose="support", roles={"support"})])
    async def customer(id: UUID) -> CustomerShown: ...

The route says the purpose, the token who and as what, the policy what may be seen. `install` makes
problems (RFC 9457) of errors, without a value, and has every request begin as nobody.

Does not issue tokens, and does not know which rows are whose: that is the application's.
"""

from lacre.errors import ConfigurationError

try:
    from lacre.fastapi.acting import Application, TokenActing
    from lacre.fastapi.problems import Problem, install, problems
    from lacre.fastapi.tokens import Caller, Tokens
except ModuleNotFoundError as error:
    raise ConfigurationError(
        f"{error.name} is not installed", hint="pip install 'lacre[fastapi]'"
    ) from None

__all__ = [
    "Application",
    "Caller",
    "Problem",
    "TokenActing",
    "Tokens",
    "install",
    "problems",
]
