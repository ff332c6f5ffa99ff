# SPDX-License-Identifier: Apache-2.0
"""A keystore with an operator, an application and a stranger, for the tests of this folder."""

import datetime as dt
from collections.abc import Callable, Collection
from pathlib import Path

from lacre.kms.local import (
    Identity,
    KeystoreAdministration,
    LocalKeyService,
    PublicIdentity,
    SeenSerial,
)

KEYSTORE = "00112233445566778899aabbccddeeff"
KEY = "local://finance"
CONTEXT = {"app": "shop", "class": "banking", "kind": "branch", "tenant": "acme"}

OPERATOR = Identity("operator", bytes(range(64)))
APP = Identity("svc:app", bytes(range(64, 128)))
BILLING = Identity("svc:billing", bytes(range(128, 192)))
STRANGER = Identity("svc:app", bytes(range(192, 256)))
EVERYBODY = (OPERATOR.public, APP.public, BILLING.public, STRANGER.public)


class Memory:
    """A `SerialMemory` of one process. *written* counts the calls."""

    def __init__(self) -> None:
        self.rows: dict[str, SeenSerial] = {}
        self.written = 0

    def recall(self, kms_key: str) -> SeenSerial | None:
        return self.rows.get(kms_key)

    def remember(self, seen: SeenSerial) -> None:
        self.written += 1
        held = self.rows.get(seen.kms_key)
        if held is None or held.serial < seen.serial:
            self.rows[seen.kms_key] = seen


def counting() -> Callable[[int], bytes]:
    """Return entropy that is never the same twice and always the same in the next run."""
    drawn = [0]

    def draw(size: int) -> bytes:
        drawn[0] += 1
        return drawn[0].to_bytes(2, "big") * (size // 2)

    return draw


def noon() -> dt.datetime:
    return dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)


class Keystore:
    """A directory with one key, `finance`, that the operator and the application may open."""

    def __init__(
        self, directory: Path, *, operator: Identity = OPERATOR, keystore_id: str = KEYSTORE
    ) -> None:
        self.directory = directory
        self.path = directory / "finance.json"
        self.operator = KeystoreAdministration(
            directory, keystore_id=keystore_id, signer=operator, clock=noon
        )
        self.operator.create_key("finance", (operator.public, APP.public))

    def service(
        self,
        identity: Identity = APP,
        *,
        memory: Memory | None = None,
        signers: Collection[PublicIdentity] = (OPERATOR.public,),
        keystore_id: str = KEYSTORE,
    ) -> LocalKeyService:
        return LocalKeyService(
            self.directory,
            identity=identity,
            signers=signers,
            memory=memory or Memory(),
            keystore_id=keystore_id,
        )
