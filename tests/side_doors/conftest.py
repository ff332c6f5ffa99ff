# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL database with one customer in it, and what must be seen of her nowhere else."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from lacre import Lacre
from lacre.context import acting_as
from tests.components.postgresql import Database
from tests.sqlalchemy.models import Base, Customer

EMAIL, CPF, ACCOUNT = "canary@example.org", "529.982.247-25", "canary-account-7781"
# In any form: as written, normalised, in hexadecimal as bytea prints, in base64.
CANARIES = (EMAIL, "canary-account", CPF, "52998224725", b"canary".hex(), "Y2FuYXJ5")

Act = Callable[..., acting_as]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """The database, the application's sessions, and the customer's row."""

    database: Database
    engine: Engine
    sessions: sessionmaker[Session]
    act: Act
    row: UUID


def clean(text: str | bytes) -> bool:
    """Whether none of the canaries is in *text*."""
    found = text if isinstance(text, str) else text.decode("utf-8", "replace")
    return not any(canary in found for canary in CANARIES)


def act_of(lacre: Lacre) -> Act:
    def act(role: str = "app") -> acting_as:
        return lacre.acting_as(f"user:{role}", roles={role}, purpose="test")

    return act


def opened(database: Database, lacre: Lacre, **options: Any) -> Shop:
    """Make the tables and the customer."""
    engine = create_engine(database.url(), **options)
    Base.metadata.create_all(engine)
    sessions, act = lacre.sqlalchemy(sessionmaker(engine)), act_of(lacre)
    with act(), sessions() as session:
        customer = Customer(email=EMAIL, cpf=CPF, account=ACCOUNT, name="canary", city="Faro")
        session.add(customer)
        session.commit()
        row = customer.id
    return Shop(database=database, engine=engine, sessions=sessions, act=act, row=row)


@pytest.fixture
def shop(database: Database, lacre: Lacre) -> Iterator[Shop]:
    shop = opened(database, lacre)
    yield shop
    shop.engine.dispose()
