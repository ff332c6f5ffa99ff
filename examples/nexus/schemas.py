# SPDX-License-Identifier: Apache-2.0
"""What requests hold and responses show. Protected fields are masks unless a route exposes them."""

import datetime as dt
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from lacre.pydantic import Exposed, MaskedAs, Protected, ProtectedModel

__all__ = [
    "CPF",
    "Account",
    "Asked",
    "Change",
    "Created",
    "Credentials",
    "Date",
    "Found",
    "Look",
    "Page",
    "Phone",
    "Registration",
    "Report",
    "Search",
    "Text",
    "TokenGiven",
    "UserOpen",
    "UserShown",
]

Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00]*$"),
]
Email = Annotated[
    str, StringConstraints(max_length=254, pattern=r"^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,24}$")
]  # fmt: skip
CPF = Annotated[str, StringConstraints(pattern=r"^\d{3}\.?\d{3}\.?\d{3}-?\d{2}$")]
Phone = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9 ]{6,20}$")]


def _written(value: object) -> object:
    # Pydantic would take a number for the seconds since 1970.
    if not isinstance(value, str):
        raise ValueError("a date is written")  # noqa: TRY004 - what a validator raises
    return value


Date = Annotated[dt.date, BeforeValidator(_written)]
Password = Annotated[str, StringConstraints(min_length=12, max_length=128)]


class Body(ProtectedModel):
    """Of a request: nothing in it that the route does not know."""

    model_config = ConfigDict(extra="forbid")


class Registration(Body):
    """Who signs up."""

    email: Protected[Email]
    password: Protected[Password]
    name: Protected[Text]
    cpf: Protected[CPF] | None = None
    phone: Protected[Phone] | None = None
    address: Protected[Text] | None = None
    born: Protected[Date] | None = None


class Change(Body):
    """What changes: null clears a field, a field that is left out stays."""

    name: Protected[Text] = Field(default=Protected(""))  # a name can be changed, not cleared
    cpf: Protected[CPF] | None = None
    phone: Protected[Phone] | None = None
    address: Protected[Text] | None = None
    born: Protected[Date] | None = None


class Search(Body):
    """Either of the two. In a body and not in an address, which proxies and servers log."""

    cpf: Protected[CPF] | None = None
    name: Protected[Text] | None = None
    after: UUID | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.cpf is None) == (self.name is None):
            raise ValueError("cpf or name")
        return self


class Credentials(Body):
    """Who logs in."""

    email: Protected[Email]
    password: Protected[Annotated[str, StringConstraints(max_length=128)]]


class TokenGiven(BaseModel):
    """What RFC 6749 calls it."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the kind of token
    expires_in: int


class Created(BaseModel):
    id: UUID


class UserShown(ProtectedModel):
    """One person, masked: as lists show them."""

    id: UUID
    created: dt.datetime
    email: Annotated[Protected[str], MaskedAs("email")]
    name: Annotated[Protected[str], MaskedAs("name")]
    cpf: Annotated[Protected[str] | None, MaskedAs("cpf")]
    phone: Annotated[Protected[str] | None, MaskedAs("phone")]
    address: Protected[str] | None
    born: Annotated[Protected[dt.date] | None, MaskedAs("year")]


class UserOpen(ProtectedModel):
    """One person, as whoever looks may see them: values, or the masks that lacre gave."""

    id: UUID
    created: dt.datetime
    email: Exposed[str]
    name: Exposed[str]
    cpf: Exposed[str] | None
    phone: Exposed[str] | None
    address: Exposed[str] | None
    born: Exposed[dt.date] | None


class Page(BaseModel):
    """Some of the people, and where the next ones begin; null where there are none."""

    users: list[UserShown]
    after: UUID | None


class Found(Page):
    """People that were searched for."""


class Look(BaseModel):
    """Accesses to one field of one's data, by the same for the same, within a moment of *when*."""

    when: dt.datetime
    times: int
    what: Literal["read", "written"]
    field: str
    by: str
    roles: list[str]
    purpose: str
    outcome: str


class Account(BaseModel):
    """What is held that is not protected."""

    id: UUID
    created: dt.datetime
    role: str


class Asked(BaseModel):
    """When erasure was asked for, the first time."""

    asked: dt.datetime


class Report(BaseModel):
    """One's own data (LGPD 18, GDPR 15): what is held, and who used it, when, and what for."""

    account: Account
    data: UserOpen
    looks: list[Look]
    complete: bool
