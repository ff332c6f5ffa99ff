# SPDX-License-Identifier: Apache-2.0
"""
One of two processes of a rolling deploy: does what a line of JSON says, answers with one.

Run as a program where the modules of `docs/how-to/deploy.md` and a `lacre.toml` are.
"""

import json
import sys
from typing import Any
from uuid import UUID, uuid4

from shop import CLASSES, Base, Customer, Session, engine, lacre
from sqlalchemy import select, text

from lacre.errors import LacreError


def do(verb: str, argument: Any) -> Any:
    """Answer one line."""
    match verb:
        case "write":
            customer = Customer(id=uuid4(), email=argument, account="1")
            with Session() as session:
                session.add(customer)
                session.commit()
                return str(customer.id)
        case "read":
            with Session() as session:
                return session.get_one(Customer, UUID(argument)).email
        case "find":
            with Session() as session:
                found = session.scalars(select(Customer).where(Customer.email == argument)).first()
                return found and str(found.id)
        case "key":
            with engine.connect() as connection:
                query = text("SELECT email FROM customers WHERE id = :id")
                return bytes(connection.execute(query, {"id": argument}).scalar_one())[3:19].hex()
        case "ready":
            report = lacre.ready(classes=CLASSES, models=Base)
            return [bool(report), report.to_json()]
        case "encrypt":
            lacre.field(argument, table="customers", column="note").encrypt("x", row="1")
            return "done"
    raise ValueError(verb)


def serve() -> None:
    """Answer until standard input ends."""
    print(json.dumps("started"), flush=True)
    for line in sys.stdin:
        verb, argument = json.loads(line)
        try:
            with lacre.acting_as("svc:peer", roles={"app"}, purpose="test"):
                answer = do(verb, argument)
        except LacreError as error:
            answer = {"error": error.code, "says": str(error)}
        print(json.dumps(answer), flush=True)
    lacre.close()


if __name__ == "__main__":
    serve()
