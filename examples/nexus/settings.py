# SPDX-License-Identifier: Apache-2.0
"""What Nexus is told by its environment. Holds no key: those are in files of their own."""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, SecretStr

__all__ = ["PURPOSES", "Settings"]

PREFIX = "NEXUS_"

# Why data is used. Whoever calls says which of the last three it is; the rest follow from the route.
PURPOSES = ("registration", "login", "own data", "access report", "support call", "administration", "fraud")  # fmt: skip


class Settings(BaseModel):
    """
    The settings; each is the environment's variable of that name, `NEXUS_DATABASE_URL` and so on.

    *database_ca* is the certificate that the database's server is known by. *name_staff* puts the
    names of employees into access reports; without it a report says the role they looked as.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    database_url: SecretStr
    database_ca: Path | None = None
    database_connections: int = 10
    lacre: Path = Path("lacre.toml")
    issuer: str = "https://nexus.example.org"
    issuer_key: Path = Path("issuer.jwk")
    token_seconds: int = 900
    name_staff: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the variables that there are."""
        names = {PREFIX + name.upper(): name for name in cls.model_fields}
        return cls.model_validate(
            {names[key]: value for key, value in environ.items() if key in names}
        )

    def tls(self) -> dict[str, ssl.SSLContext]:
        """Return what asyncpg takes to check the server's certificate."""
        if self.database_ca is None:
            return {}
        return {"ssl": ssl.create_default_context(cafile=str(self.database_ca))}

    def to_environ(self) -> dict[str, str]:
        """Return the variables, for a process of its own."""
        told = {name: getattr(self, name) for name in type(self).model_fields}
        told["database_url"] = self.database_url.get_secret_value()
        return {
            PREFIX + name.upper(): str(value) for name, value in told.items() if value is not None
        }
