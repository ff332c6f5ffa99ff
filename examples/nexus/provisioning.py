# SPDX-License-Identifier: Apache-2.0
"""
What Nexus needs before its first start: policy, keys, tables, and the first employees.

An operator's work, done once, with rights that the service does not have.
"""

import secrets
from pathlib import Path

from pydantic import SecretStr

from lacre.cli.initialise import initialise
from nexus.issuing import make_key
from nexus.models import Base, User
from nexus.service import Service
from nexus.settings import PURPOSES, Settings

__all__ = ["STAFF", "add_staff", "create_tables", "provision"]

HERE = Path(__file__).parent
COMMANDS = ("protect", "unprotect", "reencrypt", "erasure")  # why an operator's commands act
STAFF = {"admin": "admin@nexus.example.org", "support": "support@nexus.example.org"}


def provision(
    directory: Path, database_url: str, database_ca: Path | None = None, *, env: str = "dev"
) -> Settings:
    """Make keys and a policy in *directory*, and return the settings of a service that uses them."""
    made = initialise(directory, app="nexus", env=env)
    general = made.config.read_text("utf-8").partition("\n[classes.")[0]
    tenant = 'default_tenant = "default"\n'
    purposes = f"purposes = {[*PURPOSES, *COMMANDS]}\n".replace("'", '"')
    classes = (HERE / "classes.toml").read_text("utf-8")
    made.config.write_text(
        general.replace(tenant, tenant + purposes) + "\n" + classes, encoding="utf-8"
    )
    make_key(directory / "issuer.jwk")
    return Settings(
        database_url=SecretStr(database_url),
        database_ca=database_ca,
        lacre=made.config,
        issuer_key=directory / "issuer.jwk",
    )


async def create_tables(service: Service) -> None:
    """Create the tables. A service that lives longer does this with Alembic."""
    async with service.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


async def add_staff(service: Service) -> dict[str, str]:
    """Create an administrator and a supporter; return their passwords."""
    passwords = {role: secrets.token_urlsafe(12) for role in STAFF}
    hashed = {role: await service.passwords.hash(passwords[role]) for role in STAFF}
    with service.itself("registration"):
        async with service.sessions.begin() as session:
            for role, email in STAFF.items():
                session.add(User(email=email, name=role, role=role, password_hash=hashed[role]))
    return passwords
