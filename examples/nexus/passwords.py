# SPDX-License-Identifier: Apache-2.0
"""
Passwords, hashed with Argon2id.

One hash takes 64 MiB and some 50 ms, so two are made at once and no more: a burst of logins waits
instead of taking the machine's memory.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

__all__ = ["Passwords"]

T = TypeVar("T")


class Passwords:
    """Makes hashes and checks passwords, off the event loop."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="nexus-passwords")
        # Checked where there is no account, so that the time of an answer does not tell which
        # addresses have one.
        self._nobody = self._hasher.hash("nobody")

    async def hash(self, password: str) -> str:
        return await self._do(lambda: self._hasher.hash(password))

    async def is_right(self, password: str, hash: str | None) -> bool:  # noqa: A002 - of a password
        """Whether *password* is that of *hash*; of nobody's it never is."""
        found = await self._do(lambda: self._verified(hash or self._nobody, password))
        return found and hash is not None

    async def renewed(self, password: str, hash: str) -> str | None:  # noqa: A002
        """Return a new hash where *hash* was made with weaker parameters than today's."""
        return await self.hash(password) if self._hasher.check_needs_rehash(hash) else None

    def _verified(self, hash: str, password: str) -> bool:  # noqa: A002
        try:
            return self._hasher.verify(hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        self._pool.shutdown()
