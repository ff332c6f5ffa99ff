# SPDX-License-Identifier: Apache-2.0
"""
Doubles for tests: a key service in memory, a clock that stands still, a sink that keeps events.

Real behind the port: `MemoryKeyService` wraps with the same format as every other key service,
so what it unwraps is authenticated. Not for data that matters: its root keys die with the
process. `lacre.Lacre` refuses every part of this module unless the policy's ``env`` is ``test``.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, final

from lacre._core import field
from lacre._core.canonical import canonical
from lacre._core.derive import WRAP
from lacre.audit.events import Event
from lacre.errors import KeyNotFound, KeyServiceDenied, KeyServiceUnreachable, Tampered
from lacre.sensitive import KeyMaterial

__all__ = ["CapturedEvents", "FrozenClock", "MemoryKeyService"]


@final
class MemoryKeyService:
    """
    A key service whose root keys are in memory, one for each KMS key that was asked to mint.

    *minted* and *unwrapped* list the KMS keys asked, in order. The others tell it how to behave:
    *denied* and *unreachable* are the KMS keys that fail so (`everything` fails for all), *delay*
    is the seconds each call takes.
    """

    for_tests_only: ClassVar[bool] = True

    def __init__(self) -> None:
        self.minted: list[str] = []
        self.unwrapped: list[str] = []
        self.denied: set[str] = set()
        self.unreachable: set[str] = set()
        self.everything: type[KeyServiceDenied | KeyServiceUnreachable] | None = None
        self.delay = 0.0
        self._roots: dict[str, KeyMaterial] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<MemoryKeyService of {len(self._roots)} KMS keys>"

    def mint(self, kms_key: str, context: Mapping[str, str]) -> bytes:
        """Return 32 new random bytes, wrapped; the KMS key is made with its first mint."""
        self._asked(kms_key, self.minted)
        with self._lock:
            root = self._roots.setdefault(kms_key, KeyMaterial(os.urandom(32)))
        return bytes(
            field.encrypt(
                root.reveal(),
                _id_of(kms_key),
                canonical(context),
                os.urandom(32),
                salt=os.urandom(24),
                padded=False,
                label=WRAP,
            )
        )

    def unwrap(self, kms_key: str, wrapped: bytes, context: Mapping[str, str]) -> KeyMaterial:
        """Return the key, or raise as a key service does."""
        self._asked(kms_key, self.unwrapped)
        root = self._roots.get(kms_key)
        if root is None:
            raise KeyNotFound(f"there is no {kms_key}")
        if field.key_id_of(wrapped) != _id_of(kms_key):
            raise Tampered
        return KeyMaterial(field.decrypt(root.reveal(), wrapped, canonical(context), label=WRAP))

    def _asked(self, kms_key: str, calls: list[str]) -> None:
        calls.append(kms_key)
        if self.delay:
            time.sleep(self.delay)
        if kms_key in self.denied or self.everything is KeyServiceDenied:
            raise KeyServiceDenied(f"this credential may not use {kms_key}")
        if kms_key in self.unreachable or self.everything is KeyServiceUnreachable:
            raise KeyServiceUnreachable("the key service did not answer")


@final
class FrozenClock:
    """A clock that moves when told to: call it for the time, `advance` it."""

    for_tests_only: ClassVar[bool] = True

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move on by *seconds*."""
        self.now += seconds


@final
class CapturedEvents:
    """
    A sink that keeps what it is given in *events*.

    While *failing* is set, `append` raises it, as a sink on a full disk does; *gate* is called
    before each append, for tests that hold one up.
    """

    for_tests_only: ClassVar[bool] = True

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.failing: OSError | None = None
        self.gate: Callable[[], object] | None = None

    def append(self, events: Sequence[Event], connection: Any = None) -> None:
        """Keep *events*."""
        if self.gate is not None:
            self.gate()
        if self.failing is not None:
            raise self.failing
        self.events += events

    def of(self, action: str) -> list[Event]:
        """Return the events of one action, for example ``look``."""
        return [event for event in self.events if event.action == action]


def _id_of(kms_key: str) -> bytes:
    return hashlib.sha256(kms_key.encode()).digest()[:16]
