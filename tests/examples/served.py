# SPDX-License-Identifier: Apache-2.0
"""The example as the tests have it served: passwords are hashed cheaply, everything else is as it is."""

from functools import partial
from unittest.mock import patch

from fastapi import FastAPI
from nexus import main, passwords

__all__ = ["create_app"]

# A hash of 64 MiB for each of hundreds of people is what these tests would mostly do.
_CHEAP = partial(passwords.PasswordHasher, time_cost=2, memory_cost=2048, parallelism=1)


def create_app() -> FastAPI:
    """`nexus.main.create_app`."""
    with patch.object(passwords, "PasswordHasher", _CHEAP):
        return main.create_app()
