# SPDX-License-Identifier: Apache-2.0
"""
What the contract suite asks of a key service under test: a rig.

A rig makes KMS keys and credentials of its own, so that one server serves every test, and opens the
service as Lacre does: from a policy. It mocks nothing of the service. What a rig cannot tell
truthfully is in `matrix`.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import ClassVar, Protocol

from lacre.errors import KeyServiceUnreachable
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope
from lacre.keys.ports import KeyMover, KeyService, KmsKeyAdministration
from lacre.kms.calling import CallLimits
from lacre.policy.model import PolicyFile
from tests.components.faults import Alter, Answer, FaultProxy

__all__ = [
    "OPERATIONS",
    "PATIENT",
    "Credential",
    "RemoteRig",
    "Rig",
    "Service",
    "context",
    "policy",
    "until_it_answers",
]

# Nothing in the suite is about time: long enough for a busy machine.
PATIENT = CallLimits(deadline=30.0, attempt=10.0)

OPERATIONS = ("mint", "unwrap", "wrap", "rewrap", "status")  # and `rotate`, of remote services


class Credential(StrEnum):
    """Who opens the service. What each may do is `Rig.may`."""

    MINTS = "mints"
    RUNS = "runs"  # activates, reads and writes: fields and index
    SEARCHES = "searches"  # index only
    MOVES = "moves"
    ADMINISTERS = "administers"
    NOBODY = "nobody"  # known to the service, and allowed nothing


class Service(KeyService, KeyMover, KmsKeyAdministration, Protocol):
    """All that a key service does. The local keystore rotates by its `KeystoreAdministration`."""


class Rig(Protocol):
    """One key service under test."""

    name: ClassVar[str]
    family: ClassVar[str]

    def kms_key(self, use: str = "fields") -> str:
        """Make a KMS key; return its URI. Each call makes another."""
        ...

    def missing(self) -> str:
        """Return the URI of a KMS key that is not there, and that every credential may ask about."""
        ...

    def open(self, who: Credential, *, limits: CallLimits = PATIENT) -> Service:
        """Open the service anew as *who*: nothing is shared with what was opened before."""
        ...

    def may(self, who: Credential, use: str) -> frozenset[str]:
        """Return which of `OPERATIONS` *who* may do with keys for *use*, ``fields`` or ``index``."""
        ...

    def rotate(self, kms_key: str) -> int | None:
        """Give the KMS key new material, as its administrator does; return its number, where it has one."""
        ...

    def asked(self) -> int:
        """Return how many operations the service was asked for until now, refused ones too."""
        ...

    def disable(self, kms_key: str) -> None:
        """Make the service refuse to use the KMS key, until `enable`."""
        ...

    def enable(self, kms_key: str) -> None:
        """Undo `disable`."""
        ...

    def retire(self, kms_key: str) -> None:
        """Make everything that was not wrapped under the newest material open no more, for good."""
        ...

    def destroy(self, kms_key: str) -> None:
        """Destroy the KMS key."""
        ...


class RemoteRig(Rig, Protocol):
    """A key service on a network, with a proxy before it. *minting* and *unwrapping* tell requests apart there."""

    minting: ClassVar[str]
    unwrapping: ClassVar[str]

    def open(
        self,
        who: Credential,
        *,
        limits: CallLimits = PATIENT,
        through: FaultProxy | None = None,
    ) -> Service:
        """Open the service anew as *who*; its requests go *through* a proxy, where one is given."""
        ...

    def withdrawable(self, who: Credential) -> tuple[Service, Callable[[], None]]:
        """Open the service as *who*; return it, and what withdraws that credential and no other of *who*'s."""
        ...

    def proxy(self) -> AbstractContextManager[FaultProxy]:
        """Start a proxy before the service."""
        ...

    def later(self) -> Answer:
        """Return how the service says that it is asked too often."""
        ...

    def error(self, status: int, text: str) -> Answer:
        """Return how the service says that something is wrong, in *text*, its own words."""
        ...

    def opened_as(self, key: bytes) -> Alter:
        """Return an answer of the service to `unwrap`, with *key* in place of the right one."""
        ...

    def secrets(self) -> list[str]:
        """Return every secret of a credential that `open` used: tokens, secret ids, access keys' secrets."""
        ...


def policy(**tables: Mapping[str, object]) -> PolicyFile:
    """Return a policy of one class with a key service's table, as `lacre.toml` would say it."""
    return PolicyFile.model_validate(
        {
            "app": "shop",
            "env": "test",
            "service": "checkout",
            "key_store": {"url": "sqlite:///none"},
            "local": {"signers": ["nobody"]},
            "audit": {"path": "none"},
            **tables,
        }
    )


def context(
    kms_key: str, *, tenant: str = "acme", use: str = "fields", key: int = 1
) -> Mapping[str, str]:
    """Return the wrap context of a new row of *tenant*, number *key*, under *kms_key*."""
    scope = Scope(
        kind=KeyKind.INDEX if use == "index" else KeyKind.BRANCH,
        app="shop", env="test", service="checkout", tenant=tenant, class_="pii",
    )  # fmt: skip
    row = KeyRow(
        key_id=key.to_bytes(16, "big"), scope=scope, version=1, parent=kms_key, suite=1,
        created="2026-11-22T12:00:00Z", keystore="00112233445566778899aabbccddeeff", wrapped=None,
        state=KeyState.PENDING, revision=1, changed="2026-11-22T12:00:00Z", mac=None,
    )  # fmt: skip
    return row.wrap_context()


def until_it_answers(unwrap: Callable[[], bytes]) -> bytes:
    """Return what *unwrap* does, called anew for as long as a breaker rests or a busy machine is late."""
    until = time.monotonic() + 60
    while True:
        try:
            return unwrap()
        except KeyServiceUnreachable:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
