# SPDX-License-Identifier: Apache-2.0
"""A service with protected models and acting routes, for the type checker: it is not run."""

import datetime as dt
from typing import Annotated, assert_type

from fastapi import FastAPI

from lacre import Lacre
from lacre.context import Acting
from lacre.fastapi import Caller, TokenActing, Tokens, install, problems
from lacre.pydantic import Exposed, MaskedAs, Protected, ProtectedModel, expose

tokens = Tokens(
    keys={"keys": []}, algorithms=["Ed25519"], issuer="i", audience="a", roles={"app"}, leeway=5
)
acting = TokenActing(Lacre.load(), tokens)
app = FastAPI(responses=problems(401, 403))
install(app, retry_after=10)


class Shown(ProtectedModel):
    name: Protected[str]
    born: Annotated[Protected[dt.date] | None, MaskedAs("year")] = None


class Open(ProtectedModel):
    name: Exposed[str]


@app.get("/", dependencies=[acting(purpose="support", roles={"app"})])
def shown(who: Annotated[Acting, acting(purpose=("support", "kyc"))]) -> Shown:
    assert_type(tokens.verify("x"), Caller)
    assert_type(who.purpose, str)
    found = expose(Shown, "name").model_validate({"name": "x"})
    assert_type(found, Shown)
    assert_type(found.name.reveal(), str)
    assert_type(Protected(dt.date(1990, 1, 1)).reveal(), dt.date)
    return found


def wrong(model: Shown) -> None:
    model.name.upper()  # reported
    len(model.name)  # reported
    model.born.reveal()  # reported
    acting()  # reported
    acting("support")  # reported
    Tokens(keys={}, algorithms=["Ed25519"], issuer="i", audience="a")  # reported
    MaskedAs()  # reported
    expose(model, "name")  # reported
