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
from typing import ClassVar, final

from lacre._core import field
from lacre._core.canonical import canonical
from lacre._core.derive import WRAP
from lacre.audit.event import Event
from lacre.errors import KeyNotFound, KeyServiceDenied, KeyServiceUnreachable, Tampered
from lacre.keys.ports import KmsKeyStatus
from lacre.sensitive import KeyMaterial

__all__ = ["CapturedEvents", "FrozenClock", "MemoryKeyService"]


@final
class MemoryKeyService:
    """
    A key service whose root keys are in memory, one for each KMS key that was asked to mint.

    It does what every key service does, for any scheme: mint, unwrap, wrap, rewrap, status, rotate.
    *minted*, *unwrapped*, *wrapped*, *rewrapped* list the KMS keys asked, in order. The others tell
    it how to behave: *denied* and *unreachable* are the KMS keys that fail so (`everything` fails
    for all), *forbidden* the rights its credential lacks, by method (``{"unwrap"}``), *delay* is
    the seconds each call takes.
    """

    for_tests_only: ClassVar[bool] = True

    def __init__(self) -> None:
        self.minted: list[str] = []
        self.unwrapped: list[str] = []
        self.wrapped: list[str] = []
        self.rewrapped: list[str] = []
        self.denied: set[str] = set()
        self.unreachable: set[str] = set()
        self.forbidden: set[str] = set()
        self.everything: type[KeyServiceDenied | KeyServiceUnreachable] | None = None
        self.delay = 0.0
        self._roots: dict[str, tuple[KeyMaterial, ...]] = {}  # of each version, the first first
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<MemoryKeyService of {len(self._roots)} KMS keys>"

    @property
    def calls(self) -> int:
        """Return how often it was asked for or about keys."""
        return sum(map(len, (self.minted, self.unwrapped, self.wrapped, self.rewrapped)))

    def mint(self, kms_key: str, context: Mapping[str, str]) -> bytes:
        """Return 32 new random bytes, wrapped; the KMS key is made with its first mint."""
        self._asked("mint", kms_key, self.minted)
        self._made(kms_key)
        return self._wrapped(kms_key, KeyMaterial(os.urandom(32)), context)

    def unwrap(self, kms_key: str, wrapped: bytes, context: Mapping[str, str]) -> KeyMaterial:
        """Return the key, or raise as a key service does."""
        self._asked("unwrap", kms_key, self.unwrapped)
        return self._opened(kms_key, wrapped, context)

    def wrap(self, kms_key: str, key: KeyMaterial, context: Mapping[str, str]) -> bytes:
        """Wrap a key that comes from elsewhere; the KMS key is made if there is none."""
        self._asked("wrap", kms_key, self.wrapped)
        self._made(kms_key)
        return self._wrapped(kms_key, key, context)

    def rewrap(
        self,
        kms_key: str,
        wrapped: bytes,
        context: Mapping[str, str],
        *,
        to: str,
        to_context: Mapping[str, str],
    ) -> bytes:
        """Wrap anew, under the newest version of *to*, which is made if there is none."""
        self._asked("rewrap", kms_key, self.rewrapped)
        self._made(to)
        return self._wrapped(to, self._opened(kms_key, wrapped, context), to_context)

    def version_of(self, wrapped: bytes) -> str | None:
        """Return what names the version of the KMS key in *wrapped*."""
        return field.key_id_of(wrapped).hex()

    def status(self, kms_key: str) -> KmsKeyStatus:
        """Return that the KMS key is enabled, and its newest version."""
        self._asked("status", kms_key, [])
        roots = self._roots_of(kms_key)
        return KmsKeyStatus(
            kms_key=kms_key, state="enabled", usable=True, latency=self.delay, version=len(roots)
        )

    def rotate(self, kms_key: str) -> int:
        """Give the KMS key another version, and return its number."""
        self._asked("rotate", kms_key, [])
        self._roots_of(kms_key)
        with self._lock:
            self._roots[kms_key] += (KeyMaterial(os.urandom(32)),)
            return len(self._roots[kms_key])

    def _made(self, kms_key: str) -> None:
        with self._lock:
            self._roots.setdefault(kms_key, (KeyMaterial(os.urandom(32)),))

    def _roots_of(self, kms_key: str) -> tuple[KeyMaterial, ...]:
        try:
            return self._roots[kms_key]
        except KeyError:
            raise KeyNotFound(f"there is no {kms_key}") from None

    def _wrapped(self, kms_key: str, key: KeyMaterial, context: Mapping[str, str]) -> bytes:
        roots = self._roots_of(kms_key)
        return bytes(
            field.encrypt(
                roots[-1].reveal(),
                _id_of(kms_key, len(roots)),
                canonical(context),
                key.reveal(),
                salt=os.urandom(24),
                padded=False,
                label=WRAP,
            )
        )

    def _opened(self, kms_key: str, wrapped: bytes, context: Mapping[str, str]) -> KeyMaterial:
        named = field.key_id_of(wrapped)
        for number, root in enumerate(self._roots_of(kms_key), 1):
            if named == _id_of(kms_key, number):
                opened = field.decrypt(root.reveal(), wrapped, canonical(context), label=WRAP)
                return KeyMaterial(opened)
        raise Tampered

    def _asked(self, what: str, kms_key: str, calls: list[str]) -> None:
        calls.append(kms_key)
        if self.delay:
            time.sleep(self.delay)
        denied = kms_key in self.denied or what in self.forbidden
        if denied or self.everything is KeyServiceDenied:
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

    def append(self, events: Sequence[Event]) -> None:
        """Keep *events*."""
        if self.gate is not None:
            self.gate()
        if self.failing is not None:
            raise self.failing
        self.events += events

    def of(self, action: str) -> list[Event]:
        """Return the events of one action, for example ``look``."""
        return [event for event in self.events if event.action == action]


def _id_of(kms_key: str, version: int) -> bytes:
    return hashlib.sha256(f"{kms_key}#{version}".encode()).digest()[:16]
